"""The repair sensor tick by tick: what it finds, what it asks for, what it leaves alone, and when it calls a person.

What lives here: ticks and runs in this process, on real engines and a real Dagster instance. What does not: the daemon
(end_to_end/test_closed_loop.py), and the rules of patience (drift/test_repair_policy.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    DagsterInstance,
    DagsterRunStatus,
)
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.differences import Difference
from reindex_assets.config.cluster import Watch
from reindex_assets.config.default_tables import SCORECARD
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.dagster_private import BulkActionStatus
from reindex_assets.defs.history.repairs import ask_again
from reindex_assets.defs.keys.names import REPAIR_TAG, job_name
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.drift.repair_policy import GivenUp
from reindex_assets.drift.watch_state import WatchState, WatchStore
from reindex_assets.errors import ShardUnreachableError
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets_tests.support import application
from reindex_assets_tests.support.asset_runs import evaluation
from reindex_assets_tests.support.backfills import ask_for_backfill
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.hand_made_rows import silent_port, with_shard_port
from reindex_assets_tests.support.merges import merge_all
from reindex_assets_tests.support.plain_loader import load_plainly
from reindex_assets_tests.support.repair_loop import WRITES, RepairLoop
from reindex_assets_tests.support.session_stack import CUSTOMERS

TODAY = datetime.now(UTC).date()
PLAN = DataPlan(CUSTOMERS, TODAY - timedelta(days=6), days=5, scale=0.0006, seed=4)
DAYS = PLAN.all_days


@pytest.fixture
def watched(fleet: Fleet) -> Fleet:
    """Ten days of look-back, without patience."""
    watch = Watch(settle_seconds=0.2, cool_down_seconds=0, attempts=2)
    return fleet.model_copy(update={"look_back_days": 10, "watch": watch})


@pytest.fixture
def loop(
    clean: None, watched: Fleet, source: Connection, shard_clients: list[Client], instance: DagsterInstance
) -> RepairLoop:
    """Equal data on both sides, and a first tick that has proved it."""
    make_source(source, PLAN)
    load_plainly(source, shard_clients)
    WatchStore(watched.dataset(CLUSTER, PROCESS)).save(WatchState())
    loop = RepairLoop(watched, instance, kind=PROCESS)
    assert "30 compared to the bit; nothing has drifted" in loop.tick().message
    return loop


def test_a_quiet_system_costs_no_look_at_any_row_and_no_run(loop: RepairLoop, shard_clients: list[Client]) -> None:
    begun = [client.query("SELECT now64(6)").result_rows[0][0] for client in shard_clients]
    for _ in range(20):
        tick = loop.tick()
        assert not tick.requests
        assert (
            "30 partitions watched, 0 touched since the last look, 0 compared to the bit; nothing has drifted"
            in tick.message
        )
    for client, since in zip(shard_clients, begun, strict=True):
        client.command("SYSTEM FLUSH LOGS")
        asked = client.query(
            "SELECT countIf(query LIKE '%system.parts%'), countIf(read_rows > 0 AND query NOT LIKE '%system.%') FROM system.query_log"
            " WHERE type = 'QueryFinish' AND event_time_microseconds >= {since:DateTime64(6)}"
            " AND log_comment LIKE '%reindex_assets compare%'",
            parameters={"since": since},
        ).result_rows[0]
        assert asked[1] == 0


def test_each_kind_of_drift_is_found_named_repaired_and_proved(
    loop: RepairLoop, source: Connection, shard_clients: list[Client]
) -> None:
    names = {
        Drift.STALE_AFTER_MOVE: "no longer theirs",
        Drift.WRONG_SHARD: "wrong shard",
        Drift.ORPHAN_SCORE: "orphaned",
        Drift.APPEAL: "appeals",
    }
    places = [(customer, day) for customer in ("globex", "acme") for day in DAYS]
    for drift, (customer, day) in zip(Drift, places, strict=False):
        with _no_merges(shard_clients):
            [planted] = plant(drift, shard_clients, customer, day, 1, 3, source, kind=PROCESS)
            item = Slice(planted.customer, planted.day)
            [request] = loop.tick().requests

            assert loop.slices(request) == {item}, drift
            assert re.search(rf"1 drifted: {item}: .*{names.get(drift, drift.value)}", request.tags[REPAIR_TAG])
            # The run is on its way: nobody asks twice.
            assert loop.run(request).success
            oracle.assert_equal(source, shard_clients, kind="process")
            tick = loop.tick()
            assert not tick.requests
            assert f"repaired: 1 ({item})" in tick.message
        assert loop.ledger.repairs == ()
        assert loop.verdict("rows_agree", item) is True


@contextlib.contextmanager
def _no_merges(shard_clients: list[Client]) -> Iterator[None]:
    """A merge would heal a duplicate before it is seen. Deletes go on: SYSTEM STOP MERGES would stop those too."""
    for client in shard_clients:
        for table in ("scorecard", "score"):
            client.command(f"ALTER TABLE {table} MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1")
    try:
        yield
    finally:
        for client in shard_clients:
            for table in ("scorecard", "score"):
                client.command(f"ALTER TABLE {table} RESET SETTING max_bytes_to_merge_at_max_space_in_pool")


def test_scattered_drift_becomes_few_runs_and_the_same_day_may_drift_again(
    loop: RepairLoop, source: Connection, shard_clients: list[Client]
) -> None:
    for round_number in range(2):
        places = [Slice("acme", DAYS[0]), Slice("acme", DAYS[1]), Slice("globex", DAYS[1]), Slice("initech", DAYS[4])]
        for number, item in enumerate(places):
            plant(Drift.CHANGED, shard_clients, item.customer, item.day, 1, 10 * round_number + number, kind=PROCESS)
        requests = loop.tick().requests
        assert len(requests) == 1
        assert set(places) <= set().union(*(loop.slices(request) for request in requests))
        assert all(request.run_key is None for request in requests)
        for request in requests:
            assert loop.run(request).success
        oracle.assert_equal(source, shard_clients, kind="process")
        assert not loop.tick().requests


def test_what_a_queued_run_covers_is_left_to_it(
    loop: RepairLoop, instance: DagsterInstance, shard_clients: list[Client]
) -> None:
    plant(Drift.MISSING, shard_clients, "acme", DAYS[1], kind=PROCESS)
    plant(Drift.MISSING, shard_clients, "initech", DAYS[3], kind=PROCESS)
    run = instance.create_run_for_job(
        build_defs(loop.fleet).resolve_job_def(job_name(dataset_named(CLUSTER, PROCESS))),
        tags=range_tags(["acme", "globex"], DAYS[0], DAYS[2]),
        status=DagsterRunStatus.NOT_STARTED,
    )
    [request] = loop.tick().requests
    assert loop.slices(request) == {Slice("initech", DAYS[3])}
    loop.run(request)
    tick = loop.tick()
    assert not tick.requests
    assert "6 left to queued or running runs" in tick.message

    instance.report_run_canceled(run)
    [request] = loop.tick().requests
    assert loop.slices(request) == {Slice("acme", DAYS[1])}


def test_what_a_backfill_has_not_asked_for_yet_is_left_to_it(
    loop: RepairLoop, instance: DagsterInstance, shard_clients: list[Client]
) -> None:
    plant(Drift.MISSING, shard_clients, "acme", DAYS[1], kind=PROCESS)
    backfill = ask_for_backfill(instance, loop.fleet, [Slice("acme", day) for day in DAYS], [WRITES])
    tick = loop.tick()
    assert not tick.requests
    assert "5 left to queued or running runs" in tick.message

    canceled = backfill.with_status(BulkActionStatus.CANCELED)  # type: ignore[no-untyped-call]
    instance.update_backfill(canceled)
    assert len(loop.tick().requests) == 1


def test_a_partition_that_cannot_be_repaired_is_given_up_told_and_taken_up_when_an_operator_asks(
    loop: RepairLoop, source: Connection, shard_clients: list[Client], instance: DagsterInstance
) -> None:
    item = Slice("globex", DAYS[2])
    plant(Drift.MISSING, shard_clients, item.customer, item.day, 2, 1, kind=PROCESS)
    for client in shard_clients:
        client.command(
            "ALTER TABLE scorecard ADD CONSTRAINT poisoned CHECK NOT "
            f"(customer = '{item.customer}' AND toDate32(scorecard_time) = '{item.day}')"
        )
    try:
        runs = 0
        for _ in range(6):
            requests = loop.tick().requests
            runs += len(requests)
            assert not any(loop.run(request).success for request in requests)
        # Two attempts, and no more.
        assert runs == 2
        assert loop.ledger.given_up.keys() == {item}
        assert loop.verdict("nothing_left_failed", item) is False
        assert f"given up: 1 ({item})" in loop.tick().message
    finally:
        for client in shard_clients:
            client.command("ALTER TABLE scorecard DROP CONSTRAINT poisoned")

    # The cause is gone, and nothing has changed that a look could see.
    assert not loop.tick().requests
    ask_again(instance, [GivenUp(dataset=dataset_named(CLUSTER, PROCESS), repair=loop.ledger.given_up[item])])
    [request] = loop.tick().requests
    assert loop.slices(request) == {item}
    assert loop.run(request).success
    oracle.assert_equal(source, shard_clients, kind="process")
    before = loop.cursor
    loop.tick()
    assert loop.ledger.repairs == ()
    # A tick that dies before its cursor is stored has seen that it is equal, and told nobody.
    loop.cursor = before
    assert loop.ledger.repairs
    loop.tick()
    assert loop.ledger.repairs == ()
    assert loop.verdict("nothing_left_failed", item) is True
    assert loop.verdict("rows_agree", item) is True


def test_a_row_ahead_of_the_clock_is_no_reason_for_a_run_and_a_person_is_told_what_to_do(
    loop: RepairLoop, source: Connection, shard_clients: list[Client], instance: DagsterInstance
) -> None:
    item = Slice("globex", DAYS[2])
    [scorecard] = application.scorecards_of(source, item)
    columns = ", ".join(SCORECARD.column_names)
    for client in shard_clients:
        client.command(
            f"INSERT INTO scorecard ({columns}, version) SELECT {columns}, toUnixTimestamp64Micro(now64(6) + INTERVAL 1 YEAR)"
            f" FROM scorecard WHERE scorecard_id = '{scorecard.scorecard_id}'"
        )
    application.update(source, scorecard, "score = 12.5")
    merge_all(shard_clients)
    assert [loop.tick().requests for _ in range(3)] == [[]] * 3
    assert loop.ledger.given_up.keys() == {item}
    assert loop.verdict("nothing_left_failed", item) is False
    said = str(evaluation(instance, "nothing_left_failed", item.partition_key).description)
    assert "no repair can succeed now, so none is tried: 1 scorecard with a version ahead of the clock" in said
    assert "DELETE FROM" in said
    assert "failed run" not in said

    for client in shard_clients:
        client.command("DELETE FROM scorecard WHERE version > toUnixTimestamp64Micro(now64(6))")
    [request] = loop.tick().requests
    assert loop.run(request).success
    loop.tick()
    assert loop.ledger.repairs == ()
    assert loop.verdict("nothing_left_failed", item) is True
    oracle.assert_equal(source, shard_clients, kind="process")


def test_what_a_check_finds_red_is_compared_whatever_the_marks_say(
    loop: RepairLoop, shard_clients: list[Client], instance: DagsterInstance
) -> None:
    # A watch that is blind for this drift: it has taken the marks of now for those of equal data.
    item = Slice("initech", DAYS[0])
    plant(Drift.CHANGED, shard_clients, item.customer, item.day, 1, 2, kind=PROCESS)
    store = WatchStore(loop.fleet.dataset(CLUSTER, PROCESS))
    before = loop.cursor
    loop.tick()
    loop.cursor = before
    store.save(blind_for(item, store.load()))
    assert not loop.tick().requests

    # As a run of the checks alone tells it: the verdict on the rows is red, and others on the same partition are green.
    for name, passed in (("rows_agree", False), ("right_shard", True), ("counts_agree", True)):
        instance.report_runless_asset_event(
            AssetCheckEvaluation(
                asset_key=WRITES,
                check_name=name,
                passed=passed,
                metadata={},
                severity=AssetCheckSeverity.ERROR,
                partition=item.partition_key,
            )
        )
    [request] = loop.tick().requests
    assert loop.slices(request) == {item}
    assert Difference.CHANGED.value in request.tags[REPAIR_TAG]
    assert loop.run(request).success

    # The verdict is dealt with, though its event is read once more.
    assert "1 compared to the bit; nothing has drifted" in loop.tick().message
    assert "0 compared to the bit; nothing has drifted" in loop.tick().message


def blind_for(item: Slice, state: WatchState) -> WatchState:
    """The state of a watch that takes what it sees now for what equal data looks like."""
    blind = dataclasses.replace(state.slices[item], is_equal=True)
    return dataclasses.replace(state, slices={**state.slices, item: blind})


def test_an_engine_out_of_reach_fails_the_tick_and_what_was_known_stays_known(
    loop: RepairLoop, instance: DagsterInstance
) -> None:
    cut_off = RepairLoop(with_shard_port(loop.fleet, 1, silent_port()), instance, kind=PROCESS)
    cut_off.cursor = loop.cursor
    with pytest.raises(ShardUnreachableError, match="shard 1"):
        cut_off.tick()
    assert "0 compared to the bit; nothing has drifted" in loop.tick().message
