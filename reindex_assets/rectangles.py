"""Rectangles: what one run can cover, out of the customers and days that somebody named.

What lives here: the cutting of a request into runs, and its validation. What does not: the runs (launch.py) and the groups that a run
is worked off in (selection.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from reindex_assets.errors import ConfigurationError
from reindex_assets.fleet import Cluster, Fleet
from reindex_assets.model import Slice, days_between


@dataclass(frozen=True)
class Rectangle:
    """What one run covers: neighbouring customers of one cluster and consecutive days."""

    cluster_name: str
    customers: tuple[str, ...]
    first_day: date
    last_day: date

    @property
    def slices(self) -> list[Slice]:
        return [
            Slice(customer, day) for customer in self.customers for day in days_between(self.first_day, self.last_day)
        ]


def plan_rectangles(fleet: Fleet, customers: Sequence[str], first_day: date, last_day: date) -> list[Rectangle]:
    """The runs that cover some customers (none named: all) over some days.

    Raises:
        ConfigurationError: an unknown customer, a range that runs backwards, or days outside the fleet's partitions.
    """
    if first_day > last_day:
        raise ConfigurationError(f"the range runs backwards: --from {first_day} lies after --to {last_day}")
    if first_day < fleet.first_day:
        raise ConfigurationError(
            f"--from {first_day} lies before {fleet.first_day}, the first day of the fleet file: "
            "earlier days have no partition; set first_day there if they should"
        )
    named: dict[str, list[str]] = {}
    for customer in customers:
        named.setdefault(fleet.cluster_of(customer), []).append(customer)
    if not customers:
        named = {name: list(cluster.customers) for name, cluster in fleet.clusters.items()}
    return [
        Rectangle(name, tuple(run), first_day, last_day)
        for name, chosen in named.items()
        for run in neighbours(fleet.clusters[name], chosen)
    ]


def neighbours(cluster: Cluster, customers: Sequence[str]) -> list[list[str]]:
    """`customers` in the order of the fleet file, cut into runs of neighbours: a range can hold no others.

    >>> from types import SimpleNamespace
    >>> neighbours(SimpleNamespace(customers=dict.fromkeys("abcd")), ["d", "a", "b"])
    [['a', 'b'], ['d']]
    """
    runs: list[list[str]] = []
    previous_chosen = False
    for customer in cluster.customers:
        chosen = customer in customers
        if chosen and previous_chosen:
            runs[-1].append(customer)
        elif chosen:
            runs.append([customer])
        previous_chosen = chosen
    return runs
