"""The janitor: fails runs that are dead, so that they can't block repairs.

What lives here: the sensor. What does not: the rule (defs/history/dead_runs.py), and the signs of life (defs/assets/background.py,
defs/assets/run_events.py).

Dagster's own run monitoring sees the death of a process that its daemon launched within a second. A run of the command line that was
killed, or whose whole machine died, stays STARTED for ever with the default launcher, and holds its slots (Dagster 1.13).
"""

from __future__ import annotations

from dagster import (
    DagsterInstance,
    DagsterRun,
    DefaultSensorStatus,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.history.dead_runs import WITH_PROCESS, end_if_dead
from reindex_assets.defs.history.runs_in_flight import clusters_of_run

JANITOR = "stalled_run_janitor"


def build_janitor(fleet: Fleet) -> SensorDefinition:
    """The sensor. On from the start: it only marks dead runs as failed."""
    limits = sorted({fleet.rules(name).watch.silent_seconds for name in fleet.clusters})
    silent_seconds = " or ".join(f"{limit} s" for limit in limits)

    @sensor(
        name=JANITOR,
        minimum_interval_seconds=30,
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            "Fails runs of this project whose process is gone; and those whose process can't be seen from here, once they have given no "
            f"sign of life for {silent_seconds} (they give one every 10 s): their machine is dead or cut off. Their partitions are free "
            "for repair again; rerunning them is always safe."
        ),
    )
    def janitor(context: SensorEvaluationContext) -> SkipReason:
        ended = end_dead_runs(context.instance, fleet)
        runs = ", ".join(run.run_id for run in ended)
        return SkipReason(f"failed {len(ended)} dead runs: {runs}" if ended else "every run is alive")

    return janitor


def end_dead_runs(instance: DagsterInstance, fleet: Fleet, silent_seconds: float | None = None) -> list[DagsterRun]:
    """Fails the dead runs of a fleet's assets and checks, and frees their slots; returns them.

    Args:
        silent_seconds: the limit for runs whose process can't be seen; without it, that of the run's cluster.
    """
    ended = []
    for run in instance.get_runs(RunsFilter(statuses=list(WITH_PROCESS))):
        clusters = clusters_of_run(run, fleet)
        if not clusters:
            continue
        limit = silent_seconds
        if limit is None:
            limit = max(fleet.rules(name).watch.silent_seconds for name in clusters)
        if end_if_dead(instance, run, limit):
            ended.append(run)
    return ended
