"""Replicas of a shard: which one is used, when another one takes its place, and that no stale knowledge survives the change.

What lives here: failover, on real engines. Most of it with two proxies in front of one engine, which are one engine by two addresses;
where the replicas must differ, with two engines. No engine here replicates: what a run asks of a replica before it reads it
(`SYSTEM SYNC REPLICA`) is only shown to be understood, and to be asked of Replicated tables alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import date

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse import replicas
from reindex_assets.clickhouse.parts import compare_parts
from reindex_assets.clickhouse.schema import apply_schema, create_table
from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.config.cluster import Watch
from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.engines import Replica, Shard
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.assets.run_checks import CheckPlan, _compare
from reindex_assets.drift.watch import WatchResult, look
from reindex_assets.drift.watch_state import WatchState
from reindex_assets.errors import ConfigurationError, ShardUnreachableError
from reindex_assets.local.data.made_data import DataPlan, change_source, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle.compare import assert_equal, differences
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets.reindex.job import Reindex, ReindexOptions
from reindex_assets.reindex.writer import WriteOptions
from reindex_assets_tests.support import running
from reindex_assets_tests.support.datasets import watched_by
from reindex_assets_tests.support.hand_made_rows import silent_port, with_clickhouse
from reindex_assets_tests.support.proving import prove, unread
from reindex_assets_tests.support.proxies import Proxy
from reindex_assets_tests.support.running import slices_of, with_shards
from reindex_assets_tests.support.session_stack import CUSTOMERS

PLAN = DataPlan(CUSTOMERS, date(2026, 2, 1), days=2, scale=0.002, seed=31)
SLICES = slices_of(PLAN)
#: The shard that has replicas.
SHARD = 1
TRIES = ReindexOptions(write=WriteOptions(batch_rows=500), attempts=3)


def with_replicas(fleet: Fleet, *ports: int, number: int = SHARD, **fields: object) -> Fleet:
    """The fleet with a shard at several ports. Not validated: in a file this needs Replicated tables."""
    shards = list(fleet.clusters[CLUSTER].clickhouse.shards)
    shards[number] = Shard(replicas=tuple(Replica(host="127.0.0.1", port=port) for port in ports))
    return with_clickhouse(fleet, shards=tuple(shards), **fields)


def port_of(fleet: Fleet, number: int = SHARD) -> int:
    return fleet.clusters[CLUSTER].clickhouse.shards[number].port


@pytest.fixture
def fleet(four_shards: None, fleet: Fleet) -> Fleet:
    """With shards that can be a replica of another one."""
    return fleet


@pytest.fixture
def proxied(fleet: Fleet) -> Iterator[Callable[..., tuple[Fleet, list[Proxy]]]]:
    """Makes a fleet whose shard is behind two proxies; the first is cut at some words."""
    with ExitStack() as stack:

        def make(cut_at: bytes | None = None) -> tuple[Fleet, list[Proxy]]:
            proxies = [stack.enter_context(Proxy(port_of(fleet), cut)) for cut in (cut_at, None)]
            return with_replicas(fleet, *(proxy.port for proxy in proxies)), proxies

        yield make


@pytest.fixture
def made(clean: None, source: Connection) -> None:
    make_source(source, PLAN)


@pytest.mark.usefixtures("made")
def test_a_dead_address_first_in_the_list_costs_nothing_but_its_try(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    dead = silent_port()
    changed = with_replicas(fleet, dead, port_of(fleet))
    running.reindex(changed, SLICES)
    assert_equal(source, shard_clients, kind="process")
    addresses = changed.clusters[CLUSTER].clickhouse.shards[SHARD].addresses
    assert [one.port for one in replicas.in_order(addresses)] == [port_of(fleet), dead]


def test_a_replica_that_failed_is_tried_again_later_and_at_once_where_no_other_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other, third = (Replica(host="replica.test", port=port) for port in (1, 2, 3))
    replicas.note_failure(one)
    assert replicas.in_order([one, other, third]) == [other, third, one]
    replicas.note_failure(other)
    assert replicas.in_order([one, other]) == [one, other]
    monkeypatch.setattr(replicas, "PAUSE_SECONDS", 0.0)
    assert replicas.in_order([one, other, third]) == [one, other, third]


def test_all_replicas_dead_is_an_error_that_names_each(fleet: Fleet) -> None:
    ports = silent_port(), silent_port()
    with (
        ShardSet(with_replicas(fleet, *ports).clusters[CLUSTER]) as shards,
        pytest.raises(ShardUnreachableError, match="none of the 2 replicas of shard 1 can be used") as error,
    ):
        shards.map(lambda shard: shard.rows("SELECT 1"))
    assert all(f"shard 1 (127.0.0.1:{port})" in str(error.value) for port in ports)
    assert "shard 0" not in str(error.value)


MOMENTS = {
    "while both are compared": b"_difference` ENGINE",
    # A question is asked three times of the same replica, and of no other one.
    "while the difference is read": b"countIf(is_upsert AND live_rows = 0) AS missing",
    "while scores are inserted": b"INSERT INTO score (",
    "while scorecards are inserted": b"INSERT INTO scorecard (",
    "while scorecards are deleted": b"DELETE FROM scorecard ",
}


@pytest.mark.usefixtures("made")
def test_a_replica_that_dies_while_a_run_writes_costs_another_try_of_the_group(
    fleet: Fleet,
    proxied: Callable[..., tuple[Fleet, list[Proxy]]],
    source: Connection,
    shard_clients: list[Client],
) -> None:
    running.reindex(fleet, SLICES)
    for seed, (moment, words) in enumerate(MOMENTS.items()):
        change_source(source, PLAN, seed)
        plant(Drift.EXTRA, shard_clients, "acme", PLAN.first_day, count=3, seed=seed, kind=PROCESS)
        changed, (dying, other) = proxied(words)
        retries: list[str] = []
        outcomes = running.attempt(changed, SLICES, TRIES, on_retry=retries.append)
        assert dying.is_cut, moment
        assert running.errors(outcomes) == [], moment
        # Not in the middle of a try: what it had staged would not be on another replica.
        assert len(retries) == 1, (moment, retries)
        assert f"127.0.0.1:{dying.port}" in retries[0]
        assert other.connections
        assert differences(source, shard_clients, kind="process") == [], moment
    # What the dead replicas held is dropped by the next run, as that of a run that was killed.
    running.reindex(fleet, SLICES)
    assert running.staging_tables(shard_clients) == []


@pytest.mark.usefixtures("made")
def test_a_replica_that_dies_while_an_empty_shard_is_filled_leaves_no_row_twice(
    proxied: Callable[..., tuple[Fleet, list[Proxy]]], source: Connection, shard_clients: list[Client]
) -> None:
    changed, (dying, _) = proxied(b"INSERT+INTO+%60scorecard%60")
    retries: list[str] = []
    outcomes = running.attempt(changed, SLICES, TRIES, on_retry=retries.append)
    assert dying.is_cut
    assert running.errors(outcomes) == []
    assert retries
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("made")
def test_a_replica_that_dies_while_a_run_checks_is_replaced_by_a_comparison_from_the_beginning(
    fleet: Fleet, proxied: Callable[..., tuple[Fleet, list[Proxy]]], shard_clients: list[Client]
) -> None:
    running.reindex(fleet, SLICES)
    changed, (dying, _) = proxied(b"uniqExact(")
    plan = CheckPlan(dataset=changed.dataset(CLUSTER, PROCESS), settle_seconds=0.0, with_checkpoint=True)
    parities, _, proofs = _compare(plan, SLICES, [])
    assert dying.is_cut
    assert all(parity.is_equal for parity in parities)
    assert len({one.slice for proof in proofs for one in proof.slices}) == len(SLICES)

    plant(Drift.MISSING, shard_clients, "acme", PLAN.first_day, seed=1, kind=PROCESS)
    both = proxied(b"uniqExact(")[1]
    both[1].cut_at = b"uniqExact("
    with pytest.raises(ShardUnreachableError):
        _compare(
            CheckPlan(
                dataset=with_replicas(fleet, *(one.port for one in both)).dataset(CLUSTER, PROCESS),
                settle_seconds=0.0,
                with_checkpoint=False,
            ),
            SLICES,
            [],
        )


def copied(origin: Client, copy: Client, without: str) -> None:
    """Puts the rows of one engine onto another one, without some: what a replica that lags would show."""
    for table in TABLES:
        names = [*table.column_names, "version"]
        copy.command(f"TRUNCATE TABLE {table.name}")
        rows = origin.query(f"SELECT {', '.join(names)} FROM {table.name} WHERE NOT ({without})").result_rows
        copy.insert(table.name, rows, column_names=names, settings={"async_insert": 0})


@pytest.mark.usefixtures("made")
def test_neither_a_proof_nor_the_watch_trusts_another_replica_with_what_it_knew_of_the_first(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    """Two engines: the second one lacks a customer's day, and is asked only when the first is away."""
    day = PLAN.first_day
    with Proxy(port_of(fleet, 1)) as first:
        two = with_replicas(with_shards(fleet, [0, 1]), first.port, port_of(fleet, 2), number=1)
        running.reindex(two, SLICES)
        assert prove(two, SLICES) == set(SLICES)
        assert unread(running.reindex(two, SLICES)) == set(SLICES)
        state = look_at(two, look_at(two, WatchState()).state).state
        assert not look_at(two, state).touched
        copied(shard_clients[1], shard_clients[2], f"customer = 'acme' AND day = '{day}'")
        # It says what the first one says: which shard both are.
        shard_clients[2].insert("reindex_layout", shard_clients[1].query("SELECT * FROM reindex_layout").result_rows)
        lagging = [shard_clients[0], shard_clients[2]]
        assert differences(source, lagging, kind="process")

        first.stop()
        assert set(look_at(two, state).drifted) == {Slice("acme", day)}
        outcomes = running.reindex(two, SLICES)
        # The rows themselves tell: their checksums are read from the second one.
        assert unread(outcomes) == set(SLICES) - {Slice("acme", day)}
        assert {one.slice for one in outcomes if any(write.written for write in one.writes.values())} == {
            Slice("acme", day)
        }
        assert differences(source, lagging, kind="process") == []


def look_at(fleet: Fleet, state: WatchState) -> WatchResult:
    watched = watched_by(fleet.dataset(CLUSTER, PROCESS), Watch(settle_seconds=0))
    return look(watched, (PLAN.first_day, PLAN.last_day), state)


def test_parts_of_another_replica_say_nothing_although_they_bear_the_same_names() -> None:
    place = (0, "score", "uuid", "202602")
    server = (0, "(server)", "", "")
    before = {place: {"202602_1_1_0": "hash"}, server: {"start": "100", "replica": "a:8123"}}
    assert compare_parts(before, before).nothing
    assert compare_parts(before, {**before, server: {"start": "100", "replica": "b:8123"}}).rewritten == {None}


def test_the_settings_of_replicated_tables_are_sent_for_them_alone(fleet: Fleet) -> None:
    names = ("mutations_sync", "lightweight_deletes_sync")
    for replicated, expected in ((False, 2), (True, 1)):
        with ShardSet(with_clickhouse(fleet, replicated=replicated).clusters[CLUSTER]) as shards:
            found = shards.map(
                lambda shard: shard.rows(f"SELECT {', '.join(f'getSetting({n!r}) AS {n}' for n in names)}")
            )
        assert [list(row.values()) for [row] in found] == [[expected, expected]] * 4


def test_replicas_of_tables_that_do_not_replicate_are_refused(
    fleet: Fleet, proxied: Callable[..., tuple[Fleet, list[Proxy]]]
) -> None:
    changed = with_clickhouse(proxied()[0], replicated=True)
    with pytest.raises(
        ConfigurationError, match=r"shard 1 .*names 2 replicas, but reindex_layout and score and scorecard there share"
    ):
        Reindex(changed.dataset(CLUSTER, PROCESS)).run(SLICES)


def test_what_a_replica_is_asked_is_understood_by_the_engine(fleet: Fleet, shard_clients: list[Client]) -> None:
    """All of it that can be had without replication: the statements are valid, and find nothing that is replicated."""
    [client, *_] = shard_clients
    database = fleet.clusters[CLUSTER].clickhouse.database
    assert replicas.check_replicas(client, "shard 0", database, TABLES, 1) == ()
    assert replicas.read_waiting_deletes(client, database, ["score", "scorecard"]) == (0, "")
    with pytest.raises(DatabaseError, match="not replicated"):
        replicas.catch_up(client, "shard 0", database, ["scorecard"], 1)


def test_the_schema_is_applied_to_every_replica(
    fleet: Fleet, proxied: Callable[..., tuple[Fleet, list[Proxy]]]
) -> None:
    changed, proxies = proxied()
    lines = apply_schema(changed.clusters[CLUSTER])
    for proxy in proxies:
        assert any(f"shard 1 (127.0.0.1:{proxy.port}): scorecard is up to date" in line for line in lines)
    created = create_table(TABLES.child, replicated=True, named_path=True)
    assert (
        "ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', version)" in created
    )
