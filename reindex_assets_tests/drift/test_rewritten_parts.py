"""What a run need not read after ClickHouse has rewritten, merged or dropped parts: slices whose rows stand as they were compared.

What lives here: drift, deletions and merges on the shards. What does not: what happens in Postgres, and checkpoints themselves
(drift/test_unchanged.py).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets.drift.checkpoint_store import CheckpointStore
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets_tests.support import running
from reindex_assets_tests.support.merges import merge_all, merge_over_a_dropped_part, no_merges
from reindex_assets_tests.support.proving import ITEM, SLICES, prove, run, unchanged, unread, written_and_proved


@pytest.fixture
def proven(clean: None, fleet: Fleet, source: Connection) -> Fleet:
    return written_and_proved(fleet, source)


def test_drift_in_clickhouse_has_the_slice_read_again(
    proven: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    # One after the other: a mutation leaves doubt about a whole month, and would hide what another drift does not tell.
    for drift in Drift:
        with ExitStack() as merging:
            if drift is Drift.DUPLICATED:
                merging.enter_context(no_merges(shard_clients))
            planted = plant(drift, shard_clients, ITEM.customer, ITEM.day, source=source, kind=PROCESS)
            found = {Slice(one.customer, one.day) for one in planted}
            assert found
            assert unchanged(proven).isdisjoint(found), drift
        assert run(proven).isdisjoint(found), drift
        # What a repair has superseded, and a duplicate, is folded away by a merge.
        merge_all(shard_clients)
        oracle.assert_equal(source, shard_clients, kind="process")
        assert prove(proven, SLICES) == set(SLICES)
        assert unchanged(proven) == set(SLICES)


def test_after_a_deletion_only_what_it_has_touched_is_read_again(
    proven: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    """A deletion rewrites every part of its month."""
    plant(Drift.EXTRA, shard_clients, ITEM.customer, ITEM.day, source=source, kind=PROCESS)
    first = running.reindex(proven, SLICES)
    assert running.reported(first).deleted > 0
    assert unread(first) == set(SLICES) - {ITEM}
    # As the checks of the run do.
    assert prove(proven, [ITEM]) == {ITEM}

    again = running.reindex(proven, SLICES)

    assert running.reported(again).read == 0
    assert unread(again) == set(SLICES)
    oracle.assert_equal(source, shard_clients, kind="process")


def test_what_changes_beside_a_deletion_in_the_same_month_is_noticed(
    proven: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    """Each kind of drift in a slice, while a deletion in another one leaves doubt about the whole month."""
    other = Slice("globex", ITEM.day)
    for drift in Drift:
        planted = plant(drift, shard_clients, ITEM.customer, ITEM.day, source=source, kind=PROCESS)
        found = {Slice(one.customer, one.day) for one in planted}
        for client in shard_clients:
            client.command(f"DELETE FROM score WHERE customer = '{other.customer}' AND day = '{other.day}'")
        assert unchanged(proven) == set(SLICES) - found - {other}, drift
        run(proven)
        merge_all(shard_clients)
        oracle.assert_equal(source, shard_clients, kind="process")
        assert prove(proven, SLICES) == set(SLICES)


def test_a_checkpoint_without_checksums_counts_for_nothing_once_a_month_was_rewritten(
    proven: Fleet, shard_clients: list[Client]
) -> None:
    """As a version before this one has left them."""
    store = CheckpointStore(proven.dataset(CLUSTER, PROCESS))
    without = [
        replace(checkpoint, slices=tuple(replace(equal, shard_checksum=None) for equal in checkpoint.slices))
        for checkpoint in store.load()
    ]
    store.update(SLICES, without)
    assert unchanged(proven) == set(SLICES)
    for client in shard_clients:
        client.command("ALTER TABLE score DELETE IN PARTITION 202601 WHERE 0 SETTINGS mutations_sync = 1")
    assert all(item.day.month == 2 for item in unchanged(proven))


def test_a_row_that_only_has_another_version_is_read_again(proven: Fleet, shard_clients: list[Client]) -> None:
    """Its values are right, and what is to come may not supersede it any more."""
    for client in shard_clients:
        client.command(
            "INSERT INTO scorecard SELECT * REPLACE (version + 1 AS version) FROM scorecard "
            f"WHERE customer = '{ITEM.customer}' AND day = '{ITEM.day}'"
        )
    merge_all(shard_clients)
    assert unchanged(proven) == set(SLICES) - {ITEM}


def test_merges_change_nothing(proven: Fleet, shard_clients: list[Client]) -> None:
    merge_all(shard_clients)
    assert run(proven) == set(SLICES)


def test_rows_that_a_merge_leaves_out_are_missed(
    proven: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    for client in shard_clients:
        client.command("ALTER TABLE score DROP PARTITION 202601")
    merge_all(shard_clients)
    assert run(proven) == {item for item in SLICES if item.day.month == 2}
    oracle.assert_equal(source, shard_clients, kind="process")


def test_rows_that_go_with_a_dropped_part_are_missed_even_after_a_merge_over_the_gap(
    proven: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    def prove_what_was_written() -> None:
        assert prove(proven, SLICES) == set(SLICES)

    # By the list alone nothing has happened but a merge: the rows must be counted.
    lost = merge_over_a_dropped_part(source, shard_clients, SLICES, prove_what_was_written)
    assert run(proven) == set(SLICES) - {lost}
    merge_all(shard_clients)
    oracle.assert_equal(source, shard_clients, kind="process")
