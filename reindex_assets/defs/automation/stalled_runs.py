"""The janitor: fails runs that have stopped giving signs of life, so that a dead machine can't block repairs.

What lives here: the sensor and its rule. What does not: the signs of life (defs/assets/background.py, defs/assets/run_events.py).

Dagster's own run monitoring sees a dead process on the machine of its daemon within a second. A run whose whole machine died, or
that hangs, stays STARTED for ever with the default launcher, and holds its slots (Dagster 1.13).
"""

from __future__ import annotations

import time

from dagster import (
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.history.runs_in_flight import clusters_of_run

JANITOR = "stalled_run_janitor"
_AT_WORK = [DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]


def build_janitor(fleet: Fleet) -> SensorDefinition:
    """The sensor. On from the start: it only marks dead runs as failed."""
    limits = sorted({fleet.rules(name).watch.silent_seconds for name in fleet.clusters})
    silent_seconds = " or ".join(f"{limit} s" for limit in limits)

    @sensor(
        name=JANITOR,
        minimum_interval_seconds=30,
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            f"Fails runs of this project that have given no sign of life for {silent_seconds} (they give one every 10 s): their machine "
            "is dead or cut off. Their partitions are free for repair again; rerunning them is always safe."
        ),
    )
    def janitor(context: SensorEvaluationContext) -> SkipReason:
        ended = end_silent_runs(context.instance, fleet)
        runs = ", ".join(run.run_id for run in ended)
        return SkipReason(f"failed {len(ended)} silent runs: {runs}" if ended else "every run gives signs of life")

    return janitor


def end_silent_runs(instance: DagsterInstance, fleet: Fleet, silent_seconds: float | None = None) -> list[DagsterRun]:
    """Fails the silent runs of a fleet's assets and checks; returns them.

    Args:
        silent_seconds: the limit; without it, that of the run's cluster.
    """
    ended = []
    for run in instance.get_runs(RunsFilter(statuses=_AT_WORK)):
        clusters = clusters_of_run(run, fleet)
        if not clusters:
            continue
        limit = silent_seconds
        if limit is None:
            limit = max(fleet.rules(name).watch.silent_seconds for name in clusters)
        records = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
        if not records:
            continue
        silent = time.time() - records[0].event_log_entry.timestamp
        if silent > limit:
            message = (
                f"No sign of life for {silent:.0f} s (limit {limit:g} s): the machine of this run is dead, cut off, or hangs. "
                "Its partitions are free again; rerunning them is safe, no matter how far it got."
            )
            if run.status is DagsterRunStatus.CANCELING:
                instance.report_run_canceled(run, message)
            else:
                instance.report_run_failed(run, message)
            ended.append(run)
    return ended
