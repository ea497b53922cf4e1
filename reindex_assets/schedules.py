"""Jobs and the daily schedule. What lives here: when the assets run by themselves. What does not: what they do."""

from __future__ import annotations

from dagster import (
    AssetSelection,
    RunRequest,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    define_asset_job,
    schedule,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from reindex_assets.assets import asset_key, job_name
from reindex_assets.fleet import Fleet
from reindex_assets.model import PROCESS, Kind
from reindex_assets.partitions import ended_days, range_tags
from reindex_assets.pipeline import Step


def build_job(cluster_name: str, kind: Kind = PROCESS) -> UnresolvedAssetJobDefinition:
    """The job of a cluster's assets and their checks."""
    return define_asset_job(
        job_name(cluster_name, kind),
        AssetSelection.assets(*(asset_key(cluster_name, step, kind) for step in Step)),
        description=(
            f"Reindexes {kind.name} scorecards of cluster {cluster_name} for a range of customers and days. "
            "Launch backfills from the page of the assets, not from here: a backfill of a job is cut short by Dagster, and refused."
        ),
        tags={"cluster": cluster_name, "kind": kind.name},
    )


def build_daily_schedule(
    fleet: Fleet, cluster_name: str, job: UnresolvedAssetJobDefinition, kind: Kind = PROCESS
) -> ScheduleDefinition:
    """Every morning, one run over all customers and the days just ended."""

    @schedule(
        name=f"{job_name(cluster_name, kind)}_daily",
        job=job,
        cron_schedule="15 1 * * *",
        execution_timezone="UTC",
        description=(
            f"At 01:15 UTC: the last {fleet.look_back_days} ended days of every customer of {cluster_name}, in one run. "
            "Days that are already right cost a comparison and write nothing."
        ),
    )
    def daily(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
        today = context.scheduled_execution_time.date()
        days = ended_days(today, fleet.look_back_days, fleet.first_day)
        if days is None:
            return SkipReason(f"the fleet file's first day, {fleet.first_day}, has not ended yet")
        customers = list(fleet.clusters[cluster_name].customers)
        return RunRequest(run_key=today.isoformat(), tags=range_tags(customers, *days))

    return daily
