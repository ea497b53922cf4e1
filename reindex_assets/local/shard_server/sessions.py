"""The connection of a request: its session's, or one that no request uses, with the request's settings and database.

What lives here: opening and keeping connections. What does not: what runs on them (statements.py).

A request's settings and database hold for that request only, as in ClickHouse. A connection without a session is used again only by a
request that sets the same settings, and after a statement that leaves nothing on it: opening one and setting a hundred settings takes
longer than most statements.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from reindex_assets.local.shard_server.engine import DEFAULT_DATABASE, SETTINGS, Engine
from reindex_assets.local.shard_server.errors import ServerError
from reindex_assets.local.shard_server.quoting import quoted_name, quoted_text, set_statement, setting_name

_LONGEST_TIMEOUT_SECONDS = 3600.0
#: Beyond so many, those that wait are of requests that won't come again: with settings of their own.
_MOST_IDLE = 32
#: These change others.
_SETS_OTHERS = ("compatibility", "profile")


@dataclass
class Session:
    """A connection that outlives its request, for SET, USE and temporary tables."""

    connection: Any
    timeout_seconds: float
    lock: threading.Lock = field(default_factory=threading.Lock)
    used_at: float = 0.0
    # Unknown after a client's USE.
    database: str | None = DEFAULT_DATABASE
    applied: dict[str, str] = field(default_factory=dict)
    restore: dict[str, str | None] = field(default_factory=dict)
    # After a client's SET, a request's setting no longer goes back to the default.
    has_own_settings: bool = False

    def note_own_settings(self) -> None:
        """After a client's SET or USE: it may have replaced the settings of the last request."""
        self.has_own_settings = True
        self.database = None
        self.applied = dict.fromkeys(self.applied, "")


class Sessions:
    """All sessions of the shard."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sessions: dict[str, Session] = {}
        #: By the names of their settings: no setting has to go back to its default, which is not what a profile says.
        self._idle: dict[Hashable, list[Session]] = {}
        self._guard = threading.Lock()

    @contextmanager
    def connection(
        self,
        session_id: str,
        timeout_seconds: float,
        must_exist: bool,
        database: str,
        settings: Mapping[str, str],
        leaves_nothing: bool,
    ) -> Iterator[tuple[Any, Session | None]]:
        """The connection for one request.

        Args:
            leaves_nothing: whether the connection is as it was after the request's statement.

        Raises:
            ServerError: the session is busy (373), or it must exist and does not (372).
        """
        if not session_id:
            yield from self._without_session(database, settings, leaves_nothing)
            return
        session = self._taken(session_id, timeout_seconds, must_exist)
        try:
            before = self._enter_database(session, database)
            try:
                _apply(session, settings)
                yield session.connection, session
            finally:
                if before:
                    session.connection.query(f"USE {quoted_name(before)}")
        finally:
            session.used_at = time.monotonic()
            session.lock.release()

    def _without_session(
        self, database: str, settings: Mapping[str, str], leaves_nothing: bool
    ) -> Iterator[tuple[Any, Session | None]]:
        alike = frozenset(settings), *map(settings.get, _SETS_OTHERS)
        with self._guard:
            idle = self._idle.get(alike)
            session = idle.pop() if idle else None
        if session is None:
            session = Session(self._engine.connect(settings), 0, applied=dict(settings))
        is_as_it_was = False
        try:
            before = self._enter_database(session, database)
            fresh = {name: value for name, value in settings.items() if session.applied[name] != value}
            if fresh:
                session.connection.query(set_statement(fresh))
                session.applied.update(fresh)
            yield session.connection, None
            if before:
                session.connection.query(f"USE {quoted_name(before)}")
            is_as_it_was = leaves_nothing
        finally:
            if is_as_it_was:
                self._keep(alike, session)
            else:
                session.connection.close()

    def _keep(self, alike: Hashable, session: Session) -> None:
        with self._guard:
            if sum(map(len, self._idle.values())) >= _MOST_IDLE:
                self._close_idle()
            self._idle.setdefault(alike, []).append(session)

    def _close_idle(self) -> None:
        for session in chain.from_iterable(self._idle.values()):
            session.connection.close()
        self._idle.clear()

    def _taken(self, session_id: str, timeout_seconds: float, must_exist: bool) -> Session:
        with self._guard:
            session = self._sessions.get(session_id)
            if session is None:
                if must_exist:
                    raise ServerError(372, "SESSION_NOT_FOUND", f"Session {session_id} not found")
                session = Session(self._engine.connect(), timeout_seconds)
                self._sessions[session_id] = session
            if not session.lock.acquire(blocking=False):
                raise ServerError(373, "SESSION_IS_LOCKED", f"Session {session_id} is locked by a concurrent client")
            session.timeout_seconds = min(timeout_seconds, _LONGEST_TIMEOUT_SECONDS)
            return session

    @staticmethod
    def _enter_database(session: Session, database: str) -> str:
        """Switches the session's database for this request; returns the one to go back to, or an empty string."""
        if not database:
            return ""
        if session.database is None:
            session.database = session.connection.query("SELECT currentDatabase()", "TSVRaw").bytes().decode()[:-1]
        if session.database == database:
            return ""
        session.connection.query(f"USE {quoted_name(database)}")
        return session.database

    def drop_idle(self) -> None:
        """Closes the sessions that were not used within their timeout."""
        now = time.monotonic()
        with self._guard:
            for session_id, session in list(self._sessions.items()):
                if session.lock.acquire(blocking=False):
                    if now - session.used_at > session.timeout_seconds:
                        del self._sessions[session_id]
                        session.connection.close()
                    session.lock.release()

    def close(self) -> None:
        """Closes every connection that no request uses."""
        with self._guard:
            self._close_idle()
            for session in self._sessions.values():
                if session.lock.acquire(blocking=False):
                    session.connection.close()
            self._sessions.clear()


def _apply(session: Session, settings: Mapping[str, str]) -> None:
    """Changes a session's settings from those of its last request to those of this one."""
    for name in [name for name in session.applied if name not in settings]:
        previous = session.restore.pop(name)
        value = SETTINGS.get(name, "DEFAULT") if previous is None else quoted_text(previous)
        session.connection.query(f"SET {name} = {value}")
        del session.applied[name]
    fresh = {name: value for name, value in settings.items() if session.applied.get(name) != value}
    for name in fresh:
        if name not in session.restore:
            session.restore[name] = _own_value(session, setting_name(name)) if session.has_own_settings else None
    # Recorded before it is done: the next request must undo a SET that fails half-way too.
    session.applied.update(fresh)
    if fresh:
        session.connection.query(set_statement(fresh))


def _own_value(session: Session, name: str) -> str | None:
    """The value that the session's client has SET itself, or None."""
    row = session.connection.query(
        f"SELECT value FROM system.settings WHERE name = {quoted_text(name)} AND changed", "TSVRaw"
    ).bytes()
    return row.decode()[:-1] if row else None
