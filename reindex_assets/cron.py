"""When a schedule runs: the rules for a cron line and a time zone, checked before Dagster sees them.

What lives here: what is accepted. What does not: schedules (schedules.py).
"""

from __future__ import annotations

import re
import zoneinfo

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
#: Name, smallest and largest number, and names of numbers from the smallest on.
_FIELDS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("minute", 0, 59, []),
    ("hour", 0, 23, []),
    ("day of the month", 1, 31, []),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _WEEKDAYS),
)
_ITEM = re.compile(r"(?P<first>\*|\w+)(-(?P<last>\w+))?(/(?P<step>\d{1,3}))?")


def checked_cron(value: str) -> str:
    """A cron line of five fields: numbers, names, ranges, lists and steps.

    Raises:
        ValueError: it has another shape; the message names the field.

    >>> checked_cron("15 1,13 * * mon-fri"), checked_cron("*/10 0-5/2 1 jan *")
    ('15 1,13 * * mon-fri', '*/10 0-5/2 1 jan *')
    >>> checked_cron("61 1 * * *")
    Traceback (most recent call last):
    ValueError: not a cron line: its minute has to be *, a number from 0 to 59, or a range, list or step of these
    """
    fields = value.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"not a cron line: write {len(_FIELDS)} fields, {', '.join(field[0] for field in _FIELDS)}")
    chosen = []
    for text, (name, low, high, names) in zip(fields, _FIELDS, strict=True):
        items = [_numbers(item, low, high, names) for item in text.lower().split(",")]
        if not all(items):
            raise ValueError(
                f"not a cron line: its {name} has to be *, a number from {low} to {high}, or a range, list or step of these"
            )
        chosen.append({number for item in items for number in item})
    _, _, days, months, _ = chosen
    if min(days) > max(_LONGEST[month - 1] for month in months):
        raise ValueError("not a cron line: there is no such day in these months")
    return value


_LONGEST = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _numbers(text: str, low: int, high: int, names: list[str]) -> range:
    """What an item of a field stands for; an empty range where it is none."""
    match = _ITEM.fullmatch(text)
    if match is None or (match["first"] == "*" and match["last"]):
        return range(0)
    first = low if match["first"] == "*" else _number(match["first"], low, names)
    last = high if match["first"] == "*" or (match["step"] and not match["last"]) else first
    last = _number(match["last"], low, names) if match["last"] else last
    step = int(match["step"] or 1)
    return range(first, last + 1, step) if step and low <= first <= last <= high else range(0)


def _number(word: str, low: int, names: list[str]) -> int:
    if word in names:
        return names.index(word) + low
    return int(word) if word.isascii() and word.isdigit() else -1


def checked_timezone(value: str) -> str:
    """The name of a time zone, as "Europe/Berlin".

    Raises:
        ValueError: there is none of that name.
    """
    if value not in zoneinfo.available_timezones():
        raise ValueError("not the name of a time zone: write one of the IANA database, as UTC or America/New_York")
    return value
