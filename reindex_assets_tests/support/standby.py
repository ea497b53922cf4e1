"""A primary of its own with a streaming standby, both real, for the tests of a replica that lags.

What lives here: making the pair, and what a test does to it (pause, wait, stop). What does not: tests, and rows.

The session's stack is left in peace: its Postgres must not stop, and a standby would hold back its log.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from psycopg2.extensions import connection as Connection

from reindex_assets.local.stack.postgres import SOURCE_DATABASE, USER, LocalPostgres
from reindex_assets.local.stack.processes import LOOPBACK, choose_port
from reindex_assets.local.stack.programs import grant_access, own, run_program

#: An ordinary role: it may read the tables, and is in none of Postgres' monitoring roles.
READER = "reindex_reader"

_SCHEMAS = "director, historic, app"

WAIT_SECONDS = 20.0


@dataclass(frozen=True)
class ReplicatedPostgres:
    """A primary and its standby, on loopback."""

    primary: LocalPostgres
    primary_port: int
    standby: LocalPostgres
    standby_port: int
    password: str

    def on_primary(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        return self._ask(self.primary, self.primary_port, statement, values)

    def on_standby(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        return self._ask(self.standby, self.standby_port, statement, values)

    def connect_primary(self) -> Connection:
        """The primary's source database, autocommit."""
        connection = self.primary.connect(self.primary_port, self.password, SOURCE_DATABASE)
        connection.autocommit = True
        return connection

    def catch_up(self) -> None:
        """Returns once the standby streams, and has replayed all that the primary has written."""
        [(written,)] = self.on_primary("SELECT pg_current_wal_insert_lsn()::text")
        self.await_on_standby(
            "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn AND EXISTS (SELECT FROM pg_stat_wal_receiver)", written
        )

    def await_on_standby(self, condition: str, *values: object) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while self.on_standby(condition, *values) != [(True,)]:
            assert time.monotonic() < deadline, f"the standby did not get so far in {WAIT_SECONDS} s: {condition}"
            time.sleep(0.02)

    @contextlib.contextmanager
    def replay_paused(self) -> Iterator[None]:
        """What the standby shows stands still meanwhile; it goes on receiving."""
        self.on_standby("SELECT pg_wal_replay_pause()")
        try:
            # Asked for is not yet done: the replay stops at its next record.
            self.await_on_standby("SELECT pg_get_wal_replay_pause_state() = 'paused'")
            yield
        finally:
            self.on_standby("SELECT pg_wal_replay_resume()")

    @contextlib.contextmanager
    def primary_stopped(self) -> Iterator[None]:
        self.primary.stop()
        try:
            yield
        finally:
            self.primary.start(self.primary_port)

    def restart_standby(self) -> None:
        self.standby.stop()
        self.standby.start(self.standby_port)

    @contextlib.contextmanager
    def thin_line(self, bytes_per_second: int) -> Iterator[None]:
        """Between the two, no more than so many bytes a second pass meanwhile."""
        line = Line(self.primary_port)
        self._follow(line.port)
        # Only now: it asks for its current segment (16 MB) from the beginning, which would take a while.
        self.catch_up()
        line.bytes_per_second = bytes_per_second
        try:
            yield
        finally:
            self._follow(self.primary_port)
            line.close()

    def _follow(self, port: int) -> None:
        """Lets the standby follow its primary at another port."""
        [(followed,)] = self.on_standby("SHOW primary_conninfo")
        moved = re.sub(r"\bport=\d+", f"port={port}", str(followed))
        assert moved != followed
        self.on_standby("ALTER SYSTEM SET primary_conninfo = %s", moved)
        self.on_standby("SELECT pg_reload_conf()")
        self.await_on_standby("SELECT EXISTS (SELECT FROM pg_stat_wal_receiver WHERE sender_port = %s)", port)

    def _ask(
        self, server: LocalPostgres, port: int, statement: str, values: tuple[object, ...]
    ) -> list[tuple[object, ...]]:
        with contextlib.closing(server.connect(port, self.password, SOURCE_DATABASE)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return cursor.fetchall() if cursor.description else []


class Line:
    """A port on loopback behind which the primary answers, as fast as `bytes_per_second` says at the moment."""

    def __init__(self, primary_port: int) -> None:
        self.bytes_per_second: int | None = None
        self._primary_port = primary_port
        self._open: list[socket.socket] = []
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for end in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection((LOOPBACK, self._primary_port))
                self._open += [near, far]
                for source, target in ((far, near), (near, far)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while received := source.recv(8192):
                target.sendall(received)
                if self.bytes_per_second is not None:
                    time.sleep(len(received) / self.bytes_per_second)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def replicated(directory: Path, password: str) -> Iterator[ReplicatedPostgres]:
    """Makes and starts the pair, and removes it at the end. Each stands in `directory` where a local stack has its Postgres: whoever
    finds the directory of a killed session ends and removes both like stacks (conftest.py).

    Args:
        directory: of the session's stacks.
        password: of the superuser and of READER.
    """
    primary, standby = (LocalPostgres(directory / name / "postgres") for name in ("primary", "standby"))
    try:
        primary.initialise(password)
        primary_port = choose_port(None, taken=())
        primary.start(primary_port)
        primary.prepare_databases(primary_port, password)
        _copy(primary_port, standby, password)
        standby_port = choose_port(None, taken={primary_port})
        standby.start(standby_port)
        pair = ReplicatedPostgres(primary, primary_port, standby, standby_port, password)
        pair.on_primary(f"CREATE ROLE {READER} LOGIN PASSWORD %s", password)
        pair.on_primary(f"GRANT USAGE ON SCHEMA {_SCHEMAS} TO {READER}")
        pair.on_primary(f"GRANT SELECT ON ALL TABLES IN SCHEMA {_SCHEMAS} TO {READER}")
        # An idle primary commits nothing of its own accord then.
        pair.on_primary("ALTER SYSTEM SET autovacuum = off")
        pair.on_primary("SELECT pg_reload_conf()")
        yield pair
    finally:
        for server in (standby, primary):
            if server.directory.exists():
                server.stop()
                shutil.rmtree(server.directory.parent)


def _copy(primary_port: int, standby: LocalPostgres, password: str) -> None:
    """Makes the standby's data directory from the running primary: a new cluster of initdb lets its superuser replicate."""
    standby.directory.mkdir(parents=True)
    grant_access(standby.directory)
    passfile = standby.directory / "passfile"
    passfile.touch(mode=0o600)
    passfile.write_text(f"{LOOPBACK}:*:*:{USER}:{password}\n", encoding="utf-8")
    own(passfile)
    run_program(
        "pg_basebackup",
        f"--dbname=host={LOOPBACK} port={primary_port} user={USER} passfile='{passfile}' sslmode=disable",
        f"--pgdata={standby.data}",
        # Makes standby.signal, and sets primary_conninfo to the above.
        "--write-recovery-conf",
        "--checkpoint=fast",
        "--no-sync",
        directory=standby.directory,
        log=standby.log,
    )
    with (standby.data / "postgresql.auto.conf").open("a", encoding="utf-8") as settings:
        # A receiver that lost its primary tries again at once, and a query in the way of the replay is cancelled at once.
        settings.write("wal_retrieve_retry_interval = '200ms'\nmax_standby_streaming_delay = '100ms'\n")
