"""Makes rows of a running local stack wrong, for a person who wants to see drift found and repaired.

What lives here: choosing the engines, and errors in words. What does not: the drift itself (local/drift/plant.py).
"""

from __future__ import annotations

import time
from datetime import date

from reindex_assets.config.fleet import load_fleet
from reindex_assets.config.local_environment import use_local_environment
from reindex_assets.errors import ConfigurationError
from reindex_assets.local.drift.plant import Drift, PlantedDrift, plant
from reindex_assets.local.stack.connections import open_engines
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import Kind


def spoil(stack: LocalStack, customer: str, day: date, drift: Drift, kind: Kind, count: int) -> list[PlantedDrift]:
    """Plants drift in a stack that runs: on other scorecards each time.

    Raises:
        ConfigurationError: the stack was never started, it has no such customer, or the day has too few scorecards.
    """
    use_local_environment(stack.root)
    fleet = load_fleet(stack.fleet_path)
    cluster = fleet.clusters[fleet.cluster_of(customer)]
    try:
        with open_engines(cluster) as (source, clients):
            return plant(drift, clients, customer, day, count, int(time.time()), source, kind=kind)
    except LookupError as error:
        raise ConfigurationError(f"{error}: choose another --day, or a smaller --count") from error
    except ValueError as error:
        raise ConfigurationError(f"{error}: choose another --drift") from error
