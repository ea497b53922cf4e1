"""The plan of a backfill over the fleet: its customers and days, cut into windows and grouped into Dagster's own backfills.

What lives here: cutting and grouping. What does not: estimates of rows (backfill/row_estimates.py) and time (backfill/forecast.py), what
has been done (defs/runs/backfill_progress.py), and the launch (defs/runs/backfill_launch.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from reindex_assets.config.dataset import Dataset
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import Kind, Slice, days_between

_WINDOW = re.compile(r"(\d{1,4})d?")


@dataclass(frozen=True)
class Window:
    """Consecutive days of one customer of a dataset, which one run reindexes.

    Attributes:
        days: the days that are left to do.
    """

    dataset: Dataset
    customer: str
    first_day: date
    last_day: date
    days: tuple[date, ...]

    @property
    def slices(self) -> list[Slice]:
        return [Slice(self.customer, day) for day in self.days]

    @property
    def name(self) -> str:
        return window_name(self.first_day, self.last_day)


@dataclass(frozen=True)
class Batch:
    """Windows of several customers over the same days. Together they are one Dagster backfill, with a run for each window."""

    windows: tuple[Window, ...]

    @property
    def dataset(self) -> Dataset:
        return self.windows[0].dataset

    @property
    def name(self) -> str:
        return self.windows[0].name

    @property
    def customers(self) -> tuple[str, ...]:
        return tuple(window.customer for window in self.windows)

    @property
    def slices(self) -> list[Slice]:
        return [item for window in self.windows for item in window.slices]


@dataclass(frozen=True, kw_only=True)
class BackfillPlan:
    """What a backfill over the fleet would do.

    Attributes:
        name: identifies the backfill in later launches and in its status.
        windows: what is left to do, the oldest days first.
        done: how many slices have been done since the first launch under this name.
        under_way: how many slices are in runs of an earlier launch that have not ended.
        last_begun: when it was first launched under this name, in epoch seconds; None when it has not been.
    """

    name: str
    first_day: date
    last_day: date
    window_days: int
    windows: tuple[Window, ...]
    done: int = 0
    under_way: int = 0
    last_begun: float | None = None

    @property
    def slices(self) -> int:
        return sum(len(window.days) for window in self.windows)


def window_name(first_day: date, last_day: date) -> str:
    """The name of a window. It is in the tags of Dagster's backfills, by which they are found again."""
    return f"{first_day} to {last_day}"


def days_of_window(text: str) -> int:
    """The number of days in '10d' or '10'.

    Raises:
        ConfigurationError: the text is anything else.

    >>> days_of_window("10d"), days_of_window("7")
    (10, 7)
    """
    match = _WINDOW.fullmatch(text.strip())
    if match is None or int(match[1]) < 1:
        raise ConfigurationError(f"--window {text!r} is not a number of days: write 10d")
    return int(match[1])


def chosen_customers(
    fleet: Fleet, kinds: Sequence[Kind], customers: Sequence[str], clusters: Sequence[str], *, everyone: bool
) -> dict[Dataset, list[str]]:
    """The customers to backfill, by dataset, in the order of the fleet file.

    Raises:
        ConfigurationError: not exactly one of the last three arguments is given, or the fleet file lacks a customer or cluster.
    """
    if sum(map(bool, (customers, clusters, everyone))) != 1:
        raise ConfigurationError("choose the customers with exactly one of --customer, --cluster and --all")
    for name in clusters:
        if name not in fleet.clusters:
            raise ConfigurationError(f"unknown cluster {name!r}: the fleet file has {', '.join(fleet.clusters)}")
    homes = {customer: fleet.cluster_of(customer) for customer in customers}
    chosen = {
        name: [
            customer for customer in cluster.customers if everyone or name in clusters or homes.get(customer) == name
        ]
        for name, cluster in fleet.clusters.items()
    }
    return {fleet.dataset(name, kind): names for name, names in chosen.items() if names for kind in kinds}


def plan_windows(
    chosen: Mapping[Dataset, Sequence[str]],
    windows: Iterable[tuple[date, date]],
    is_left: Callable[[Dataset, Slice], bool],
) -> list[Window]:
    """The windows with days left to do. The oldest days of all clusters come first, so that no cluster waits for another."""
    planned = []
    for first, last in windows:
        for dataset, customers in chosen.items():
            for customer in customers:
                days = tuple(day for day in days_between(first, last) if is_left(dataset, Slice(customer, day)))
                if days:
                    planned.append(Window(dataset, customer, first, last, days))
    return planned


def batches(windows: Iterable[Window]) -> list[Batch]:
    """Groups windows into Dagster's backfills, in the windows' order.

    Dagster 1.13 cuts a backfill with `BackfillPolicy.single_run()` into one run per customer only if it has fewer customers than days.
    Otherwise it makes one run per day, to which no limit per customer can apply. So each batch has fewer customers than days. One
    backfill per window would be simpler, but the daemon keeps polling every unfinished backfill.
    """
    by_days: dict[tuple[Dataset, str], list[Window]] = {}
    for window in windows:
        by_days.setdefault((window.dataset, window.name), []).append(window)
    groups: list[Batch] = []
    for together in by_days.values():
        batch: list[Window] = []
        for window in together:
            days = {day for member in (*batch, window) for day in member.days}
            if batch and len(batch) + 1 >= len(days):
                groups.append(Batch(tuple(batch)))
                batch = []
            batch.append(window)
        groups.append(Batch(tuple(batch)))
    return groups
