"""The purge of appeals on real engines: what it finds, what it deletes, and what it leaves alone.

What lives here: the core. What does not: Dagster and the command line (defs/test_purge_asset.py). Judged by SQL that shares nothing with
the product (support/planted_appeals.py).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from uuid import uuid4

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.appeals.purge import AppealPurge, PurgeOptions, PurgeProgress, plan_purges, purge_blocks
from reindex_assets.appeals.report import Outcome, PurgeReport
from reindex_assets.clickhouse.keys import Key
from reindex_assets.config.default_tables import SCORECARD
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ConfigurationError, ShardUnreachableError, SliceBusyError
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import CONVERSATION, MICROSECONDS, PROCESS, Kind, Slice
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import MAX_SLICES
from reindex_assets_tests.support.hand_made_rows import (
    reindex,
    silent_port,
    succeeded,
    update_scorecard,
    with_shard_port,
)
from reindex_assets_tests.support.planted_appeals import OLD, Appeal, add_appeal, appeals_left, at, everything
from reindex_assets_tests.support.running import activity, staging_tables, with_customers

pytestmark = pytest.mark.usefixtures("four_shards", "clean")

FIRST, LAST = date(2026, 1, 4), date(2026, 1, 8)


def purge(
    fleet: Fleet,
    customers: Sequence[str] = (),
    first: date = FIRST,
    last: date = LAST,
    on_progress: Callable[[PurgeProgress], None] = lambda progress: None,
    dry_run: bool = False,
    max_scorecards: int = 1_000,
) -> PurgeReport:
    [(cluster_name, group)] = plan_purges(fleet, customers, first, last).items()
    options = PurgeOptions(dry_run=dry_run, max_scorecards=max_scorecards, attempts=1)
    return AppealPurge(fleet, cluster_name, group, options, on_progress=on_progress).run()


@pytest.fixture
def planted(source: Connection, shard_clients: list[Client]) -> list[Appeal]:
    """Appeals of all types, of both kinds of templates, in every wrong way; and the neighbours that must stay."""
    zero, one, two, three = shard_clients
    by_type = [add_appeal(source, at(5), type_) for type_ in (1, 2, 3)]
    for appeal in by_type:
        appeal.plant(one, at(5))
    of_conversation = add_appeal(source, at(6), 2, "globex", conversation=True)
    of_conversation.plant(two, at(6))
    twice = add_appeal(source, at(6), 3, "globex")
    twice.plant(zero, at(6))
    twice.plant(three, at(6), scores=3)
    # Its day is asked for in Postgres; in ClickHouse it stands on stale ones, one in another partition of the table.
    elsewhere = add_appeal(source, at(7), 1, "initech")
    elsewhere.plant(one, at(20))
    elsewhere.plant(two, at(7).replace(month=3))
    only_scores = add_appeal(source, at(8), 1, profile="voice")
    only_scores.plant(three, at(8), scores=4, with_scorecard=False)
    without_time = add_appeal(source, None, 2)
    without_time.plant(zero, at(5))
    # Of a template type that is neither: no reindex would ever find it.
    Appeal("acme", "main", by_type[0].scorecard_id, 7).plant(two, at(5))
    return [*by_type, of_conversation, twice, elsewhere, only_scores, without_time]


@pytest.fixture
def neighbours(source: Connection, shard_clients: list[Client], planted: list[Appeal]) -> list[tuple[object, ...]]:
    """Rows beside them that are no appeals: they must not be touched."""
    first = planted[0]
    # The same id in another profile and of another customer, in the same place; a type of 0 and none at all.
    for customer, profile, type_ in (("acme", "voice", 0), ("globex", "main", None)):
        add_appeal(source, at(5), type_, customer, profile, first.scorecard_id).plant(shard_clients[1], at(5))
    add_appeal(source, at(5), None, conversation=True).plant(shard_clients[1], at(5))
    # An id that differs in its last digit.
    similar = first.scorecard_id[:-1] + ("0" if first.scorecard_id[-1] != "0" else "1")
    add_appeal(source, at(5), 0, scorecard_id=similar).plant(shard_clients[1], at(5))
    # Postgres does not know it: not an appeal, but an extra row, which is a reindex' to remove.
    Appeal("acme", "main", str(uuid4()), 2).plant(shard_clients[1], at(5))
    appeals = {(appeal.customer, appeal.profile, appeal.scorecard_id) for appeal in planted}
    return [row for row in everything(shard_clients) if tuple(row[2:5]) not in appeals]


def test_a_dry_run_counts_every_appeal_and_changes_nothing(
    fleet: Fleet,
    source: Connection,
    shard_clients: list[Client],
    planted: list[Appeal],
    neighbours: list[tuple[object, ...]],
) -> None:
    before, activity_before = everything(shard_clients), activity(shard_clients)

    report = purge(fleet, dry_run=True)

    assert report.outcome is Outcome.FOUND
    assert "nothing was deleted" in report.sentence
    assert (everything(shard_clients), activity(shard_clients)) == (before, activity_before)
    assert staging_tables(shard_clients) == []
    left = appeals_left(source, shard_clients)
    found = report.before.found
    assert found.scorecards == sum(row.table == "scorecard" for row in left) == 10
    assert found.scores == sum(row.table == "score" for row in left) == 25
    of = {one.customer: one for one in report.before.customers}
    # The one without a time counts under the day of its creation, 2026-01-05.
    assert of["acme"].in_postgres == {1: 2, 2: 2, 3: 1}
    assert of["globex"].in_postgres == {1: 0, 2: 1, 3: 1}
    assert of["initech"].in_postgres == {1: 1, 2: 0, 3: 0}
    for shard in range(4):
        there = sum(one.of_shard(shard).scorecards for one in of.values())
        assert there == sum(row.table == "scorecard" and row.shard == shard for row in left)
    assert (of["globex"].of_type(3).appeals, of["globex"].of_type(3).scores) == (2, 5)
    assert {place.scorecard_id for place in report.before.examples} == {appeal.scorecard_id for appeal in planted}


def test_a_purge_leaves_no_row_of_an_appeal_and_every_other_row(
    fleet: Fleet,
    source: Connection,
    shard_clients: list[Client],
    planted: list[Appeal],
    neighbours: list[tuple[object, ...]],
) -> None:
    assert {row.scorecard_id for row in appeals_left(source, shard_clients)} == {one.scorecard_id for one in planted}

    report = purge(fleet)

    assert appeals_left(source, shard_clients) == []
    assert everything(shard_clients) == neighbours
    assert report.outcome is Outcome.CLEAN
    assert report.attempted == len(planted)
    assert (report.deleted_rows("scorecard"), report.deleted_rows("score")) == (10, 25)
    assert report.deleted_rows("score", "initech") == 4
    assert staging_tables(shard_clients) == []
    before = activity(shard_clients)
    again = purge(fleet)
    assert (again.outcome, again.after, activity(shard_clients)) == (Outcome.CLEAN, None, before)


def test_only_the_customers_and_profiles_of_the_fleet_that_are_asked_for_are_purged(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    same = str(uuid4())
    mine = add_appeal(source, at(5), 1, "acme", "main", same)
    of_profile = add_appeal(source, at(5), 1, "acme", "voice", same)
    of_customer = add_appeal(source, at(5), 1, "globex", "main", same)
    for appeal in (mine, of_profile, of_customer):
        appeal.plant(shard_clients[1], at(5))
    narrow = with_customers(fleet, {"acme": ("main",), "globex": ("main",)})

    assert purge(narrow, ["acme"]).outcome is Outcome.CLEAN

    left = {(row.customer, row.profile) for row in appeals_left(source, shard_clients)}
    assert left == {("acme", "voice"), ("globex", "main")}


def test_meant_are_rows_on_the_days_and_all_rows_of_appeals_of_the_days(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    outside = add_appeal(source, at(20))
    outside.plant(shard_clients[0], at(20))
    stale = add_appeal(source, at(21))
    stale.plant(shard_clients[0], at(5))
    stale.plant(shard_clients[1], at(21))
    edge = add_appeal(source, at(8, 23))
    edge.plant(shard_clients[2], at(8, 23))

    report = purge(fleet)

    left = {(row.scorecard_id, row.day) for row in appeals_left(source, shard_clients)}
    assert left == {(outside.scorecard_id, "2026-01-20"), (stale.scorecard_id, "2026-01-21")}
    assert report.outcome is Outcome.CLEAN


def test_a_bounded_run_removes_the_first_ones_by_day_and_customer_and_the_next_goes_on(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    ordered = [
        add_appeal(source, at(day), 1 + number % 3, customer)
        for number, (day, customer) in enumerate(
            [(4, "globex"), (5, "acme"), (5, "initech"), (7, "acme"), (8, "globex")]
        )
    ]
    for number, appeal in enumerate(reversed(ordered)):
        appeal.plant(shard_clients[number % 4], at([8, 7, 5, 5, 4][number]))
    # A second place on a later day, which another shard's first ones would leave out.
    ordered[0].plant(shard_clients[3], at(8, 20))

    left = [5]
    outcomes = []
    for expected in (ordered[2:], ordered[4:], []):
        report = purge(fleet, max_scorecards=2)
        outcomes.append(report.outcome)
        found = {row.scorecard_id for row in appeals_left(source, shard_clients)}
        assert found == {appeal.scorecard_id for appeal in expected}
        left.append(len(found))

    assert outcomes == [Outcome.MORE_LEFT, Outcome.MORE_LEFT, Outcome.CLEAN]
    assert left == [5, 3, 1, 0]


def test_a_block_locks_no_more_slices_than_a_session_may_and_keeps_a_scorecard_together() -> None:
    # Each on a day of its own, and on another shard a day later.
    places: list[list[Key]] = [
        [
            ("acme", 2, date(2020, 1, 1) + timedelta(days=number + shard), "main", f"{number:036}")
            for number in range(1_000)
        ]
        for shard in range(2)
    ]
    blocks = list(purge_blocks(places, SCORECARD))
    assert len(blocks) > 1
    for block in blocks:
        assert len({key[:3] for found in block.values() for _, key in found}) <= MAX_SLICES
        assert all(len(found) == 2 for found in block.values())
    assert sorted(identity for block in blocks for identity in block) == sorted(
        ("acme", "main", f"{number:036}") for number in range(1_000)
    )


def test_a_row_newer_than_postgres_snapshot_stays_with_its_scores_and_is_named(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    future = int((time.time() + 3600) * MICROSECONDS)
    newer, older = add_appeal(source, at(5)), add_appeal(source, at(5), 2)
    newer.plant(shard_clients[1], at(5), version=future, scores=0)
    newer.plant(shard_clients[1], at(5), version=OLD, with_scorecard=False)
    older.plant(shard_clients[1], at(5))

    report = purge(fleet)

    assert report.outcome is Outcome.STUCK
    assert report.after is not None
    assert (report.after.stuck.scorecards, report.after.stuck.scores) == (1, 2)
    assert f"acme/main {newer.scorecard_id} of 2026-01-05 on shard 1" in report.sentence
    # A scorecard that is shown has its scores.
    left = appeals_left(source, shard_clients)
    assert [(row.table, row.scorecard_id) for row in left] == [
        *[("score", newer.scorecard_id)] * 2,
        ("scorecard", newer.scorecard_id),
    ]


def test_what_is_no_appeal_any_more_when_its_turn_comes_stays(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    appeal, other = add_appeal(source, at(5)), add_appeal(source, at(6))
    appeal.plant(shard_clients[1], at(5))
    other.plant(shard_clients[1], at(6))
    before = [row for row in everything(shard_clients) if row[4] == appeal.scorecard_id]

    report = purge(
        fleet, on_progress=lambda progress: update_scorecard(source, appeal.scorecard_id, scorecard_type=None)
    )

    assert everything(shard_clients) == before
    assert report.outcome is Outcome.CLEAN
    assert report.deleted_rows("scorecard") == 1


def test_a_writer_that_adds_one_again_is_told(fleet: Fleet, source: Connection, shard_clients: list[Client]) -> None:
    appeals = [add_appeal(source, at(day)) for day in (5, 6)]
    for appeal in appeals:
        appeal.plant(shard_clients[1], at(5))

    def add_again(progress: PurgeProgress) -> None:
        if progress.done == progress.total:
            appeals[1].plant(shard_clients[2], at(6))

    report = purge(fleet, on_progress=add_again)

    assert report.outcome is Outcome.STUCK
    assert f"{appeals[1].scorecard_id} of 2026-01-06 on shard 2" in report.sentence
    assert appeals[0].scorecard_id not in report.sentence
    assert {row.scorecard_id for row in appeals_left(source, shard_clients)} == {appeals[1].scorecard_id}


@pytest.mark.parametrize("kind", [PROCESS, CONVERSATION], ids=lambda kind: kind.name)
def test_slices_at_which_a_run_is_at_work_are_left_alone(
    fleet: Fleet, source: Connection, shard_clients: list[Client], kind: Kind
) -> None:
    # Where it stands counts, not where it is in Postgres.
    appeal = add_appeal(source, at(5), conversation=kind is CONVERSATION)
    appeal.plant(shard_clients[1], at(6))
    before = everything(shard_clients)
    with (
        SourceSession(fleet.clusters[CLUSTER].postgres) as session,
        session.locked(fleet.dataset(CLUSTER, kind).lock_scope, [Slice("acme", date(2026, 1, 6))]),
        pytest.raises(SliceBusyError, match=r"acme 2026-01-06.*0 of 1 appeals were removed before"),
    ):
        purge(fleet)
    assert everything(shard_clients) == before
    assert purge(fleet).outcome is Outcome.CLEAN


def test_a_shard_out_of_reach_is_an_error_and_no_verdict(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    add_appeal(source, at(5)).plant(shard_clients[1], at(5))
    with pytest.raises(ShardUnreachableError, match="shard 2"):
        purge(with_shard_port(fleet, 2, silent_port()), dry_run=True)
    assert staging_tables(shard_clients) == []


def test_what_cannot_be_asked_for_is_refused(fleet: Fleet) -> None:
    with pytest.raises(ConfigurationError, match="unknown customer 'umbrella'"):
        purge(fleet, ["umbrella"])
    with pytest.raises(ConfigurationError, match="choose 1 to 500,000"):
        purge(fleet, max_scorecards=0)


def test_a_reindex_removes_appeals_of_its_slices_alone_and_the_purge_the_others(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    here, there = add_appeal(source, at(5)), add_appeal(source, at(6))
    here.plant(shard_clients[1], at(5))
    there.plant(shard_clients[1], at(7))
    succeeded(reindex(fleet, [Slice("acme", date(2026, 1, 5)), Slice("acme", date(2026, 1, 6))]))
    assert {row.scorecard_id for row in appeals_left(source, shard_clients)} == {there.scorecard_id}
    assert purge(fleet).outcome is Outcome.CLEAN
    assert appeals_left(source, shard_clients) == []


def test_killed_at_any_request_it_is_made_good_by_one_more_run(
    stack: LocalStack,
    fleet: Fleet,
    source: Connection,
    shard_clients: list[Client],
    planted: list[Appeal],
    neighbours: list[tuple[object, ...]],
) -> None:
    def killed_at(*moment: str) -> str:
        command = [sys.executable, "-m", "reindex_assets_tests.support.crash_purge", str(stack.fleet_path), *moment]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.strip()

    # In the search; when some scorecards are gone (a shard's second DELETE follows its first); when all are gone, and not their scores;
    # in the search after the deletes.
    found = []
    for begins, number in (
        ("CREATE", "10"),
        ("DELETE FROM scorecard IN", "5"),
        ("DELETE FROM score IN", "1"),
        ("CREATE", "20"),
    ):
        assert killed_at(begins, number) == "", (begins, number)
        left = appeals_left(source, shard_clients)
        found.append(tuple(sum(row.table == table for row in left) for table in ("scorecard", "score")))
        assert [row for row in everything(shard_clients) if row in neighbours] == neighbours
    (looked, some_gone, all_gone, proved) = found
    assert looked == (10, 25)
    assert 0 < some_gone[0] < 10
    assert some_gone[1] == 25
    assert all_gone[0] == 0 < all_gone[1]
    assert proved == (0, 0)
    assert purge(fleet).outcome is Outcome.CLEAN
    assert appeals_left(source, shard_clients) == []
    assert everything(shard_clients) == neighbours
    assert staging_tables(shard_clients) == []
