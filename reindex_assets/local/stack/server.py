"""One server of the local stack: its directory, its process and its state.

What lives here: what PostgreSQL and a shard have in common. What does not: how either starts and stops (local/stack/postgres.py,
local/stack/shards.py).
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from reindex_assets.local.stack.processes import kill_processes, process_tree, resident_bytes


@dataclass(frozen=True, kw_only=True)
class ServerStatus:
    """One server of the stack, as it is now.

    Attributes:
        state: an `unresponsive` server lives but doesn't answer; a `crashed` one died without having been stopped.
        resident_bytes: memory of its processes; the pages that they share count once.
    """

    name: str
    state: Literal["running", "unresponsive", "crashed", "stopped"]
    port: int | None
    pid: int | None = None
    resident_bytes: int | None = None
    uptime_seconds: float | None = None


@dataclass(frozen=True)
class LocalServer(abc.ABC):
    """A server of the local stack. Its directory holds `data`, which is the engine's, and `log`."""

    directory: Path

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    @abc.abstractmethod
    def pid_file(self) -> Path:
        """Exists from the start until an orderly stop."""

    @abc.abstractmethod
    def process(self) -> psutil.Process | None:
        """The process that serves, if it lives."""

    def kill(self) -> None:
        """Sends SIGKILL, like a crash: the pid file stays."""
        process = self.process()
        if process is not None:
            kill_processes([process])

    def status(self, port: int | None, answers: Callable[[int], bool]) -> ServerStatus:
        """The state of this server, which listens on `port`.

        Args:
            answers: whether a living server answers on a port.
        """
        process = self.process()
        if process is None:
            return ServerStatus(name=self.name, state="crashed" if self.pid_file.exists() else "stopped", port=port)
        return ServerStatus(
            name=self.name,
            state="running" if port is not None and answers(port) else "unresponsive",
            port=port,
            pid=process.pid,
            resident_bytes=resident_bytes(process_tree(process)),
            uptime_seconds=time.time() - process.create_time(),
        )
