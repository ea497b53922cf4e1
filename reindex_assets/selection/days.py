"""Ranges of days: checking, joining, cutting and printing them.

What lives here: arithmetic on days. What does not: choosing the days (defs/keys/partitions.py, backfill/plan.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ConfigurationError

A_DAY = timedelta(days=1)


def check_days(fleet: Fleet, first_day: date, last_day: date, today: date) -> None:
    """Checks that every day of a range has a partition.

    Raises:
        ConfigurationError: the range runs backwards, starts before the fleet's first day, or ends after `today`.
    """
    if first_day > last_day:
        raise ConfigurationError(f"the range runs backwards: --from {first_day} lies after --to {last_day}")
    if first_day < fleet.first_day:
        raise ConfigurationError(
            f"--from {first_day} lies before {fleet.first_day}, the first day of the fleet file: "
            "earlier days have no partition; set first_day there if they should"
        )
    if last_day > today:
        raise ConfigurationError(f"--to {last_day} lies after {today}, today in UTC: later days have no partition yet")


def day_ranges(days: Iterable[date]) -> list[tuple[date, date]]:
    """Groups days, in any order, into ranges of consecutive days: the first and last day of each.

    >>> [f"{a:%d}-{b:%d}" for a, b in day_ranges([date(2026, 1, 9), date(2026, 1, 2), date(2026, 1, 3)])]
    ['02-03', '09-09']
    """
    ranges: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if ranges and day - ranges[-1][1] == A_DAY:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def range_text(first_day: date, last_day: date) -> str:
    """A range as text.

    >>> range_text(date(2026, 1, 2), date(2026, 1, 2)), range_text(date(2026, 1, 2), date(2026, 1, 3))
    ('2026-01-02', '2026-01-02 to 2026-01-03')
    """
    return str(first_day) if first_day == last_day else f"{first_day} to {last_day}"


def cut_range(first_day: date, last_day: date, days: int) -> list[tuple[date, date]]:
    """Cuts a range into windows of `days` days: the first and last day of each. The last window may be shorter.

    >>> [range_text(*window) for window in cut_range(date(2026, 1, 1), date(2026, 1, 12), 10)]
    ['2026-01-01 to 2026-01-10', '2026-01-11 to 2026-01-12']
    """
    starts = range(0, (last_day - first_day).days + 1, days)
    return [(first_day + start * A_DAY, min(last_day, first_day + (start + days - 1) * A_DAY)) for start in starts]
