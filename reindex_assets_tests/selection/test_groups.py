"""Which slices make a group: within both limits, each slice once.

What lives here: hypothesis against the plainest independent computation. What does not: runs over such groups
(reindex/test_scattered_days.py).
"""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reindex_assets.errors import ConfigurationError
from reindex_assets.model import Slice, days_between
from reindex_assets.selection.groups import group_slices
from reindex_assets_tests.support.generated import (
    DATASET,
    FIRST_DAY,
    NAMES,
    days,
    slices,
)


@given(
    st.sets(slices, max_size=120),
    st.dictionaries(slices, st.integers(0, 50), max_size=120),
    st.integers(1, 200),
    st.integers(1, 40),
)
def test_groups_cover_exactly_the_slices_asked_for_within_both_limits(
    asked: set[Slice], rows: dict[Slice, int], max_rows: int, max_slices: int
) -> None:
    groups = group_slices(asked, DATASET, rows, max_rows, max_slices=max_slices)

    covered = Counter(item for group in groups for item in group.slices)
    assert set(covered) == asked
    assert set(covered.values()) <= {1}
    for group in groups:
        assert len(group.slices) <= max_slices
        assert sum(rows.get(item, 0) for item in group.slices) <= max_rows or len(group.slices) == 1
        assert group.floor_day == FIRST_DAY


@given(st.sets(st.sampled_from(NAMES), min_size=1), days, st.integers(0, 20))
def test_a_rectangle_without_limits_is_one_group(customers: set[str], first: date, length: int) -> None:
    span = days_between(first, first + timedelta(days=length))
    asked = [Slice(customer, day) for customer in customers for day in span]
    [group] = group_slices(asked, DATASET, {}, 1_000_000)
    assert (list(group.days), set(group.customer_names)) == (span, customers)


@given(st.sets(st.sampled_from(NAMES), min_size=1), st.sets(days, min_size=1, max_size=20))
def test_days_that_lie_apart_are_one_group_too(customers: set[str], chosen: set[date]) -> None:
    asked = [Slice(customer, day) for customer in customers for day in chosen]
    [group] = group_slices(asked, DATASET, {}, 1_000_000)
    assert (list(group.days), set(group.customer_names)) == (sorted(chosen), customers)
    covered = [day for first, last in group.spans for day in days_between(first, last)]
    assert covered == sorted(chosen)
    assert all(after > before + timedelta(days=1) for (_, before), (after, _) in itertools.pairwise(group.spans))


def test_a_group_has_no_more_runs_of_days_than_a_statement_should_name() -> None:
    asked = [Slice(NAMES[0], FIRST_DAY + timedelta(days=2 * number)) for number in range(45)]
    groups = group_slices(asked, DATASET, {}, 1_000_000)
    assert [len(group.spans) for group in groups] == [20, 20, 5]


def test_an_unknown_customer_in_a_group_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown customer 'nobody'.*customer-a"):
        group_slices([Slice("nobody", FIRST_DAY)], DATASET, {}, 1)
