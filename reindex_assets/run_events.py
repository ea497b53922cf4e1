"""What a run tells the UI: its progress, what each step did to each partition, and which partitions failed.

What lives here: the events and their metadata. What does not: the verdicts of the checks (checks.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from dagster import AssetKey, AssetMaterialization, AssetObservation, Failure, MetadataValue, TableRecord
from dagster._core.definitions.metadata import RawMetadataValue

from reindex_assets.model import MICROSECONDS
from reindex_assets.pipeline import SliceOutcome, Step
from reindex_assets.reindex import Progress

#: Failed partitions that an error names; the rest is counted.
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


def step_events(
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


def partial_failure(failed: list[SliceOutcome], total: int, unchecked: Exception | None = None) -> Failure:
    """The failure of a run that names the partitions to do again, and why the others have no verdict if they have none."""
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
