"""Which engines this process waits for: so that a command that was interrupted can say what keeps it.

What lives here: noting that. What does not: the requests (clickhouse/shards.py, postgres/session.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

#: The requests that have not been answered: whose they are, and when each began (monotonic seconds).
_REQUESTS: dict[object, tuple[str, float]] = {}


@contextmanager
def asking(engine: str) -> Iterator[None]:
    """While a request to an engine is under way."""
    request = object()
    _REQUESTS[request] = engine, time.monotonic()
    try:
        yield
    finally:
        del _REQUESTS[request]


def asked_engines() -> dict[str, float]:
    """The engines that have not answered yet, each with the seconds since the oldest request."""
    now = time.monotonic()
    waits: dict[str, float] = {}
    for engine, began in sorted(_REQUESTS.copy().values()):
        waits[engine] = max(waits.get(engine, 0.0), now - began)
    return waits
