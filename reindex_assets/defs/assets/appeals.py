"""The purge of appeals as Dagster runs it: an asset without partitions, and its job.

What lives here: the asset, its run config, its job, and what they show in the UI. What does not: the work (appeals/purge.py).

The asset records purges and has no check: a run covers only the customers and days of its run config, so a green light on the asset
would say too much. The check `no_appeals` of a partition says whether that customer's day is free of appeals.
"""

# Without `from __future__ import annotations`: Dagster reads the config class from the annotation itself.
from collections.abc import Iterator
from datetime import UTC, date, datetime

from dagster import (
    AssetExecutionContext,
    AssetObservation,
    AssetsDefinition,
    AssetSelection,
    AssetSpec,
    Config,
    Failure,
    MaterializeResult,
    MetadataValue,
    TableColumn,
    TableRecord,
    TableSchema,
    define_asset_job,
    multi_asset,
)
from pydantic import Field

from reindex_assets.appeals.purge import MAX_SCORECARDS, AppealPurge, PurgeOptions, PurgeProgress, plan_purges
from reindex_assets.appeals.queries import TYPE_NAMES
from reindex_assets.appeals.report import Outcome, PurgeReport, customer_rows, example_rows
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.assets.background import in_background
from reindex_assets.defs.checks.rules import Metadata
from reindex_assets.defs.dagster_private import UnresolvedAssetJobDefinition
from reindex_assets.defs.history.run_process import note_process
from reindex_assets.defs.instance.opening import hold_connections
from reindex_assets.defs.keys.names import (
    OWNERS,
    pool_name,
    purge_asset_key,
    purge_group_name,
    purge_job_name,
    purge_op_name,
)
from reindex_assets.errors import ConfigurationError, ReindexError
from reindex_assets.model import CHILD, MICROSECONDS, PARENT
from reindex_assets.selection.days import range_text

_DESCRIPTION = (
    "Purges of appeals (scorecards of scorecard_type 1 = replica, 2 = request, 3 = resolve), which never belong in ClickHouse. A run "
    "looks for the appeals of its customers and days on every shard, including those on stale days and those with only scores left, and "
    "shows them per customer. With dry_run off, it deletes them, scorecards before scores, and looks again. It deletes at most "
    "max_scorecards appeals, and the next run continues. If rows stay or reappear, the run fails and names them."
)


def build_purge(fleet: Fleet, cluster_name: str) -> AssetsDefinition:
    """The purge asset of a cluster. A purge materializes it; a dry run only observes it."""
    key = purge_asset_key(cluster_name)

    @multi_asset(
        name=purge_op_name(cluster_name),
        specs=[
            AssetSpec(
                key,
                skippable=True,
                description=_DESCRIPTION,
                group_name=purge_group_name(cluster_name),
                owners=OWNERS,
                kinds={"postgres", "clickhouse"},
                tags={"cluster": cluster_name},
            )
        ],
        pool=pool_name(cluster_name),
    )
    def purge(context: AssetExecutionContext, config: PurgeConfig) -> Iterator[object]:
        hold_connections(context.instance)
        note_process(context.instance, context.run)
        try:
            first, last = config.days(fleet, datetime.now(UTC).date())
            groups = plan_purges(fleet, config.customers or list(fleet.clusters[cluster_name].customers), first, last)
            elsewhere = sorted(set(groups) - {cluster_name})
            if elsewhere:
                raise ConfigurationError(
                    f"'customers' names customers of {', '.join(elsewhere)}: purge those with "
                    f"{' and '.join(purge_job_name(name) for name in elsewhere)}"
                )
            progress = PurgeProgress(0, 0)

            def note(now: PurgeProgress) -> None:
                nonlocal progress
                progress = now

            work = AppealPurge(
                fleet,
                cluster_name,
                groups[cluster_name],
                config.options(),
                context.run.run_id,
                note,
                context.log.warning,
            )
            report = yield from in_background(
                work.run,
                lambda: AssetObservation(
                    key,
                    description=f"{progress.done:,} of {progress.total:,} appeals removed",
                    metadata={"processed": progress.done, "total": progress.total},
                ),
            )
        except ReindexError as error:
            # The sentence is for the operator; the trace would bury it.
            raise Failure(description=str(error), allow_retries=False) from None
        metadata = report_metadata(report)
        if report.outcome is Outcome.STUCK:
            raise Failure(description=report.sentence, metadata=metadata, allow_retries=False)
        context.log.info(report.sentence)
        if config.dry_run:
            yield AssetObservation(key, description=report.sentence, metadata=metadata)
        else:
            yield MaterializeResult(asset_key=key, metadata=metadata)

    return purge


def build_purge_job(cluster_name: str) -> UnresolvedAssetJobDefinition:
    """The job of the purge asset. It has no schedule: purging is an operator's decision."""
    return define_asset_job(
        purge_job_name(cluster_name),
        AssetSelection.assets(purge_asset_key(cluster_name)),
        description=(
            f"Looks for appeals in ClickHouse, on every shard of cluster {cluster_name}. It only deletes them if its run config says "
            "dry_run: false. The asset's page shows the numbers."
        ),
        tags={"cluster": cluster_name},
    )


def report_metadata(report: PurgeReport) -> dict[str, Metadata]:
    """Totals as plottable numbers, a table per customer, and examples of where appeals are."""
    before, latest = report.before, report.latest
    metadata: dict[str, Metadata] = {
        "verdict": report.sentence,
        "customers": MetadataValue.table(
            [TableRecord(row) for row in customer_rows(report)], _columns(customer_rows(report))
        ),
        "days": range_text(report.group.first_day, report.group.days[-1]),
        "snapshot": datetime.fromtimestamp(latest.read_at / MICROSECONDS, UTC).isoformat(timespec="microseconds"),
        "appeals_in_postgres": sum(
            customer.in_postgres[type_] for customer in before.customers for type_ in TYPE_NAMES
        ),
        "appeals_found": before.found.appeals,
        "scorecard_rows_found": before.found.scorecards,
        "score_rows_found": before.found.scores,
        "appeals_left": latest.found.appeals,
    }
    if not report.dry_run:
        metadata |= {
            "scorecards_deleted": report.deleted_rows(PARENT),
            "scores_deleted": report.deleted_rows(CHILD),
        }
    places = example_rows(latest.examples or before.examples)
    if places:
        metadata["places"] = MetadataValue.table([TableRecord(row) for row in places], _columns(places))
    return metadata


def _columns(rows: list[dict[str, str | int]]) -> TableSchema | None:
    if not rows:
        return None
    return TableSchema(
        [TableColumn(name, "int" if isinstance(value, int) else "string") for name, value in rows[0].items()]
    )


class PurgeConfig(Config):
    """The run config."""

    dry_run: bool = Field(
        default=True,
        description="Look for appeals and show where they are, but delete nothing. Set it to false to purge.",
    )
    customers: list[str] = Field(
        default=[], description="The customers whose appeals to look for. Without any, every customer of the cluster."
    )
    first_day: str | None = Field(
        default=None, description="The first UTC day, as 2026-01-31. Without it, the fleet file's first day."
    )
    last_day: str | None = Field(default=None, description="The last UTC day, included. Without it, today.")
    max_scorecards: int = Field(
        default=PurgeOptions().max_scorecards,
        ge=1,
        le=MAX_SCORECARDS,
        description="The most appeals that one run removes, by day and customer. The next run continues. Fewer make shorter runs.",
    )
    attempts: int = Field(
        default=PurgeOptions().attempts,
        ge=1,
        le=20,
        description="How often to try when Postgres or a shard does not answer, or another run holds a partition, with growing pauses of "
        "up to 15 seconds.",
    )

    def days(self, fleet: Fleet, today: date) -> tuple[date, date]:
        """The first and the last day.

        Raises:
            ConfigurationError: one of them is not a day.
        """
        try:
            first = date.fromisoformat(self.first_day) if self.first_day else fleet.first_day
            last = date.fromisoformat(self.last_day) if self.last_day else today
        except ValueError as error:
            raise ConfigurationError(f"first_day or last_day is not a day: {error}. Write it as 2026-01-31") from None
        return first, last

    def options(self) -> PurgeOptions:
        """The same as options of `AppealPurge`."""
        return PurgeOptions(dry_run=self.dry_run, max_scorecards=self.max_scorecards, attempts=self.attempts)
