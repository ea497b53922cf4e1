"""The plan of a fleet on one machine: its clusters, their shards and customers, and the engines that they share.

What lives here: the plan, and its invented names. What does not: starting anything (local/stack/stack.py), and rows
(local/data/made_data.py).

Each cluster has its own databases: one in the stack's PostgreSQL, and one of the same name in each engine that is one of its shards. So
eight clusters with 23 shards need four engines; 23 engines would take 7 GB of memory.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from reindex_assets.errors import ConfigurationError
from reindex_assets.local.data.made_plan import fraction
from reindex_assets.local.stack.files_of_stack import Home

#: Name, share of 95 customers, shards: as uneven as in production, down to one customer on one shard.
_CLUSTERS = (
    ("us-east-1-prod", 34, 4),
    ("us-west-2-prod", 21, 4),
    ("voice-prod", 14, 3),
    ("eu-west-2-prod", 10, 4),
    ("ca-west-1-prod", 7, 2),
    ("ap-south-1-prod", 5, 3),
    ("eu-north-1-prod", 3, 2),
    ("gov-west-1-prod", 1, 1),
)
_REAL_CUSTOMERS = {
    "us-east-1-prod": ("spirit", "marriott", "united-east", "propel", "rentokil", "guitar-center", "nclh", "greenix"),
    "us-west-2-prod": ("care-oregon",),
    "voice-prod": ("hilton", "holidayinn", "brinks"),
}
_FIRST_WORDS = ("amber", "birch", "cedar", "delta", "ember", "falcon", "granite", "harbor", "indigo", "juniper")
_LAST_WORDS = ("air", "bank", "care", "energy", "health", "homes", "mobile", "retail", "stay", "travel")
_NAMES = [
    f"{first}-{_LAST_WORDS[(3 * row + column) % len(_LAST_WORDS)]}"
    for row in range(len(_LAST_WORDS))
    for column, first in enumerate(_FIRST_WORDS)
]

MOST_CLUSTERS = len(_CLUSTERS)
DEFAULT_ENGINES = 4


@dataclass(frozen=True)
class PlannedCluster:
    """One cluster of the fleet: its customers with their profiles."""

    name: str
    shards: int
    customers: Mapping[str, tuple[str, ...]]

    @property
    def database(self) -> str:
        """The name of its databases in both engines."""
        return re.sub(r"[^a-z0-9]", "_", self.name.lower())


@dataclass(frozen=True)
class FleetPlan:
    """The clusters of a fleet, and the number of engines that their shards share."""

    clusters: tuple[PlannedCluster, ...]
    engines: int

    @property
    def customers(self) -> int:
        return sum(len(cluster.customers) for cluster in self.clusters)

    @property
    def homes(self) -> dict[str, Home]:
        """Where each cluster is. Its shards follow those of the cluster before, so that the engines share the load."""
        engines = itertools.cycle(range(self.engines))
        return {
            cluster.name: Home(cluster.database, cluster.database, tuple(itertools.islice(engines, cluster.shards)))
            for cluster in self.clusters
        }


def plan_fleet(
    clusters: int = MOST_CLUSTERS, customers: int | None = None, engines: int = DEFAULT_ENGINES
) -> FleetPlan:
    """The first clusters of the fleet, with some number of customers in all (None: their share of 95).

    >>> [(len(cluster.customers), cluster.shards) for cluster in plan_fleet().clusters]
    [(34, 4), (21, 4), (14, 3), (10, 4), (7, 2), (5, 3), (3, 2), (1, 1)]
    >>> [len(cluster.customers) for cluster in plan_fleet(8, 12).clusters]
    [4, 2, 1, 1, 1, 1, 1, 1]
    >>> [len(cluster.customers) for cluster in plan_fleet(3).clusters]
    [34, 21, 14]

    Raises:
        ConfigurationError: a number is out of range; the message names the range.
    """
    if not 1 <= clusters <= MOST_CLUSTERS:
        raise ConfigurationError(f"a fleet on this machine has 1 to {MOST_CLUSTERS} clusters, not {clusters}")
    chosen = _CLUSTERS[:clusters]
    shares = [share for _, share, _ in chosen]
    wanted = sum(shares) if customers is None else customers
    if not clusters <= wanted <= len(_NAMES):
        raise ConfigurationError(f"{clusters} clusters have {clusters} to {len(_NAMES)} customers, not {wanted}")
    counts = [max(1, wanted * share // sum(shares)) for share in shares]
    counts[0] += wanted - sum(counts)
    if engines < 1:
        raise ConfigurationError(f"a fleet needs at least one engine, not {engines}")
    invented = iter(_NAMES)
    planned = []
    for (name, _, shards), count in zip(chosen, counts, strict=True):
        names = list(_REAL_CUSTOMERS.get(name, ()))[:count]
        names += itertools.islice(invented, count - len(names))
        # Every fifth customer has two profiles.
        profiles = {
            customer: ("main", "voice") if number % 5 == 0 else ("main",) for number, customer in enumerate(names)
        }
        # An engine has one database of a cluster, so it can't be two of its shards.
        planned.append(PlannedCluster(name, min(shards, engines), profiles))
    return FleetPlan(tuple(planned), engines)


def weights(customers: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """The number of each customer's scorecards, relative to an ordinary one: from a quarter to four times."""
    return {customer: 4 ** (2 * fraction("weight", customer) - 1) for customer in customers}
