"""The checks of a run: compares both engines, stores a result for every partition, and notes what the next run need not read again.

What lives here: the order of these steps. What does not: the comparison (comparison/comparison.py), the rules (defs/checks/rules.py)
and the checks' names (defs/checks/specs.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from dagster import (
    AssetCheckEvaluation,
    AssetExecutionContext,
    AssetKey,
    AssetObservation,
    AssetRecordsFilter,
    DagsterEventType,
)

from reindex_assets.comparison.checkpoint import Checkpoint
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.gaps import Gap, find_gaps
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.comparison.strays import Stray, find_strays
from reindex_assets.config.dataset import Dataset
from reindex_assets.defs.assets.background import in_background
from reindex_assets.defs.assets.run_events import heartbeat, store_results
from reindex_assets.defs.checks.rules import Evidence
from reindex_assets.defs.checks.specs import evaluations
from reindex_assets.defs.dagster_private import AssetCheckEvaluationTargetMaterializationData
from reindex_assets.defs.history.repairs import given_up
from reindex_assets.drift.checkpoint_store import CheckpointStore
from reindex_assets.drift.repair_policy import Repair
from reindex_assets.errors import ShardUnreachableError
from reindex_assets.model import Slice
from reindex_assets.placement.layout import layout_problem
from reindex_assets.reindex.job import Progress

#: Partitions that are compared together.
_SLICES_A_COMPARISON = 1_000
#: Rows that a red result names, for each table and kind of difference.
_SAMPLES = 10


@dataclass(frozen=True, kw_only=True)
class CheckPlan:
    """How the partitions of a run are checked.

    Attributes:
        with_checkpoint: whether to note for the next run which partitions are equal. Only if this run has written them completely:
            comparing a partition does not show rows of it that were left in another one.
    """

    dataset: Dataset
    settle_seconds: float
    with_checkpoint: bool


@dataclass(frozen=True, kw_only=True)
class _Around:
    """What the comparison of partitions does not show: empty days between busy ones, rows outside every partition, and what it leaves out,
    in words."""

    gaps: Mapping[Slice, Gap]
    strays: Mapping[Slice, Sequence[Stray]]
    left_out: str


def run_checks(
    context: AssetExecutionContext,
    plan: CheckPlan,
    slices: Sequence[Slice],
    unchanged: Sequence[SliceParity],
    asset: AssetKey,
    names: Collection[str],
    progress: Progress,
) -> Iterator[AssetObservation]:
    """Compares both engines and stores the results. An engine that can't be reached is an error of the run, never a mismatch.

    Args:
        unchanged: the slices among them that nothing has touched since an earlier comparison found them equal.
    """
    repairs = given_up(context.instance, plan.dataset)
    repairs_of_customer: dict[str, list[Repair]] = {}
    for repair in repairs.values():
        repairs_of_customer.setdefault(repair.customer, []).append(repair)
    unchanged_by_slice = {parity.slice: parity for parity in unchanged}
    for start in range(0, len(slices), _SLICES_A_COMPARISON):
        part = slices[start : start + _SLICES_A_COMPARISON]
        targets = _latest_materializations(context, asset, part)
        skipped = [unchanged_by_slice[item] for item in part if item in unchanged_by_slice]
        parities, around, checkpoints = yield from in_background(
            partial(_compare, plan, part, skipped),
            heartbeat=partial(
                heartbeat, asset, replace(progress, processed=max(progress.processed, start)), "compared"
            ),
        )
        _remember(context, plan, parities, around.strays, checkpoints)
        remark = _remark(plan) if not all(parity.is_equal for parity in parities) else ""
        results: list[AssetCheckEvaluation] = []
        for parity in parities:
            item = parity.slice
            evidence = Evidence(
                parity,
                around.gaps.get(item),
                repairs.get(item),
                repairs_of_customer.get(item.customer, []),
                around.strays.get(item, ()),
                around.left_out,
            )
            results += evaluations(asset, names, evidence, targets.get(item.partition_key), remark)
        store_results(context, results)


def _remark(plan: CheckPlan) -> str:
    """Says that a reshard is under way or needed, if it is: reindexing the partition does not help then."""
    refusal = layout_problem(plan.dataset.cluster_name, plan.dataset.cluster)
    return "" if refusal is None else str(refusal)


def _compare(
    plan: CheckPlan, slices: Sequence[Slice], unchanged: Sequence[SliceParity]
) -> tuple[list[SliceParity], _Around, list[Checkpoint]]:
    # A comparison reads one replica of each shard. If that replica dies, it starts over on another one.
    for replicas_left in reversed(range(_most_replicas(plan))):
        try:
            return _compare_once(plan, slices, unchanged)
        except ShardUnreachableError:
            if not replicas_left:
                raise
    raise AssertionError("every shard has an address")


def _most_replicas(plan: CheckPlan) -> int:
    return max(len(shard.addresses) for shard in plan.dataset.cluster.clickhouse.shards)


def _compare_once(
    plan: CheckPlan, slices: Sequence[Slice], unchanged: Sequence[SliceParity]
) -> tuple[list[SliceParity], _Around, list[Checkpoint]]:
    skipped = {parity.slice for parity in unchanged}
    with Comparison(plan.dataset, with_checkpoint=plan.with_checkpoint) as comparison:
        compared = comparison.settled(
            [item for item in slices if item not in skipped], plan.settle_seconds, samples=_SAMPLES
        )
        parities = sorted([*compared, *unchanged], key=lambda parity: parity.slice)
        around = _Around(
            gaps=find_gaps(comparison, parities),
            strays=find_strays(comparison, set(slices), plan.settle_seconds),
            left_out=comparison.left_out(),
        )
        return parities, around, comparison.checkpoints


def _remember(
    context: AssetExecutionContext,
    plan: CheckPlan,
    parities: Sequence[SliceParity],
    strays: Collection[Slice],
    checkpoints: Sequence[Checkpoint],
) -> None:
    # The next run over a partition deletes the copies that were left behind outside of it, if it does not skip the partition.
    different = {*strays, *(parity.slice for parity in parities if not parity.sums_agree)}
    try:
        CheckpointStore(plan.dataset).update(different, [checkpoint.without(strays) for checkpoint in checkpoints])
    except OSError as error:
        # The results are still right; the next run only reads more than it would have to.
        context.log.warning(f"could not note which partitions are equal, so the next run reads them again: {error}")


def _latest_materializations(
    context: AssetExecutionContext, asset: AssetKey, slices: Sequence[Slice]
) -> dict[str, AssetCheckEvaluationTargetMaterializationData]:
    """The materialization that each result is about, by partition. Without it, Dagster shows a result as outdated. Two queries in all."""
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
