"""An operator's word to the repair sensor: try these given-up partitions again.

What lives here: which are given up, and the word itself. What does not: what the sensor makes of it (repair_sensor.py, repairs.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from dagster import AssetObservation, DagsterInstance

from reindex_assets.asset_names import asset_key
from reindex_assets.fleet import Fleet
from reindex_assets.model import KINDS
from reindex_assets.pipeline import Step
from reindex_assets.repair_ledger import given_up
from reindex_assets.repairs import GivenUp

#: The metadata of an observation by which an operator asks for a given-up partition to be tried again.
ASK_AGAIN = "reindex/repair_again"


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
