"""What Dagster loads. What lives here: the assembly of the parts, from a fleet. What does not: any of the parts."""

from __future__ import annotations

from collections.abc import Iterable

from dagster import Definitions, definitions, in_process_executor

from reindex_assets.alert_sensor import build_alert_sensor
from reindex_assets.assets import build_assets
from reindex_assets.fleet import Fleet, load_fleet
from reindex_assets.janitor import build_janitor
from reindex_assets.repair_sensor import build_repair_sensor
from reindex_assets.schedules import build_checks_job, build_checks_schedule, build_daily_schedule, build_job
from reindex_assets.settings import Settings


def build_defs(fleet: Fleet, cluster_names: Iterable[str] | None = None) -> Definitions:
    """The definitions of a fleet, or of some of its clusters. Connects to nothing."""
    names = list(fleet.clusters if cluster_names is None else cluster_names)
    jobs = {name: build_job(name) for name in names}
    checks_jobs = {name: build_checks_job(name) for name in names}
    return Definitions(
        assets=[build_assets(fleet, name) for name in names],
        jobs=[*jobs.values(), *checks_jobs.values()],
        schedules=[
            *(build_daily_schedule(fleet, name, job) for name, job in jobs.items()),
            *(build_checks_schedule(fleet, name, job) for name, job in checks_jobs.items()),
        ],
        sensors=[
            *(build_repair_sensor(fleet, name, job) for name, job in jobs.items()),
            build_janitor(fleet),
            build_alert_sensor(fleet),
        ],
        # The work is one streaming op: a process for each step would only cost its start.
        executor=in_process_executor,
    )


@definitions
def defs() -> Definitions:
    """The fleet of REINDEX_FLEET; read when Dagster loads the code location, not at import."""
    return build_defs(load_fleet(Settings().fleet_file()))
