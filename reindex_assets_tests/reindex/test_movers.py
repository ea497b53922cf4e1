"""Movers leave: a scorecard whose day, shard or existence changed in Postgres leaves its old place.

What lives here: one kind of move a test, each judged by the oracle. What does not: moves in bulk (end_to_end/test_invariants.py).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_data import make_source
from reindex_assets.local.oracle.compare import assert_equal, differences
from reindex_assets.model import Slice
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.reindex.writer import WriteOptions
from reindex_assets_tests.support.application import Scorecard, delete, scorecards_of, update
from reindex_assets_tests.support.plain_loader import load_plainly
from reindex_assets_tests.support.running import PLAN, holds_plan, reindex, reported, slices_of

OLD, NEW = PLAN.all_days[0], PLAN.all_days[1]
OTHER_MONTH = PLAN.all_days[3]


@pytest.fixture
def equal(source: Connection, shard_clients: list[Client], request: pytest.FixtureRequest, fleet: Fleet) -> None:
    """Both engines hold the same. What an earlier test has left is taken when it is in order: loading costs more."""
    if not holds_plan(shard_clients, PLAN) or differences(source, shard_clients, kind="process"):
        request.getfixturevalue("clean")
        make_source(source, PLAN)
        load_plainly(source, shard_clients)


def move(days: int, seconds: int) -> Callable[[Connection, Scorecard], None]:
    edit = f"process_interaction_at = process_interaction_at + interval '{days} days {seconds} seconds'"
    return lambda source, scorecard: update(source, scorecard, edit)


def become_an_appeal(source: Connection, scorecard: Scorecard) -> None:
    update(source, scorecard, "scorecard_type = 3")


def become_a_conversation(source: Connection, scorecard: Scorecard) -> None:
    with source.cursor() as cursor:
        cursor.execute(
            """
            UPDATE director.scorecard_template_revisions AS r
            SET template_type = 1
            FROM director.scorecards AS c
            WHERE (c.customer, c.profile, c.scorecard_id) = (%s, %s, %s::uuid)
                AND (r.customer, r.profile, r.template_id, r.template_revision_id)
                = (c.customer, c.profile, c.template_id, c.template_revision_id)
            """,
            scorecard.key,
        )
        assert cursor.rowcount == 1


@pytest.mark.usefixtures("equal")
@pytest.mark.parametrize(
    ("change", "days"),
    [
        pytest.param(move(1, 1), (NEW,), id="to another day and shard, the new day reindexed"),
        pytest.param(move(1, 1), (OLD, NEW), id="to another day and shard, both days reindexed"),
        pytest.param(move(1, 4), (NEW,), id="to another day on the same shard"),
        pytest.param(move(0, 1), (OLD,), id="to another shard within its day"),
        pytest.param(move(3, 1), (OTHER_MONTH,), id="to another month, the new day reindexed"),
        pytest.param(move(3, 1), (OLD, OTHER_MONTH), id="to another month, both days reindexed"),
        pytest.param(delete, (OLD,), id="deleted"),
        pytest.param(become_an_appeal, (OLD,), id="turned into an appeal"),
    ],
)
def test_a_scorecard_leaves_its_old_place_when_it_is(
    fleet: Fleet,
    source: Connection,
    shard_clients: list[Client],
    change: Callable[[Connection, Scorecard], None],
    days: tuple[object, ...],
) -> None:
    [scorecard] = scorecards_of(source, Slice("acme", OLD))
    change(source, scorecard)
    assert differences(source, shard_clients, kind="process")

    outcomes = reindex(fleet, [Slice("acme", day) for day in PLAN.all_days if day in days])

    assert_equal(source, shard_clients, kind="process")
    assert reported(outcomes, "scorecard").deleted == 1


@pytest.mark.usefixtures("equal")
def test_scorecards_leave_when_their_template_revision_becomes_one_of_conversations(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    [scorecard] = scorecards_of(source, Slice("acme", OLD))
    become_a_conversation(source, scorecard)
    # Every scorecard of the revision leaves, on whatever day it stands.
    found = differences(source, shard_clients, kind="process")
    assert {line.split(":")[0] for line in found} == {"extra"}

    reindex(fleet, [item for item in slices_of(PLAN) if item.customer == "acme"])

    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("equal")
def test_a_scorecard_that_moved_away_leaves_when_only_its_old_day_is_reindexed(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    [scorecard] = scorecards_of(source, Slice("acme", OLD))
    move(1, 1)(source, scorecard)

    reindex(fleet, [scorecard.slice])

    assert_equal(source, shard_clients, customers=["acme"], first_day=OLD, last_day=OLD, kind="process")
    assert {line.split(":")[0] for line in differences(source, shard_clients, kind="process")} == {"missing"}


@pytest.mark.usefixtures("equal")
def test_the_same_scorecard_id_of_another_profile_stays_where_it_is(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    # The data maker gives one scorecard of each day the same id in every profile of every customer.
    with source.cursor() as cursor:
        cursor.execute(
            """
            SELECT scorecard_id::text FROM director.scorecards
            WHERE (process_interaction_at AT TIME ZONE 'UTC')::date = %s
            GROUP BY scorecard_id HAVING count(*) = 4
            """,
            (OLD,),
        )
        [(shared,)] = cursor.fetchall()
    move(1, 1)(source, Scorecard("acme", "main", shared, OLD))

    reindex(fleet, [Slice("acme", NEW)])

    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("equal")
def test_a_dry_run_counts_the_rows_that_a_moved_scorecard_leaves_behind_outside_the_run(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    [scorecard] = scorecards_of(source, Slice("acme", OLD))
    move(1, 1)(source, scorecard)
    new_day = [Slice("acme", NEW)]

    planned = reported(reindex(fleet, new_day, ReindexOptions(write=WriteOptions(dry_run=True))))
    done = reported(reindex(fleet, new_day))

    assert planned == done
    assert done.deleted > 1
    assert_equal(source, shard_clients, kind="process")
