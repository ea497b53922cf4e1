"""Days without a single scorecard between days with many: nobody works like that, so something was lost, perhaps already in Postgres.

What lives here: what counts as a gap, and the counts it needs. What does not: the check (defs/checks/rules.py), and the report of a range
(comparison/verification.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.model import Slice
from reindex_assets.postgres.extract import count_scorecards

#: So many scorecards on the days around make an empty day suspicious.
MANY = 20
#: Days on either side in which those days have to be.
_REACH = 3
_WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Gap:
    """An empty day, with the nearest days that have many scorecards."""

    before: date
    before_rows: int
    after: date
    after_rows: int


def gap(counts: Mapping[date, int], day: date) -> Gap | None:
    """Whether `day` is a gap, by the counts of the days around it; days that are not in `counts` are not known.

    A day that is empty every week (a Sunday) is none: a week before or after it lies such a day too.

    >>> counts = {date(2026, 3, number): 40 for number in range(1, 20)} | {date(2026, 3, 10): 0}
    >>> gap(counts, date(2026, 3, 10)) is not None, gap(counts | {date(2026, 3, 3): 0}, date(2026, 3, 10)) is not None
    (True, False)
    """
    found = empty_between(counts, day, busy=MANY, reach=_REACH)
    if found is None or any(
        other in counts and empty_between(counts, other, busy=MANY, reach=_REACH)
        for other in (day - _WEEK, day + _WEEK)
    ):
        return None
    return found


def empty_between(counts: Mapping[date, int], day: date, *, busy: int, reach: int) -> Gap | None:
    """Whether `day` is empty between two days, each at most `reach` days away, that have `busy` rows or more."""
    if counts.get(day, 0):
        return None
    steps = [timedelta(days=distance) for distance in range(1, reach + 1)]
    before = next((day - step for step in steps if counts.get(day - step, 0) >= busy), None)
    after = next((day + step for step in steps if counts.get(day + step, 0) >= busy), None)
    return None if before is None or after is None else Gap(before, counts[before], after, counts[after])


def find_gaps(comparison: Comparison, parities: Iterable[SliceParity]) -> dict[Slice, Gap]:
    """The gaps among the slices that ClickHouse shows as empty, by the days around them in Postgres."""
    empty = [parity.slice for parity in parities if parity.scorecards.clickhouse_rows == 0]
    if not empty:
        return {}
    days = {item.day for item in empty}
    # A week to either side, and what is around that day.
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
    found = {}
    for item in empty:
        counts = {
            other.day: counted.get(other, 0)
            for other in around
            if other.customer == item.customer and other.day <= today
        }
        # What ClickHouse shows is empty, whatever Postgres has.
        one = gap({**counts, item.day: 0}, item.day)
        if one is not None:
            found[item] = one
    return found
