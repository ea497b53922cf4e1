"""A read-only session with a cluster's Postgres.

What lives here: connecting over ADBC, the snapshot (its time and lag: replica.py), the slice locks, streaming Arrow batches, and the
translation of the driver's errors. What does not: any statement about scorecards (selection.py, extract.py, comparison.py).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import adbc_driver_manager
import pyarrow as pa
from adbc_driver_manager import dbapi
from adbc_driver_postgresql import dbapi as postgresql
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from reindex_assets.errors import (
    ConfigurationError,
    LaggingReplicaError,
    ReindexError,
    SliceBusyError,
    SourceUnreachableError,
)
from reindex_assets.fleet import Postgres
from reindex_assets.model import Slice
from reindex_assets.replica import Snapshot, SnapshotClock

__all__ = ["Snapshot", "SourceSession"]

T = TypeVar("T")

#: Bytes of rows in one Arrow batch: small enough to keep memory flat, large enough to amortize each call.
BATCH_BYTES = 8 * 1024 * 1024

#: SQLSTATE classes after which the same statement may succeed: connection, resources, operator intervention, conflict.
_TRANSIENT = ("08", "53", "57", "58", "40")

_SQLSTATE = re.compile(r"SQLSTATE: (\w{5})")


class SourceSession:
    """One connection to a cluster's Postgres. Not for sharing between threads.

    Raises:
        SourceUnreachableError: on any failure to connect, or of the connection.
        ConfigurationError: Postgres refuses the user or the password.
    """

    def __init__(self, postgres: Postgres, application: str = "reindex_assets", connect_attempts: int = 3) -> None:
        self.postgres = postgres
        self.address = f"Postgres {postgres.host}:{postgres.port}/{postgres.database}"
        uri = _uri(postgres, application)
        attempts = Retrying(
            retry=retry_if_exception_type(dbapi.OperationalError),
            stop=stop_after_attempt(connect_attempts),
            wait=wait_random_exponential(multiplier=0.5, max=5),
            reraise=True,
        )
        try:
            self._connection = attempts(postgresql.connect, uri, autocommit=True)
        except dbapi.Error as error:
            text = _text(error)
            if "authentication failed" in text:
                raise ConfigurationError(
                    f"{self.address} refuses user {postgres.user!r}: {text}. "
                    f"Check the user, and the environment variable {postgres.password.env}"
                ) from None
            raise SourceUnreachableError(
                f"{self.address} cannot be reached as user {postgres.user!r}: {text}. "
                "Check the address in the fleet file, and that Postgres is up"
            ) from None
        self._owner: int | None = None
        self._clock = SnapshotClock(self.rows, postgres.max_replica_lag_seconds)

    def __enter__(self) -> SourceSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the session, and with it its transaction and its locks."""
        # A broken connection may refuse to close in good order; it is gone all the same.
        with _suppressed_driver_errors():
            self._connection.close()

    @property
    def owner(self) -> int:
        """A number that this session holds a lock of while it lives: names what it leaves behind when it is killed."""
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
        """Holds the slices against every other run, by advisory locks of this session.

        Two runs on one slice could undo each other: the older snapshot may re-insert what the newer one saw deleted. The locks
        end with the connection, so that a killed run leaves none. They are taken before the snapshot: a run that waited
        for another must see what that one saw.

        Raises:
            SliceBusyError: another session holds one of them.
        """
        names = {_lock_number(scope, item): item for item in slices}
        rows = self.rows(
            "SELECT number, pg_try_advisory_lock(number) AS held "
            "FROM unnest(string_to_array($1, ',')::bigint[]) AS number ORDER BY number",
            (",".join(str(number) for number in sorted(names)),),
        )
        taken = [row["number"] for row in rows if row["held"]]
        try:
            busy = sorted(str(names[row["number"]]) for row in rows if not row["held"])
            if busy:
                raise SliceBusyError(
                    f"another run is at work on {', '.join(busy[:5])}{' and more' if len(busy) > 5 else ''}: "
                    "wait until it has ended, then run these partitions again"
                )
            yield
        finally:
            # When the connection is gone the locks are gone with it.
            with _suppressed_driver_errors():
                self.rows(
                    "SELECT pg_advisory_unlock(number) AS released "
                    "FROM unnest(string_to_array($1, ',')::bigint[]) AS number",
                    (",".join(str(number) for number in taken),),
                )

    def assert_alive(self) -> None:
        """Makes sure that the session, and so its locks, still live: without them nothing may be written.

        Raises:
            SourceUnreachableError: it was lost.
        """
        self.rows("SELECT 1 AS alive")

    @contextmanager
    def snapshot(self, settings: Mapping[str, str]) -> Iterator[Snapshot]:
        """One REPEATABLE READ READ ONLY transaction; `settings` are bound for its statements to read.

        A lagging standby is not refused here: what is written from an old snapshot is old, and no newer row gives way to it.
        Who compares calls `assert_not_lagging`.
        """
        # Before it begins: a standby that replays a commit between the snapshot and the question would name a time too late.
        snapshot = self._clock.read()
        self._run(lambda: self._connection.adbc_connection.set_autocommit(False))
        try:
            with self._cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                for name, value in settings.items():
                    cursor.execute("SELECT set_config($1, $2, true)", parameters=(name, value))
                    cursor.fetchall()
            yield snapshot
        finally:
            with _suppressed_driver_errors():
                self._connection.rollback()
                self._connection.adbc_connection.set_autocommit(True)

    def assert_not_lagging(self, snapshot: Snapshot) -> None:
        """Makes sure that a snapshot of this session is recent enough to tell drift from rows that are on their way here.

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
        """The rows of a statement as Arrow batches, uuids as 16 bytes."""
        with self._cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
            cursor.execute(sql)
            reader = cursor.fetch_record_batch()
            while True:
                try:
                    batch = reader.read_next_batch()
                except StopIteration:
                    return
                yield _plain(batch)

    def rows(self, sql: str, parameters: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """The few rows of a small statement, as dictionaries."""
        rows: list[dict[str, Any]] = self.table(sql, parameters).to_pylist()
        return rows

    def table(self, sql: str, parameters: tuple[str, ...] = ()) -> pa.Table:
        """The rows of a small statement as an Arrow table."""
        with self._cursor() as cursor:
            cursor.execute(sql, parameters=parameters or None)
            return cursor.fetch_arrow_table()

    @contextmanager
    def _cursor(self) -> Iterator[dbapi.Cursor]:
        cursor = self._run(self._connection.cursor)
        try:
            yield cursor
        except (dbapi.Error, pa.ArrowException, OSError) as error:
            raise self._translated(error) from None
        finally:
            with _suppressed_driver_errors():
                cursor.close()

    def _run(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except dbapi.Error as error:
            raise self._translated(error) from None

    def _translated(self, error: Exception) -> ReindexError:
        text = _text(error)
        # Errors in mid-stream come through Arrow, which keeps the text only.
        state = getattr(error, "sqlstate", None) or "".join(_SQLSTATE.findall(text)[:1])
        if "conflict with recovery" in text:
            return SourceUnreachableError(
                f"{self.address} is a standby, and cancelled the query because it stood in the way of the replay: {text}. "
                "When this recurs, set hot_standby_feedback there, or raise max_standby_streaming_delay"
            )
        if state.startswith(_TRANSIENT) or not state:
            return SourceUnreachableError(f"{self.address} broke off: {text}")
        if state.startswith("42"):
            return ReindexError(
                f"{self.address} refuses the statement ({state}): {text}. Check 'relations' in the fleet file and that "
                f"user {self.postgres.user!r} may read them"
            )
        return ReindexError(f"{self.address} answered with an error ({state}): {text}")


def _uri(postgres: Postgres, application: str) -> str:
    options = {
        "connect_timeout": str(postgres.connect_timeout_seconds),
        "sslmode": postgres.sslmode,
        "application_name": application,
        # A dead peer is noticed within a minute instead of the kernel's two hours.
        "keepalives_idle": "20",
        "keepalives_interval": "10",
        "keepalives_count": "4",
        "options": (
            f"-c statement_timeout={postgres.statement_timeout_seconds * 1000} "
            "-c default_transaction_read_only=on -c timezone=UTC -c jit=off"
        ),
    }
    password = quote(postgres.password.resolve().get_secret_value(), safe="")
    user = quote(postgres.user, safe="")
    return (
        f"postgresql://{user}:{password}@{postgres.host}:{postgres.port}/{quote(postgres.database)}"
        f"?{urlencode(options, quote_via=quote)}"
    )


def _text(error: Exception) -> str:
    """The driver's message on one line, without the statement it repeats."""
    text = str(error).split("Query was:")[0]
    return " ".join(text.split()).rstrip(".")


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """`batch` with extension columns (uuid) as their storage and without the driver's field metadata."""
    columns = [column.storage if isinstance(column, pa.ExtensionArray) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _lock_number(scope: str, item: Slice) -> int:
    digest = hashlib.blake2b(f"reindex_assets/{scope}/{item.partition_key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


@contextmanager
def _suppressed_driver_errors() -> Iterator[None]:
    try:
        yield
    except (dbapi.Error, adbc_driver_manager.Error, ReindexError):
        return
