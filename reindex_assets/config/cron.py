"""Checks a schedule's cron line and time zone before Dagster sees them.

What lives here: what is accepted. What does not: the schedules (defs/automation/schedules.py).
"""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

_UNKNOWN_TO_DAGSTER = re.compile(r"lw|\dl", re.IGNORECASE)


def checked_cron(value: str) -> str:
    """Returns `value` if it is a cron line of five fields that matches some day.

    Raises:
        ValueError: it is not; the message names the field.

    >>> checked_cron("15 1,13 * * mon-fri"), checked_cron("*/10 0-5/2 1 jan *")
    ('15 1,13 * * mon-fri', '*/10 0-5/2 1 jan *')
    >>> checked_cron("61 1 * * *")
    Traceback (most recent call last):
    ValueError: not a cron line: bad minute
    """
    if len(value.split()) != 5:
        raise ValueError("not a cron line: write five fields, minute, hour, day of the month, month, day of the week")
    if _UNKNOWN_TO_DAGSTER.search(value):
        raise ValueError("not a cron line: Dagster supports L only as the last day of the month, not LW or 5L")
    try:
        # A line that matches no day (31 February) has no next time.
        next(CronSim(value, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ValueError(f"not a cron line: {str(error).lower()}") from None
    except StopIteration:
        raise ValueError("not a cron line: it matches no day") from None
    return value


def checked_timezone(value: str) -> str:
    """Returns `value` if it names a time zone, like "Europe/Berlin".

    Raises:
        ValueError: it does not.
    """
    if value not in zoneinfo.available_timezones():
        raise ValueError("not a time zone: write a name from the IANA database, like UTC or America/New_York")
    return value
