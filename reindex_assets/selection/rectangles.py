"""Rectangles: what one run can cover, out of the customers and days that somebody named.

What lives here: the cutting of a request into runs, and its validation. What does not: the runs (defs/runs/launch.py) and the groups
that a run is worked off in (selection/source_sql.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
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
    """The runs that cover the scorecards of some customers (none named: all) over some days.

    Raises:
        ConfigurationError: an unknown customer, a range that runs backwards, or days outside the fleet's partitions.
    """
    check_days(fleet, first_day, last_day)
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


def cover(
    dataset: Dataset,
    slices: Collection[Slice],
    avoid: Collection[Slice],
    most: int,
    rows: Callable[[Slice], int] = lambda item: 0,
) -> list[Rectangle]:
    """Rectangles that cover `slices` and touch none of `avoid`, the one with the oldest day first.

    Begins with each slice alone. Then two become the one around both, together with the slices between them, which are right and only
    cost a comparison: the cheapest pair first. What costs nothing is always put together (neighbouring days, neighbouring customers with
    the same days); what costs something, only while there are more than `most`, and nothing that costs more than the start of a run
    does (`_A_RUN_IN_ROWS`). So there may be more than `most` in the end. None is ever made around one of `avoid`.

    Args:
        most: rectangles that are few enough: one more is not worth a comparison.
        rows: about how many rows a slice has.
    """
    if not slices:
        return []
    order = {customer: number for number, customer in enumerate(dataset.customers)}
    first = min(item.day for item in slices)
    grid = _Grid(len(order), (max(item.day for item in slices) - first).days + 1)
    for number, customer in enumerate(order):
        for offset in range(grid.days):
            item = Slice(customer, first + timedelta(days=offset))
            grid.cost[number, offset] = 0 if item in slices else rows(item) + _A_SLICE_IN_ROWS
            grid.avoid[number, offset] = item in avoid
    boxes = grid.merged(
        np.array(
            [
                [order[item.customer], order[item.customer], (item.day - first).days, (item.day - first).days]
                for item in slices
            ]
        ),
        most,
    )
    names = list(order)
    return [
        Rectangle(
            dataset,
            tuple(names[low : high + 1]),
            first + timedelta(days=begin),
            first + timedelta(days=end),
        )
        for low, high, begin, end in sorted(
            (tuple(int(number) for number in box) for box in boxes), key=lambda box: box[2:]
        )
    ]


#: What the start of a run costs, about 5 s, and what an empty slice costs, as rows that could be compared in that time.
_A_RUN_IN_ROWS = 300_000
_A_SLICE_IN_ROWS = 3_000


_Boxes = np.ndarray[Any, np.dtype[np.int64]]


class _Grid:
    """Customers x days, with the cost of each slice that nobody wants, and those that must not be covered.

    A box is (first customer, last customer, first day, last day), all included.
    """

    def __init__(self, customers: int, days: int) -> None:
        self.days = days
        self.cost = np.zeros((customers, days), dtype=np.int64)
        self.avoid = np.zeros((customers, days), dtype=np.int64)

    def merged(self, boxes: _Boxes, most: int) -> _Boxes:
        """Puts boxes together: as long as that costs nothing, and while there are more than `most`, as long as it is worth a run."""
        costs, avoided = _corner_sums(self.cost), _corner_sums(self.avoid)
        boxes = np.unique(boxes, axis=0)
        while len(boxes) > 1:
            one, other = np.triu_indices(len(boxes), 1)
            around = np.stack(
                [(np.minimum, np.maximum)[side % 2](boxes[one, side], boxes[other, side]) for side in range(4)], axis=1
            )
            extra = _sum_in(costs, around) - _sum_in(costs, boxes[one]) - _sum_in(costs, boxes[other])
            extra[_sum_in(avoided, around) > 0] = _NEVER
            best = int(extra.argmin())
            if extra[best] > (_A_RUN_IN_ROWS if len(boxes) > most else 0):
                break
            # Whatever lies in the new box is covered by it.
            box = around[best]
            inside = (
                (boxes[:, 0] >= box[0]) & (boxes[:, 1] <= box[1]) & (boxes[:, 2] >= box[2]) & (boxes[:, 3] <= box[3])
            )
            boxes = np.vstack([boxes[~inside], box])
        return boxes


_NEVER = np.iinfo(np.int64).max


def _corner_sums(grid: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Sums over all rows and columns before each corner, so that the sum of any box is four look-ups."""
    sums = np.zeros((grid.shape[0] + 1, grid.shape[1] + 1), dtype=np.int64)
    sums[1:, 1:] = grid.cumsum(axis=0).cumsum(axis=1)
    return sums


def _sum_in(sums: np.ndarray[Any, np.dtype[np.int64]], boxes: _Boxes) -> np.ndarray[Any, np.dtype[np.int64]]:
    low, high, begin, end = boxes[:, 0], boxes[:, 1] + 1, boxes[:, 2], boxes[:, 3] + 1
    found: np.ndarray[Any, np.dtype[np.int64]] = sums[high, end] - sums[low, end] - sums[high, begin] + sums[low, begin]
    return found
