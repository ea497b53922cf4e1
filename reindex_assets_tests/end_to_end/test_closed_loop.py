"""The closed loop, end to end: a real daemon, webserver and runs, an application that lives on and loses writes, repair and alarm.

What lives here: the whole product from outside. What does not: single ticks (defs/test_repair_sensor.py).

`REINDEX_LOOP_SECONDS=240 pytest -s reindex_assets_tests/end_to_end/test_closed_loop.py` lets it lose writes for four minutes and prints the
distribution of the time from drift to proven repair. By default it lives just long enough to be a test.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from clickhouse_connect.driver.client import Client
from dagster import AssetCheckKey, DagsterEventType, DagsterInstance, EventRecordsFilter
from psycopg2.extensions import connection as Connection

from reindex_assets.config.cluster import Watch
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.dagster_private import AssetCheckExecutionRecordStatus
from reindex_assets.defs.keys.names import REPAIR_TAG, repair_sensor_name
from reindex_assets.drift.watch_state import WatchState, WatchStore
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack.dagster_processes import DagsterProcesses, running_dagster
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import PROCESS, Slice
from reindex_assets_tests.support.alert_receivers import WebReceiver, web_receiver
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.living_application import LivingApplication
from reindex_assets_tests.support.merges import merge_all
from reindex_assets_tests.support.plain_loader import load_plainly
from reindex_assets_tests.support.repair_loop import WRITES
from reindex_assets_tests.support.session_stack import CUSTOMERS
from reindex_assets_tests.support.waiting import until

SECONDS = float(os.environ.get("REINDEX_LOOP_SECONDS", "15"))
#: By default when it is measured; a busy test machine may be late itself.
MEASURED = "REINDEX_LOOP_SECONDS" in os.environ
SETTLE_SECONDS = Watch().settle_seconds if MEASURED else 12.0
#: Between two looks. Each step of the story waits for a look: a test need not wait as long.
INTERVAL_SECONDS = Watch().interval_seconds if MEASURED else 5
TODAY = datetime.now(UTC).date()
PLAN = DataPlan(CUSTOMERS, TODAY - timedelta(days=5), days=6, scale=0.003, seed=8)
SENSOR = repair_sensor_name(dataset_named(CLUSTER, PROCESS))

pytestmark = pytest.mark.timeout(900 + 3 * SECONDS)


@pytest.fixture
def receiver() -> Iterator[WebReceiver]:
    with web_receiver() as receiver:
        yield receiver


@pytest.fixture
def dagster(
    clean: None,
    stack: LocalStack,
    fleet: Fleet,
    source: Connection,
    shard_clients: list[Client],
    receiver: WebReceiver,
    instance: DagsterInstance,
    tmp_path: Path,
) -> Iterator[DagsterProcesses]:
    """Equal data on both sides, and Dagster with its sensors on; as set up by default, but for the patience with a poisoned slice."""
    make_source(source, PLAN)
    load_plainly(source, shard_clients)
    WatchStore(fleet.dataset(CLUSTER, PROCESS)).save(WatchState())
    document = yaml.safe_load(stack.fleet_path.read_text(encoding="utf-8"))
    document["watch"].update(
        attempts=2, cool_down_seconds=2, settle_seconds=SETTLE_SECONDS, interval_seconds=INTERVAL_SECONDS
    )
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    environment = {"REINDEX_FLEET": str(path), "REINDEX_ALERT_URLS": receiver.url(rto=5)}
    with running_dagster(tmp_path / "dagster.log", environment) as dagster:
        dagster.start_sensor(SENSOR)
        until(lambda: any("compared to the bit; nothing has drifted" in message for message in messages(dagster)))
        # `dagster dev` says so of itself.
        assert "superseded" not in (tmp_path / "dagster.log").read_text(encoding="utf-8")
        yield dagster


def messages(dagster: DagsterProcesses) -> list[str]:
    return [tick["skipReason"] or "" for tick in dagster.ticks(SENSOR)]


def repairs(dagster: DagsterProcesses) -> list[str]:
    """What the repair runs so far were asked for."""
    return [tag["value"] for run in dagster.runs() for tag in run["tags"] if tag["key"] == REPAIR_TAG]


def test_the_loop(
    dagster: DagsterProcesses,
    fleet: Fleet,
    source: Connection,
    shard_clients: list[Client],
    receiver: WebReceiver,
) -> None:
    days = PLAN.all_days

    # A busy application that loses nothing: no repair, no alarm.
    with LivingApplication(
        fleet, days, delay=1.0, pause=0.05, seed=1, actions={"add": 80, "edit": 20}
    ).living() as honest:
        time.sleep(min(SECONDS, 60))
    assert honest.done > min(SECONDS, 60)
    sys.stdout.write(f"\n{honest.done} writes, none lost, the latest {honest.latest:.1f} s after its commit\n")
    assert honest.latest < SETTLE_SECONDS, "this machine is too slow for the question"
    assert repairs(dagster) == []
    assert receiver.received == []

    # One that loses a write in eight, and a slice that no repair can mend beside it.
    item, others = Slice("globex", days[1]), [day for day in days if day != days[1]]
    _poison(shard_clients, item)
    try:
        _rescore(source, item, 1.5)
        careless = LivingApplication(fleet, others, loses=0.12, pause=0.25, seed=2)
        with careless.living():
            end = time.monotonic() + max(SECONDS, 20)
            while time.monotonic() < end:
                careless.is_all_right(shard_clients)
                time.sleep(0.5)
        until(lambda: careless.is_all_right(shard_clients), pause=0.5)
        # Everything that was lost is repaired, and proved.
        assert careless.lost
        until(lambda: all(_proofs(careless)))
        _print_distribution([at - one.at for at, one in zip(_proofs(careless), careless.lost, strict=True) if at])

        # Few attempts, and one alarm, about the poisoned slice alone.
        until(lambda: bool(receiver.received))
        [told] = receiver.received
        assert "given up" in told["message"].lower()
        assert item.customer in told["message"]
        assert str(item.day) in told["message"]
        assert sum(str(item) in asked for asked in repairs(dagster)) == 2
        assert _latest("nothing_left_failed", item) is AssetCheckExecutionRecordStatus.FAILED
    finally:
        _heal(shard_clients)
    receiver.received.clear()
    # The data change, and so it is tried again.
    _rescore(source, item, 2.5)
    until(lambda: bool(receiver.received))
    assert "green again" in receiver.received[0]["message"].lower()
    # The next run of the partition may have been planned meanwhile.
    until(lambda: _latest("nothing_left_failed", item) is AssetCheckExecutionRecordStatus.SUCCEEDED)
    # What an edit has superseded is folded away by a merge, sooner or later: here now.
    merge_all(shard_clients)
    oracle.assert_equal(source, shard_clients, kind="process")


def _rescore(source: Connection, item: Slice, score: float) -> None:
    with source.cursor() as cursor:
        cursor.execute(
            "UPDATE director.scorecards SET score = %s WHERE customer = %s"
            " AND (process_interaction_at AT TIME ZONE 'UTC')::date = %s",
            (score, item.customer, item.day),
        )
        assert cursor.rowcount


def _poison(shard_clients: Sequence[Client], item: Slice) -> None:
    """The shards refuse every row of a slice."""
    for client in shard_clients:
        client.command(
            "ALTER TABLE scorecard ADD CONSTRAINT poisoned CHECK NOT "
            f"(customer = '{item.customer}' AND toDate32(scorecard_time) = '{item.day}')"
        )


def _heal(shard_clients: Sequence[Client]) -> None:
    for client in shard_clients:
        client.command("ALTER TABLE scorecard DROP CONSTRAINT poisoned")


def _proofs(application: LivingApplication) -> list[float | None]:
    """When a check first found the slices of each lost write equal, after it was last seen to be wrong."""
    with DagsterInstance.get() as instance:
        records = instance.event_log_storage.get_event_records(
            EventRecordsFilter(event_type=DagsterEventType.ASSET_CHECK_EVALUATION), limit=100_000, ascending=True
        )
    green: dict[str, list[float]] = {}
    for record in records:
        event = record.event_log_entry.dagster_event
        assert event is not None
        verdict = event.asset_check_evaluation_data
        if verdict.check_name == "rows_agree" and verdict.passed and verdict.partition:
            green.setdefault(verdict.partition, []).append(record.timestamp)
    found: list[float | None] = []
    for one in application.lost:
        proofs = [
            min((at for at in green.get(item.partition_key, []) if at >= max(one.at, one.wrong_at)), default=None)
            for item in one.slices
        ]
        # A place that was cleared together with the other one's repair need have no run of its own: the other one proves it.
        known = [proof for proof in proofs if proof is not None]
        found.append(max(known) if known and one.is_right else None)
    return found


def _latest(check: str, item: Slice) -> AssetCheckExecutionRecordStatus | None:
    with DagsterInstance.get() as instance:
        found = instance.event_log_storage.get_asset_check_partition_info([AssetCheckKey(WRITES, check)])
    return next((one.latest_execution_status for one in found if one.partition_key == item.partition_key), None)


def _print_distribution(seconds: Sequence[float]) -> None:
    ordered = sorted(seconds)
    marks = {
        f"{share} %": ordered[min(len(ordered) - 1, len(ordered) * share // 100)]
        for share in (5, 25, 50, 75, 90, 95, 99)
    }
    told = ", ".join(f"{name} {value:.1f} s" for name, value in marks.items())
    sys.stdout.write(
        f"\nfrom drift to proven repair, {len(ordered)} lost writes: {told}, longest {ordered[-1]:.1f} s, "
        f"mean {statistics.mean(ordered):.1f} s\n"
    )
