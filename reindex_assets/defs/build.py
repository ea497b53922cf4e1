"""The Dagster definitions of a fleet, assembled from its parts.

What lives here: which assets, jobs, schedules and sensors a fleet has. What does not: any of the parts, and loading the fleet file
(definitions.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from dagster import Definitions, in_process_executor

from reindex_assets.config.fleet import Fleet
from reindex_assets.config.modes import Mode
from reindex_assets.defs.assets.appeals import build_purge, build_purge_job
from reindex_assets.defs.assets.reindex import build_assets
from reindex_assets.defs.automation.alert_sensor import build_alert_sensor
from reindex_assets.defs.automation.repair_sensor import build_repair_sensor
from reindex_assets.defs.automation.schedules import (
    build_all_job,
    build_checks_job,
    build_checks_schedule,
    build_daily_schedule,
    build_job,
)
from reindex_assets.defs.automation.stalled_runs import build_janitor
from reindex_assets.model import KINDS


def build_defs(fleet: Fleet, cluster_names: Iterable[str] | None = None, mode: Mode | None = None) -> Definitions:
    """The definitions of a fleet, or of some of its clusters. Connects to nothing.

    Args:
        mode: what the schedules of every cluster reindex and check; without it, each cluster's own of the fleet file. Assets, jobs and
            sensors are there for every kind.
    """
    names = list(fleet.clusters if cluster_names is None else cluster_names)
    places = [(name, kind) for name in names for kind in KINDS]
    jobs = {(name, kind): build_job(name, kind) for name, kind in places}
    checks_jobs = {(name, kind): build_checks_job(name, kind) for name, kind in places}
    all_jobs = {name: build_all_job(name) for name in names}
    modes = {name: fleet.rules(name, mode).mode for name in names}
    daily = {name: all_jobs[name] if of is Mode.ALL else jobs[name, of.kinds[0]] for name, of in modes.items()}
    return Definitions(
        assets=[
            *(build_assets(fleet, name, kind) for name, kind in places),
            *(build_purge(fleet, name) for name in names),
        ],
        jobs=[*jobs.values(), *all_jobs.values(), *checks_jobs.values(), *(build_purge_job(name) for name in names)],
        schedules=[
            *(build_daily_schedule(fleet, name, job) for name, job in daily.items()),
            *(
                build_checks_schedule(fleet, name, checks_jobs[name, kind], kind)
                for name in names
                for kind in modes[name].kinds
            ),
        ],
        sensors=[
            *(build_repair_sensor(fleet, name, job, kind) for (name, kind), job in jobs.items()),
            build_janitor(fleet),
            build_alert_sensor(fleet),
        ],
        # The work is one streaming op: a process for each step would only cost its start.
        executor=in_process_executor,
    )
