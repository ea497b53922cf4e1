"""A read-only session with a cluster's Postgres.

What lives here: connecting over ADBC, the snapshot (its time and lag: postgres/standby.py), the slice locks, streaming Arrow batches,
and the translation of the driver's errors. What does not: what is set in a session (postgres/session_settings.py), any statement about
scorecards (selection/source_sql.py, postgres/extract.py, comparison/comparison.py), how many sessions there may be
(postgres/connection_slots.py) and how fast they read (postgres/throttle.py).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeVar

import pyarrow as pa
from adbc_driver_manager import dbapi
from adbc_driver_postgresql import dbapi as postgresql

from reindex_assets.config.engines import Postgres
from reindex_assets.errors import (
    ConfigurationError,
    LaggingReplicaError,
    ReindexError,
    SliceBusyError,
    SourceUnreachableError,
)
from reindex_assets.model import Slice
from reindex_assets.postgres.connection_slots import Ask, hold_slot
from reindex_assets.postgres.lock_holders import lock_holders
from reindex_assets.postgres.session_settings import connection_uri, pin_settings, policy_refusal
from reindex_assets.postgres.standby import Snapshot, SnapshotClock
from reindex_assets.postgres.throttle import RowRate
from reindex_assets.retry import CONNECTION
from reindex_assets.under_way import asking

__all__ = ["Snapshot", "SourceSession", "lock_number"]

T = TypeVar("T")

#: Bytes of rows in one Arrow batch: small enough to keep memory flat, large enough to amortize each call.
BATCH_BYTES = 4 * 1024 * 1024
#: About the size of a row: a batch of a limited session holds what it may read in a second.
_ROW_BYTES = 256

#: SQLSTATE classes after which the same statement may succeed: connection, resources, operator intervention, conflict.
_TRANSIENT = ("08", "53", "57", "58", "40")

_CANCELLED = "57014"
_SQLSTATE = re.compile(r"SQLSTATE: (\w{5})")

#: For one transaction alone. From PostgreSQL 12 on.
_SET_IF_KNOWN = "SELECT set_config(name, $2, true) AS value FROM pg_settings WHERE name = $1"


class SourceSession(AbstractContextManager["SourceSession"]):
    """One connection to a cluster's Postgres, one of the few that the fleet file allows. Not for sharing between threads.

    Don't open one while you hold another: postgres/connection_slots.py explains why.

    Raises:
        SourceUnreachableError: it can't connect, or the connection fails.
        SourceBusyError: all connections that the fleet file allows were in use for too long.
        ConfigurationError: Postgres refuses the user or the password, or the database is not UTF-8.
    """

    def __init__(
        self, postgres: Postgres, application: str = "reindex_assets", connect_attempts: int = CONNECTION.attempts
    ) -> None:
        self.postgres = postgres
        self.address = f"Postgres {postgres.host}:{postgres.port}/{postgres.database}"
        self._owner: int | None = None
        self._literals: dict[str, str] = {}
        self._clock = SnapshotClock(self.rows, postgres.max_replica_lag_seconds)
        self._rate = RowRate(postgres.max_rows_per_second)
        uri = connection_uri(postgres, application)

        def connect() -> Ask:
            self._connection = CONNECTION.call(lambda: self._connected(uri), connect_attempts)
            try:
                pin_settings(self.rows, postgres, self.address)
            except BaseException:
                self.close()
                raise
            return self.rows

        hold_slot(connect, self.close, self.address, postgres.max_connections, postgres.connection_wait_seconds)

    def _connected(self, uri: str) -> dbapi.Connection:
        try:
            connection: dbapi.Connection = postgresql.connect(uri, autocommit=True)
            return connection
        except dbapi.Error as error:
            text, user = _text(error), self.postgres.user
            if "authentication failed" in text:
                raise ConfigurationError(
                    f"{self.address} refuses user {user!r}: {text}. "
                    f"Check the user, and the environment variable {self.postgres.password.env}"
                ) from None
            raise SourceUnreachableError(
                f"{self.address} cannot be reached as user {user!r}: {text}. "
                "Check the address in the fleet file, and that Postgres is up"
            ) from None

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the session, and with it its transaction and its locks."""
        # A broken connection may fail to close properly, but it is gone anyway.
        with suppress(dbapi.Error, ReindexError):
            self._connection.close()

    @property
    def owner(self) -> int:
        """A number that this session keeps locked while it lives. It marks what a killed session left behind."""
        if self._owner is None:
            owner = secrets.randbits(62)
            self.rows("SELECT pg_advisory_lock($1::bigint)::text AS done", (str(owner),))
            self._owner = owner
        return self._owner

    def is_owner_alive(self, owner: int) -> bool:
        """Whether the session with that owner number still lives."""
        if owner == self._owner:
            return True
        (row,) = self.rows("SELECT pg_try_advisory_lock($1::bigint) AS free", (str(owner),))
        if row["free"]:
            self.rows("SELECT pg_advisory_unlock($1::bigint) AS done", (str(owner),))
        return not row["free"]

    @contextmanager
    def locked(self, scope: str, slices: Iterable[Slice]) -> Iterator[None]:
        """Locks the slices against every other run, with advisory locks of this session.

        Two runs on one slice could undo each other: the older snapshot may re-insert what the newer one saw deleted. The locks
        end with the connection, so a killed run leaves none. They are taken before the snapshot, so that a run that waited
        for another sees what that one saw.

        Raises:
            SliceBusyError: another session holds one of them.
        """
        names = {lock_number(f"{scope}/{item.partition_key}"): item for item in slices}
        rows = self.rows(
            "SELECT number, pg_try_advisory_lock(number) AS held "
            "FROM unnest(string_to_array($1, ',')::bigint[]) AS number ORDER BY number",
            (",".join(str(number) for number in sorted(names)),),
        )
        taken = [row["number"] for row in rows if row["held"]]
        try:
            taken_by_others = [row["number"] for row in rows if not row["held"]]
            if taken_by_others:
                busy = sorted(str(names[number]) for number in taken_by_others)
                holders = ", ".join(lock_holders(self.rows, taken_by_others)) or "nobody now"
                raise SliceBusyError(
                    f"another run is working on {', '.join(busy[:5])}{' and more' if len(busy) > 5 else ''}: "
                    f"wait until it has ended, then run these partitions again. They are held by {holders}"
                )
            yield
        finally:
            # When the connection is gone, so are the locks.
            with suppress(dbapi.Error, ReindexError):
                self.rows(
                    "SELECT pg_advisory_unlock(number) AS released "
                    "FROM unnest(string_to_array($1, ',')::bigint[]) AS number",
                    (",".join(str(number) for number in taken),),
                )

    def assert_alive(self) -> None:
        """Makes sure that the session, and so its locks, are still alive. Without them nothing may be written.

        Raises:
            SourceUnreachableError: the session was lost.
        """
        self.rows("SELECT 1 AS alive")

    @contextmanager
    def snapshot(self, settings: Mapping[str, str]) -> Iterator[Snapshot]:
        """One REPEATABLE READ READ ONLY transaction. In its statements `current_setting('<name>')` stands for the value of a setting.

        ADBC reads by COPY, which takes no parameters. So a separate statement binds the values, the server returns them quoted, and
        these literals replace the settings in the text of the statements. Real settings would be evaluated for every row (a third of
        the time of a scan), and the planner could not see them.

        A lagging standby is not refused here: rows written from an old snapshot have an old version and replace no newer row. A
        comparison calls `assert_not_lagging`.
        """
        # Before the transaction begins: if a standby replayed a commit in between, the time would be too late.
        snapshot = self._clock.read()
        self._run(lambda: self._connection.adbc_connection.set_autocommit(False))
        try:
            with self._cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            columns = ", ".join(
                f"quote_literal(${number}) AS literal_{number}" for number in range(1, len(settings) + 1)
            )
            [quoted] = self.rows(f"SELECT {columns}", tuple(settings.values())) if settings else [{}]
            self._literals = {
                f"current_setting('{name}')": quoted[f"literal_{n}"] for n, name in enumerate(settings, 1)
            }
            yield snapshot
        finally:
            self._literals = {}
            with suppress(dbapi.Error, ReindexError):
                self._connection.rollback()
                self._connection.adbc_connection.set_autocommit(True)

    def _with_literals(self, sql: str) -> str:
        for setting, literal in self._literals.items():
            sql = sql.replace(setting, literal)
        return sql

    def assert_not_lagging(self, snapshot: Snapshot) -> None:
        """Makes sure that a snapshot of this session is recent enough to tell drift from rows in flight.

        Raises:
            LaggingReplicaError: the server is a standby, and may be further behind than the fleet file allows.
        """
        limit = self.postgres.max_replica_lag_seconds
        if snapshot.lag_seconds > limit:
            raise LaggingReplicaError(
                f"{self.address} is a standby and may be {snapshot.lag_seconds:,.1f} s behind its primary, more than "
                f"max_replica_lag_seconds ({limit} s) allows: what differs may not have reached it yet. Wait until it has "
                "caught up, point the fleet file at the primary, or raise max_replica_lag_seconds there"
            )

    def stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The rows of a statement as Arrow batches, uuids as 16 bytes; not faster than the fleet file allows.

        While the caller does not take the next batch, Postgres can send only what fits into the sockets, and stops reading.
        """
        batch_bytes = min(BATCH_BYTES, _ROW_BYTES * (self.postgres.max_rows_per_second or BATCH_BYTES))
        # While the server waits for its reader, neither statement_timeout nor any other of its timeouts applies (tried on PostgreSQL
        # 18), so a stopped process would hold the snapshot for ever. This ends it when it has taken nothing for this long. It is set
        # only for this transaction, as it overrides the keepalives.
        self.rows(_SET_IF_KNOWN, ("tcp_user_timeout", f"{self.postgres.statement_timeout_seconds}s"))
        with self._cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(batch_bytes)})
            cursor.execute(self._with_literals(sql))
            reader = cursor.fetch_record_batch()
            while True:
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    return
                self._rate.spend(batch.num_rows)
                yield _plain(batch)
                self._rate.wait()

    def explained(self, sql: str) -> str:
        """The planner's plan for a statement, as JSON; nothing is read."""
        with self._cursor() as cursor:
            # The driver reads by COPY, which has no EXPLAIN.
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
            cursor.execute(f"EXPLAIN (FORMAT JSON) {self._with_literals(sql)}")
            return str(cursor.fetch_arrow_table().column(0)[0].as_py())

    def rows(self, sql: str, parameters: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """The few rows of a small statement, as dictionaries."""
        rows: list[dict[str, Any]] = self.table(sql, parameters).to_pylist()
        return rows

    def table(self, sql: str, parameters: tuple[str, ...] = ()) -> pa.Table:
        """The rows of a small statement as an Arrow table."""
        with self._cursor() as cursor:
            cursor.execute(self._with_literals(sql), parameters=parameters or None)
            return cursor.fetch_arrow_table()

    @contextmanager
    def _cursor(self) -> Iterator[dbapi.Cursor]:
        cursor = self._run(self._connection.cursor)
        try:
            with asking("Postgres"):
                yield cursor
        except (dbapi.Error, pa.ArrowException, OSError) as error:
            raise self._translated(error) from None
        finally:
            with suppress(dbapi.Error, ReindexError):
                cursor.close()

    def _run(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except dbapi.Error as error:
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> ReindexError:
        text = _text(error)
        # Errors in mid-stream come through Arrow, which keeps only the text.
        state = getattr(error, "sqlstate", None) or "".join(_SQLSTATE.findall(text)[:1])
        if "conflict with recovery" in text:
            return SourceUnreachableError(
                f"{self.address} is a standby, and cancelled the query because it delayed the replay: {text}. "
                "If this recurs, set hot_standby_feedback there, or raise max_standby_streaming_delay"
            )
        if "statement timeout" in text:
            # Permanent: the same statement would take as long again. A run tries its slices one by one instead.
            return ReindexError(
                f"{self.address} cancelled a statement that took longer than statement_timeout_seconds "
                f"({self.postgres.statement_timeout_seconds} s): {text}. Read less at once (group_scorecards of a run, fewer days "
                "of a comparison), or raise statement_timeout_seconds (or max_rows_per_second, if that is set) in the fleet file"
            )
        if state == _CANCELLED:
            # By somebody's Ctrl-C, or by pg_cancel_backend: nobody who does that wants it tried again.
            return ReindexError(f"{self.address} cancelled the statement, as somebody has asked for: {text}")
        if refusal := policy_refusal(text, self.postgres, self.address):
            return refusal
        if state.startswith(_TRANSIENT) or not state:
            return SourceUnreachableError(f"{self.address} broke off: {text}")
        if state.startswith("42"):
            return ReindexError(
                f"{self.address} refuses the statement ({state}): {text}. Check 'relations' in the fleet file and that "
                f"user {self.postgres.user!r} may read them"
            )
        return ReindexError(f"{self.address} answered with an error ({state}): {text}")


def _text(error: Exception) -> str:
    """The driver's message on one line, without the statement it repeats."""
    text = str(error).split("Query was:")[0]
    return " ".join(text.split()).rstrip(".")


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """`batch` with extension columns (uuid) as their storage and without the driver's field metadata."""
    columns = [column.storage if isinstance(column, pa.ExtensionArray) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def lock_number(name: str) -> int:
    """The number of the advisory lock for a name. Processes of different versions have to agree on it."""
    digest = hashlib.blake2b(f"reindex_assets/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
