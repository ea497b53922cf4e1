"""An asset backfill as the UI launches it: with a real webserver, daemon and code location, and Dagster's own runs.

What lives here: starting Dagster on a target, launching a backfill and waiting for its end. What does not: where its time goes
(backfill_times.py), and whether it was right (proof.py).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from benchmarks.backfill_times import BackfillTimes, DagsterStorage, dagster_storage
from benchmarks.data import Window
from benchmarks.figures import WrongRunError
from benchmarks.measure import Measured, Meter
from benchmarks.stacks import DAGSTER_LOG
from benchmarks.target import Target
from reindex_assets.defs.keys.names import asset_key_of
from reindex_assets.local.stack.dagster_processes import DagsterProcesses, running_dagster
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Step

#: Longer than any backfill here takes.
_TIMEOUT_SECONDS = 3_600.0
_POLL_SECONDS = 0.25

_LAUNCH = """mutation ($parameters: LaunchBackfillParams!) {
    launchPartitionBackfill(backfillParams: $parameters) {
        __typename
        ... on LaunchBackfillSuccess { backfillId }
        ... on PythonError { message }
    }
}"""
_WORKING = {"REQUESTED", "COMPLETING"}


@dataclass(frozen=True)
class Backfill:
    """One backfill that has succeeded."""

    measured: Measured
    times: BackfillTimes


class RunningDagster:
    """Dagster on a target, ready for backfills."""

    def __init__(self, target: Target, processes: DagsterProcesses) -> None:
        self._target = target
        self._processes = processes

    def backfill(self, window: Window) -> Backfill:
        """Backfills the three assets with their checks over a window, and returns when the daemon has marked the backfill as complete.

        Raises:
            WrongRunError: it failed, or a check was red.
        """
        partitions = [item.partition_key for item in window.slices]
        selection = [{"path": list(asset_key_of(CLUSTER, PROCESS.name, step).path)} for step in Step]
        with dagster_storage(self._target) as storage:
            before = storage.work()
            with Meter(self._target.servers, psutil.Process(self._processes.pid)) as meter:
                requested = time.time()
                launched = self._processes.ask(
                    _LAUNCH,
                    {"parameters": {"assetSelection": selection, "partitionNames": partitions, "title": "benchmark"}},
                )["launchPartitionBackfill"]
                if launched["__typename"] != "LaunchBackfillSuccess":
                    raise WrongRunError(f"Dagster refuses the backfill: {launched}")
                _wait(storage, launched["backfillId"], window)
                completed = time.time()
            assert meter.result is not None
            work = storage.work().since(before)
            times = storage.times(launched["backfillId"], len(partitions), requested, completed, work)
        return Backfill(meter.result, times)


def _wait(storage: DagsterStorage, backfill_id: str, window: Window) -> None:
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while (status := storage.status(backfill_id)) != "COMPLETED_SUCCESS":
        if status not in _WORKING:
            raise WrongRunError(f"the backfill over {window} ended as {status}: see {DAGSTER_LOG} (run with --keep)")
        if time.monotonic() > deadline:
            raise WrongRunError(f"the backfill over {window} has not ended after {_TIMEOUT_SECONDS:,.0f} s")
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def dagster_on(target: Target) -> Iterator[RunningDagster]:
    """Dagster on a target, as `dg dev` starts it."""
    with running_dagster(target.fleet_path.with_name(DAGSTER_LOG), target.environment) as processes:
        yield RunningDagster(target, processes)
