"""The Dagster definitions of a fleet, assembled from its parts.

What lives here: which assets, jobs, schedules and sensors a fleet has. What does not: any of the parts, and loading the fleet file
(definitions.py).
"""

from __future__ import annotations

from dagster import Definitions, in_process_executor

from reindex_assets.config.fleet import Fleet
from reindex_assets.config.modes import Mode
from reindex_assets.defs.assets.appeals import build_purge, build_purge_job
from reindex_assets.defs.assets.reindex import build_assets
from reindex_assets.defs.automation.alert_sensor import build_alert_sensor
from reindex_assets.defs.automation.health import build_health_assets, build_health_checks, build_health_sensor
from reindex_assets.defs.automation.repair_sensor import build_repair_sensor
from reindex_assets.defs.automation.schedules import (
    build_all_job,
    build_checks_job,
    build_checks_schedule,
    build_daily_schedule,
    build_job,
)
from reindex_assets.defs.automation.stalled_runs import build_janitor


def build_defs(fleet: Fleet, mode: Mode | None = None) -> Definitions:
    """The definitions of a fleet. Connects to nothing.

    Args:
        mode: which kinds the schedules of every cluster reindex and check; by default, each cluster's mode in the fleet file. Assets,
            jobs and sensors exist for every kind.
    """
    names = list(fleet.clusters)
    datasets = fleet.datasets()
    jobs = {dataset: build_job(dataset) for dataset in datasets}
    checks_jobs = {dataset: build_checks_job(dataset) for dataset in datasets}
    all_jobs = {name: build_all_job(fleet.datasets(name)) for name in names}
    modes = {name: fleet.rules(name, mode).mode for name in names}
    daily = {
        name: all_jobs[name] if scheduled is Mode.ALL else jobs[fleet.dataset(name, scheduled.kinds[0])]
        for name, scheduled in modes.items()
    }
    definitions = Definitions(
        assets=[
            *(build_assets(dataset) for dataset in datasets),
            *(build_purge(fleet, name) for name in names),
            *build_health_assets(fleet),
        ],
        asset_checks=[build_health_checks(fleet, lambda: definitions.get_repository_def())],
        jobs=[*jobs.values(), *all_jobs.values(), *checks_jobs.values(), *(build_purge_job(name) for name in names)],
        schedules=[
            *(build_daily_schedule(fleet, name, job) for name, job in daily.items()),
            *(
                build_checks_schedule(dataset, job)
                for dataset, job in checks_jobs.items()
                if dataset.kind in modes[dataset.cluster_name].kinds
            ),
        ],
        sensors=[
            *(build_repair_sensor(dataset, job) for dataset, job in jobs.items()),
            build_janitor(fleet),
            build_alert_sensor(fleet),
            build_health_sensor(fleet),
        ],
        # A run is one streaming op, so a process for each step would only cost the time to start it.
        executor=in_process_executor,
    )
    return definitions
