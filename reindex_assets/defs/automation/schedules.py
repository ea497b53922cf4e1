"""Jobs and schedules. What lives here: when the assets and their checks run by the clock. What does not: what they do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC

from dagster import (
    AssetSelection,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    define_asset_job,
    schedule,
)

from reindex_assets.config.dataset import Dataset
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.modes import Mode
from reindex_assets.defs.dagster_private import UnresolvedAssetJobDefinition
from reindex_assets.defs.keys.names import all_job_name, asset_key, checks_job_name, job_name
from reindex_assets.defs.keys.partitions import ended_days, range_tags
from reindex_assets.model import Step
from reindex_assets.selection.days import cut_range


def build_job(dataset: Dataset) -> UnresolvedAssetJobDefinition:
    """The job of a dataset's assets and their checks."""
    return define_asset_job(
        job_name(dataset),
        AssetSelection.assets(*(asset_key(dataset, step) for step in Step)),
        description=(
            f"Reindexes {dataset.kind.name} scorecards of cluster {dataset.cluster_name} for a range of customers and days. "
            "Launch backfills from the page of the assets, not from here: Dagster cuts a job's backfill short, so its runs are refused."
        ),
        tags={"cluster": dataset.cluster_name, "kind": dataset.kind.name},
    )


def build_all_job(datasets: Sequence[Dataset]) -> UnresolvedAssetJobDefinition:
    """The job of a cluster's assets of every kind and their checks, which one run does one after the other."""
    cluster_name = datasets[0].cluster_name
    return define_asset_job(
        all_job_name(cluster_name),
        AssetSelection.assets(*(asset_key(dataset, step) for dataset in datasets for step in Step)),
        description=(
            f"Reindexes every kind of scorecards of cluster {cluster_name} for a range of customers and days. To choose among the kinds, "
            "set 'scorecard_types' of the resource 'scope' in the run config. Launch backfills from the page of the assets, not from here."
        ),
        tags={"cluster": cluster_name, "kind": Mode.ALL.value},
    )


def build_checks_job(dataset: Dataset) -> UnresolvedAssetJobDefinition:
    """The job of a dataset's checks alone: it compares, and writes nothing to ClickHouse."""
    return define_asset_job(
        checks_job_name(dataset),
        AssetSelection.checks_for_assets(asset_key(dataset, Step.WRITE)),
        description=(
            f"Compares {dataset.kind.name} scorecards of cluster {dataset.cluster_name} to the bit for a range of customers and days, "
            "and writes nothing. If the repair sensor is on, it repairs what is red."
        ),
        tags={"cluster": dataset.cluster_name, "kind": dataset.kind.name},
    )


def build_checks_schedule(dataset: Dataset, job: UnresolvedAssetJobDefinition) -> ScheduleDefinition:
    """Every night, every check on the whole look-back, whatever the repair sensor's watch remembers."""

    rules = dataset.rules

    @schedule(
        name=f"{job.name}_daily",
        job=job,
        cron_schedule=rules.schedule.checks,
        execution_timezone=rules.schedule.timezone,
        description=(
            f"At {_times(rules.schedule.checks, rules.schedule.timezone)}: every check on the last {rules.look_back_days} days of every "
            f"customer of {dataset.cluster_name}. It compares the tables themselves to the bit, so it also finds drift that the repair "
            "sensor can miss. Red checks are reported by the alerts, and repaired by the repair sensor if that is on."
        ),
    )
    def checks(context: ScheduleEvaluationContext) -> list[RunRequest]:
        planned = context.scheduled_execution_time.astimezone(UTC)
        first, last = dataset.watched_days(planned.date())
        # One run over all days would hold thousands of partitions in memory, so each run covers a week.
        return [
            RunRequest(
                run_key=f"{planned.isoformat()} {week[0].isoformat()}", tags=range_tags(dataset.customers, *week)
            )
            for week in cut_range(first, last, _DAYS_A_RUN)
        ]

    return checks


_DAYS_A_RUN = 7


def _times(cron: str, zone: str) -> str:
    """When a cron line runs: as a time of day if it runs once a day, else the line itself.

    >>> _times("5 14 * * *", "UTC"), _times("*/5 1 * * mon", "UTC")
    ('14:05 UTC', '"*/5 1 * * mon" (cron, UTC)')
    """
    daily = re.fullmatch(r"(\d+) (\d+) \* \* \*", cron)
    return f"{int(daily[2]):02}:{int(daily[1]):02} {zone}" if daily else f'"{cron}" (cron, {zone})'


def build_daily_schedule(fleet: Fleet, cluster_name: str, job: UnresolvedAssetJobDefinition) -> ScheduleDefinition:
    """Every morning, one run over all customers and the days just ended."""

    rules = fleet.rules(cluster_name)

    @schedule(
        name=f"{job.name}_daily",
        job=job,
        cron_schedule=rules.schedule.reindex,
        execution_timezone=rules.schedule.timezone,
        description=(
            f"At {_times(rules.schedule.reindex, rules.schedule.timezone)}: reindexes the last {rules.reindex_days} complete days of every "
            f"customer of {cluster_name} in one run. Days that are already right are compared, and not written."
        ),
    )
    def daily(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
        # Days are UTC days, whatever the schedule's time zone. The run key is the full time: there may be several runs a day.
        planned = context.scheduled_execution_time.astimezone(UTC)
        days = ended_days(planned.date(), rules.reindex_days, fleet.first_day)
        if days is None:
            return SkipReason(f"the fleet file's first day, {fleet.first_day}, has not ended yet")
        customers = list(fleet.clusters[cluster_name].customers)
        return RunRequest(run_key=planned.isoformat(), tags=range_tags(customers, *days))

    return daily
