"""Groups of slices: customers and days that one query reads and that are written together.

What lives here: the group, and the grouping of slices. What does not: the SQL that selects a group's rows (selection/source_sql.py,
selection/shard_sql.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from reindex_assets.config.dataset import Dataset
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import Kind, Slice, Tables
from reindex_assets.selection.days import A_DAY, day_ranges, range_text

#: Separates the entries of a list that is bound as one string; no name in a fleet file may contain it.
SEPARATOR = "\x1f"

#: The most runs of consecutive days in one group: each is a separate range in every Postgres statement.
_MAX_SPANS = 20

#: The most slices that one session locks at once: Postgres keeps the locks of all sessions in one table of limited size.
MAX_SLICES = 400


@dataclass(frozen=True, kw_only=True)
class SliceGroup:
    """Slices that one query reads and that are written together: all of its days for all of its customers.

    Attributes:
        customers: each with its profiles; an empty tuple means every profile.
        days: ascending, without duplicates; there may be gaps.
        floor_day: the fleet's first day. A row whose time lies before it has no slice.
        tables: ClickHouse's tables.
    """

    customers: tuple[tuple[str, tuple[str, ...]], ...]
    days: tuple[date, ...]
    floor_day: date
    kind: Kind
    tables: Tables = field(hash=False, repr=False)

    @property
    def first_day(self) -> date:
        return self.days[0]

    @property
    def spans(self) -> list[tuple[date, date]]:
        """The runs of consecutive days: the first and last day of each."""
        return day_ranges(self.days)

    @property
    def customer_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.customers)

    @property
    def slices(self) -> list[Slice]:
        """Every slice of the group, by day and then by customer."""
        return [Slice(customer, day) for day in self.days for customer in self.customer_names]

    @property
    def limited_customers(self) -> tuple[str, ...]:
        """Customers that are limited to their listed profiles."""
        return tuple(name for name, profiles in self.customers if profiles)

    @property
    def limited_profiles(self) -> tuple[str, ...]:
        return tuple(f"{name}/{profile}" for name, profiles in self.customers for profile in profiles)

    def __str__(self) -> str:
        names = self.customer_names
        who = ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more customers"
        days = range_text(self.days[0], self.days[-1])
        return f"{who}, {days}" if len(self.spans) == 1 else f"{who}, {len(self.days)} days from {days}"


def slice_group(dataset: Dataset, customers: Iterable[str], days: Iterable[date]) -> SliceGroup:
    """The group of some customers of a dataset on some days, given in ascending order."""
    profiles = dataset.cluster.customers
    return SliceGroup(
        customers=tuple((name, profiles[name].profiles) for name in customers),
        days=tuple(days),
        floor_day=dataset.first_day,
        kind=dataset.kind,
        tables=dataset.tables,
    )


def group_slices(
    slices: Iterable[Slice],
    dataset: Dataset,
    rows: Mapping[Slice, int],
    max_rows: int,
    max_slices: int = MAX_SLICES,
) -> list[SliceGroup]:
    """Groups `slices`, each group with at most `max_rows` rows (a single slice may hold more) and `max_slices` slices.

    Groups each customer's days first, even days that lie apart, as every group costs one read of the score table and one deletion on
    each shard. Then joins customers with the same days: 95 customers with a few rows cost one read and one write instead of 95.

    Raises:
        ConfigurationError: a customer is not in this cluster, or a day lies before the fleet's first.
    """
    days_of: dict[str, list[date]] = {}
    for item in sorted(set(slices)):
        if item.customer not in dataset.cluster.customers:
            raise ConfigurationError(
                f"unknown customer {item.customer!r}: this cluster has {', '.join(sorted(dataset.customers))}"
            )
        if item.day < dataset.first_day:
            raise ConfigurationError(f"{item} lies before {dataset.first_day}, the first day of the fleet file")
        days_of.setdefault(item.customer, []).append(item.day)

    same_days: dict[tuple[date, ...], list[list[tuple[str, int]]]] = {}
    for customer, all_days in days_of.items():
        for days, size in _portions(customer, all_days, rows, max_rows, max_slices):
            bundles = same_days.setdefault(days, [[]])
            bundle = bundles[-1]
            full = bundle and (
                sum(rows_of for _, rows_of in bundle) + size > max_rows or (len(bundle) + 1) * len(days) > max_slices
            )
            if full:
                bundle = []
                bundles.append(bundle)
            bundle.append((customer, size))
    return [
        slice_group(dataset, [name for name, _ in bundle], days)
        for days, bundles in sorted(same_days.items())
        for bundle in bundles
    ]


def _portions(
    customer: str, days: Sequence[date], rows: Mapping[Slice, int], max_rows: int, max_slices: int
) -> Iterable[tuple[tuple[date, ...], int]]:
    """A customer's days, cut into portions within the limits: (days, rows)."""
    portion: list[date] = []
    size = 0
    for day in days:
        more = rows.get(Slice(customer, day), 0)
        if portion and (
            size + more > max_rows
            or len(portion) + 1 > max_slices
            or (day - portion[-1] > A_DAY and len(day_ranges(portion)) == _MAX_SPANS)
        ):
            yield tuple(portion), size
            portion, size = [], 0
        portion.append(day)
        size += more
    yield tuple(portion), size
