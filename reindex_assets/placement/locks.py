"""Who may change a layout, and when: advisory locks of Postgres that all processes of this project on all machines share.

What lives here: the locks. What does not: the layout (placement/layout.py), and the locks of slices (postgres/session.py).

Whoever writes rows shares the lock of the writers while it asks the layout and writes (`writing`). A reshard writes its records first, and
then waits once until nobody is left who may have asked before (`wait_for_writers`): whoever asks later finds them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from reindex_assets.errors import ReindexError, SliceBusyError
from reindex_assets.postgres.session import SourceSession


@contextmanager
def writing(session: SourceSession, cluster_name: str) -> Iterator[None]:
    """Holds the lock of the writers together with the others.

    Raises:
        SliceBusyError: a reshard is waiting for them to end.
    """
    with _held(session, "pg_try_advisory_lock_shared", "pg_advisory_unlock_shared", f"writers/{cluster_name}") as held:
        if not held:
            raise SliceBusyError(
                f"cluster {cluster_name}: a reshard begins as soon as those who write there have ended: run this again after it"
            )
        yield


def wait_for_writers(session: SourceSession, cluster_name: str) -> None:
    """Waits until nobody holds the lock of the writers who does now.

    Raises:
        ReindexError: it took longer than `statement_timeout_seconds`.
    """
    number = _number(f"writers/{cluster_name}")
    session.rows("SELECT pg_advisory_lock($1::bigint)::text AS done", (number,))
    session.rows("SELECT pg_advisory_unlock($1::bigint) AS done", (number,))


@contextmanager
def changing_layout(session: SourceSession, cluster_name: str) -> Iterator[None]:
    """Holds the layout alone: while it is read in order to be written.

    Raises:
        SliceBusyError: another process does.
    """
    with _held(session, "pg_try_advisory_lock", "pg_advisory_unlock", f"layout/{cluster_name}") as held:
        if not held:
            raise SliceBusyError(f"cluster {cluster_name}: another process is writing the layout: run this again")
        yield


@contextmanager
def _held(session: SourceSession, take: str, leave: str, name: str) -> Iterator[bool]:
    number = _number(name)
    [row] = session.rows(f"SELECT {take}($1::bigint) AS held", (number,))
    try:
        yield bool(row["held"])
    finally:
        if row["held"]:
            # When the connection is gone the lock is gone with it.
            with suppress(ReindexError):
                session.rows(f"SELECT {leave}($1::bigint) AS released", (number,))


def _number(name: str) -> str:
    digest = hashlib.blake2b(f"reindex_assets/{name}".encode(), digest_size=8).digest()
    return str(int.from_bytes(digest, "big", signed=True))
