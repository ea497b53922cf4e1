"""A mass deletion is a question: what a run may delete by itself, what it stops for, and every way of saying yes.

What lives here: the limits, and whole runs of the core against rows that are gone in Postgres. What does not: the option of the command
line (cli/test_cli.py).
"""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from reindex_assets.config.cluster import Deletions
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.assets.run_config import ReindexConfig
from reindex_assets.errors import MassDeletionError
from reindex_assets.local.data.made_data import make_source
from reindex_assets.local.oracle.compare import assert_equal, differences
from reindex_assets.model import Slice
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.reindex.mass_deletion import DeletionGuard, Loss
from reindex_assets.reindex.writer import WriteOptions
from reindex_assets_tests.support.plain_loader import load_plainly
from reindex_assets_tests.support.running import (
    PLAN,
    attempt,
    content,
    count_rows,
    errors,
    holds_plan,
    reindex,
    reported,
    slices_of,
)

DAY = date(2026, 1, 5)
LIMITS = Deletions()


def item(number: int) -> Slice:
    return Slice("spirit", DAY + timedelta(days=number))


def scores(number: int, held: int, vanished: int, new: int = 0) -> dict[tuple[Slice, str], Loss]:
    """What one slice would lose of its scores."""
    return {(item(number), "score"): Loss(held=held, vanished=vanished, expected=held - vanished + new)}


@pytest.mark.parametrize(
    ("held", "vanished", "is_question"),
    [
        (100_000, 20_000, False),
        (100_000, 20_001, True),
        (1_100, 999, False),
        (1_100, 1_000, True),
        (5_001, 1_000, False),
        (99, 99, False),
        (100, 100, True),
    ],
)
def test_a_slice_may_lose_a_fifth_or_a_few_rows_and_not_everything(held: int, vanished: int, is_question: bool) -> None:
    guard = DeletionGuard(LIMITS, allowed=False)
    if not is_question:
        guard.permit(scores(0, held, vanished))
        return
    with pytest.raises(MassDeletionError, match=f"{vanished:,} of the {held:,} scores of spirit 2026-01-05"):
        guard.permit(scores(0, held, vanished))


@pytest.mark.parametrize("allowed", ["by an option", "by the fleet file"])
def test_what_somebody_has_allowed_is_no_question(allowed: str) -> None:
    in_file = allowed == "by the fleet file"
    DeletionGuard(Deletions(allowed=in_file), allowed=not in_file).permit(scores(0, 5_000, 5_000))


def test_a_slice_that_is_replaced_as_a_whole_is_a_question_too() -> None:
    with pytest.raises(MassDeletionError):
        DeletionGuard(LIMITS, allowed=False).permit(scores(0, 5_000, 5_000, new=5_000))


def test_many_small_losses_are_a_question_once_they_are_a_large_one_together() -> None:
    guard = DeletionGuard(LIMITS, allowed=False)
    for number in range(9):
        guard.permit(scores(number, 400, 100))
    with pytest.raises(MassDeletionError, match="1,000 of the 4,000 scores of the 10 partitions"):
        guard.permit(scores(9, 400, 100))
    # What loses nothing goes on.
    guard.permit(scores(10, 400, 0))
    with pytest.raises(MassDeletionError):
        guard.permit(scores(11, 400, 1))


def test_partitions_emptied_one_after_the_other_are_a_question_together() -> None:
    guard = DeletionGuard(LIMITS, allowed=False)
    guard.permit(scores(0, 60, 60))
    with pytest.raises(MassDeletionError, match="120 of the 120 scores"):
        guard.permit(scores(1, 60, 60))


def test_a_refused_slice_does_not_stop_the_others() -> None:
    guard = DeletionGuard(LIMITS, allowed=False)
    with pytest.raises(MassDeletionError, match="of spirit 2026-01-05"):
        guard.permit(scores(0, 5_000, 5_000) | scores(1, 400, 100))
    guard.permit(scores(1, 400, 100))


def test_another_attempt_neither_counts_twice_nor_forgets_what_the_first_has_deleted() -> None:
    guard = DeletionGuard(LIMITS, allowed=False)
    for _ in range(20):
        guard.permit(scores(0, 3_000, 600))
    # The first attempt has deleted them, and then failed.
    guard.permit(scores(0, 2_400, 0))
    with pytest.raises(MassDeletionError, match="1,000 of the 4,000"):
        guard.permit(scores(1, 1_000, 400))


@given(
    slices=st.lists(
        st.tuples(st.integers(0, 400), st.integers(0, 3_000), st.integers(0, 400)), min_size=1, max_size=12
    ),
    cuts=st.sets(st.integers(1, 11)),
)
def test_no_run_deletes_more_than_the_limits_however_it_is_cut_into_groups(
    slices: list[tuple[int, int, int]], cuts: set[int]
) -> None:
    limits = Deletions(share=0.2, rows=300, emptied_rows=250)
    guard = DeletionGuard(limits, allowed=False)
    lost = held = left = 0
    group: dict[tuple[Slice, str], Loss] = {}
    for number, (vanished, kept, new) in enumerate(slices):
        group |= {(item(number), "score"): Loss(held=vanished + kept, vanished=vanished, expected=kept + new)}
        if number + 1 not in cuts and number + 1 < len(slices):
            continue
        try:
            guard.permit(group)
        except MassDeletionError:
            pass
        else:
            lost += sum(loss.vanished for loss in group.values())
        held += sum(loss.held for loss in group.values())
        left += sum(loss.expected for loss in group.values())
        group = {}
    assert lost < limits.rows or lost <= limits.share * held
    assert lost < limits.emptied_rows or left > 0


def test_neither_a_run_nor_a_repair_says_yes_by_itself_and_a_reshard_does() -> None:
    assert not ReindexConfig().options(is_repair=False).allow_deletes
    assert not ReindexConfig().options(is_repair=True).allow_deletes
    assert ReindexConfig(allow_deletes=True).options(is_repair=True).allow_deletes
    assert ReindexConfig(allow_reshard=True).options(is_repair=False).allow_deletes


# --- whole runs

SLICES = slices_of(PLAN)
CUSTOMER = "acme"
EMPTIED = Slice(CUSTOMER, PLAN.all_days[1])
ALLOWED = ReindexOptions(allow_deletes=True)

_OF_SLICE = f"customer = '{EMPTIED.customer}' AND (process_interaction_at AT TIME ZONE 'UTC')::date = '{EMPTIED.day}'"
_SCORECARDS = f"SELECT customer, profile, scorecard_id FROM director.scorecards WHERE {_OF_SLICE}"
#: What may happen to all rows of a slice in Postgres, so that ClickHouse's look superfluous.
GONE = {
    "scorecards and scores are deleted": (
        f"DELETE FROM historic.scorecard_scores WHERE (customer, profile, scorecard_id) IN ({_SCORECARDS})",
        f"DELETE FROM director.scorecards WHERE {_OF_SLICE}",
    ),
    "scores are deleted": (
        f"DELETE FROM historic.scorecard_scores WHERE (customer, profile, scorecard_id) IN ({_SCORECARDS})",
    ),
    "scorecards become appeals": (f"UPDATE director.scorecards SET scorecard_type = 3 WHERE {_OF_SLICE}",),
    "scorecards belong to another profile": (
        f"UPDATE historic.scorecard_scores SET profile = 'x-' || profile WHERE (customer, profile, scorecard_id) IN ({_SCORECARDS})",
        f"UPDATE director.scorecards SET profile = 'x-' || profile WHERE {_OF_SLICE}",
    ),
    "scorecards move to another day": (
        f"UPDATE director.scorecards SET process_interaction_at = process_interaction_at + interval '1 day' WHERE {_OF_SLICE}",
    ),
}


@pytest.fixture
def equal(source: Connection, shard_clients: list[Client], request: pytest.FixtureRequest) -> None:
    """Both engines hold the same."""
    if not holds_plan(shard_clients, PLAN) or differences(source, shard_clients, kind="process"):
        request.getfixturevalue("clean")
        make_source(source, PLAN)
        load_plainly(source, shard_clients)


def execute(source: Connection, *statements: str) -> None:
    with source.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
            assert cursor.rowcount > 0


@pytest.mark.usefixtures("equal")
@pytest.mark.parametrize("what", GONE)
def test_a_slice_whose_rows_are_gone_in_postgres_stays_until_somebody_says_yes(
    fleet: Fleet, source: Connection, shard_clients: list[Client], what: str
) -> None:
    before = content(shard_clients)
    execute(source, *GONE[what])

    failures = errors(attempt(fleet, [EMPTIED]))

    assert len(failures) == 1
    assert f" of {EMPTIED}" in failures[0]
    assert "--allow-deletes" in failures[0]
    assert content(shard_clients) == before
    planned = reported(reindex(fleet, [EMPTIED], ReindexOptions(write=WriteOptions(dry_run=True))))
    assert planned.deleted > 100
    assert content(shard_clients) == before
    done = reported(reindex(fleet, [EMPTIED], ALLOWED))
    assert done.deleted == planned.deleted
    reindex(fleet, SLICES)
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("equal")
def test_one_partition_that_is_refused_does_not_hold_up_the_others(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    execute(source, *GONE["scorecards and scores are deleted"])
    execute(source, f"UPDATE director.scorecards SET updated_at = now() WHERE NOT ({_OF_SLICE})")

    outcomes = attempt(fleet, SLICES)

    assert [outcome.slice for outcome in outcomes if outcome.error] == [EMPTIED]
    left = differences(source, shard_clients, kind="process")
    assert left
    reindex(fleet, [EMPTIED], ALLOWED)
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("equal")
def test_rows_that_only_move_are_no_deletion(fleet: Fleet, source: Connection, shard_clients: list[Client]) -> None:
    """To the next day, and within the day to another shard: each row arrives where it is expected now."""
    strict = fleet.model_copy(update={"deletions": Deletions(share=0.001, rows=1, emptied_rows=1)})
    execute(source, *GONE["scorecards move to another day"])
    execute(
        source,
        "UPDATE director.scorecards SET process_interaction_at = process_interaction_at + interval '1 second' "
        "WHERE date_part('second', process_interaction_at) < 59",
    )

    assert errors(attempt(strict, SLICES)) == []

    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("equal")
def test_partitions_that_lose_nothing_count_for_what_the_others_may_lose(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    """Emptied partitions, each of them below the limit, and together a small part of what the run holds."""
    emptied = [Slice(customer, PLAN.all_days[1]) for customer in (CUSTOMER, "globex")]
    of_slice = {
        item: sum(count_rows(shard_clients, "score", f"customer = '{item.customer}' AND day = '{item.day}'"))
        for item in emptied
    }
    each = fleet.model_copy(update={"deletions": Deletions(rows=100_000, emptied_rows=max(of_slice.values()) + 1)})
    for item in emptied:
        execute(source, *(statement.replace(CUSTOMER, item.customer) for statement in GONE["scores are deleted"]))

    # One group after the other, and those that lose something first and last.
    others = [item for item in SLICES if item not in emptied]
    options = ReindexOptions(group_scorecards=1)
    assert sum(of_slice.values()) > max(of_slice.values()) + 1
    assert errors(attempt(each, [*others, *emptied], options)) == []
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("equal")
def test_rows_that_move_beside_a_partition_that_is_refused_are_no_deletion_either(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    strict = fleet.model_copy(update={"deletions": Deletions(share=0.001, rows=1, emptied_rows=1)})
    execute(source, *GONE["scorecards and scores are deleted"])
    execute(
        source,
        "UPDATE director.scorecards SET process_interaction_at = process_interaction_at + interval '1 day' "
        f"WHERE customer = '{CUSTOMER}' AND (process_interaction_at AT TIME ZONE 'UTC')::date = '{PLAN.all_days[2]}'",
    )

    outcomes = attempt(strict, SLICES)

    assert [outcome.slice for outcome in outcomes if outcome.error] == [EMPTIED]
    reindex(fleet, [EMPTIED], ALLOWED)
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("equal")
@pytest.mark.parametrize("way", ["the fleet file", "clean_up"])
def test_other_ways_of_saying_yes(fleet: Fleet, source: Connection, shard_clients: list[Client], way: str) -> None:
    execute(source, *GONE["scorecards and scores are deleted"])
    if way == "the fleet file":
        reindex(fleet.model_copy(update={"deletions": Deletions(allowed=True)}), [EMPTIED])
    else:
        reindex(fleet, [EMPTIED], ReindexOptions(write=WriteOptions(clean_up=True)))
    assert_equal(source, shard_clients, kind="process")
