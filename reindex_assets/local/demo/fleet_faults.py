"""Drift everywhere in a fleet: every kind of drift, in every cluster, for every customer, in scorecards of every kind.

What lives here: which drift is planted where. What does not: planting it (local/drift/plant.py), and finding it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date

from reindex_assets.config.cluster import Cluster
from reindex_assets.config.dataset import Dataset
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.drift.plant import Drift, PlantedDrift, plant
from reindex_assets.local.stack.connections import open_engines
from reindex_assets.model import KINDS, Kind


def plant_everywhere(fleet: Fleet, days: Sequence[date], seed: int = 1) -> dict[Dataset, list[PlantedDrift]]:
    """Plants every kind of drift in every cluster, and at least one fault for every customer, in every kind of scorecards.

    A cluster of one shard gets no rows on a wrong shard.

    Raises:
        LookupError: a slice has too few scorecards.
    """
    with ThreadPoolExecutor(4, thread_name_prefix="drift") as pool:
        futures = {name: pool.submit(_plant, cluster, days, seed) for name, cluster in fleet.clusters.items()}
        return {
            fleet.dataset(name, kind): planted
            for name, future in futures.items()
            for kind, planted in future.result().items()
        }


def _plant(cluster: Cluster, days: Sequence[date], seed: int) -> dict[Kind, list[PlantedDrift]]:
    with open_engines(cluster) as (source, clients):
        return {
            kind: [
                planted
                for number, (drift, customer, day) in enumerate(_faults(cluster, days))
                for planted in plant(drift, clients, customer, day, seed=seed + number, source=source, kind=kind)
            ]
            for kind in KINDS
        }


def _faults(cluster: Cluster, days: Sequence[date]) -> Iterator[tuple[Drift, str, date]]:
    customers = list(cluster.customers)
    drifts = [drift for drift in Drift if drift is not Drift.WRONG_SHARD or len(cluster.clickhouse.shards) > 1]
    for number in range(max(len(customers), len(drifts))):
        day = days[(number + number // len(customers)) % len(days)]
        yield drifts[number % len(drifts)], customers[number % len(customers)], day
