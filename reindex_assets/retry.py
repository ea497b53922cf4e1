"""What is tried again, how often, and with what pauses: one policy for everything that starts or asks an engine.

What lives here: the policy, by class of error (errors.py). What does not: what is let go of before another try (reindex/connections.py),
waiting for something that is no fault (a standby that catches up), and repairs, which are runs of their own (drift/repair_policy.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from reindex_assets.errors import TransientError, UnconfirmedWriteError

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Pauses:
    """Pauses between tries: of random length, so that those who failed together don't come again together, below a limit that doubles.

    Attributes:
        first_seconds, longest_seconds: the limit at first, and in the end.
        shortest_share: no pause is shorter than this share of the limit.
    """

    first_seconds: float
    longest_seconds: float
    shortest_share: float = 0.0

    def limit(self, failed: int) -> float:
        """The longest that the pause after `failed` failed tries can be.

        >>> [STEP.pauses.limit(failed) for failed in (1, 2, 3, 4, 5, 1000)]
        [1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
        """
        return float(min(self.longest_seconds, self.first_seconds * 2 ** min(failed - 1, 60)))

    def after(self, failed: int) -> float:
        """Seconds to wait after `failed` failed tries."""
        return self.limit(failed) * random.uniform(self.shortest_share, 1.0)


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How often something is tried, the first time included, and the pauses between.

    Attributes:
        passing: the errors that may pass by themselves.
    """

    attempts: int
    pauses: Pauses
    passing: type[TransientError] = TransientError

    def call(
        self,
        work: Callable[[], T],
        attempts: int | None = None,
        before_again: Callable[[int, BaseException | None], None] = lambda failed, error: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> T:
        """Calls until it succeeds, fails with an error that does not pass by itself, or has been tried often enough.

        Args:
            attempts: instead of those of the policy.
            before_again: called before the pause, with the number of tries that have failed and the last one's error.
        """

        def before_sleep(state: RetryCallState) -> None:
            before_again(state.attempt_number, state.outcome.exception() if state.outcome else None)

        return Retrying(
            retry=retry_if_exception_type(self.passing),
            stop=stop_after_attempt(attempts or self.attempts),
            wait=lambda state: self.pauses.after(state.attempt_number),
            before_sleep=before_sleep,
            sleep=sleep,
            reraise=True,
        )(work)


#: Connecting to Postgres.
CONNECTION = Retries(attempts=3, pauses=Pauses(first_seconds=0.5, longest_seconds=5))
#: One question to a shard: reading twice does no harm.
QUESTION = Retries(attempts=3, pauses=Pauses(first_seconds=0.3, longest_seconds=3))
#: Looking for rows that a shard has acknowledged: a replica behind the same address may take seconds to show them.
EVIDENCE = Retries(
    attempts=8,
    pauses=Pauses(first_seconds=0.2, longest_seconds=8, shortest_share=0.7),
    passing=UnconfirmedWriteError,
)
#: Looking whether a deletion has ended: one of a large table takes minutes, and begins when those before it have ended.
LATE_DELETE = Retries(
    attempts=45,
    pauses=Pauses(first_seconds=0.1, longest_seconds=8, shortest_share=0.7),
    passing=UnconfirmedWriteError,
)
#: Starting a server of the local stack: another try takes another port.
SERVER = Retries(attempts=3, pauses=Pauses(first_seconds=0.1, longest_seconds=1))
#: A step of a run, from its beginning: the option `attempts` is of these.
STEP = Retries(attempts=4, pauses=Pauses(first_seconds=1, longest_seconds=15))
#: Asking for one of the connections that the fleet file grants, for as long as it says.
CONNECTION_SLOT = Pauses(first_seconds=0.1, longest_seconds=5, shortest_share=0.5)
