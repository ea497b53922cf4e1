"""Which slices are covered by unfinished runs: by queued and running ones, and by those that a backfill has not requested yet.

What lives here: reading that from the Dagster instance, and telling which runs are this project's. What does not: acting on it
(defs/automation/repair_sensor.py, defs/automation/stalled_runs.py, defs/automation/alert_sensor.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dagster import AssetKey, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from reindex_assets.config.cluster import Cluster
from reindex_assets.config.dataset import Dataset
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.dagster_private import AssetGraph, BulkActionsFilter, BulkActionStatus
from reindex_assets.defs.keys.names import (
    all_job_name,
    asset_key,
    checks_job_name,
    job_name,
    purge_asset_key,
    purge_job_name,
)
from reindex_assets.defs.keys.partitions import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG, slices_of_range
from reindex_assets.model import Slice, Step

UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
_UNFINISHED_BACKFILLS = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]


def slices_in_flight(instance: DagsterInstance, asset_graph: AssetGraph, dataset: Dataset) -> frozenset[Slice]:
    """The slices of a dataset that a run is writing or is going to write."""
    in_flight = set(runs_in_flight(instance, dataset))
    in_flight |= set(_slices_of_backfills(instance, asset_graph, asset_key(dataset, Step.WRITE)))
    return frozenset(in_flight)


def runs_in_flight(instance: DagsterInstance, dataset: Dataset) -> dict[Slice, DagsterRun]:
    """The slices of a dataset that an unfinished run covers, with the run."""
    return {
        item: run
        for run in instance.get_runs(RunsFilter(statuses=UNFINISHED))
        if does_write(run, dataset)
        for item in slices_of_tags(run, dataset.cluster)
    }


def is_of_fleet(run: DagsterRun, fleet: Fleet) -> bool:
    """Whether a run materializes or checks assets of the fleet."""
    return bool(clusters_of_run(run, fleet))


def clusters_of_run(run: DagsterRun, fleet: Fleet) -> list[str]:
    """The clusters whose assets a run materializes or checks, by its job or its selection (a backfill's runs have a job of Dagster's)."""
    keys = {*(run.asset_selection or ()), *(check.asset_key for check in run.asset_check_selection or ())}
    clusters = []
    for cluster in fleet.clusters:
        datasets = fleet.datasets(cluster)
        jobs = {name_of(dataset) for dataset in datasets for name_of in (job_name, checks_job_name)}
        assets = {asset_key(dataset, step) for dataset in datasets for step in Step}
        if run.job_name in jobs | {all_job_name(cluster), purge_job_name(cluster)} or not keys.isdisjoint(
            assets | {purge_asset_key(cluster)}
        ):
            clusters.append(cluster)
    return clusters


def does_write(run: DagsterRun, dataset: Dataset) -> bool:
    """Whether a run materializes a dataset's assets. A run of a job without a selection materializes all of them."""
    if run.asset_selection:
        return asset_key(dataset, Step.WRITE) in run.asset_selection
    jobs = (job_name(dataset), all_job_name(dataset.cluster_name))
    return run.job_name in jobs and not run.asset_check_selection


def slices_of_tags(run: DagsterRun, cluster: Cluster) -> set[Slice]:
    """The slices that a run's tags ask for."""
    if RANGE_START_TAG in run.tags and RANGE_END_TAG in run.tags:
        return slices_of_range(cluster, run.tags)
    return {Slice.of(run.tags[PARTITION_TAG])} if PARTITION_TAG in run.tags else set()


def _slices_of_backfills(instance: DagsterInstance, asset_graph: AssetGraph, writes: AssetKey) -> Iterator[Slice]:
    """The slices that unfinished backfills have yet to do: Dagster does not request all of their runs at once."""
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=_UNFINISHED_BACKFILLS)):
        if not backfill.is_asset_backfill or writes not in (backfill.asset_selection or ()):
            continue
        data = backfill.get_asset_backfill_data(asset_graph)
        wanted = _partition_keys(data.target_subset.partitions_subsets_by_asset_key, writes)
        for done in (data.materialized_subset, data.failed_and_downstream_subset):
            wanted -= _partition_keys(done.partitions_subsets_by_asset_key, writes)
        yield from (Slice.of(key) for key in wanted)


def _partition_keys(subsets: object, asset: AssetKey) -> set[str]:
    assert isinstance(subsets, dict)
    subset = subsets.get(asset)
    keys: Iterable[str] = subset.get_partition_keys() if subset is not None else ()
    return set(keys)
