"""The partitions, one for each customer and day, and those that a run covers.

What lives here: the definition, the tags that give a run its range, and the guard against runs that Dagster cuts short. What does not:
the rows of a slice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from dagster import DailyPartitionsDefinition, MultiPartitionsDefinition, StaticPartitionsDefinition

from reindex_assets.config.cluster import Cluster
from reindex_assets.config.dataset import Dataset
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import Slice, days_between

CUSTOMER = "customer"
DAY = "day"

RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"
PARTITION_TAG = "dagster/partition"


def customer_days(dataset: Dataset) -> MultiPartitionsDefinition:
    """The partitions of a dataset's assets: each customer on each UTC day since the fleet's first day, today included."""
    return MultiPartitionsDefinition(
        {
            CUSTOMER: StaticPartitionsDefinition(dataset.customers),
            DAY: DailyPartitionsDefinition(start_date=dataset.first_day.isoformat(), timezone="UTC", end_offset=1),
        }
    )


def range_tags(customers: Sequence[str], first_day: date, last_day: date) -> dict[str, str]:
    """The tags that make a run cover a rectangle of slices; `customers` are consecutive in the fleet file."""
    return {
        RANGE_START_TAG: Slice(customers[0], first_day).partition_key,
        RANGE_END_TAG: Slice(customers[-1], last_day).partition_key,
    }


def slices_of_range(cluster: Cluster, tags: Mapping[str, str]) -> set[Slice]:
    """The rectangle of slices between the range tags. If the fleet file lacks its first or last customer, only those two are covered."""
    start, end = Slice.of(tags[RANGE_START_TAG]), Slice.of(tags[RANGE_END_TAG])
    order = list(cluster.customers)
    customers = {start.customer, end.customer}
    if customers <= set(order):
        customers = set(order[order.index(start.customer) : order.index(end.customer) + 1])
    return {Slice(customer, day) for customer in customers for day in days_between(start.day, end.day)}


def slices_of_run(cluster: Cluster, partition_keys: Sequence[str], tags: Mapping[str, str]) -> list[Slice]:
    """The slices that Dagster gave a run, checked against the range in its tags.

    A backfill launched from the page of a *job* makes runs whose tags ask for a rectangle, but Dagster gives each of them a
    single key (Dagster issues 28861, 30786). Such a run would succeed having done next to nothing.

    Raises:
        ConfigurationError: the run's keys are not the rectangle that its range tags ask for.
    """
    slices = [Slice.of(key) for key in partition_keys]
    if RANGE_START_TAG in tags and RANGE_END_TAG in tags:
        asked = slices_of_range(cluster, tags)
        if asked != set(slices):
            raise ConfigurationError(
                f"this run was asked for {len(asked)} partitions ({tags[RANGE_START_TAG]} to {tags[RANGE_END_TAG]}) "
                f"but Dagster gave it {len(set(slices))}: nothing was done. Launch the backfill from the page of the asset "
                "(or by 'reindex-assets reindex'), not from the page of a job"
            )
    return slices


def ended_days(today: date, days: int, first_day: date) -> tuple[date, date] | None:
    """The first and last of the `days` days before `today`, none earlier than `first_day`; None if there is no such day yet.

    >>> ended_days(date(2026, 3, 2), 3, date(2026, 1, 1))
    (datetime.date(2026, 2, 27), datetime.date(2026, 3, 1))
    """
    last = today - timedelta(days=1)
    first = max(first_day, today - timedelta(days=days))
    return (first, last) if first <= last else None
