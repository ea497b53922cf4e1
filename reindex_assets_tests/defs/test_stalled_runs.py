"""The janitor, on a run whose process was really killed, and which runs count as dead.

What lives here: killed, silent and living runs. What does not: commands that wait for a slot (defs/test_waiting_commands.py), and what a
killed run leaves in ClickHouse (end_to_end/test_crashes.py).
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from datetime import date

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, MetadataValue, RunsFilter
from dagster._core.events import EngineEventData
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.automation.stalled_runs import end_dead_runs
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.dagster_private import AssetGraph
from reindex_assets.defs.history.run_process import (
    PROCESS_TAG,
    ProcessState,
    RunProcess,
    process_of,
    process_tags,
)
from reindex_assets.defs.history.runs_in_flight import slices_in_flight
from reindex_assets.defs.keys.names import job_name
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets_tests.support.session_stack import CUSTOMERS
from reindex_assets_tests.support.waiting import until

PLAN = DataPlan(CUSTOMERS, date(2026, 1, 1), 3, scale=0.02)

pytestmark = pytest.mark.usefixtures("clean")


def test_a_killed_run_is_failed_at_once_and_frees_its_partitions_and_a_stopped_one_is_left_alone(
    fleet: Fleet, instance: DagsterInstance, source: Connection
) -> None:
    make_source(source, PLAN)
    process = subprocess.Popen(
        [sys.executable, "-m", "reindex_assets", "reindex", "--from", "2026-01-01", "--to", "2026-01-03", "--json"],
        stdout=subprocess.DEVNULL,
    )
    run = _started(instance)
    # It gives no sign of life, and lives.
    process.send_signal(signal.SIGSTOP)
    assert end_dead_runs(instance, fleet, silent_seconds=0) == []
    # Not reaped yet: a zombie is dead.
    process.kill()
    graph = build_defs(fleet).get_repository_def().asset_graph
    assert isinstance(graph, AssetGraph)
    covered = {Slice(customer, day) for customer in CUSTOMERS for day in PLAN.all_days}
    assert slices_in_flight(instance, graph, fleet.dataset(CLUSTER, PROCESS)) == covered

    ended: list[DagsterRun] = []

    def has_ended() -> bool:
        # However long it may be silent.
        ended[:] = end_dead_runs(instance, fleet, silent_seconds=86_400)
        return bool(ended)

    until(has_ended)
    assert [one.run_id for one in ended] == [run.run_id]
    process.wait()
    dead = instance.get_run_by_id(run.run_id)
    assert dead is not None
    assert dead.status is DagsterRunStatus.FAILURE
    messages = [entry.message for entry in instance.all_logs(run.run_id)]
    [words] = [message for message in messages if "rerunning them is safe" in message]
    assert f"pid {process.pid}" in words
    assert "is gone" in words
    assert slices_in_flight(instance, graph, fleet.dataset(CLUSTER, PROCESS)) == set()
    assert instance.event_log_storage.get_concurrency_run_ids() == set()
    assert end_dead_runs(instance, fleet, silent_seconds=0) == []


def test_a_run_whose_process_nobody_here_can_see_is_failed_once_it_has_been_silent(
    fleet: Fleet, instance: DagsterInstance
) -> None:
    elsewhere = RunProcess(run_id="?", host="another machine", kernel="?", pid=1, started=1)
    runs = [_run(instance, fleet, elsewhere), _run(instance, fleet, elsewhere)]
    for run in runs:
        instance.report_engine_event("alive", run)
    # What Dagster stores every five minutes while a run waits for a slot.
    blocked = EngineEventData(metadata={"pool": MetadataValue.pool("clickhouse")})
    instance.report_engine_event("Step blocked by limit for pool clickhouse", runs[1], blocked)
    assert end_dead_runs(instance, fleet, silent_seconds=60) == []
    time.sleep(0.1)
    assert [run.run_id for run in end_dead_runs(instance, fleet, silent_seconds=0.05)] == [runs[0].run_id]
    messages = [entry.message for entry in instance.all_logs(runs[0].run_id)]
    assert any("No sign of life" in message and "rerunning them is safe" in message for message in messages)


def test_a_run_that_inherits_the_tags_of_a_dead_one_is_alive(fleet: Fleet, instance: DagsterInstance) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    gone = of_this_process().model_copy(update={"pid": process.pid})
    assert gone.state() is ProcessState.GONE
    dead = _run(instance, fleet, gone)
    again = instance.create_run_for_job(
        build_defs(fleet).resolve_job_def(dead.job_name), status=DagsterRunStatus.STARTED, tags=dead.tags
    )
    assert [run.run_id for run in end_dead_runs(instance, fleet)] == [dead.run_id]
    assert process_of(again) is None


def test_a_process_is_gone_only_if_that_is_certain() -> None:
    here = of_this_process()
    assert here.state() is ProcessState.ALIVE
    # The pid was used again.
    assert here.model_copy(update={"started": here.started - 1}).state() is ProcessState.GONE
    unused = here.model_copy(update={"pid": 2**22 + 1})
    assert unused.state() is ProcessState.GONE
    # Another machine; the same after a restart, or another container on it.
    assert unused.model_copy(update={"host": "another"}).state() is ProcessState.UNKNOWN
    assert unused.model_copy(update={"kernel": here.kernel.replace("pid:[", "pid:[1")}).state() is ProcessState.UNKNOWN


def of_this_process() -> RunProcess:
    return RunProcess.model_validate_json(process_tags("this")[PROCESS_TAG])


def _run(instance: DagsterInstance, fleet: Fleet, process: RunProcess) -> DagsterRun:
    """A run that has begun, in a process."""
    run_id = str(uuid.uuid4())
    return instance.create_run_for_job(
        build_defs(fleet).resolve_job_def(job_name(fleet.dataset(CLUSTER, PROCESS))),
        run_id=run_id,
        status=DagsterRunStatus.STARTED,
        tags={
            **range_tags(("acme",), PLAN.first_day, PLAN.first_day),
            PROCESS_TAG: process.model_copy(update={"run_id": run_id}).model_dump_json(),
        },
    )


def _started(instance: DagsterInstance) -> DagsterRun:
    runs: list[DagsterRun] = []

    def has_started() -> bool:
        runs[:] = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED]))
        return bool(runs)

    until(has_started)
    return runs[0]
