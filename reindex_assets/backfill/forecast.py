"""How long a backfill is going to take, from the runs that this instance has done before and from its limits.

What lives here: arithmetic. What does not: reading past runs (defs/history/past_runs.py), and estimates of rows
(backfill/row_estimates.py).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np


@dataclass(frozen=True)
class PastRun:
    """What a successful run has done: its slices, the rows that it read of them, and how long it was in progress."""

    slices: int
    rows: int
    seconds: float


@dataclass(frozen=True)
class Speed:
    """What runs cost here: so much each, and for each slice and row in it.

    Attributes:
        runs: how many past runs say so.
    """

    seconds_a_run: float
    seconds_a_slice: float
    seconds_a_row: float
    runs: int

    def seconds(self, slices: int, rows: float) -> float:
        """How long a run over so much takes."""
        return self.seconds_a_run + slices * self.seconds_a_slice + rows * self.seconds_a_row


@dataclass(frozen=True)
class Limits:
    """How many runs may be in progress at once: in all, of backfills, and of those that share a cluster or a customer. None: any number."""

    runs: int | None = None
    backfill_runs: int | None = None
    of_cluster: int | None = None
    of_customer: int | None = None


@dataclass(frozen=True)
class Work:
    """A run to come: whose it is, and how long it takes by itself."""

    cluster_name: str
    customer: str
    seconds: float


def speed_of(past: Sequence[PastRun]) -> Speed | None:
    """The costs that fit past runs best, none of them negative, each run's error by its own length; None without any past run.

    >>> found = speed_of([PastRun(10, 1_000_000, 24.0), PastRun(10, 0, 4.0), PastRun(1, 100_000, 5.3), PastRun(20, 500_000, 15.0)])
    >>> found is not None and round(found.seconds(10, 500_000))
    14
    """
    if not past:
        return None
    lengths = np.array([max(run.seconds, 0.001) for run in past])
    costs = np.array([[1.0, run.slices, run.rows] for run in past]) / lengths[:, None]
    found = [0.0, 0.0, 0.0]
    least = float("inf")
    # Three unknowns: every set of those that are not nought, and the best of the solutions without a negative one.
    for chosen in (chosen for size in (1, 2, 3) for chosen in combinations(range(3), size)):
        solution, *_ = np.linalg.lstsq(costs[:, chosen], np.ones(len(past)), rcond=None)
        error = float(np.sum((costs[:, chosen] @ solution - 1.0) ** 2))
        if (solution >= 0).all() and error < least - 1e-9:
            least = error
            found = [0.0, 0.0, 0.0]
            for place, value in zip(chosen, solution, strict=True):
                found[place] = float(value)
    a_run, a_slice, a_row = found
    return Speed(a_run, a_slice, a_row, len(past))


def expected_seconds(work: Sequence[Work], limits: Limits) -> float:
    """How long all of it takes: each run begins when the limits have room for it, earlier ones first, as Dagster's queue does it.

    >>> runs = [Work("east", "acme", 10), Work("east", "acme", 10), Work("east", "globex", 10), Work("west", "hooli", 10)]
    >>> expected_seconds(runs, Limits(runs=2)), expected_seconds(runs, Limits(of_customer=1)), expected_seconds(runs, Limits())
    (20.0, 20.0, 10.0)
    """
    most = min((limit for limit in (limits.runs, limits.backfill_runs) if limit is not None), default=len(work))
    waiting = list(work)
    at_work: list[tuple[float, int]] = []
    clusters: Counter[str] = Counter()
    customers: Counter[str] = Counter()
    now = 0.0
    begun: dict[int, Work] = {}
    while waiting or at_work:
        left = []
        for one in waiting:
            if (
                len(at_work) < most
                and _has_room(clusters, one.cluster_name, limits.of_cluster)
                and _has_room(customers, one.customer, limits.of_customer)
            ):
                number = len(begun)
                begun[number] = one
                heapq.heappush(at_work, (now + one.seconds, number))
                clusters[one.cluster_name] += 1
                customers[one.customer] += 1
            else:
                left.append(one)
        waiting = left
        if not at_work:
            # A limit of nought: it never begins.
            return float("inf")
        now, number = heapq.heappop(at_work)
        clusters[begun[number].cluster_name] -= 1
        customers[begun[number].customer] -= 1
    return now


def _has_room(counted: Mapping[str, int], name: str, limit: int | None) -> bool:
    return limit is None or counted[name] < limit


def duration_words(seconds: float) -> str:
    """
    >>> [duration_words(seconds) for seconds in (4.2, 75, 3_700, 90_000, float("inf"))]
    ['4 s', '1 min 15 s', '1 h 1 min', '1 d 1 h', 'never']
    """
    if seconds == float("inf"):
        return "never"
    whole = round(seconds)
    for size, name, rest_size, rest_name in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // rest_size
            return f"{whole // size} {name}" + (f" {rest} {rest_name}" if rest else "")
    return f"{whole} s"
