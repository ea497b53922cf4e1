"""Trying again after a passing fault: which faults pass, how often, and with what pauses.

What lives here: the rule, for everything that writes slices. What does not: retries of single questions (clickhouse.py, source.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from reindex_assets.errors import ShardUnreachableError, SliceBusyError, SourceUnreachableError

T = TypeVar("T")

UNREACHABLE = (SourceUnreachableError, ShardUnreachableError)
_TRANSIENT = (*UNREACHABLE, SliceBusyError)


def retrying(
    what: str, call: Callable[[], T], attempts: int, on_retry: Callable[[str], None], let_go: Callable[[], None]
) -> T:
    """Calls until it succeeds, fails with an error that does not pass, or has been tried `attempts` times.

    Args:
        what: is tried, for the operator.
        on_retry: called with a sentence before each further try.
        let_go: ends the session with Postgres and leaves replicas of shards that don't answer: whatever was being done is undone, and the
            next try does everything again.
    """

    def before_sleep(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        on_retry(f"{what}: try {state.attempt_number} failed, trying again: {error}")
        let_go()

    return Retrying(
        retry=retry_if_exception_type(_TRANSIENT),
        stop=stop_after_attempt(attempts),
        wait=wait_random_exponential(multiplier=1, max=15),
        before_sleep=before_sleep,
        reraise=True,
    )(call)
