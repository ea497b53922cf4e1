"""Forecasts how long a backfill will take, from past runs and the limits on concurrent runs.

What lives here: the arithmetic. What does not: reading past runs (defs/history/past_runs.py) and estimating rows
(backfill/row_estimates.py).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, count

import numpy as np


@dataclass(frozen=True)
class PastRun:
    """A successful run: how many slices it reindexed, how many rows it read for them, and how long it took."""

    slices: int
    rows: int
    seconds: float


@dataclass(frozen=True)
class Speed:
    """What a run costs: a fixed time, plus a time for each slice and each row.

    Attributes:
        runs: how many past runs this is based on.
    """

    seconds_a_run: float
    seconds_a_slice: float
    seconds_a_row: float
    runs: int

    def seconds(self, slices: int, rows: float) -> float:
        """How long a run over so many slices and rows takes."""
        return self.seconds_a_run + slices * self.seconds_a_slice + rows * self.seconds_a_row


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many runs may be in progress at once: in all, of backfills, of one cluster, and of one customer. None means unlimited."""

    runs: int | None = None
    backfill_runs: int | None = None
    of_cluster: int | None = None
    of_customer: int | None = None


@dataclass(frozen=True)
class PlannedRun:
    """A future run: its cluster and customer, and how long it takes."""

    cluster_name: str
    customer: str
    seconds: float


def speed_of(past: Sequence[PastRun]) -> Speed | None:
    """The costs, none of them negative, that fit the past runs with the least squared relative errors. None without past runs.

    >>> speed = speed_of([PastRun(10, 1_000_000, 24.0), PastRun(10, 0, 4.0), PastRun(1, 100_000, 5.3), PastRun(20, 500_000, 15.0)])
    >>> speed is not None and round(speed.seconds(10, 500_000))
    14
    """
    if not past:
        return None
    lengths = np.array([max(run.seconds, 0.001) for run in past])
    shares = np.array([[1.0, run.slices, run.rows] for run in past]) / lengths[:, None]
    best, least = np.zeros(3), float("inf")
    # Plain least squares may give negative costs. So solve for every subset of the three, with the others zero, and keep the best.
    for subset in (list(chosen) for size in (1, 2, 3) for chosen in combinations(range(3), size)):
        costs = np.zeros(3)
        costs[subset] = np.linalg.lstsq(shares[:, subset], np.ones(len(past)), rcond=None)[0]
        error = float(np.sum((shares @ costs - 1.0) ** 2))
        if (costs >= 0).all() and error < least - 1e-9:
            best, least = costs, error
    a_run, a_slice, a_row = map(float, best)
    return Speed(a_run, a_slice, a_row, len(past))


def expected_seconds(runs: Sequence[PlannedRun], limits: Limits) -> float:
    """How long all the runs take. As in Dagster's queue, each starts as soon as the limits allow it, earlier ones first.

    >>> homes = (("east", "acme"), ("east", "acme"), ("east", "globex"), ("west", "hooli"))
    >>> runs = [PlannedRun(cluster_name, customer, 10) for cluster_name, customer in homes]
    >>> expected_seconds(runs, Limits(runs=2)), expected_seconds(runs, Limits(of_customer=1)), expected_seconds(runs, Limits())
    (20.0, 20.0, 10.0)
    """
    most = min((limit for limit in (limits.runs, limits.backfill_runs) if limit is not None), default=len(runs))
    waiting = list(runs)
    running: list[tuple[float, int, PlannedRun]] = []
    order = count()
    clusters: Counter[str] = Counter()
    customers: Counter[str] = Counter()
    now = 0.0
    while waiting or running:
        blocked = []
        for run in waiting:
            if (
                len(running) < most
                and _has_room(clusters, run.cluster_name, limits.of_cluster)
                and _has_room(customers, run.customer, limits.of_customer)
            ):
                heapq.heappush(running, (now + run.seconds, next(order), run))
                clusters[run.cluster_name] += 1
                customers[run.customer] += 1
            else:
                blocked.append(run)
        waiting = blocked
        if not running:
            # A limit is zero, so no run ever starts.
            return float("inf")
        now, _, ended = heapq.heappop(running)
        clusters[ended.cluster_name] -= 1
        customers[ended.customer] -= 1
    return now


def _has_room(running: Mapping[str, int], name: str, limit: int | None) -> bool:
    return limit is None or running[name] < limit


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
