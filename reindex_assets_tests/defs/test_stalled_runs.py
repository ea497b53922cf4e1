"""The janitor, on a run whose process was really killed.

What lives here: silent runs and living ones. What does not: what a killed run leaves in ClickHouse (end_to_end/test_crashes.py).
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import date

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.automation.stalled_runs import end_silent_runs
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.dagster_private import AssetGraph
from reindex_assets.defs.history.runs_in_flight import slices_in_flight
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets_tests.support.session_stack import CUSTOMERS
from reindex_assets_tests.support.waiting import until

PLAN = DataPlan(CUSTOMERS, date(2026, 1, 1), 3, scale=0.02)

pytestmark = pytest.mark.usefixtures("clean")


def test_a_run_of_a_dead_machine_is_failed_and_frees_its_partitions_and_a_living_one_is_left_alone(
    fleet: Fleet, instance: DagsterInstance, source: Connection
) -> None:
    make_source(source, PLAN)
    process = subprocess.Popen(
        [sys.executable, "-m", "reindex_assets", "reindex", "--from", "2026-01-01", "--to", "2026-01-03", "--json"],
        stdout=subprocess.DEVNULL,
    )
    run = _started(instance)
    process.kill()
    process.wait()
    graph = build_defs(fleet).get_repository_def().asset_graph
    assert isinstance(graph, AssetGraph)
    covered = {Slice(customer, day) for customer in CUSTOMERS for day in PLAN.all_days}
    assert slices_in_flight(instance, graph, fleet.dataset(CLUSTER, PROCESS)) == covered

    # Nobody but the janitor learns that it is dead; and it needs to have been silent for long enough.
    assert end_silent_runs(instance, fleet, silent_seconds=600) == []
    time.sleep(1.2)
    assert [ended.run_id for ended in end_silent_runs(instance, fleet, silent_seconds=1)] == [run.run_id]
    dead = instance.get_run_by_id(run.run_id)
    assert dead is not None
    assert dead.status is DagsterRunStatus.FAILURE
    messages = [entry.message for entry in instance.all_logs(run.run_id)]
    assert any("No sign of life" in message and "rerunning them is safe" in message for message in messages)
    assert slices_in_flight(instance, graph, fleet.dataset(CLUSTER, PROCESS)) == set()
    assert end_silent_runs(instance, fleet, silent_seconds=0) == []


def _started(instance: DagsterInstance) -> DagsterRun:
    runs: list[DagsterRun] = []

    def has_started() -> bool:
        runs[:] = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED]))
        return bool(runs)

    until(has_started)
    return runs[0]
