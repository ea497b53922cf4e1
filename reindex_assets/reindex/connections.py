"""A run's connections to a cluster: one Postgres session, all shards, and retries after transient faults.

What lives here: what is dropped between two tries of a step, for everything that writes slices. What does not: which faults are
transient, the number of tries and the pauses (retry.py), and the connections (postgres/session.py, clickhouse/shards.py).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.config.cluster import Cluster
from reindex_assets.postgres.session import SourceSession
from reindex_assets.retry import STEP

T = TypeVar("T")


class Engines(AbstractContextManager["Engines"]):
    """Use as a context: it closes everything.

    Args:
        comment: for every statement on a shard.
        attempts: how often a step is tried.
        on_retry: called with a sentence before each retry.
        with_retiring: include the shards that are being emptied.

    Attributes:
        shards: connected at their first use.
    """

    def __init__(
        self,
        cluster: Cluster,
        comment: str,
        attempts: int,
        on_retry: Callable[[str], None],
        *,
        with_retiring: bool = False,
    ) -> None:
        self.shards = ShardSet(cluster, comment, with_retiring)
        self._cluster = cluster
        self._attempts = attempts
        self._on_retry = on_retry
        self._session: SourceSession | None = None

    def __exit__(self, *error: object) -> None:
        self._close_session()
        self.shards.close()

    @property
    def source(self) -> SourceSession:
        """The Postgres session: opened at its first use, and reopened after a failed try.

        Raises:
            SourceUnreachableError: Postgres can't be reached.
        """
        if self._session is None:
            self._session = SourceSession(self._cluster.postgres)
        return self._session

    def retrying(self, what: str, call: Callable[[], T], attempts: int | None = None) -> T:
        """Repeats `call` until it succeeds, raises a permanent error, or runs out of attempts.

        Args:
            what: names the step for the operator.
            attempts: instead of the run's.
        """

        def before_again(failed: int, error: BaseException | None) -> None:
            self._on_retry(f"{what}: try {failed} failed, trying again: {error}")
            self.let_go()

        return STEP.call(call, attempts or self._attempts, before_again)

    def let_go(self) -> None:
        """Closes the session, which rolls its transaction back, and leaves replicas that don't answer: the next try starts afresh."""
        self._close_session()
        self.shards.fail_over()

    def _close_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
