"""Rectangles of customers and days: what was named, and repairs put together into few runs.

What lives here: hypothesis against the plainest independent computation. What does not: the partitions of a run (defs/test_partitions.py).
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reindex_assets.config.cluster import Customer
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import PROCESS, Slice, days_between
from reindex_assets.selection.rectangles import cover, neighbours, plan_rectangles
from reindex_assets_tests.support.generated import (
    CLUSTER,
    DATASET,
    FIRST_DAY,
    FLEET,
    NAMES,
    days,
)


@given(st.lists(st.sampled_from(NAMES), max_size=10))
def test_neighbours_hold_each_chosen_customer_once_in_longest_runs(chosen: list[str]) -> None:
    runs = neighbours(CLUSTER, chosen)

    assert [name for run in runs for name in run] == [name for name in NAMES if name in chosen]
    positions = [[NAMES.index(name) for name in run] for run in runs]
    assert all(run == list(range(run[0], run[-1] + 1)) for run in positions)
    # Two runs that touch would be one.
    assert all(after[0] > before[-1] + 1 for before, after in itertools.pairwise(positions))


@given(st.lists(st.sampled_from(NAMES), max_size=5), days, days)
def test_a_plan_covers_what_was_named_and_refuses_a_range_that_runs_backwards(
    chosen: list[str], first: date, last: date
) -> None:
    if first > last:
        with pytest.raises(ConfigurationError, match="runs backwards"):
            plan_rectangles(FLEET, [PROCESS], chosen, first, last)
        return
    planned = Counter(
        item for rectangle in plan_rectangles(FLEET, [PROCESS], chosen, first, last) for item in rectangle.slices
    )
    assert planned == Counter({Slice(name, day): 1 for name in chosen or NAMES for day in days_between(first, last)})


@given(st.integers(1, 10_000))
def test_days_before_the_first_day_are_refused(before: int) -> None:
    with pytest.raises(ConfigurationError, match="the first day of the fleet file"):
        plan_rectangles(FLEET, [PROCESS], [], FIRST_DAY - timedelta(days=before), FIRST_DAY)


@given(st.integers(1, 10_000))
def test_days_to_come_are_refused(after: int) -> None:
    today = datetime.now(UTC).date()
    with pytest.raises(ConfigurationError, match="later days have no partition yet"):
        # A test that runs at midnight would ask for the new day.
        plan_rectangles(FLEET, [PROCESS], [], FIRST_DAY, today + timedelta(days=after + 1))
    assert plan_rectangles(FLEET, [PROCESS], [], today, today)


@given(
    st.sets(st.tuples(st.integers(0, 7), st.integers(0, 20)), min_size=1, max_size=25),
    st.sets(st.tuples(st.integers(0, 7), st.integers(0, 20)), max_size=40),
    st.integers(1, 4),
    st.integers(0, 100_000),
)
def test_rectangles_cover_what_is_wanted_avoid_what_is_not_and_are_few_where_that_is_cheap(
    wanted_places: set[tuple[int, int]], avoid_places: set[tuple[int, int]], most: int, rows: int
) -> None:
    names = [f"customer-{number}" for number in range(8)]
    cluster = CLUSTER.model_copy(update={"customers": {name: Customer() for name in names}})
    first = date(2026, 1, 1)

    def slices(places: set[tuple[int, int]]) -> set[Slice]:
        return {Slice(names[number], first + timedelta(days=offset)) for number, offset in places}

    wanted, avoid = slices(wanted_places), slices(avoid_places - wanted_places)
    found = cover(replace(DATASET, cluster=cluster), wanted, avoid, most, lambda item: rows)
    covered = [item for rectangle in found for item in rectangle.slices]
    assert set(covered) >= wanted
    assert not avoid & set(covered)
    assert [rectangle.first_day for rectangle in found] == sorted(rectangle.first_day for rectangle in found)
    if not avoid and rows == 0 and len(wanted) > 1:
        # 8 x 21 empty slices are worth two starts of a run at the most.
        assert len(found) <= max(most, 3)
    if rows > 60_000 or most >= len(wanted):
        # Too dear, or not needed: nothing is taken along but what lies within others' rectangles.
        assert len(set(covered)) <= len(wanted) + 5 * len(found)


def test_a_day_of_every_customer_and_all_days_of_one_are_a_run_each() -> None:
    day = date(2026, 1, 5)
    everyone = {Slice(name, day) for name in NAMES}
    [found] = cover(DATASET, everyone, set(), 1)
    assert set(found.slices) == everyone
    [found] = cover(DATASET, {Slice(NAMES[1], day + timedelta(days=offset)) for offset in range(9)}, set(), 1)
    assert (found.customers, found.first_day, found.last_day) == ((NAMES[1],), day, day + timedelta(days=8))
