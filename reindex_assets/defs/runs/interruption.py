"""Ctrl-C while a run works in a command's process: the first has it end after the statements under way, the second ends it at once.

What lives here: what is said meanwhile. What does not: ending the run (defs/assets/background.py, defs/runs/launch.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from reindex_assets.under_way import asked_engines

_REMIND_SECONDS = 10.0


class Interruption:
    """Tells the operator what an interrupted run still waits for.

    Attributes:
        asked: set once the run is to end.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.asked = threading.Event()
        self._say = say
        self._said_at = 0.0

    def begin(self) -> None:
        """The first Ctrl-C."""
        self.asked.set()
        self._tell("Interrupted. The run ends after the statements under way")

    def remind(self) -> None:
        """Says what the run still waits for, every few seconds."""
        if time.monotonic() - self._said_at >= _REMIND_SECONDS:
            self._tell("Still waiting")

    def _tell(self, beginning: str) -> None:
        self._said_at = time.monotonic()
        waits = ", ".join(f"{engine} for {seconds:.0f} s" for engine, seconds in asked_engines().items())
        self._say(f"{beginning}{f': it has been waiting for {waits}' if waits else ''}. Ctrl-C again ends it at once.")
