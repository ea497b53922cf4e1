"""The checks of a run: both engines compared, a result on every partition, and what the next run need not read again.

What lives here: the order of it. What does not: the comparison (comparison/comparison.py), the rules (defs/checks/rules.py) and the
checks' names (defs/checks/specs.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
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

#: Partitions that are compared, and judged, at once.
_SLICES_A_COMPARISON = 1_000
#: Rows that a red result names, of each table and class of difference.
_SAMPLES = 10


@dataclass(frozen=True, kw_only=True)
class CheckPlan:
    """How the partitions of a run are checked.

    Attributes:
        with_checkpoint: whether what is found equal is noted for the next run: only where this run has written it whole, because the
            comparison of a partition does not see its rows that are left in another one.
    """

    dataset: Dataset
    settle_seconds: float
    with_checkpoint: bool


def run_checks(
    context: AssetExecutionContext,
    plan: CheckPlan,
    slices: Sequence[Slice],
    unchanged: Sequence[SliceParity],
    asset: AssetKey,
    names: Collection[str],
    progress: Progress,
) -> Iterator[AssetObservation]:
    """Compares both engines and stores the results; an engine out of reach is an error of the run, never a mismatch.

    Args:
        unchanged: of these slices, those that both engines say nothing has touched since they were compared.
    """
    left = given_up(context.instance, plan.dataset)
    left_of: dict[str, list[Repair]] = {}
    for repair in left.values():
        left_of.setdefault(repair.customer, []).append(repair)
    known_of = {parity.slice: parity for parity in unchanged}
    for start in range(0, len(slices), _SLICES_A_COMPARISON):
        part = slices[start : start + _SLICES_A_COMPARISON]
        about = _latest_materializations(context, asset, part)
        known = [known_of[item] for item in part if item in known_of]
        parities, gaps, checkpoints = yield from in_background(
            partial(_compare, plan, part, known),
            heartbeat=partial(
                heartbeat, asset, replace(progress, processed=max(progress.processed, start)), "compared"
            ),
        )
        _remember(context, plan, parities, checkpoints)
        remark = _remark(plan) if not all(parity.is_equal for parity in parities) else ""
        results: list[AssetCheckEvaluation] = []
        for parity in parities:
            item = parity.slice
            evidence = Evidence(parity, gaps.get(item), left.get(item), left_of.get(item.customer, []))
            results += evaluations(asset, names, evidence, about.get(item.partition_key), remark)
        store_results(context, results)


def _remark(plan: CheckPlan) -> str:
    """That a reshard is under way, or is needed: a cause that no reindexing of the partition mends."""
    refusal = layout_problem(plan.dataset.cluster_name, plan.dataset.cluster)
    return "" if refusal is None else str(refusal)


def _compare(
    plan: CheckPlan, slices: Sequence[Slice], unchanged: Sequence[SliceParity]
) -> tuple[list[SliceParity], dict[Slice, Gap], list[Checkpoint]]:
    # What is compared together is compared on one replica of each shard: when that dies, from the beginning on another one.
    for others in reversed(range(_most_replicas(plan))):
        try:
            return _compare_once(plan, slices, unchanged)
        except ShardUnreachableError:
            if not others:
                raise
    raise AssertionError("every shard has an address")


def _most_replicas(plan: CheckPlan) -> int:
    return max(len(shard.addresses) for shard in plan.dataset.cluster.clickhouse.shards)


def _compare_once(
    plan: CheckPlan, slices: Sequence[Slice], unchanged: Sequence[SliceParity]
) -> tuple[list[SliceParity], dict[Slice, Gap], list[Checkpoint]]:
    known = {parity.slice for parity in unchanged}
    with Comparison(plan.dataset, with_checkpoint=plan.with_checkpoint) as comparison:
        compared = comparison.settled(
            [item for item in slices if item not in known], plan.settle_seconds, samples=_SAMPLES
        )
        parities = sorted([*compared, *unchanged], key=lambda parity: parity.slice)
        return parities, find_gaps(comparison, parities), comparison.checkpoints


def _remember(
    context: AssetExecutionContext, plan: CheckPlan, parities: Sequence[SliceParity], checkpoints: Sequence[Checkpoint]
) -> None:
    different = {parity.slice for parity in parities if not parity.sums_agree}
    try:
        CheckpointStore(plan.dataset).update(different, checkpoints)
    except OSError as error:
        # The results stand; the next run reads more than it would have to.
        context.log.warning(f"what was proved equal could not be noted for the next run: {error}")


def _latest_materializations(
    context: AssetExecutionContext, asset: AssetKey, slices: Sequence[Slice]
) -> dict[str, AssetCheckEvaluationTargetMaterializationData]:
    """What the results are about, by partition; without it Dagster shows a result as not current. Two queries for all."""
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
