"""A backfill over the fleet, read from the Dagster instance by its name: what is done, and what is under way.

What lives here: its tags, and reading it back. What does not: its plan (backfill/plan.py), its launch
(defs/runs/backfill_launch.py), and its status report (defs/runs/backfill_status.py).

A day is done when any run has materialized `shard_writes` for it since the backfill's first launch. So this project keeps no record of
its own, and nothing can be lost with a process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from dagster import AssetKey, DagsterEventType, DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter

from reindex_assets.config.dataset import Dataset
from reindex_assets.defs.dagster_private import BULK_ACTION_TERMINAL_STATUSES, BulkActionsFilter, PartitionBackfill
from reindex_assets.defs.keys.names import asset_key_of
from reindex_assets.defs.keys.partitions import RANGE_END_TAG, RANGE_START_TAG
from reindex_assets.defs.keys.run_tags import CLUSTER_TAG, KIND_TAG
from reindex_assets.model import Slice, Step, days_between

#: The backfill's name; its runs have this tag, too.
NAME_TAG = "reindex/backfill"
#: The storage id of the last event before its first launch: only newer events count.
SINCE_TAG = "reindex/backfill_since"
WINDOW_TAG = "reindex/window"

#: How many of Dagster's latest backfills are searched for ours.
_LATEST = 300


@dataclass(frozen=True)
class PartitionRef:
    """A slice of a dataset, by names: the cluster may be gone from the fleet file."""

    cluster_name: str
    kind_name: str
    slice: Slice

    @staticmethod
    def of(dataset: Dataset, item: Slice) -> PartitionRef:
        return PartitionRef(dataset.cluster_name, dataset.kind.name, item)


@dataclass(frozen=True, kw_only=True)
class StoredBackfill:
    """One of Dagster's own backfills, launched for windows over the same days.

    Attributes:
        asked: its slices.
        failed: those of them that Dagster counts as failed.
        ended: whether it has ended, successfully or not.
    """

    backfill_id: str
    cluster_name: str
    kind_name: str
    window: str
    asked: frozenset[Slice]
    failed: frozenset[Slice]
    ended: bool

    def partitions(self, slices: Iterable[Slice]) -> set[PartitionRef]:
        return {PartitionRef(self.cluster_name, self.kind_name, item) for item in slices}


@dataclass(frozen=True, kw_only=True)
class RunOfBackfill:
    """A run of a backfill.

    Attributes:
        partitions: those that it was asked to do.
        began, ended: epoch seconds; None if it has not.
    """

    status: DagsterRunStatus
    partitions: frozenset[PartitionRef]
    began: float | None
    ended: float | None
    will_be_retried: bool


@dataclass(frozen=True)
class FleetBackfill:
    """Everything launched under one name, in one launch or several, as read from the instance."""

    instance: DagsterInstance
    name: str
    since: int
    begun: float
    requests: tuple[StoredBackfill, ...]

    @cached_property
    def asked(self) -> frozenset[PartitionRef]:
        return frozenset(partition for request in self.requests for partition in request.partitions(request.asked))

    @cached_property
    def done_ids(self) -> Mapping[PartitionRef, int]:
        """The slices that are done, each with the storage id of its latest materialization."""
        done: dict[PartitionRef, int] = {}
        for cluster_name, kind_name in sorted({(request.cluster_name, request.kind_name) for request in self.requests}):
            written = _written_since(self.instance, self.since, asset_key_of(cluster_name, kind_name, Step.WRITE))
            done |= {PartitionRef(cluster_name, kind_name, item): number for item, number in written.items()}
        return done

    @cached_property
    def runs(self) -> Sequence[RunOfBackfill]:
        """Its runs, including those that somebody started again in the UI."""
        tags = {NAME_TAG: self.name, SINCE_TAG: str(self.since)}
        return [_run(record) for record in self.instance.get_run_records(RunsFilter(tags=tags))]

    @cached_property
    def under_way(self) -> frozenset[PartitionRef]:
        """The slices that are not done yet and are covered by a run, whether it is running, queued or still to be requested."""
        unfinished = {
            partition
            for request in self.requests
            if not request.ended
            for partition in request.partitions(request.asked - request.failed)
        }
        at_work = {partition for run in self.runs if is_under_way(run) for partition in run.partitions}
        return frozenset((unfinished | at_work) - self.done_ids.keys())


def is_under_way(run: RunOfBackfill) -> bool:
    """Whether a run is queued or running, or is going to be tried again."""
    return (run.ended is None and run.status not in _FINISHED) or run.will_be_retried


_FINISHED = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)


def find_backfill(instance: DagsterInstance, name: str) -> FleetBackfill | None:
    """Everything launched under a name since it was last launched afresh; None if nothing was."""
    stored = instance.get_backfills(filters=BulkActionsFilter(tags={NAME_TAG: name}))
    if not stored:
        return None
    since = max(int(backfill.tags[SINCE_TAG]) for backfill in stored)
    latest = [backfill for backfill in stored if int(backfill.tags[SINCE_TAG]) == since]
    begun = min(backfill.backfill_timestamp for backfill in latest)
    return FleetBackfill(instance, name, since, begun, tuple(_request(backfill) for backfill in reversed(latest)))


def latest_names(instance: DagsterInstance) -> list[str]:
    """The names of the backfills that were launched last, the latest first."""
    latest = instance.get_backfills(limit=_LATEST)
    return list(dict.fromkeys(backfill.tags[NAME_TAG] for backfill in latest if NAME_TAG in backfill.tags))


def latest_storage_id(instance: DagsterInstance) -> int:
    """The storage id of the latest event."""
    return instance.event_log_storage.get_maximum_record_id() or 0


def _written_since(instance: DagsterInstance, since: int, writes: AssetKey) -> dict[Slice, int]:
    numbers = instance.event_log_storage.get_latest_storage_id_by_partition(
        writes, DagsterEventType.ASSET_MATERIALIZATION, after_cursor=since
    )
    return {Slice.of(key): number for key, number in numbers.items() if number > since}


def _request(stored: PartitionBackfill) -> StoredBackfill:
    cluster_name, kind_name = stored.tags[CLUSTER_TAG], stored.tags[KIND_TAG]
    writes = asset_key_of(cluster_name, kind_name, Step.WRITE)
    data = stored.asset_backfill_data
    assert data is not None
    asked, failed = (
        frozenset(_slices(subset.partitions_subsets_by_asset_key, writes))
        for subset in (data.target_subset, data.failed_and_downstream_subset)
    )
    return StoredBackfill(
        backfill_id=stored.backfill_id,
        cluster_name=cluster_name,
        kind_name=kind_name,
        window=stored.tags[WINDOW_TAG],
        asked=asked,
        failed=failed,
        ended=stored.status in BULK_ACTION_TERMINAL_STATUSES,
    )


def _slices(subsets: Mapping[AssetKey, object], asset: AssetKey) -> list[Slice]:
    subset = subsets.get(asset)
    keys: Iterable[str] = subset.get_partition_keys() if subset is not None else ()  # type: ignore[attr-defined]
    return [Slice.of(key) for key in keys]


def _run(record: RunRecord) -> RunOfBackfill:
    run = record.dagster_run
    start, end = Slice.of(run.tags[RANGE_START_TAG]), Slice.of(run.tags[RANGE_END_TAG])
    # A launch divides its backfills so that each run has one customer.
    partitions = {
        PartitionRef(run.tags[CLUSTER_TAG], run.tags[KIND_TAG], Slice(start.customer, day))
        for day in days_between(start.day, end.day)
    }
    return RunOfBackfill(
        status=run.status,
        partitions=frozenset(partitions),
        began=record.start_time,
        ended=record.end_time,
        will_be_retried=run.is_complete_and_waiting_to_retry,
    )
