"""The engines of a cluster as a run holds them: one session with Postgres, all shards, and another try after a passing fault.

What lives here: what is let go of between two tries of a step, for everything that writes slices. What does not: which faults pass, how
often a step is tried and with what pauses (retry.py), and the connections (postgres/session.py, clickhouse/shards.py).
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.config.cluster import Cluster
from reindex_assets.postgres.session import SourceSession
from reindex_assets.retry import STEP

T = TypeVar("T")


class Engines:
    """Use as a context: it closes everything.

    Args:
        comment: of every statement on a shard.
        attempts: tries of a step.
        on_retry: called with a sentence before each further try.
        with_retiring: also the shards that are being emptied.

    Attributes:
        shards: of the cluster; connected at their first use.
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
        self.shards = ShardSet(cluster.clickhouse, comment, with_retiring)
        self._cluster = cluster
        self._attempts = attempts
        self._on_retry = on_retry
        self._session: SourceSession | None = None

    def __enter__(self) -> Engines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close_session()
        self.shards.close()

    @property
    def source(self) -> SourceSession:
        """The session with Postgres: begun at its first use, and anew after a failed try.

        Raises:
            SourceUnreachableError: Postgres can't be reached.
        """
        if self._session is None:
            self._session = SourceSession(self._cluster.postgres)
        return self._session

    def retrying(self, what: str, call: Callable[[], T], attempts: int | None = None) -> T:
        """Calls until it succeeds, fails with an error that does not pass by itself, or has been tried often enough.

        Args:
            what: is tried, for the operator.
            attempts: instead of those of the run.
        """

        def before_again(failed: int, error: BaseException | None) -> None:
            self._on_retry(f"{what}: try {failed} failed, trying again: {error}")
            self.let_go()

        return STEP.call(call, attempts or self._attempts, before_again)

    def let_go(self) -> None:
        """Ends the session, and leaves replicas that don't answer: what was being done is undone, and the next try does all of it again."""
        self._close_session()
        self.shards.fail_over()

    def _close_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
