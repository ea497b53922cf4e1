"""Plans a backfill over the fleet, and launches it as backfills of Dagster's own.

What lives here: planning what is left, and launching it. What does not: dividing it into windows (backfill/plan.py), reading what is done
(defs/runs/backfill_progress.py), and the runs, which Dagster's daemon makes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from dagster import DagsterInstance

from reindex_assets.backfill.plan import BackfillPlan, Batch, batches, plan_windows
from reindex_assets.config.dataset import Dataset
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.dagster_private import AssetGraph, PartitionBackfill
from reindex_assets.defs.instance.opening import hold_connections
from reindex_assets.defs.keys.names import asset_key
from reindex_assets.defs.keys.run_tags import CLUSTER_TAG, KIND_TAG
from reindex_assets.defs.runs.backfill_progress import (
    NAME_TAG,
    SINCE_TAG,
    WINDOW_TAG,
    PartitionRef,
    find_backfill,
    latest_storage_id,
)
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import Slice, Step, days_between
from reindex_assets.selection.days import cut_range


@dataclass(frozen=True, kw_only=True)
class BackfillRequest:
    """What to backfill: customers by dataset, days, and the length of a window."""

    chosen: Mapping[Dataset, Sequence[str]]
    first_day: date
    last_day: date
    window_days: int
    name: str | None = None
    afresh: bool = False

    @property
    def full_name(self) -> str:
        """The given name, else one made of the days: other kinds and customers of the same days belong to the same backfill."""
        return self.name or f"{self.first_day}..{self.last_day}"


def plan_backfill(instance: DagsterInstance, request: BackfillRequest) -> BackfillPlan:
    """Plans everything that was not done since the first launch under this name and is not under way.

    Raises:
        ConfigurationError: `afresh`, while runs of an earlier launch are under way.
    """
    earlier = find_backfill(instance, request.full_name)
    if earlier is not None and request.afresh:
        if earlier.under_way:
            raise ConfigurationError(
                f"the backfill {request.full_name!r} is still under way ({len(earlier.under_way):,} customer-days): wait until it ends, "
                "or cancel it on the page Backfills, before you begin afresh"
            )
        earlier = None
    done: Collection[PartitionRef] = earlier.done_ids.keys() if earlier is not None else ()
    under_way: Collection[PartitionRef] = earlier.under_way if earlier is not None else ()
    windows = plan_windows(
        request.chosen,
        cut_range(request.first_day, request.last_day, request.window_days),
        lambda dataset, item: (partition := PartitionRef.of(dataset, item)) not in done and partition not in under_way,
    )
    asked = _partitions(request)
    return BackfillPlan(
        name=request.full_name,
        first_day=request.first_day,
        last_day=request.last_day,
        window_days=request.window_days,
        windows=tuple(windows),
        done=len(asked & set(done)),
        under_way=len(asked & set(under_way)),
        last_begun=earlier.begun if earlier is not None else None,
    )


def _partitions(request: BackfillRequest) -> set[PartitionRef]:
    return {
        PartitionRef.of(dataset, Slice(customer, day))
        for dataset, customers in request.chosen.items()
        for customer in customers
        for day in days_between(request.first_day, request.last_day)
    }


def launch_backfill(
    instance: DagsterInstance,
    fleet: Fleet,
    plan: BackfillPlan,
    on_stored: Callable[[int], None] = lambda number: None,
) -> list[PartitionBackfill]:
    """Stores Dagster's own backfills for the windows of a plan; its daemon makes the runs. Returns them.

    If this is killed halfway, the backfills that are stored still run; the same launch again stores the rest.
    """
    hold_connections(instance)
    earlier = find_backfill(instance, plan.name) if plan.last_begun is not None else None
    since = earlier.since if earlier is not None else latest_storage_id(instance)
    graph = build_defs(fleet).get_repository_def().asset_graph
    stored = []
    for batch in batches(plan.windows):
        backfill = _backfill(instance, graph, plan.name, since, batch)
        instance.add_backfill(backfill)
        stored.append(backfill)
        on_stored(len(stored))
    return stored


def _backfill(instance: DagsterInstance, graph: AssetGraph, name: str, since: int, batch: Batch) -> PartitionBackfill:
    dataset = batch.dataset
    customers = f"{len(batch.customers)} customers" if len(batch.customers) > 1 else batch.customers[0]
    return PartitionBackfill.from_asset_partitions(
        backfill_id=uuid.uuid4().hex[:8],
        asset_graph=graph,
        partition_names=[item.partition_key for item in batch.slices],
        asset_selection=[asset_key(dataset, step) for step in Step],
        backfill_timestamp=time.time(),
        # Dagster puts these on its runs, too.
        tags={
            NAME_TAG: name,
            SINCE_TAG: str(since),
            WINDOW_TAG: batch.name,
            CLUSTER_TAG: dataset.cluster_name,
            KIND_TAG: dataset.kind.name,
        },
        dynamic_partitions_store=instance,
        all_partitions=False,
        # The longest that Dagster accepts.
        title=f"{batch.name}, {dataset.kind.name}: {dataset.cluster_name}, {customers}"[:100],
        description=f"Part of backfill {name}, one run each for {', '.join(batch.customers)}. See: reindex-assets status --name {name}",
        run_config=None,
    )
