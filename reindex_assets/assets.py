"""The lineage as Dagster assets: scorecard_extract -> score_rows -> shard_writes, a set for each cluster, customer x day.

What lives here: the assets, their run config, and what a run tells the UI while it works. What does not: the work (reindex.py), the
verdicts (checks.py).

The three assets are one op that streams: a batch is filed, placed and on its way to the shards before the next one is read, and each
slice is marked as done by an event of its own. So a failed slice neither stops the others nor shows as done.
"""

# Without `from __future__ import annotations`: Dagster reads the config class from the annotation itself.
import queue
import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from dagster import (
    AssetCheckEvaluation,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetObservation,
    AssetRecordsFilter,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    Config,
    DagsterEventType,
    Failure,
    MetadataValue,
    MultiPartitionsDefinition,
    TableRecord,
    multi_asset,
)
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.definitions.metadata import RawMetadataValue
from pydantic import Field

from reindex_assets.checks import check_specs, evaluations
from reindex_assets.errors import ReindexError
from reindex_assets.fleet import Fleet
from reindex_assets.instance import hold_connections
from reindex_assets.model import MICROSECONDS, PROCESS, Kind, Slice
from reindex_assets.parity import compare_settled
from reindex_assets.partitions import customer_days, slices_of_run
from reindex_assets.pipeline import SliceOutcome, Step
from reindex_assets.reindex import Progress, Reindex, ReindexOptions
from reindex_assets.shards import WriteOptions

OWNERS = ["team:data-platform"]

#: Seconds between two signs of life of a run.
HEARTBEAT_SECONDS = 10.0

#: Partitions that are compared, and judged, at once.
_SLICES_A_COMPARISON = 1_000

#: Failed partitions that an error names; the rest is counted.
_NAMED_FAILURES = 20


class ReindexConfig(Config):
    """The run config."""

    dry_run: bool = Field(
        default=False,
        description="Read, compare and report what would be written, and write nothing to ClickHouse. "
        "shard_writes is not marked as materialized; the checks say how things stand.",
    )
    clean_up: bool = Field(
        default=False,
        description="Delete the slices in ClickHouse first, then rebuild them. READERS SEE A HOLE until the rebuild has ended; "
        "use it only for slices that are broken beyond a repair. Rows newer than the snapshot stay.",
    )
    batch_rows: int = Field(
        default=100_000,
        ge=1,
        le=900_000,
        description="Rows in one insert on one shard. Fewer need less memory, more make fewer parts in ClickHouse.",
    )
    group_scorecards: int = Field(
        default=100_000,
        ge=1,
        description="Scorecards that are read from one Postgres snapshot by one query and written together. "
        "Bounds the memory of a run; a single day of a customer is never divided.",
    )
    attempts: int = Field(
        default=4,
        ge=1,
        le=20,
        description="Tries of a group of partitions when Postgres or a shard does not answer, or another run holds a partition, "
        "with growing pauses of up to 15 seconds.",
    )
    allow_reshard: bool = Field(
        default=False,
        description="Write even though most live rows stand on other shards than the fleet file gives them. "
        "Moves nearly every row of the partitions: only after the number or order of shards has really changed.",
    )
    settle_seconds: float = Field(
        default=3.0,
        ge=0,
        le=600,
        description="A check that finds a difference looks again after this time: a row may be on its way to ClickHouse.",
    )


def asset_key(cluster_name: str, step: Step, kind: Kind = PROCESS) -> AssetKey:
    """The key of a step's asset: cluster, kind, step."""
    return AssetKey([cluster_name, kind.name, step.value])


def op_name(cluster_name: str, kind: Kind = PROCESS) -> str:
    """The name of the op behind a cluster's assets: what run config is given for."""
    return f"reindex_{job_name(cluster_name, kind)}"


def job_name(cluster_name: str, kind: Kind = PROCESS) -> str:
    """The name of a cluster's job, and of its group of assets."""
    return f"{kind.name}_" + re.sub(r"[^A-Za-z0-9_]", "_", cluster_name)


_DESCRIPTIONS = {
    Step.EXTRACT: (
        "The scorecards and scores of a customer's day as Postgres held them at one snapshot (REPEATABLE READ, READ ONLY), "
        "as Parquet files in the slice store. Process scorecards only, by the type of their template revision; appeals stay out. "
        "Rows that can't leave Postgres are listed with the reason."
    ),
    Step.ROWS: (
        "The rows in ClickHouse's shape, each with its shard: floor(epoch of process_interaction_at) mod the number of shards."
    ),
    Step.WRITE: (
        "What ClickHouse shows of the customer's day, made equal to Postgres: each shard compares the expected rows with its own, "
        "and only the difference is written. New rows appear before old ones go, so no reader misses a row; "
        "rows newer than the snapshot are never touched."
    ),
}
_KINDS = {Step.EXTRACT: {"postgres", "parquet"}, Step.ROWS: {"arrow", "parquet"}, Step.WRITE: {"clickhouse"}}


def build_assets(fleet: Fleet, cluster_name: str, kind: Kind = PROCESS) -> AssetsDefinition:
    """The assets and checks of one cluster and kind."""
    cluster = fleet.clusters[cluster_name]
    partitions = customer_days(fleet, cluster)
    keys = {step: asset_key(cluster_name, step, kind) for step in Step}
    steps = {key: step for step, key in keys.items()}

    @multi_asset(
        name=op_name(cluster_name, kind),
        specs=_specs(cluster_name, kind, keys, partitions),
        check_specs=check_specs(keys[Step.WRITE], partitions),
        partitions_def=partitions,
        backfill_policy=BackfillPolicy.single_run(),
        can_subset=True,
        pool=f"clickhouse_{cluster_name}",
    )
    def reindex(context: AssetExecutionContext, config: ReindexConfig) -> Iterator[object]:
        try:
            yield from _reindex(context, config)
        except ReindexError as error:
            # The sentence is for the operator; the trace would bury it.
            raise Failure(description=str(error), allow_retries=False) from None

    def _reindex(context: AssetExecutionContext, config: ReindexConfig) -> Iterator[object]:
        hold_connections(context.instance)
        slices = slices_of_run(cluster, context.partition_keys, context.run.tags)
        chosen = [steps[key] for key in context.selected_asset_keys]
        failed: list[SliceOutcome] = []
        done = slices
        if chosen:
            done = []
            for outcome in _BackgroundRun(context, fleet, cluster_name, kind, config, slices, chosen).outcomes():
                if isinstance(outcome, Progress):
                    yield _heartbeat(keys[Step.WRITE], outcome)
                elif outcome.error is not None:
                    context.log.error(f"{outcome.slice} failed: {outcome.error}")
                    failed.append(outcome)
                else:
                    done.append(outcome.slice)
                    yield from _events(outcome, keys, dry_run=config.dry_run)
        checks = {check.name for check in context.selected_asset_check_keys}
        if checks:
            yield from _check(context, fleet, cluster_name, kind, done, keys[Step.WRITE], checks, config.settle_seconds)
        if failed:
            raise _failure(failed, len(slices))

    return reindex


def _specs(
    cluster_name: str, kind: Kind, keys: dict[Step, AssetKey], partitions: MultiPartitionsDefinition
) -> list[AssetSpec]:
    upstream = {Step.EXTRACT: [], Step.ROWS: [keys[Step.EXTRACT]], Step.WRITE: [keys[Step.ROWS]]}
    return [
        AssetSpec(
            keys[step],
            deps=upstream[step],
            # Every partition reports itself; an output of the op would mark the failed ones as done too.
            skippable=True,
            description=_DESCRIPTIONS[step],
            group_name=job_name(cluster_name, kind),
            owners=OWNERS,
            kinds=_KINDS[step],
            tags={"cluster": cluster_name, "kind": kind.name},
            partitions_def=partitions,
        )
        for step in Step
    ]


class _CancelledError(BaseException):
    """Ends the worker of a cancelled run. Not an `Exception`: it is no failure of the slice that is being worked on."""


class _BackgroundRun:
    """Runs the work in a thread of its own, so that the run gives a sign of life while a long statement is under way."""

    def __init__(
        self,
        context: AssetExecutionContext,
        fleet: Fleet,
        cluster_name: str,
        kind: Kind,
        config: ReindexConfig,
        slices: list[Slice],
        steps: list[Step],
    ) -> None:
        self._events: queue.Queue[SliceOutcome | str | None] = queue.Queue()
        self._progress = Progress(0, 0, len(slices), 0)
        self._log = context.log
        self._error: BaseException | None = None
        self._cancelled = threading.Event()
        self._reindex = Reindex(
            fleet,
            cluster_name,
            ReindexOptions(
                WriteOptions(config.batch_rows, config.dry_run, config.clean_up),
                config.group_scorecards,
                config.attempts,
                config.allow_reshard,
            ),
            kind,
            context.run.run_id,
            on_outcome=self._events.put,
            on_progress=self._on_progress,
            on_retry=self._events.put,
        )
        self._thread = threading.Thread(target=self._work, args=(slices, steps), name="reindex", daemon=True)

    def _work(self, slices: list[Slice], steps: list[Step]) -> None:
        try:
            self._reindex.run(slices, steps)
        except BaseException as error:  # noqa: BLE001 - raised again in the run's own thread, by `outcomes`
            self._error = error
        finally:
            self._events.put(None)

    def _on_progress(self, progress: Progress) -> None:
        if self._cancelled.is_set():
            raise _CancelledError
        self._progress = progress

    def outcomes(self) -> Iterator[SliceOutcome | Progress]:
        """Each slice's outcome as it comes, and between them the progress, every `HEARTBEAT_SECONDS`."""
        self._thread.start()
        beat = time.monotonic()
        yield self._progress
        try:
            while True:
                try:
                    event = self._events.get(timeout=HEARTBEAT_SECONDS / 10)
                except queue.Empty:
                    event = ""
                if event is None:
                    break
                if isinstance(event, SliceOutcome):
                    yield event
                elif event:
                    self._log.warning(event)
                if time.monotonic() - beat >= HEARTBEAT_SECONDS:
                    beat = time.monotonic()
                    yield self._progress
        finally:
            # Reached early when the run is cancelled: the worker stops at its next batch and drops its staging tables.
            self._cancelled.set()
            self._thread.join()
        if self._error is not None:
            raise self._error
        yield self._progress


def _heartbeat(asset: AssetKey, progress: Progress) -> AssetObservation:
    return AssetObservation(
        asset_key=asset,
        description=f"{progress.processed} of {progress.total} partitions done, {progress.failed} failed",
        metadata={
            "processed": progress.processed,
            "failed": progress.failed,
            "total": progress.total,
            "rows": progress.rows,
        },
    )


def _events(
    outcome: SliceOutcome, keys: dict[Step, AssetKey], dry_run: bool
) -> Iterator[AssetMaterialization | AssetObservation]:
    """One event for each step of a slice that is done. A dry run wrote nothing to the shards: it observes."""
    assert outcome.snapshot is not None
    snapshot = datetime.fromtimestamp(outcome.snapshot / MICROSECONDS, UTC).isoformat(timespec="microseconds")
    for step in outcome.steps:
        metadata: dict[str, RawMetadataValue] = {
            "snapshot": snapshot,
            "seconds": round(outcome.seconds.get(step, 0.0), 4),
            "partitions_in_group": outcome.group_slices,
        }
        for (of_step, table), file in outcome.files.items():
            if of_step is step:
                metadata[f"{table}_rows"] = file.rows
                metadata[f"{table}_bytes"] = file.bytes
                metadata[f"{table}_file"] = MetadataValue.path(file.path)
        if step is Step.EXTRACT:
            metadata["quarantined"] = len(outcome.quarantined)
            if outcome.quarantined:
                metadata["quarantined_rows"] = MetadataValue.table(
                    [
                        TableRecord({"scorecard": row.scorecard_id, "profile": row.profile, "reason": row.reason})
                        for row in outcome.quarantined[:50]
                    ]
                )
        if step is Step.ROWS:
            metadata["non_finite_values"] = outcome.non_finite_values
        if step is Step.WRITE:
            metadata |= _write_metadata(outcome, dry_run)
        event = AssetObservation if step is Step.WRITE and dry_run else AssetMaterialization
        yield event(asset_key=keys[step], partition=outcome.slice.partition_key, metadata=metadata)


def _write_metadata(outcome: SliceOutcome, dry_run: bool) -> dict[str, RawMetadataValue]:
    """Totals as plottable numbers, and a table of tables and shards. What a dry run has not done is not said to be done."""
    writes = outcome.writes.values()
    table = [
        TableRecord(
            {
                "table": name,
                "shard": shard,
                "read": write.read,
                "missing": write.missing,
                "changed": write.changed,
                "deleted": write.deleted,
                "unchanged": write.unchanged,
                "newer": write.newer,
            }
        )
        for (name, shard), write in sorted(outcome.writes.items(), key=lambda item: (item[0][0], item[0][1]))
    ]
    return {
        "rows_read": sum(write.read for write in writes),
        "rows_to_write" if dry_run else "rows_written": sum(write.written for write in writes),
        "rows_to_delete" if dry_run else "rows_deleted": sum(write.deleted for write in writes),
        "rows_unchanged": sum(write.unchanged for write in writes),
        "rows_left_newer": sum(write.newer for write in writes),
        "shards": MetadataValue.table(table),
    }


def _check(
    context: AssetExecutionContext,
    fleet: Fleet,
    cluster_name: str,
    kind: Kind,
    slices: list[Slice],
    asset: AssetKey,
    names: set[str],
    settle_seconds: float,
) -> Iterator[AssetCheckEvaluation]:
    """Compares both engines and yields the verdicts; an engine out of reach is an error of the run, never a mismatch."""
    for start in range(0, len(slices), _SLICES_A_COMPARISON):
        part = slices[start : start + _SLICES_A_COMPARISON]
        about = _latest_materializations(context, asset, part)
        for parity in compare_settled(fleet, cluster_name, part, kind, settle_seconds):
            yield from evaluations(asset, names, parity, about.get(parity.slice.partition_key))


def _latest_materializations(
    context: AssetExecutionContext, asset: AssetKey, slices: list[Slice]
) -> dict[str, AssetCheckEvaluationTargetMaterializationData]:
    """What the verdicts are about, by partition; without it Dagster shows a verdict as not current. Two queries for all."""
    latest = context.instance.event_log_storage.get_latest_storage_id_by_partition(
        asset, DagsterEventType.ASSET_MATERIALIZATION, {item.partition_key for item in slices}
    )
    if not latest:
        return {}
    records = context.instance.fetch_materializations(
        AssetRecordsFilter(asset_key=asset, storage_ids=list(latest.values())), limit=len(latest)
    ).records
    return {
        record.partition_key: AssetCheckEvaluationTargetMaterializationData(
            storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
        )
        for record in records
        if record.partition_key is not None
    }


def _failure(failed: list[SliceOutcome], total: int) -> Failure:
    named = "\n".join(f"  {outcome.slice.partition_key}: {outcome.error}" for outcome in failed[:_NAMED_FAILURES])
    more = f"\n  and {len(failed) - _NAMED_FAILURES} more" if len(failed) > _NAMED_FAILURES else ""
    return Failure(
        description=(
            f"{len(failed)} of {total} partitions failed, the others are done:\n{named}{more}\n"
            "Correct the cause, then materialize the failed partitions again: 'failed and missing' in the backfill dialog picks them."
        ),
        metadata={
            "failed_partitions": len(failed),
            "partitions": MetadataValue.table(
                [
                    TableRecord({"partition": outcome.slice.partition_key, "error": outcome.error or ""})
                    for outcome in failed
                ]
            ),
        },
        allow_retries=False,
    )
