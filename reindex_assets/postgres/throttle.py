"""How fast rows may be taken from somebody who must be spared: a limit in rows per second.

What lives here: the reckoning, and the sleeping. What does not: reading rows (postgres/session.py).
"""

from __future__ import annotations

import math
import time


class RowRate:
    """Keeps one reader to a number of rows a second, on average over any time.

    A token bucket that saves nothing: time in which nothing was read earns no burst later. It may be overdrawn by one batch, which is
    then waited for. Time that the reader spends on a batch counts.
    """

    def __init__(self, rows_per_second: float | None) -> None:
        """
        Args:
            rows_per_second: None sets no limit.
        """
        self._rows_per_second = math.inf if rows_per_second is None else rows_per_second
        self._paid_at = 0.0

    def spend(self, rows: int) -> None:
        """Notes rows that have just been read."""
        self._paid_at = max(self._paid_at, time.monotonic()) + rows / self._rows_per_second

    def wait(self) -> None:
        """Sleeps until all rows spent so far are paid for."""
        time.sleep(max(0.0, self._paid_at - time.monotonic()))
