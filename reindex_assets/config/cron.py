"""When a schedule runs: the rules for a cron line and a time zone, checked before Dagster sees them.

What lives here: what is accepted. What does not: schedules (defs/automation/schedules.py).
"""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

_UNKNOWN_TO_DAGSTER = re.compile(r"lw|\dl", re.IGNORECASE)


def checked_cron(value: str) -> str:
    """A cron line of five fields, which some day comes true.

    Raises:
        ValueError: it is none; the message names the field.

    >>> checked_cron("15 1,13 * * mon-fri"), checked_cron("*/10 0-5/2 1 jan *")
    ('15 1,13 * * mon-fri', '*/10 0-5/2 1 jan *')
    >>> checked_cron("61 1 * * *")
    Traceback (most recent call last):
    ValueError: not a cron line: bad minute
    """
    if len(value.split()) != 5:
        raise ValueError("not a cron line: write five fields, minute, hour, day of the month, month, day of the week")
    if _UNKNOWN_TO_DAGSTER.search(value):
        raise ValueError("not a cron line: Dagster knows L as the last day of the month only, neither LW nor 5L")
    try:
        # One that never comes true (31 February) has no next time.
        next(CronSim(value, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ValueError(f"not a cron line: {str(error).lower()}") from None
    except StopIteration:
        raise ValueError("not a cron line: no day is ever like that") from None
    return value


def checked_timezone(value: str) -> str:
    """The name of a time zone, as "Europe/Berlin".

    Raises:
        ValueError: there is none of that name.
    """
    if value not in zoneinfo.available_timezones():
        raise ValueError("not the name of a time zone: write one of the IANA database, as UTC or America/New_York")
    return value
