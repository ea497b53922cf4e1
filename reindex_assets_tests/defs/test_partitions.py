"""Partition keys, the ranges of runs, and the days of a schedule.

What lives here: properties of the keys alone. What does not: Dagster runs (test_runs.py).
"""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reindex_assets.defs.keys.partitions import ended_days, range_tags, slices_of_run
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import Slice, days_between
from reindex_assets_tests.support.generated import (
    CLUSTER,
    NAMES,
    days,
    slices,
)


@given(st.text(min_size=1), st.dates())
def test_a_slice_comes_back_from_its_partition_key(customer: str, day: date) -> None:
    item = Slice(customer, day)
    assert Slice.of(item.partition_key) == item


@given(st.integers(0, 6), st.integers(0, 6), days, st.integers(0, 9), st.data())
def test_a_run_that_was_given_less_or_other_than_its_range_is_refused(
    one: int, other: int, first: date, length: int, data: st.DataObject
) -> None:
    customers = NAMES[min(one, other) : max(one, other) + 1]
    span = days_between(first, first + timedelta(days=length))
    tags = range_tags(customers, span[0], span[-1])
    keys = [Slice(customer, day).partition_key for customer in customers for day in span]

    assert {item.partition_key for item in slices_of_run(CLUSTER, keys, tags)} == set(keys)
    subset = data.draw(st.sets(st.sampled_from(keys), max_size=len(keys) - 1))
    outside = Slice("customer-a", span[-1] + timedelta(days=1)).partition_key
    for wrong in (sorted(subset), [*keys, outside], [*keys[1:], outside]):
        with pytest.raises(ConfigurationError, match="nothing was done"):
            slices_of_run(CLUSTER, wrong, tags)


@given(st.lists(slices, min_size=1, max_size=5))
def test_a_run_without_a_range_does_the_partitions_that_it_was_given(given_slices: list[Slice]) -> None:
    assert slices_of_run(CLUSTER, [item.partition_key for item in given_slices], {}) == given_slices


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(1, 366), st.dates(date(2000, 1, 1), date(2100, 1, 1)))
def test_the_days_that_have_ended_are_the_last_ones_before_today(today: date, look_back: int, first_day: date) -> None:
    found = ended_days(today, look_back, first_day)
    expected = [
        day for back in range(look_back, 0, -1) if (day := today - timedelta(days=back)) >= first_day
    ]  # fmt: skip
    assert found == ((expected[0], expected[-1]) if expected else None)
