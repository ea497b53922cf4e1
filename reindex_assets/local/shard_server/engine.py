"""The chdb engine of this process.

What lives here: its directory, its configuration, its connections, and killing a query. What does not: what runs on a connection
(statements.py), and who keeps one (sessions.py).

A process has one engine on one path, and one connection keeps it open. Each request uses its own connection, because SET, USE and temporary
tables belong to a connection; opening one takes 0.1 ms.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any
from xml.sax.saxutils import escape

from reindex_assets.local.shard_server.quoting import set_statement

_CONFIG = """<clickhouse>
  <default_database>{overlay}</default_database>
  <macros><shard>{name}</shard></macros>
  <query_log>
    <database>system</database><table>query_log</table><flush_interval_milliseconds>5000</flush_interval_milliseconds>
  </query_log>
  <part_log>
    <database>system</database><table>part_log</table><flush_interval_milliseconds>5000</flush_interval_milliseconds>
  </part_log>
{users}</clickhouse>
"""
# chdb opens its default database as an overlay that serves any file of the machine as a table. The configuration gives that overlay
# another name, this statement makes `default` an ordinary Atomic database, and open() drops the overlay.
_DEFAULT_DATABASE = "ATTACH DATABASE default\nUUID '{uuid}'\nENGINE = Atomic\n"
_DEFAULT_UUID = "5ea2d000-0000-4000-8000-000000000001"
_OVERLAY = "engine_overlay"
DEFAULT_DATABASE = "default"
# By default the engine parses any word as a SELECT, and a typo would be an "unknown identifier". It would also compile expressions that it
# has seen a few times, which costs 0.1 s of CPU each, and start threads for each query: neither pays off on tables of this size.
SETTINGS = {
    "implicit_select": "0",
    "compile_expressions": "0",
    "compile_aggregate_expressions": "0",
    "compile_sort_description": "0",
    "max_threads": "1",
}
_UNSAFE_IN_A_PATH = "?&#%+;"

# This setting has no effect unless a workload is declared, so it can hold the tag that identifies a running query.
TAG_SETTING = "workload"


class PathInUse(Exception):
    """Another process holds the shard's directory."""


class Engine:
    """An open chdb engine."""

    def __init__(self, path: Path, name: str, users: Path | None = None) -> None:
        """
        Args:
            users: a users.xml of ClickHouse, with the settings profile, constraints and row policies of the user `default`.
        """
        self.path = path.resolve()
        self.name = name
        self._users = users
        self.version = "unknown"
        self.pipes = self.path / "pipes"
        self._connection_string = f"{self.path / 'engine'}?config-file={self.path / 'shard.xml'}"
        self._lock: IO[str] | None = None
        self._keeper: Any = None

    def open(self) -> None:
        """Locks the directory and starts the engine.

        Raises:
            PathInUse: another process has the directory.
        """
        if any(character in str(self.path) for character in _UNSAFE_IN_A_PATH):
            raise ValueError(f"The shard's path {self.path} may not contain any of {_UNSAFE_IN_A_PATH!r}")
        self.path.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        self.pipes.mkdir(exist_ok=True)
        for left_over in self.pipes.iterdir():
            left_over.unlink()
        self._write_files()
        self._keeper = self.connect()
        self._keeper.query(f"DROP DATABASE IF EXISTS {_OVERLAY}")
        self.version = self._keeper.query("SELECT version()", "TSVRaw").bytes().decode().strip()

    def _take_lock(self) -> None:
        # The kernel releases the lock when the process ends in any way: a restart after kill -9 needs no cleaning.
        self._lock = (self.path / "shard.lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            holder = self._lock.read().strip() or "unknown"
            raise PathInUse(
                f"The shard directory {self.path} is already open in another process (pid {holder}). "
                "Stop that process first, or give this shard another --path."
            ) from None
        self._lock.truncate(0)
        self._lock.write(str(os.getpid()))
        self._lock.flush()

    def _write_files(self) -> None:
        (self.path / "shard.xml").write_text(
            _CONFIG.format(
                overlay=_OVERLAY,
                name=escape(self.name),
                users=f"  <users_config>{escape(str(self._users.resolve()))}</users_config>\n" if self._users else "",
            )
        )
        metadata = self.path / "engine" / "metadata"
        metadata.mkdir(parents=True, exist_ok=True)
        (self.path / "engine" / "store" / _DEFAULT_UUID[:3] / _DEFAULT_UUID).mkdir(parents=True, exist_ok=True)
        (metadata / "default.sql").write_text(_DEFAULT_DATABASE.format(uuid=_DEFAULT_UUID))
        # The engine makes this link itself; if it exists at the start, the engine loads `default` twice and aborts.
        (metadata / "default").unlink(missing_ok=True)

    def connect(self, settings: Mapping[str, str] | None = None) -> Any:
        """A new connection, without temporary tables, in the database `default`, with these settings besides the shard's own.

        Raises:
            RuntimeError: the engine refuses a setting.
        """
        # Only this function imports chdb: a process that forks must never load it.
        from chdb.state.sqlitelike import connect

        try:
            connection = connect(self._connection_string)
        except RuntimeError as error:
            if str(error).rstrip().endswith("EmbeddedServer:"):
                raise PathInUse(
                    f"Another chdb process has the engine files in {self.path / 'engine'} open. "
                    "Stop that process first, or give this shard another --path."
                ) from error
            raise
        try:
            connection.query(set_statement(SETTINGS | dict(settings or {})))
        except BaseException:
            connection.close()
            raise
        return connection

    def kill(self, tag: str | None = None) -> None:
        """Asks the engine to stop the query with this tag, or every query; on return the query is marked as killed."""
        # By the text too, because the name of an upload's pipe holds the tag, and the client's SETTINGS may replace the setting.
        condition = "1" if tag is None else f"Settings['{TAG_SETTING}'] = '{tag}' OR position(query, '{tag}') > 0"
        connection = self.connect()
        try:
            connection.query(f"KILL QUERY WHERE {condition} ASYNC")
        finally:
            connection.close()

    def close(self) -> None:
        """Stops the engine and releases the directory."""
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
