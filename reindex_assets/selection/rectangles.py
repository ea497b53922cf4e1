"""Rectangles: the customers and days that one run covers.

What lives here: cutting a request into runs, and validating it. What does not: the runs (defs/runs/launch.py) and the groups in which a
run processes its slices (selection/groups.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from reindex_assets.config.cluster import Cluster
from reindex_assets.config.dataset import Dataset
from reindex_assets.config.fleet import Fleet
from reindex_assets.model import Kind, Slice, days_between
from reindex_assets.selection.days import check_days


@dataclass(frozen=True)
class Rectangle:
    """What one run covers: neighbouring customers of one dataset and consecutive days."""

    dataset: Dataset
    customers: tuple[str, ...]
    first_day: date
    last_day: date

    @property
    def slices(self) -> list[Slice]:
        return [
            Slice(customer, day) for customer in self.customers for day in days_between(self.first_day, self.last_day)
        ]


def plan_rectangles(
    fleet: Fleet, kinds: Sequence[Kind], customers: Sequence[str], first_day: date, last_day: date
) -> list[Rectangle]:
    """The runs that cover some customers (all, if none is named) over some days.

    Raises:
        ConfigurationError: an unknown customer, a range that runs backwards, or days without a partition.
    """
    check_days(fleet, first_day, last_day, datetime.now(UTC).date())
    named: dict[str, list[str]] = {}
    for customer in customers:
        named.setdefault(fleet.cluster_of(customer), []).append(customer)
    if not customers:
        named = {name: list(cluster.customers) for name, cluster in fleet.clusters.items()}
    return [
        Rectangle(fleet.dataset(name, kind), tuple(run), first_day, last_day)
        for name, chosen in named.items()
        for run in neighbours(fleet.clusters[name], chosen)
        for kind in kinds
    ]


def neighbours(cluster: Cluster, customers: Collection[str]) -> list[list[str]]:
    """`customers` in the order of the fleet file, cut into runs of neighbours: a range can't skip a customer.

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


def cover(
    dataset: Dataset,
    slices: Collection[Slice],
    avoid: Collection[Slice],
    most: int,
    rows: Callable[[Slice], int] = lambda item: 0,
) -> list[Rectangle]:
    """Rectangles that cover `slices` and none of `avoid`, oldest day first.

    Starts with one rectangle per slice and keeps merging the cheapest pair into the rectangle around both. The slices in between are
    right and only cost a comparison. Free merges (neighbouring days, neighbouring customers with the same days) always happen. Others
    happen only while there are more than `most` rectangles, and only if they cost no more than starting a run (`_A_RUN_IN_ROWS`): more
    than `most` may remain.

    Args:
        most: few enough rectangles; going below it is not worth any comparison.
        rows: about how many rows a slice has.
    """
    if not slices:
        return []
    order = {customer: number for number, customer in enumerate(dataset.customers)}
    first = min(item.day for item in slices)
    shape = len(order), (max(item.day for item in slices) - first).days + 1
    costs, avoided = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for customer, number in order.items():
        for offset in range(shape[1]):
            item = Slice(customer, first + timedelta(days=offset))
            costs[number, offset] = 0 if item in slices else rows(item) + _A_SLICE_IN_ROWS
            avoided[number, offset] = item in avoid
    cells = [(order[item.customer], (item.day - first).days) for item in slices]
    boxes = _merged(np.array([[number, number, offset, offset] for number, offset in cells]), costs, avoided, most)
    names = list(order)
    return [
        Rectangle(dataset, tuple(names[low : high + 1]), first + timedelta(days=begin), first + timedelta(days=end))
        for low, high, begin, end in sorted(boxes.tolist(), key=lambda box: box[2:])
    ]


#: The cost of starting a run (about 5 s) and of an empty slice, as the number of rows that could be compared in that time.
_A_RUN_IN_ROWS = 300_000
_A_SLICE_IN_ROWS = 3_000

_NEVER = np.iinfo(np.int64).max

_Numbers = np.ndarray[Any, np.dtype[np.int64]]


def _merged(boxes: _Numbers, costs: _Numbers, avoided: _Numbers, most: int) -> _Numbers:
    """Merges boxes while that is free, and, while there are more than `most`, as long as it costs no more than a run.

    A box is (first customer, last customer, first day, last day), all included. `costs` and `avoided` are customers x days: the cost of
    each slice that nobody asked for, and 1 for each slice that must not be covered.
    """
    cost_sums, avoided_sums = _corner_sums(costs), _corner_sums(avoided)
    boxes = np.unique(boxes, axis=0)
    while len(boxes) > 1:
        left, right = np.triu_indices(len(boxes), 1)
        around = np.stack(
            [(np.minimum, np.maximum)[side % 2](boxes[left, side], boxes[right, side]) for side in range(4)], axis=1
        )
        extra = _sum_in(cost_sums, around) - _sum_in(cost_sums, boxes[left]) - _sum_in(cost_sums, boxes[right])
        extra[_sum_in(avoided_sums, around) > 0] = _NEVER
        best = int(extra.argmin())
        if extra[best] > (_A_RUN_IN_ROWS if len(boxes) > most else 0):
            break
        # The new box also covers every other box inside it.
        box = around[best]
        inside = (boxes[:, 0] >= box[0]) & (boxes[:, 1] <= box[1]) & (boxes[:, 2] >= box[2]) & (boxes[:, 3] <= box[3])
        boxes = np.vstack([boxes[~inside], box])
    return boxes


def _corner_sums(grid: _Numbers) -> _Numbers:
    """Sums over all rows and columns before each corner, so that the sum of any box takes four look-ups."""
    sums = np.zeros((grid.shape[0] + 1, grid.shape[1] + 1), dtype=np.int64)
    sums[1:, 1:] = grid.cumsum(axis=0).cumsum(axis=1)
    return sums


def _sum_in(sums: _Numbers, boxes: _Numbers) -> _Numbers:
    low, high, begin, end = boxes[:, 0], boxes[:, 1] + 1, boxes[:, 2], boxes[:, 3] + 1
    totals: _Numbers = sums[high, end] - sums[low, end] - sums[high, begin] + sums[low, begin]
    return totals
