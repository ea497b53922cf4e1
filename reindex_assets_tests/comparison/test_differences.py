"""The rows that differ: each kind of drift named rightly, counted exactly, shown with its values, and nothing called drift that is none.

What lives here: the comparison row by row against planted drift, edits in Postgres and rows in flight. What does not: sums
(comparison/test_parity.py).
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.differences import Difference
from reindex_assets.comparison.parity import SliceDifferences, SliceParity, explain
from reindex_assets.config.default_tables import SCORECARD
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.drift.changes import CHANGES
from reindex_assets.local.drift.plant import Drift, PlantedDrift, plant
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets.reindex.job import Reindex
from reindex_assets_tests.support import application
from reindex_assets_tests.support.comparing import compare, compare_settled
from reindex_assets_tests.support.merges import merge_all, no_merges
from reindex_assets_tests.support.plain_loader import load_plainly

FIRST_DAY = date(2026, 1, 28)
PLAN = DataPlan(
    {"acme": ("main", "voice"), "globex": ("main",), "initech": ("main",)}, FIRST_DAY, days=9, scale=0.0008, seed=6
)
SLICES = [Slice(customer, day) for customer in PLAN.customers for day in PLAN.all_days]

#: What the oracle and the planter call a kind, and what the product does.
NAMES = {
    Drift.MISSING: Difference.MISSING,
    Drift.EXTRA: Difference.EXTRA,
    Drift.CHANGED: Difference.CHANGED,
    Drift.DUPLICATED: Difference.DUPLICATED,
    Drift.WRONG_SHARD: Difference.WRONG_SHARD,
    Drift.STALE_AFTER_MOVE: Difference.MOVED_DAY,
    Drift.ORPHAN_SCORE: Difference.ORPHAN_SCORE,
    Drift.APPEAL: Difference.APPEAL,
}
#: The day of the plan on which each kind is planted: the false copy of a moved scorecard lands on a day of its own.
DAYS: dict[Drift, int] = {drift: number for number, drift in enumerate(sorted(set(Drift) - {Drift.STALE_AFTER_MOVE}))}
DAYS[Drift.STALE_AFTER_MOVE] = 8

#: What the explanation by sums alone must hold.
WORDS = {
    Drift.MISSING: r"-\d+ score",
    Drift.EXTRA: r"\+2 scorecards; \+\d+ scores",
    Drift.CHANGED: r"not the same values",
    Drift.DUPLICATED: r"2 score.* appear more than once",
    Drift.WRONG_SHARD: r"2 scorecards on a wrong shard; \d+ scores on a wrong shard",
    Drift.STALE_AFTER_MOVE: r"\+2 scorecards; \+\d+ scores",
    Drift.ORPHAN_SCORE: r"\+\d+ scores",
    Drift.APPEAL: r"\+2 scorecards; \+\d+ scores",
}


@pytest.fixture
def equal(clean: None, source: Connection, shard_clients: list[Client]) -> None:
    make_source(source, PLAN)
    load_plainly(source, shard_clients)


def look(fleet: Fleet, slices: list[Slice] | None = None, settle_seconds: float = 0) -> dict[Slice, SliceParity]:
    found = compare_settled(fleet.dataset(CLUSTER, PROCESS), slices or SLICES, settle_seconds=settle_seconds, samples=5)
    return {parity.slice: parity for parity in found}


def drifted(found: dict[Slice, SliceParity]) -> dict[Slice, SliceDifferences]:
    return {item: parity.differences for item, parity in found.items() if not parity.is_equal and parity.differences}


@pytest.mark.usefixtures("equal")
def test_each_kind_of_drift_has_its_name_and_its_exact_number_of_rows(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    planted: list[PlantedDrift] = []

    def plant_both(drift: Drift) -> None:
        for customer, seed in (("acme", 1), ("globex", 2)):
            planted.extend(
                plant(drift, shard_clients, customer, PLAN.all_days[DAYS[drift]], 2, seed, source, kind=PROCESS)
            )

    for drift in sorted(set(Drift) - {Drift.DUPLICATED}):
        plant_both(drift)
    with no_merges(shard_clients):
        plant_both(Drift.DUPLICATED)
        sums = {parity.slice: explain(parity) for parity in compare(fleet.dataset(CLUSTER, PROCESS), SLICES)}
        found = drifted(look(fleet))
        judged = oracle.differences(source, shard_clients, kind="process")

    kinds = {Slice(one.customer, one.day): one.drift for one in planted}
    assert set(found) == set(kinds)
    # An odd seed plants the one variant of a kind, an even seed the other; initech stays as it is.
    for item in SLICES:
        if item in kinds:
            assert re.search(WORDS[kinds[item]], sums[item] or ""), (item, sums[item])
        else:
            assert sums[item] is None
    for item, drift in kinds.items():
        assert {difference for _, difference in found[item].rows} == {NAMES[drift]}, item
    # The oracle counts physical rows without FINAL by the same classes.
    plain = [line for line in judged if not line.endswith("(with FINAL only)")]
    theirs = Counter({"stale": "moved_day"}.get(name, name) for name in (line.split(":")[0] for line in plain))
    ours: Counter[str] = Counter()
    for differences in found.values():
        for (_, difference), rows in differences.rows.items():
            ours[difference.value] += rows
    assert ours == theirs
    for item, differences in found.items():
        assert differences.total == sum(differences.rows.values()) == len(differences.evidence), item
        ids = {str(one.scorecard_id) for one in planted if Slice(one.customer, one.day) == item}
        assert {sample.scorecard_id for sample in differences.samples} <= ids
        assert differences.samples


@pytest.mark.usefixtures("equal")
def test_a_changed_value_of_any_column_is_shown_with_both_values(fleet: Fleet, shard_clients: list[Client]) -> None:
    spoilt = dict(zip(SLICES, range(len(CHANGES)), strict=False))
    for item, number in spoilt.items():
        plant(Drift.CHANGED, shard_clients, item.customer, item.day, seed=number, kind=PROCESS)

    parities = look(fleet)
    found = drifted(parities)

    assert len(spoilt) == len(CHANGES)
    assert set(found) == set(spoilt)
    for item, number in spoilt.items():
        change = CHANGES[number]
        # By the values alone: every count is as it should be.
        assert {name for name, table in parities[item].tables.items() if not table.digests_agree} == {change.table}
        assert all(table.counts_agree and not table.repeated_rows for table in parities[item].tables.values())
        assert dict(found[item].rows) == {(change.table, Difference.CHANGED): 1}, change
        [sample] = found[item].samples
        assert [values.column for values in sample.columns] == [change.column]
        assert sample.columns[0].postgres != sample.columns[0].clickhouse
        assert sample.columns[0].postgres in sample.what


@pytest.mark.usefixtures("equal")
def test_edits_moves_and_deletes_in_postgres_are_named_from_what_clickhouse_still_shows(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    day = PLAN.all_days[3]
    moved, retimed, deleted, appealed = application.scorecards_of(source, Slice("globex", day), 4)
    other_day = application.scorecards_of(source, Slice("initech", day), 1)[0]
    application.update(source, moved, "process_interaction_at = process_interaction_at + interval '1 day'")
    # Beyond the slices that are looked at.
    application.update(source, other_day, "process_interaction_at = process_interaction_at + interval '90 days'")
    application.update(source, retimed, "process_interaction_at = process_interaction_at + interval '1 second'")
    application.delete(source, deleted)
    application.update(source, appealed, "scorecard_type = 1")

    found = drifted(look(fleet))

    assert set(found) == {Slice("globex", day), Slice("globex", day + timedelta(days=1)), other_day.slice}
    old = {difference: rows for (table, difference), rows in found[moved.slice].rows.items() if table == "scorecard"}
    assert old == {
        Difference.MOVED_DAY: 1,
        Difference.WRONG_SHARD: 1,
        Difference.EXTRA: 1,
        Difference.APPEAL: 1,
    }
    new = found[Slice("globex", day + timedelta(days=1))]
    assert new.of(Difference.MISSING) == new.total > 1
    assert found[other_day.slice].of(Difference.MOVED_DAY) == found[other_day.slice].total
    [sample] = [
        one for one in found[moved.slice].samples if one.difference is Difference.MOVED_DAY and not one.score_id
    ]
    assert str(day + timedelta(days=1)) in sample.what


@pytest.mark.usefixtures("equal")
def test_whole_sides_are_counted_to_the_row(fleet: Fleet, source: Connection, shard_clients: list[Client]) -> None:
    before = look(fleet)
    with source.cursor() as cursor:
        cursor.execute("DELETE FROM director.scorecards WHERE customer = 'acme'")
        cursor.execute("DELETE FROM historic.scorecard_scores WHERE customer = 'acme'")
    for client in shard_clients:
        client.command("DELETE FROM scorecard WHERE customer = 'globex'", settings={"lightweight_deletes_sync": 2})
        client.command("DELETE FROM score WHERE customer = 'globex'", settings={"lightweight_deletes_sync": 2})

    found = drifted(look(fleet))

    assert {item.customer for item in found} == {"acme", "globex"}
    for item, differences in found.items():
        expected = Difference.EXTRA if item.customer == "acme" else Difference.MISSING
        assert dict(differences.rows) == {
            ("scorecard", expected): before[item].scorecards.postgres_rows,
            ("score", expected): before[item].scores.postgres_rows,
        }
        assert len(differences.samples) == sum(min(5, rows) for rows in differences.rows.values())


@pytest.mark.usefixtures("equal")
def test_an_update_by_the_real_time_writer_waits_for_a_merge_and_is_no_drift(
    fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Slice("acme", PLAN.all_days[2])
    [scorecard] = application.scorecards_of(source, item)
    application.update(source, scorecard, "score = 12.5, updated_at = now()")
    with no_merges(shard_clients):
        application.write_as_application(source, shard_clients, scorecard)
        found = look(fleet, [item])[item]
        assert not found.sums_agree
        assert found.is_equal
        assert found.differences is not None
        assert found.differences.harmless[("scorecard", Difference.UNMERGED)] == 1
        # A copy that nothing folds away for longer than that counts twice on dashboards: then it is drift.
        monkeypatch.setattr("reindex_assets.comparison.comparison.MERGE_PATIENCE_SECONDS", -60)
        impatient = look(fleet, [item])[item]
        assert not impatient.is_equal
        assert impatient.differences is not None
        assert impatient.differences.of(Difference.DUPLICATED) == found.differences.harmless[
            ("scorecard", Difference.UNMERGED)
        ] + found.differences.harmless.get(("score", Difference.UNMERGED), 0)


@pytest.mark.usefixtures("equal")
def test_an_older_value_under_a_higher_version_is_drift_as_final_shows_it(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    item = Slice("acme", PLAN.all_days[2])
    [scorecard] = application.scorecards_of(source, item)
    late = application.read_as_application(source, scorecard, len(shard_clients))
    application.update(source, scorecard, "score = 12.5, updated_at = now()")
    with no_merges(shard_clients):
        # The writer read before the edit and wrote after it, and nothing came after.
        late.write(shard_clients)
        found = look(fleet, [item])[item]
    assert not found.is_equal
    assert found.differences is not None
    assert found.differences.of(Difference.CHANGED) == 1
    [sample] = [one for one in found.differences.samples if one.difference is Difference.CHANGED]
    assert "12.5" in sample.what


AHEAD = timedelta(days=365)


def add_copies_ahead(shard_clients: list[Client], scorecard: application.Scorecard) -> None:
    """Copies a scorecard (not its scores), with a version of next year."""
    columns = ", ".join(SCORECARD.column_names)
    for client in shard_clients:
        client.command(
            f"INSERT INTO scorecard ({columns}, version) SELECT {columns}, toUnixTimestamp64Micro(now64(6) + INTERVAL 365 DAY)"
            f" FROM scorecard WHERE scorecard_id = '{scorecard.scorecard_id}'"
        )


@pytest.mark.usefixtures("equal")
def test_a_row_of_a_future_version_on_another_day_does_not_hide_that_the_scorecard_is_missing_on_its_own(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    former, now = (Slice("acme", PLAN.all_days[day]) for day in (1, 2))
    [scorecard] = application.scorecards_of(source, former)
    add_copies_ahead(shard_clients, scorecard)
    merge_all(shard_clients)
    application.update(source, scorecard, "process_interaction_at = process_interaction_at + interval '24 hours'")

    found = look(fleet, [former, now])
    differences = [found[item].differences for item in (former, now)]
    assert differences[0] is not None
    assert differences[0].of(Difference.AHEAD, SCORECARD) == 1
    assert differences[1] is not None
    assert differences[1].of(Difference.MISSING, SCORECARD) == 1
    assert not found[now].is_equal

    Reindex(fleet.dataset(CLUSTER, PROCESS)).run([former, now])
    assert look(fleet, [now])[now].sums_agree


@pytest.mark.usefixtures("equal")
def test_a_wrong_row_whose_version_lies_ahead_of_the_clock_is_named_with_the_time_until_which_nothing_can_be_done(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    item = Slice("acme", PLAN.all_days[2])
    changed, deleted, right = application.scorecards_of(source, item, 3)
    for scorecard in (changed, deleted, right):
        add_copies_ahead(shard_clients, scorecard)
    merge_all(shard_clients)
    # Right rows, whatever their versions.
    assert look(fleet, [item])[item].sums_agree
    application.update(source, changed, "score = 12.5, updated_at = now()")
    application.delete(source, deleted)
    until = f"{datetime.now(UTC) + AHEAD:%Y-%m-%d %H:}"

    for _ in range(2):
        found = look(fleet, [item])[item]
        assert not found.is_equal
        assert found.differences is not None
        assert found.differences.of(Difference.AHEAD, SCORECARD) == 2
        assert "2 scorecards with a version ahead of the clock" in str(explain(found))
        assert f"no repair is possible before {until}" in str(explain(found))
        assert {sample.scorecard_id for sample in found.differences.samples if until in sample.what} == {
            changed.scorecard_id,
            deleted.scorecard_id,
        }
        # No run touches them, and no run adds copies of them.
        [outcome] = Reindex(fleet.dataset(CLUSTER, PROCESS)).run([item])
        assert outcome.error is None
    assert found.differences is not None
    assert found.differences.evidence.size == 0

    # What the documentation tells a person to do.
    for client in shard_clients:
        client.command("DELETE FROM scorecard WHERE version > toUnixTimestamp64Micro(now64(6))")
    Reindex(fleet.dataset(CLUSTER, PROCESS)).run([item])
    assert look(fleet, [item])[item].sums_agree
    oracle.assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("equal")
def test_an_old_copy_beside_a_right_row_of_next_years_version_does_not_wait_for_a_merge_for_ever(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    item = Slice("acme", PLAN.all_days[2])
    [scorecard] = application.scorecards_of(source, item)
    with no_merges(shard_clients):
        add_copies_ahead(shard_clients, scorecard)
        found = look(fleet, [item])[item]
        assert found.differences is not None
        assert found.differences.rows == {("scorecard", Difference.DUPLICATED): 1}
    # A repair can remove the old copy, so it does.
    Reindex(fleet.dataset(CLUSTER, PROCESS)).run([item])
    assert look(fleet, [item])[item].sums_agree
    oracle.assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("equal")
def test_a_row_that_lost_its_time_in_postgres_has_not_moved_to_another_day(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    item = Slice("initech", PLAN.all_days[4])
    nowhere, forever = application.scorecards_of(source, item, 2)
    application.update(source, nowhere, "process_interaction_at = NULL")
    application.update(source, forever, "process_interaction_at = 'infinity'")

    found = drifted(look(fleet))

    assert set(found) == {item}
    assert found[item].rows[("scorecard", Difference.EXTRA)] == 2
    assert {difference for _, difference in found[item].rows} == {Difference.EXTRA}
