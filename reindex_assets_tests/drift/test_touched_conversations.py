"""What a run and the watch notice of conversations: their start in Postgres, and the shard that holds them.

What lives here: changes of conversations after both sides were proved equal. What does not: where their scorecards belong
(placement/test_conversations.py), and what else touches a slice (drift/test_unchanged.py, drift/test_watch.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.config.cluster import Watch
from reindex_assets.config.fleet import Fleet
from reindex_assets.drift.checkpoint_store import CheckpointStore
from reindex_assets.drift.watch import look
from reindex_assets.drift.watch_state import WatchState
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import CONVERSATION, Slice
from reindex_assets.placement.resolver import GroupPlacement
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.selection.groups import SliceGroup
from reindex_assets_tests.support.conversations import (
    CHAT,
    COLUMNS,
    DAYS,
    ITEM,
    SLICES,
    conversations,
    reindex,
    scorecard_of,
    shards_of,
    start_later,
)
from reindex_assets_tests.support.datasets import watched_by
from reindex_assets_tests.support.merges import merge_all
from reindex_assets_tests.support.running import Once


@pytest.mark.usefixtures("held")
def test_a_slice_of_which_nothing_was_touched_is_not_read_again_and_one_whose_conversation_starts_otherwise_is(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    reindex(fleet)
    with Comparison(fleet.dataset(CLUSTER, CONVERSATION), with_checkpoint=True) as comparison:
        comparison.settled(SLICES, settle_seconds=0)
    CheckpointStore(fleet.dataset(CLUSTER, CONVERSATION)).update([], comparison.checkpoints)
    equal = unread(fleet)
    assert equal
    # A conversation that no shard held may come to one at any time: such a slice is read.
    without_conversation_shard = {
        outcome.slice
        for outcome in reindex(fleet, options=ReindexOptions(everything=True))
        if outcome.scorecards_without_conversation_shard
    }
    assert equal == set(SLICES) - without_conversation_shard
    item = min(equal)
    start_later(source, item, "1 second")
    assert unread(fleet) == equal - {item}
    merge_all(shard_clients)
    oracle.assert_equal(source, shard_clients, kind="conversation")


@pytest.mark.usefixtures("held")
def test_the_watch_finds_what_happens_to_a_conversation_in_postgres(fleet: Fleet, source: Connection) -> None:
    reindex(fleet)
    watched = watched_by(fleet.dataset(CLUSTER, CONVERSATION), Watch(settle_seconds=0))
    state = look(watched, DAYS, WatchState()).state
    quiet = look(watched, DAYS, state)
    assert (quiet.touched, quiet.drifted) == (0, {})
    start_later(source, ITEM, "1 millisecond")
    assert set(look(watched, DAYS, quiet.state).drifted) == {ITEM}


def unread(fleet: Fleet) -> set[Slice]:
    """The slices that a run doesn't read, as nothing has touched them since they were found equal."""
    return {outcome.slice for outcome in reindex(fleet) if outcome.unchanged is not None}


def holder_of(shard_clients: Sequence[Client], conversation: str) -> int | None:
    """The only shard that holds a conversation."""
    shards = [shard for shard, client in enumerate(shard_clients) if conversations(client, conversation)]
    return shards[0] if len(shards) == 1 else None


def shard_by_time(source: Connection, customer: str, profile: str, conversation: str) -> int:
    with source.cursor() as cursor:
        cursor.execute(
            f"SELECT mod(floor(extract(epoch FROM conversation_start_time))::bigint, 2) FROM app.chats WHERE {CHAT}",
            {"customer": customer, "profile": profile, "chat": conversation},
        )
        [(shard,)] = cursor.fetchall()
    return int(shard)


def held_against_its_time(
    source: Connection, shard_clients: Sequence[Client], items: Collection[Slice]
) -> tuple[Slice, str, str]:
    """One of some slices, a scorecard and its conversation, which only shard 1 holds, and which belongs on shard 0 by its time."""
    for item in sorted(items):
        for number in range(20):
            customer, profile, scorecard, conversation = scorecard_of(source, item, number)
            if holder_of(shard_clients, conversation) == 1 and not shard_by_time(
                source, customer, profile, conversation
            ):
                return item, scorecard, conversation
    raise AssertionError("no such conversation")


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("what", ["comes to an earlier shard", "leaves its shard"])
def test_a_run_and_the_watch_notice_that_a_conversation(
    fleet: Fleet, source: Connection, shard_clients: list[Client], what: str
) -> None:
    """None of the rows that are compared changes by it, on either side."""
    reindex(fleet)
    watched = watched_by(fleet.dataset(CLUSTER, CONVERSATION), Watch(settle_seconds=0))
    state = look(watched, DAYS, WatchState()).state
    with Comparison(fleet.dataset(CLUSTER, CONVERSATION), with_checkpoint=True) as comparison:
        comparison.settled(SLICES, settle_seconds=0)
    CheckpointStore(fleet.dataset(CLUSTER, CONVERSATION)).update([], comparison.checkpoints)
    quiet = look(watched, DAYS, state)
    assert (quiet.touched, quiet.drifted) == (0, {})
    # Of the others a run reads every time.
    item, scorecard, conversation = held_against_its_time(source, shard_clients, unread(fleet))
    if what == "comes to an earlier shard":
        held = conversations(shard_clients[1], conversation)
        shard_clients[0].insert("conversation", held, column_names=COLUMNS)
    else:
        shard_clients[1].command(f"DELETE FROM conversation WHERE conversation_id = '{conversation}'")

    assert set(look(watched, DAYS, quiet.state).drifted) == {item}
    assert item not in unread(fleet)
    assert shards_of(shard_clients, scorecard) == [0]
    merge_all(shard_clients)
    oracle.assert_equal(source, shard_clients, kind="conversation")


@pytest.mark.usefixtures("held")
def test_a_conversation_that_comes_while_slices_are_compared_is_noticed_by_the_next_run(
    fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison has read where conversations are, and finds everything equal by that."""
    reindex(fleet)
    store = CheckpointStore(fleet.dataset(CLUSTER, CONVERSATION))
    with Comparison(fleet.dataset(CLUSTER, CONVERSATION), with_checkpoint=True) as comparison:
        comparison.settled(SLICES, settle_seconds=0)
    store.update([], comparison.checkpoints)
    item, scorecard, conversation = held_against_its_time(source, shard_clients, unread(fleet))
    held = conversations(shard_clients[1], conversation)
    come = Once(lambda: shard_clients[0].insert("conversation", held, column_names=COLUMNS))

    def placed(shards: ShardSet, group: SliceGroup) -> GroupPlacement:
        placement = GroupPlacement(shards, group)
        if item in group.slices:
            come()
        return placement

    monkeypatch.setattr("reindex_assets.comparison.comparison.GroupPlacement", placed)
    with Comparison(fleet.dataset(CLUSTER, CONVERSATION), with_checkpoint=True) as comparison:
        assert all(parity.is_equal for parity in comparison.settled(SLICES, settle_seconds=0))
    assert come.done
    store.update([], comparison.checkpoints)

    assert item not in unread(fleet)
    assert shards_of(shard_clients, scorecard) == [0]
