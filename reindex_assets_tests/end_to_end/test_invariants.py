"""The promises of a run: exact, nothing done twice, a dry run that tells the truth, a rebuild, and no swallowed repair.

What lives here: runs on real engines, judged by the oracle and by the shards' own logs. What does not: rows that move
(reindex/test_movers.py), other writers (reindex/test_newer_wins.py), steps, locks and placement (defs/test_runs.py), crashes
(end_to_end/test_crashes.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_data import SourceSummary, change_source, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle.compare import assert_equal, differences
from reindex_assets.model import PROCESS, Slice, Step
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.reindex.writer import WriteOptions
from reindex_assets_tests.support.merges import merges_put_off
from reindex_assets_tests.support.plain_loader import load_plainly
from reindex_assets_tests.support.running import (
    PLAN,
    activity,
    content,
    count_rows,
    holds_plan,
    reindex,
    reported,
    slices_of,
    staging_tables,
)

SLICES = slices_of(PLAN)
DRY_RUN = ReindexOptions(write=WriteOptions(dry_run=True))
CLEAN_UP = ReindexOptions(write=WriteOptions(clean_up=True))


@pytest.fixture
def made(clean: None, source: Connection) -> SourceSummary:
    """The source is full, and ClickHouse is empty."""
    return make_source(source, PLAN)


@pytest.fixture
def loaded(made: SourceSummary, source: Connection, shard_clients: list[Client]) -> SourceSummary:
    """Both engines hold the same."""
    load_plainly(source, shard_clients)
    return made


@pytest.fixture
def equal(source: Connection, shard_clients: list[Client], request: pytest.FixtureRequest) -> None:
    """As `loaded`; what an earlier test has left is taken when it is in order, as loading costs more than looking."""
    if not holds_plan(shard_clients, PLAN) or differences(source, shard_clients, kind="process"):
        request.getfixturevalue("loaded")


def test_a_first_load_is_exact(
    made: SourceSummary, fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    outcomes = reindex(fleet, SLICES)

    assert_equal(source, shard_clients, kind="process")
    assert sum(count_rows(shard_clients, "scorecard")) == made.process_scorecards
    assert sum(count_rows(shard_clients, "score")) == made.process_scores
    for table, rows in (("scorecard", made.process_scorecards), ("score", made.process_scores)):
        told = reported(outcomes, table)
        assert (told.read, told.missing, told.changed, told.deleted, told.newer) == (rows, rows, 0, 0, 0)
    assert staging_tables(shard_clients) == []


def test_a_first_load_in_small_groups_and_inserts_is_exact(
    made: SourceSummary, fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    reindex(fleet, SLICES, ReindexOptions(write=WriteOptions(batch_rows=37), group_scorecards=150))

    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("group_scorecards", [100_000, 500])
def test_a_run_after_edits_moves_deletes_and_additions_is_exact(
    fleet: Fleet, source: Connection, shard_clients: list[Client], group_scorecards: int
) -> None:
    changes = change_source(source, PLAN, 1)
    assert all((changes.edited, changes.moved, changes.retimed, changes.appealed, changes.deleted, changes.added))
    assert differences(source, shard_clients, kind="process")

    outcomes = reindex(fleet, SLICES, ReindexOptions(group_scorecards=group_scorecards))

    assert_equal(source, shard_clients, kind="process")
    written = {outcome.slice for outcome in outcomes if reported([outcome]).written}
    assert written <= {Slice(customer, day) for customer, day in changes.slices}
    assert staging_tables(shard_clients) == []


@pytest.fixture
def every_copy_stays(shard_clients: list[Client]) -> Iterator[None]:
    """A merge would heal a duplicate before the run has seen it."""
    with merges_put_off(shard_clients):
        yield


@pytest.mark.usefixtures("equal")
@pytest.mark.parametrize("drift", Drift)
def test_a_run_repairs_each_kind_of_drift(
    fleet: Fleet, source: Connection, shard_clients: list[Client], every_copy_stays: None, drift: Drift
) -> None:
    # An odd and an even seed: the two variants of a kind.
    planted = [
        one
        for seed, customer in enumerate(("acme", "globex"), 1)
        for one in plant(
            drift, shard_clients, customer, PLAN.all_days[1], count=3, seed=seed, source=source, kind=PROCESS
        )
    ]
    assert differences(source, shard_clients, kind="process")

    outcomes = reindex(fleet, {Slice(one.customer, one.day) for one in planted})

    assert_equal(source, shard_clients, kind="process")
    told = reported(outcomes)
    assert 0 < told.written + told.deleted <= sum(count_rows(shard_clients, "score")) / 10


@pytest.mark.usefixtures("equal")
def test_a_second_run_writes_nothing_and_starts_no_mutation(fleet: Fleet, shard_clients: list[Client]) -> None:
    before, rows_before = activity(shard_clients), content(shard_clients)

    outcomes = reindex(fleet, SLICES)

    assert activity(shard_clients) == before
    assert content(shard_clients) == rows_before
    told = reported(outcomes)
    assert (told.written, told.deleted, told.newer) == (0, 0, 0)
    assert told.read == sum(count_rows(shard_clients, "scorecard") + count_rows(shard_clients, "score"))


@pytest.mark.usefixtures("loaded")
def test_a_run_of_a_changed_source_writes_the_difference_only(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    before = activity(shard_clients)
    changes = change_source(source, PLAN, 1)

    outcomes = reindex(fleet, SLICES)

    told = reported(outcomes)
    assert activity(shard_clients).new_rows - before.new_rows == told.written
    assert reported(outcomes, "scorecard").written == len(
        (*changes.edited, *changes.moved, *changes.retimed, *changes.added)
    )
    assert reported(outcomes, "scorecard").deleted == len(
        (*changes.moved, *changes.retimed, *changes.appealed, *changes.deleted)
    )


@pytest.mark.usefixtures("loaded")
def test_a_dry_run_writes_nothing_and_reports_what_the_real_run_then_does(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    change_source(source, PLAN, 1)
    for number, drift in enumerate(Drift):
        plant(drift, shard_clients, "globex", PLAN.all_days[number % 3], source=source, kind=PROCESS)
    before, rows_before = activity(shard_clients), content(shard_clients)

    dry = reindex(fleet, SLICES, DRY_RUN)

    assert content(shard_clients) == rows_before
    assert activity(shard_clients) == before
    assert staging_tables(shard_clients) == []
    real = reindex(fleet, SLICES)
    assert_equal(source, shard_clients, kind="process")
    assert reported(dry).written > 0
    assert [outcome.writes for outcome in dry] == [outcome.writes for outcome in real]


@pytest.mark.usefixtures("made")
def test_a_dry_run_on_empty_shards_writes_nothing(fleet: Fleet, shard_clients: list[Client]) -> None:
    before = activity(shard_clients)

    told = reported(reindex(fleet, SLICES, DRY_RUN))

    assert activity(shard_clients) == before
    assert sum(count_rows(shard_clients, "scorecard") + count_rows(shard_clients, "score")) == 0
    assert told.missing == told.read > 0


@pytest.mark.usefixtures("loaded")
def test_clean_up_rebuilds_the_slices_exactly_and_no_others(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    change_source(source, PLAN, 1)
    for number, drift in enumerate(Drift):
        plant(drift, shard_clients, "globex", PLAN.all_days[number % 3], source=source, kind=PROCESS)
    others = "customer != 'globex'"
    others_before = content(shard_clients, others)
    globex = sum(count_rows(shard_clients, "score", "customer = 'globex' AND template_type = 2"))

    outcomes = reindex(fleet, [item for item in SLICES if item.customer == "globex"], CLEAN_UP)

    assert_equal(source, shard_clients, customers=["globex"], kind="process")
    assert content(shard_clients, others) == others_before
    told = reported(outcomes, "score")
    assert told.missing == told.read
    assert told.deleted >= globex


@pytest.fixture
def deduplicating(shard_clients: list[Client]) -> Iterator[None]:
    """The live tables remember the blocks that were inserted, as Replicated tables do by default."""
    for client in shard_clients:
        for table in ("scorecard", "score"):
            client.command(f"ALTER TABLE {table} MODIFY SETTING non_replicated_deduplication_window = 100")
    yield
    for client in shard_clients:
        for table in ("scorecard", "score"):
            client.command(f"ALTER TABLE {table} RESET SETTING non_replicated_deduplication_window")


@pytest.mark.usefixtures("deduplicating", "made")
@pytest.mark.parametrize("condition", ["1", "sipHash64(scorecard_id) % 2 = 0"], ids=["all rows", "half of the rows"])
def test_a_repair_of_deleted_rows_is_not_swallowed_by_block_deduplication(
    fleet: Fleet, source: Connection, shard_clients: list[Client], condition: str
) -> None:
    # From the same files, slice by slice, the second write inserts the very same blocks again, versions included.
    slices = [item for item in SLICES if item.customer == "acme"]
    reindex(fleet, slices, steps=[Step.EXTRACT, Step.ROWS])
    reindex(fleet, slices, steps=[Step.WRITE])
    for client in shard_clients:
        for table in ("scorecard", "score"):
            client.command(f"DELETE FROM {table} WHERE {condition}", settings={"lightweight_deletes_sync": 2})
    assert differences(source, shard_clients, ["acme"], kind="process")

    reindex(fleet, slices, steps=[Step.WRITE])

    assert_equal(source, shard_clients, ["acme"], kind="process")
