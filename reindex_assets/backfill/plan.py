"""The plan of a backfill over the fleet: which days of which customers, cut into windows, put together into Dagster's own backfills.

What lives here: the cutting, and the sums per customer that a person confirms. What does not: estimates of rows
(backfill/row_estimates.py) and of time (backfill/forecast.py), what has been done (defs/runs/backfill_progress.py), and the launch
(defs/runs/backfill_launch.py).
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
    """Consecutive days of one customer of a dataset: what one run of Dagster does.

    Attributes:
        days: the days that are to be done; some of the window's may be done already.
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
        """The name of its days."""
        return window_name(self.first_day, self.last_day)


@dataclass(frozen=True)
class Batch:
    """Windows over the same days of some customers of a dataset: one backfill of Dagster's, which makes a run for each."""

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


@dataclass(frozen=True)
class BackfillPlan:
    """What a backfill over the fleet would do.

    Attributes:
        name: under which it is found again.
        windows: what is left to do, those of the same days side by side, the oldest first.
        done: slices that were done since the first launch under this name.
        under_way: slices that runs of an earlier launch are at work on, or will be.
        last_begun: when it was first launched under this name, epoch seconds; None when this is the first launch.
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
    """How a window is called. Backfills are found again by it: it stands in their tags."""
    return f"{first_day} to {last_day}"


def days_of_window(text: str) -> int:
    """The number of days in '10d' or '10'.

    Raises:
        ConfigurationError: it is something else.

    >>> days_of_window("10d"), days_of_window("7")
    (10, 7)
    """
    found = _WINDOW.fullmatch(text.strip())
    if found is None or int(found[1]) < 1:
        raise ConfigurationError(f"--window {text!r} is no number of days: write 10d")
    return int(found[1])


def chosen_customers(
    fleet: Fleet, kinds: Sequence[Kind], customers: Sequence[str], clusters: Sequence[str], *, everyone: bool
) -> dict[Dataset, list[str]]:
    """The customers that somebody named, by dataset, in the order of the fleet file.

    Raises:
        ConfigurationError: nobody is named, somebody twice over, or somebody whom the fleet file doesn't have.
    """
    if sum(map(bool, (customers, clusters, everyone))) != 1:
        raise ConfigurationError(
            "name the customers by --customers, a cluster by --cluster, or all of them by --all: one of the three"
        )
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
    return {fleet.dataset(name, kind): found for name, found in chosen.items() if found for kind in kinds}


def plan_windows(
    chosen: Mapping[Dataset, Sequence[str]],
    windows: Iterable[tuple[date, date]],
    is_left: Callable[[Dataset, Slice], bool],
) -> list[Window]:
    """The windows with something left to do: the oldest days of every cluster first, so that no cluster waits for another."""
    found = []
    for first, last in windows:
        for dataset, customers in chosen.items():
            for customer in customers:
                days = tuple(day for day in days_between(first, last) if is_left(dataset, Slice(customer, day)))
                if days:
                    found.append(Window(dataset, customer, first, last, days))
    return found


def batches(windows: Iterable[Window]) -> list[Batch]:
    """Dagster's backfills for some windows, in the windows' order.

    Dagster cuts a backfill with `BackfillPolicy.single_run()` into a run for each customer only when it has fewer customers than days
    (1.13); else into runs for each day, which no limit per customer could tell apart. So a batch takes fewer customers than it has days.
    A backfill for each window would be the plain way; but the daemon looks through every unfinished one all the time.
    """
    together: dict[tuple[Dataset, str], list[Window]] = {}
    for window in windows:
        together.setdefault((window.dataset, window.name), []).append(window)
    found = []
    for same in together.values():
        batch: list[Window] = []
        for window in same:
            if batch and len(batch) + 1 >= len({day for one in (*batch, window) for day in one.days}):
                found.append(Batch(tuple(batch)))
                batch = []
            batch.append(window)
        found.append(Batch(tuple(batch)))
    return found
