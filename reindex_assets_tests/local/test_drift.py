"""The drift planter: each kind is planted where it says, as often as it says, and the oracle finds it and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.drift.changes import CHANGES
from reindex_assets.local.drift.plant import Drift, PlantedDrift, plant
from reindex_assets.local.oracle.compare import assert_equal, differences
from reindex_assets.model import PROCESS
from reindex_assets_tests.support.plain_loader import load_plainly

CUSTOMER = "acme"
DAY = date(2026, 2, 1)
PLAN = DataPlan({"acme": ("main", "voice"), "globex": ("main",)}, DAY - timedelta(days=1), days=3, scale=0.002, seed=4)

#: What the oracle calls each kind.
NAMES = {drift: str(drift) for drift in Drift} | {Drift.STALE_AFTER_MOVE: "stale"}

pytestmark = pytest.mark.usefixtures("equal")


@pytest.fixture
def equal(clean: None, source: Connection, shard_clients: list[Client]) -> Iterator[None]:
    make_source(source, PLAN)
    load_plainly(source, shard_clients)
    # A merge would heal a duplicate before the oracle has seen it. (SYSTEM STOP MERGES would stop the deletes too.)
    alter(shard_clients, "MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1")
    yield
    alter(shard_clients, "RESET SETTING max_bytes_to_merge_at_max_space_in_pool")


def alter(shard_clients: list[Client], what: str) -> None:
    for client in shard_clients:
        for table in ("scorecard", "score"):
            client.command(f"ALTER TABLE {table} {what}")


def scorecards_in(found: list[str], name: str) -> set[tuple[str, str]]:
    """(scorecard id, day) of the oracle's lines of this name."""
    pattern = re.compile(rf"{name}: (?:scorecard|score) \S+ (\S+) (?:\S+ )?of (\S+?):")
    return {match.groups() for line in found if (match := pattern.match(line))}  # type: ignore[misc]


def planted_in(planted: list[PlantedDrift]) -> set[tuple[str, str]]:
    return {(str(one.scorecard_id), str(one.day)) for one in planted}


def test_each_kind_is_found_under_its_name_and_nothing_else_is(source: Connection, shard_clients: list[Client]) -> None:
    planted = {
        drift: plant(drift, shard_clients, CUSTOMER, DAY, count=2, source=source, kind=PROCESS) for drift in Drift
    }

    found = differences(source, shard_clients, kind="process")

    assert {line.split(":")[0] for line in found} == set(NAMES.values())
    for drift, plants in planted.items():
        assert len(planted_in(plants)) == 2
        assert scorecards_in(found, NAMES[drift]) == planted_in(plants)
    assert_equal(source, shard_clients, customers=["globex"], kind="process")
    # Nothing planted is newer than a run's snapshot, which would have to leave it alone.
    for client in shard_clients:
        for table in ("scorecard", "score"):
            [[age]] = client.query(f"SELECT max(version) - toUnixTimestamp64Micro(now64(6)) FROM {table}").result_rows
            assert age < -3_600_000_000


def test_every_column_of_both_tables_can_be_the_changed_one(source: Connection, shard_clients: list[Client]) -> None:
    planted = plant(Drift.CHANGED, shard_clients, CUSTOMER, DAY, count=len(CHANGES), seed=0, kind=PROCESS)

    found = differences(source, shard_clients, kind="process")

    # With FINAL and without alike: the old row is gone.
    assert not [line for line in found if line.endswith("only)")]
    assert len(found) == len(CHANGES)
    by_scorecard = {str(one.scorecard_id): one for one in planted}
    for line in found:
        match = re.match(r"changed: (\S+) \S+ (\S+) .*: on shard (\d+): (\w+): Postgres .*, ClickHouse", line)
        assert match, line
        table, scorecard_id, shard, column = match.groups()
        one = by_scorecard.pop(scorecard_id)
        assert one.detail.startswith(f"{column} ")
        assert (one.tables, one.shard) == ((table,), int(shard))
        # One column only.
        assert line.count("ClickHouse") == 1


def test_missing_with_an_even_seed_is_one_score(source: Connection, shard_clients: list[Client]) -> None:
    [one] = plant(Drift.MISSING, shard_clients, CUSTOMER, DAY, seed=2, kind=PROCESS)

    [found] = differences(source, shard_clients, kind="process")

    assert found.startswith(f"missing: score acme/{one.profile} {one.scorecard_id} ")
    assert one.tables == ("score",)


@pytest.mark.parametrize(("seed", "table"), [(1, "scorecard"), (2, "score")])
def test_a_duplicate_stands_twice_without_final_only(
    source: Connection, shard_clients: list[Client], seed: int, table: str
) -> None:
    [one] = plant(Drift.DUPLICATED, shard_clients, CUSTOMER, DAY, seed=seed, kind=PROCESS)

    [found] = differences(source, shard_clients, kind="process")

    assert found.startswith(f"duplicated: {table} acme/{one.profile} {one.scorecard_id} ")
    assert found.endswith(f": 2 times on shard {one.shard} (without FINAL only)")
    assert one.tables == (table,)


def test_a_stale_copy_stands_on_a_neighbouring_day_that_has_rows(
    source: Connection, shard_clients: list[Client]
) -> None:
    for day in (PLAN.first_day, PLAN.last_day):
        for seed in (1, 2):
            [one] = plant(Drift.STALE_AFTER_MOVE, shard_clients, CUSTOMER, day, seed=seed, kind=PROCESS)
            assert one.day == DAY
            assert f"which belong on {day}" in one.detail
    assert_equal(source, shard_clients, first_day=PLAN.first_day, last_day=PLAN.first_day, kind="process")
    assert_equal(source, shard_clients, first_day=PLAN.last_day, last_day=PLAN.last_day, kind="process")


def undo(source: Connection, shard_clients: list[Client]) -> None:
    for client in shard_clients:
        client.command("TRUNCATE TABLE scorecard")
        client.command("TRUNCATE TABLE score")
    load_plainly(source, shard_clients)


def test_the_same_seed_chooses_the_same_scorecards_and_another_seed_others(
    source: Connection, shard_clients: list[Client]
) -> None:
    first = plant(Drift.EXTRA, shard_clients, CUSTOMER, DAY, count=3, seed=1, kind=PROCESS)
    other = plant(Drift.EXTRA, shard_clients, CUSTOMER, DAY, count=3, seed=9, kind=PROCESS)
    undo(source, shard_clients)
    assert plant(Drift.EXTRA, shard_clients, CUSTOMER, DAY, count=3, seed=1, kind=PROCESS) == first
    assert not planted_in(first) & planted_in(other)


def test_a_slice_with_too_few_scorecards_is_an_error(source: Connection, shard_clients: list[Client]) -> None:
    with pytest.raises(LookupError, match="acme 2020-01-01: only 0 process scorecards"):
        plant(Drift.MISSING, shard_clients, CUSTOMER, date(2020, 1, 1), kind=PROCESS)
    with pytest.raises(LookupError, match="only 0 appeals"):
        plant(Drift.APPEAL, shard_clients, CUSTOMER, date(2020, 1, 1), source=source, kind=PROCESS)
    with pytest.raises(ValueError, match="appeal needs the source"):
        plant(Drift.APPEAL, shard_clients, CUSTOMER, DAY, kind=PROCESS)
    with pytest.raises(ValueError, match="wrong_shard needs a second shard"):
        plant(Drift.WRONG_SHARD, shard_clients[:1], CUSTOMER, DAY, kind=PROCESS)
