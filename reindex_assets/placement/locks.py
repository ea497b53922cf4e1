"""Locks on a layout: advisory locks of Postgres, shared by all processes of this project on all machines.

What lives here: the locks. What does not: the layout (placement/layout.py), and the locks of slices (postgres/session.py).

A writer of rows holds a shared lock while it reads the layout and writes (`writing`). A reshard writes its records first, and then waits
once for all writers that may have read the layout before (`wait_for_writers`). Later writers see the new records.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from reindex_assets.errors import ReindexError, SliceBusyError
from reindex_assets.postgres.lock_holders import lock_holders
from reindex_assets.postgres.session import SourceSession, lock_number

_log = logging.getLogger(__name__)


@contextmanager
def writing(session: SourceSession, cluster_name: str) -> Iterator[None]:
    """Holds the writers' shared lock.

    Raises:
        SliceBusyError: a reshard is waiting for the writers to finish.
    """
    with _held(session, "pg_try_advisory_lock_shared", "pg_advisory_unlock_shared", f"writers/{cluster_name}") as held:
        if not held:
            raise SliceBusyError(
                f"cluster {cluster_name}: a reshard is waiting for the runs that write there: run this again after the reshard"
            )
        yield


def wait_for_writers(session: SourceSession, cluster_name: str) -> None:
    """Waits for every process that holds the writers' lock now; logs which.

    Raises:
        ReindexError: it takes longer than `statement_timeout_seconds`.
    """
    number = lock_number(f"writers/{cluster_name}")
    # It waits in a queue, where later writers see it; but silently.
    if holders := lock_holders(session.rows, [number]):
        _log.warning("cluster %s: waiting for those that write there: %s", cluster_name, ", ".join(holders))
    session.rows("SELECT pg_advisory_lock($1::bigint)::text AS done", (str(number),))
    session.rows("SELECT pg_advisory_unlock($1::bigint) AS done", (str(number),))


@contextmanager
def changing_layout(session: SourceSession, cluster_name: str) -> Iterator[None]:
    """Holds the layout's exclusive lock, for reading the records and then writing them.

    Raises:
        SliceBusyError: another process holds it.
    """
    with _held(session, "pg_try_advisory_lock", "pg_advisory_unlock", f"layout/{cluster_name}") as held:
        if not held:
            raise SliceBusyError(f"cluster {cluster_name}: another process is writing the layout: run this again")
        yield


@contextmanager
def _held(session: SourceSession, take: str, leave: str, name: str) -> Iterator[bool]:
    number = str(lock_number(name))
    [row] = session.rows(f"SELECT {take}($1::bigint) AS held", (number,))
    try:
        yield bool(row["held"])
    finally:
        if row["held"]:
            # When the connection is gone, so is the lock.
            with suppress(ReindexError):
                session.rows(f"SELECT {leave}($1::bigint) AS released", (number,))
