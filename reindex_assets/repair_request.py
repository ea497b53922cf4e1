"""An operator's word to the repair sensor: try these given-up partitions again.

What lives here: which are given up, the word itself, and hearing it. What does not: what the sensor makes of it (repair_sensor.py,
repairs.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from dagster import (
    AssetKey,
    AssetObservation,
    AssetRecordsFilter,
    DagsterInstance,
    EventLogRecord,
    EventRecordsResult,
    RunsFilter,
)

from reindex_assets.asset_names import REPAIR_TAG, asset_key
from reindex_assets.fleet import Fleet
from reindex_assets.model import KINDS, Slice
from reindex_assets.pipeline import Step
from reindex_assets.repair_ledger import given_up
from reindex_assets.repairs import GivenUp, Repair

#: The metadata of an observation by which an operator asks for a given-up partition to be tried again.
ASK_AGAIN = "reindex/repair_again"

#: Events that one query gives.
_EVENTS_AT_ONCE = 1_000


def given_up_repairs(instance: DagsterInstance, fleet: Fleet) -> list[GivenUp]:
    """Every given-up repair of the fleet, in the order of cluster, kind, customer and day."""
    return [
        GivenUp(cluster_name, kind, repair)
        for cluster_name in fleet.clusters
        for kind in KINDS
        for _, repair in sorted(given_up(instance, cluster_name, kind).items())
    ]


def ask_again(instance: DagsterInstance, repairs: Iterable[GivenUp]) -> None:
    """Asks for repairs to be tried again, from the first attempt; the sensor hears it at its next tick."""
    for one in repairs:
        instance.report_runless_asset_event(
            AssetObservation(
                asset_key(one.cluster, Step.WRITE, one.kind),
                partition=one.repair.slice.partition_key,
                description="An operator asked for the repair to be tried again.",
                metadata={ASK_AGAIN: True},
            )
        )


def asked_for_again(instance: DagsterInstance, asset: AssetKey, given_up: Mapping[Slice, Repair]) -> set[Slice]:
    """Of the given-up slices of an asset, those that somebody has asked for, or has reindexed by hand, since. Few queries for all."""
    if not given_up:
        return set()
    since = AssetRecordsFilter(
        asset_key=asset,
        asset_partitions=[item.partition_key for item in given_up],
        after_timestamp=min(repair.heard_at for repair in given_up.values()),
    )
    asked = {
        item
        for item, record in _news(partial(instance.fetch_observations, since), given_up)
        if record.asset_observation is not None and ASK_AGAIN in record.asset_observation.metadata
    }
    materialized = [
        (item, record.run_id)
        for item, record in _news(partial(instance.fetch_materializations, since), given_up)
        if item not in asked
    ]
    runs = {run_id for _, run_id in materialized}
    by_hand = {
        run.run_id
        for run in (instance.get_runs(RunsFilter(run_ids=list(runs))) if runs else ())
        if REPAIR_TAG not in run.tags
    }
    return asked | {item for item, run_id in materialized if run_id in by_hand}


def _news(
    fetch: Callable[..., EventRecordsResult], given_up: Mapping[Slice, Repair]
) -> Iterator[tuple[Slice, EventLogRecord]]:
    """What was told of each slice since it was given up, or last heard of."""
    cursor = None
    while True:
        found = fetch(limit=_EVENTS_AT_ONCE, cursor=cursor)
        for record in found.records:
            item = Slice.of(record.partition_key or "")
            if record.timestamp > given_up[item].heard_at:
                yield item, record
        if not found.has_more:
            return
        cursor = found.cursor
