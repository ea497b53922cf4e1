"""What a run reports to the UI: its progress, what each step did to each partition, and which partitions failed.

What lives here: the events and their metadata. What does not: the results of the checks (defs/checks/specs.py).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from dagster import (
    AssetCheckEvaluation,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetObservation,
    DagsterEvent,
    DagsterEventType,
    Failure,
    MetadataValue,
    TableRecord,
)

from reindex_assets.comparison.parity import SliceParity
from reindex_assets.defs.checks.rules import Metadata
from reindex_assets.defs.dagster_private import DagsterEventBatchMetadata
from reindex_assets.defs.instance.event_storage import EventStorage
from reindex_assets.model import MICROSECONDS, Step
from reindex_assets.reindex.job import Progress
from reindex_assets.reindex.pipeline import SliceOutcome

#: Failed partitions that an error names; the others are only counted.
_NAMED_FAILURES = 20


def heartbeat(asset: AssetKey, progress: Progress, done: str = "done") -> AssetObservation:
    """A sign of life, with the progress that the UI shows while a run works. The janitor fails runs that give none."""
    return AssetObservation(
        asset_key=asset,
        description=f"{progress.processed} of {progress.total} partitions {done}, {progress.failed} failed",
        metadata={
            "processed": progress.processed,
            "failed": progress.failed,
            "total": progress.total,
            "rows": progress.rows,
        },
    )


def store_results(context: AssetExecutionContext, results: Sequence[AssetCheckEvaluation]) -> None:
    """Stores check results: with a few statements for all of them if dagster.yaml names `EventStorage`, else one by one."""
    step_context = context.get_step_execution_context()
    together = isinstance(context.instance.event_log_storage, EventStorage)
    batch = str(uuid.uuid4())
    for number, result in enumerate(results, 1):
        DagsterEvent.from_step(
            DagsterEventType.ASSET_CHECK_EVALUATION,
            step_context,
            result,
            f"{result.check_name} {'passed' if result.passed else 'did not pass'}: {result.description}",
            DagsterEventBatchMetadata(batch, is_end=number == len(results)) if together else None,
        )


def store_step_events(
    context: AssetExecutionContext, outcomes: Sequence[SliceOutcome], keys: dict[Step, AssetKey], *, dry_run: bool
) -> None:
    """Stores an event for each step of each slice that is done. For a dry run, which writes to no shard, that step is an observation.

    Dagster stores a batch of events with a few statements, where single events take several each. A batch holds events of one asset and
    one type, and Dagster makes none from what an op yields (1.13). DAGSTER_EVENT_BATCH_SIZE turns batches on.
    """
    step_context = context.get_step_execution_context()
    for step, key in keys.items():
        done = [outcome for outcome in outcomes if step in outcome.steps]
        batch = str(uuid.uuid4())
        for number, outcome in enumerate(done, 1):
            in_batch = DagsterEventBatchMetadata(batch, is_end=number == len(done))
            partition, metadata = outcome.slice.partition_key, _step_metadata(outcome, step, dry_run=dry_run)
            if step is Step.WRITE and dry_run:
                observation = AssetObservation(asset_key=key, partition=partition, metadata=metadata)
                DagsterEvent.asset_observation(step_context, observation, in_batch)
            else:
                materialization = AssetMaterialization(asset_key=key, partition=partition, metadata=metadata)
                DagsterEvent.asset_materialization(step_context, materialization, in_batch)


def _step_metadata(outcome: SliceOutcome, step: Step, *, dry_run: bool) -> dict[str, Metadata]:
    assert outcome.snapshot is not None
    metadata: dict[str, Metadata] = {
        "snapshot": _time(outcome.snapshot),
        "seconds": round(outcome.seconds.get(step, 0.0), 4),
        "partitions_in_group": outcome.group_slices,
    }
    for (of_step, table), file in outcome.files.items():
        if of_step is step:
            metadata[f"{table}_rows"] = file.rows
            metadata[f"{table}_bytes"] = file.bytes
            metadata[f"{table}_file"] = MetadataValue.path(file.path)
    if outcome.unchanged is not None:
        return metadata | _unchanged_metadata(outcome.unchanged, step)
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
        if outcome.scorecards_without_conversation_shard is not None:
            metadata["scorecards_of_conversations_on_no_shard"] = outcome.scorecards_without_conversation_shard
    if step is Step.WRITE:
        metadata |= _write_metadata(outcome, dry_run=dry_run)
    return metadata


def _unchanged_metadata(parity: SliceParity, step: Step) -> dict[str, Metadata]:
    """For a partition that was skipped: the files and rows that an earlier run left are still right."""
    metadata: dict[str, Metadata] = {"unchanged_since": _time(parity.unchanged_since)}
    if step is not Step.WRITE:
        return metadata | {f"{name}_rows": table.postgres_rows for name, table in parity.tables.items()}
    rows = sum(table.clickhouse_rows for table in parity.tables.values())
    return metadata | {
        **dict.fromkeys(("rows_read", "rows_written", "rows_deleted", "rows_left_newer"), 0),
        "rows_unchanged": rows,
    }


def _time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / MICROSECONDS, UTC).isoformat(timespec="microseconds")


def _write_metadata(outcome: SliceOutcome, *, dry_run: bool) -> dict[str, Metadata]:
    """Totals as plottable numbers, and a table by table and shard. A dry run has rows to write instead of rows written."""
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


def partial_failure(failed: list[SliceOutcome], total: int, unchecked: Exception | None = None) -> Failure:
    """The failure of a run: names the partitions to do again, and says why the others could not be checked, if so."""
    named = "\n".join(f"  {outcome.slice.partition_key}: {outcome.error}" for outcome in failed[:_NAMED_FAILURES])
    more = f"\n  and {len(failed) - _NAMED_FAILURES} more" if len(failed) > _NAMED_FAILURES else ""
    checks = f"\nThe others could not be checked: {unchecked}" if unchecked else ""
    return Failure(
        description=(
            f"{len(failed)} of {total} partitions failed, the others are done:\n{named}{more}{checks}\n"
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
