"""A limit on the rows that a session reads per second, to spare Postgres.

What lives here: the arithmetic and the waiting. What does not: reading rows (postgres/session.py).
"""

from __future__ import annotations

import math
import time


class RowRate:
    """Limits one reader to a number of rows per second, on average.

    A token bucket without savings: an idle reader earns no burst. One batch may overdraw it, and `wait` then makes up for that. The time
    that the reader spends on a batch counts as waiting.
    """

    def __init__(self, rows_per_second: float | None) -> None:
        """
        Args:
            rows_per_second: None sets no limit.
        """
        self._rows_per_second = math.inf if rows_per_second is None else rows_per_second
        self._paid_at = 0.0

    def spend(self, rows: int) -> None:
        """Counts rows that have just been read."""
        self._paid_at = max(self._paid_at, time.monotonic()) + rows / self._rows_per_second

    def wait(self) -> None:
        """Sleeps until all rows spent so far are paid for."""
        time.sleep(max(0.0, self._paid_at - time.monotonic()))
