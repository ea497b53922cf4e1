"""The run tags that the limits in dagster.yaml apply to, derived from what a run is asked to do.

What lives here: the tags' names and their derivation. What does not: who sets them (defs/instance/run_queue.py, jobs, sensors), and the
limits (dagster.yaml).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dagster import AssetKey

from reindex_assets.config.modes import Mode
from reindex_assets.defs.keys.names import purge_asset_key
from reindex_assets.defs.keys.partitions import PARTITION_TAG, RANGE_END_TAG, RANGE_START_TAG
from reindex_assets.model import KINDS, Slice, Step

CLUSTER_TAG = "cluster"
CUSTOMER_TAG = "customer"
KIND_TAG = "kind"
#: Set by Dagster on the runs of every backfill: its id.
BACKFILL_ID_TAG = "dagster/backfill"
#: Cluster and customer again, only on runs of backfills. Their limits are lower, which leaves a slot free for repairs and schedules.
BACKFILL_CLUSTER_TAG = "backfill_cluster"
BACKFILL_CUSTOMER_TAG = "backfill_customer"


def limiting_tags(tags: Mapping[str, str], assets: Iterable[AssetKey]) -> dict[str, str]:
    """The tags to add to a run, given its own tags and the assets that it materializes or checks.

    A run over several clusters gets none of these tags, and one over several customers no customer tag. Tags set by a job are kept.

    >>> key = AssetKey(["us-east-1-prod", "process", "shard_writes"])
    >>> limiting_tags({"dagster/partition": "acme|2026-01-05", "dagster/backfill": "abc"}, [key]) == {
    ...     "cluster": "us-east-1-prod", "kind": "process", "customer": "acme",
    ...     "backfill_cluster": "us-east-1-prod", "backfill_customer": "acme"}
    True
    >>> limiting_tags({}, [purge_asset_key("us-east-1-prod")])
    {'cluster': 'us-east-1-prod'}
    """
    keys = set(assets)
    of_slices = {key for key in keys if _is_of_slices(key)}
    clusters = {key.path[0] for key in keys if key in of_slices or key == purge_asset_key(key.path[0])}
    kinds = {key.path[1] for key in of_slices}
    added: dict[str, str] = {}
    if CLUSTER_TAG in tags:
        added[CLUSTER_TAG] = tags[CLUSTER_TAG]
    elif len(clusters) == 1:
        added[CLUSTER_TAG] = clusters.pop()
    else:
        return {}
    if KIND_TAG not in tags and kinds:
        added[KIND_TAG] = kinds.pop() if len(kinds) == 1 else Mode.ALL.value
    customers = {Slice.of(tags[name]).customer for name in _PARTITION_TAGS if name in tags}
    if len(customers) == 1:
        added[CUSTOMER_TAG] = customers.pop()
    if BACKFILL_ID_TAG in tags:
        added[BACKFILL_CLUSTER_TAG] = added[CLUSTER_TAG]
        if CUSTOMER_TAG in added:
            added[BACKFILL_CUSTOMER_TAG] = added[CUSTOMER_TAG]
    return {name: value for name, value in added.items() if tags.get(name) != value}


_PARTITION_TAGS = (PARTITION_TAG, RANGE_START_TAG, RANGE_END_TAG)
_STEPS = {step.value for step in Step}
_KINDS = {kind.name for kind in KINDS}


def _is_of_slices(key: AssetKey) -> bool:
    return len(key.path) == 3 and key.path[1] in _KINDS and key.path[2] in _STEPS
