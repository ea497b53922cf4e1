"""Finds days without scorecards between busy days: a sign that rows were lost, perhaps already before Postgres.

What lives here: the definition of a gap, and the counts it needs. What does not: the check (defs/checks/rules.py), and the report of a
range (comparison/verification.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.model import Slice
from reindex_assets.postgres.extract import count_scorecards

#: An empty day is suspicious between days with this many scorecards.
MANY = 20
#: How many days away those days may be.
_REACH = 3
_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Gap:
    """The nearest busy days around an empty day."""

    before: date
    before_rows: int
    after: date
    after_rows: int


def gap(counts: Mapping[date, int], day: date) -> Gap | None:
    """The gap at `day`, if it is one, by the counts of the days around it; days missing from `counts` are unknown.

    A day that is empty every week, such as a Sunday, is no gap: the same day a week before or after is empty too.

    >>> counts = {date(2026, 3, number): 40 for number in range(1, 20)} | {date(2026, 3, 10): 0}
    >>> gap(counts, date(2026, 3, 10)) is not None, gap(counts | {date(2026, 3, 3): 0}, date(2026, 3, 10)) is not None
    (True, False)
    """
    weekly = (near for near in (day - _WEEK, day + _WEEK) if near in counts)
    if any(empty_between(counts, near, busy=MANY, reach=_REACH) for near in weekly):
        return None
    return empty_between(counts, day, busy=MANY, reach=_REACH)


def empty_between(counts: Mapping[date, int], day: date, *, busy: int, reach: int) -> Gap | None:
    """The gap at `day`, if it is empty between two days at most `reach` days away with `busy` rows or more."""
    if counts.get(day, 0):
        return None
    steps = [timedelta(days=distance) for distance in range(1, reach + 1)]
    before = next((day - step for step in steps if counts.get(day - step, 0) >= busy), None)
    after = next((day + step for step in steps if counts.get(day + step, 0) >= busy), None)
    return None if before is None or after is None else Gap(before, counts[before], after, counts[after])


def find_gaps(comparison: Comparison, parities: Iterable[SliceParity]) -> dict[Slice, Gap]:
    """The gaps among the slices that are empty in ClickHouse, by the days around them in Postgres."""
    empty = [parity.slice for parity in parities if parity.scorecards.clickhouse_rows == 0]
    if not empty:
        return {}
    days = {item.day for item in empty}
    # A week to either side, and the days around that.
    margin = _WEEK + timedelta(days=_REACH)
    first = max(comparison.dataset.first_day, min(days) - margin)
    span = (max(days) + margin - first).days + 1
    around = [
        Slice(customer, first + timedelta(days=offset))
        for customer in {item.customer for item in empty}
        for offset in range(span)
    ]
    counted: dict[Slice, int] = {}
    for group in comparison.groups(around, {}, 1, len(around)):
        counted |= count_scorecards(comparison.session, group)
    today = datetime.now(UTC).date()
    gaps = {}
    for item in empty:
        counts = {
            near.day: counted.get(near, 0) for near in around if near.customer == item.customer and near.day <= today
        }
        # Empty in ClickHouse, whatever Postgres has.
        day_gap = gap({**counts, item.day: 0}, item.day)
        if day_gap is not None:
            gaps[item] = day_gap
    return gaps
