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
    ("day of the week", 0, 6, _WEEKDAYS),
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
    for text, (name, low, high, names) in zip(fields, _FIELDS, strict=True):
        if not all(_is_item(item, low, high, names) for item in text.lower().split(",")):
            raise ValueError(
                f"not a cron line: its {name} has to be *, a number from {low} to {high}, or a range, list or step of these"
            )
    return value


def _is_item(text: str, low: int, high: int, names: list[str]) -> bool:
    match = _ITEM.fullmatch(text)
    if match is None or (match["first"] == "*" and match["last"]) or match["step"] in ("0", "00", "000"):
        return False
    numbers = [
        names.index(word) + low if word in names else int(word) if word.isascii() and word.isdigit() else -1
        for word in (match["first"], match["last"])
        if word is not None and word != "*"
    ]
    return all(low <= number <= high for number in numbers) and numbers == sorted(numbers)


def checked_timezone(value: str) -> str:
    """The name of a time zone, as "Europe/Berlin".

    Raises:
        ValueError: there is none of that name.
    """
    if value not in zoneinfo.available_timezones():
        raise ValueError("not the name of a time zone: write one of the IANA database, as UTC or America/New_York")
    return value
