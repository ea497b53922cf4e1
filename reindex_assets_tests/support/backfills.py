"""A backfill as the asset page of the UI asks for it: stored in the instance, for the daemon to launch; and waiting for what it does."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence

from dagster import AssetKey, DagsterInstance

from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.dagster_private import AssetGraph, PartitionBackfill
from reindex_assets.model import Slice


def ask_for_backfill(
    instance: DagsterInstance,
    fleet: Fleet,
    slices: Iterable[Slice],
    assets: Sequence[AssetKey],
    run_config: Mapping[str, object] | None = None,
) -> PartitionBackfill:
    """Stores the request; returns it."""
    graph = build_defs(fleet).get_repository_def().asset_graph
    assert isinstance(graph, AssetGraph)
    backfill = PartitionBackfill.from_asset_partitions(
        backfill_id=str(uuid.uuid4())[:8],
        asset_graph=graph,
        partition_names=[item.partition_key for item in slices],
        asset_selection=assets,
        backfill_timestamp=time.time(),
        tags={},
        dynamic_partitions_store=instance,
        all_partitions=False,
        title=None,
        description=None,
        run_config=run_config,
    )
    instance.add_backfill(backfill)
    return backfill
