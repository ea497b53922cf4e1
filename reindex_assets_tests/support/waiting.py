"""Waiting for a condition, instead of sleeping for as long as it takes on some machine.

What lives here: the one loop, and its patience. What does not: conditions.
"""

from __future__ import annotations

import time
from collections.abc import Callable

#: Far beyond what anything here takes on a busy machine: only what hangs takes as long.
PATIENCE_SECONDS = 450.0


def until(
    done: Callable[[], object],
    explain: Callable[[], str] = lambda: "",
    *,
    seconds: float = PATIENCE_SECONDS,
    pause: float = 0.05,
) -> None:
    """Returns once `done` is true; fails after so many seconds, with the end of what `explain` says then."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds:.0f} s: {explain()[-3000:]}"
        time.sleep(pause)
