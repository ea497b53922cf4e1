"""Gaps in days, by the counts around them."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from reindex_assets.comparison.gaps import gap


@given(st.dictionaries(st.integers(0, 27), st.integers(0, 60), max_size=28), st.integers(0, 27))
def test_a_gap_is_an_empty_day_between_days_with_many_that_is_not_empty_every_week(
    offsets: dict[int, int], offset: int
) -> None:
    first = date(2026, 3, 1)
    counts = {first + timedelta(days=number): count for number, count in offsets.items()}
    found = gap(counts, first + timedelta(days=offset))

    def is_hole(day: int) -> bool:
        around = [[offsets.get(day + sign * step, 0) >= 20 for step in (1, 2, 3)] for sign in (-1, 1)]
        return offsets.get(day, 0) == 0 and all(any(side) for side in around)

    weekly = any(other in offsets and is_hole(other) for other in (offset - 7, offset + 7))
    assert (found is not None) == (is_hole(offset) and not weekly)
