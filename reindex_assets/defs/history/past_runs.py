"""What past runs have cost, and how many runs may be in progress at once, read from the Dagster instance.

What lives here: the reading. What does not: the arithmetic (backfill/forecast.py).
"""

from __future__ import annotations

from collections.abc import Collection

from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter

from reindex_assets.backfill.forecast import Limits, PastRun
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.history.runs_in_flight import does_write
from reindex_assets.defs.keys.run_tags import (
    BACKFILL_CLUSTER_TAG,
    BACKFILL_CUSTOMER_TAG,
    BACKFILL_ID_TAG,
    CLUSTER_TAG,
    CUSTOMER_TAG,
)
from reindex_assets.model import Kind, Step

#: At most so many of the latest runs are searched, so many are used, and so many of their events are read.
_RUNS, _COUNTED, _EVENTS = 300, 60, 6_000


def past_runs(instance: DagsterInstance, fleet: Fleet, kinds: Collection[Kind]) -> list[PastRun]:
    """The latest successful runs of some kinds that wrote to the shards of a fleet."""
    datasets = [dataset for dataset in fleet.datasets() if dataset.kind in kinds]
    runs: list[PastRun] = []
    events = 0
    for record in instance.get_run_records(RunsFilter(statuses=[DagsterRunStatus.SUCCESS]), limit=_RUNS):
        if len(runs) >= _COUNTED or events >= _EVENTS:
            break
        if any(does_write(record.dagster_run, dataset) for dataset in datasets):
            run, read = _cost(instance, record)
            events += read
            if run is not None:
                runs.append(run)
    return runs


def _cost(instance: DagsterInstance, record: RunRecord) -> tuple[PastRun | None, int]:
    """What a run cost (None if it wrote nothing, like a dry run), and how many events were read to find out."""
    run_id = record.dagster_run.run_id
    slices = rows = read = 0
    cursor: str | None = None
    while True:
        page = instance.get_records_for_run(run_id, cursor, {DagsterEventType.ASSET_MATERIALIZATION}, limit=1000)
        for event in page.records:
            written = event.event_log_entry.asset_materialization
            if written is not None and written.asset_key.path[-1] == Step.WRITE.value:
                slices += 1
                rows += int(str(written.metadata["rows_read"].value))
        read += len(page.records)
        cursor = page.cursor
        if not page.has_more:
            break
    # Counted from its launch by the queue: a run holds a slot while its process starts, too.
    stats = instance.get_run_stats(run_id)
    began = stats.launch_time or record.start_time
    if not slices or began is None or record.end_time is None:
        return None, read
    return PastRun(slices, rows, record.end_time - began), read


def limits_of(instance: DagsterInstance) -> Limits:
    """The limits on concurrent runs that apply to a backfill."""
    queue = instance.get_concurrency_config().run_queue_config
    if queue is None:
        return Limits()
    by_tag: dict[str, int] = {limit["key"]: limit["limit"] for limit in queue.tag_concurrency_limits}
    return Limits(
        runs=queue.max_concurrent_runs if queue.max_concurrent_runs >= 0 else None,
        backfill_runs=by_tag.get(BACKFILL_ID_TAG),
        of_cluster=_least(by_tag.get(CLUSTER_TAG), by_tag.get(BACKFILL_CLUSTER_TAG)),
        of_customer=_least(by_tag.get(CUSTOMER_TAG), by_tag.get(BACKFILL_CUSTOMER_TAG)),
    )


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
