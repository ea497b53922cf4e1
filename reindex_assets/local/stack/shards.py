"""A local ClickHouse shard: one process of the shard server.

What lives here: starting, finding and ending that process. What does not: the server itself (local/shard_server), and rows.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

import reindex_assets
from reindex_assets.config.local_environment import PASSWORD_VARIABLE
from reindex_assets.local.stack.files import LocalStackError, tail
from reindex_assets.local.stack.processes import (
    LOOPBACK,
    PortTakenError,
    ProcessRecord,
    end_processes,
    port_is_free,
    processes_with_argument,
)
from reindex_assets.local.stack.server import LocalServer

MODULE = "reindex_assets.local.shard_server"
START_SECONDS = 60.0
STOP_SECONDS = 20.0

#: The shards that this process has started. Each is polled until it has ended, so that none stays a zombie.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class LocalShard(LocalServer):
    """One shard of the local stack."""

    @property
    def pid_file(self) -> Path:
        return self.directory / "pid.json"

    @property
    def _command_line(self) -> str:
        """A part of the command line that only this shard's process has: it finds one that a crashed start did not record."""
        return f"{MODULE} --path {self.data} --port"

    def process(self) -> psutil.Process | None:
        record = ProcessRecord.load(self.pid_file)
        return None if record is None else record.process()

    def spawn(self, port: int, password: str) -> None:
        """Starts the process in a session of its own, so that it outlives this one."""
        # An `up` that died before it wrote the pid file leaves a process, and a directory admits only one engine.
        end_processes(self.processes(), STOP_SECONDS)
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", MODULE, "--path", str(self.data), "--port", str(port), "--name", self.name]
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": _import_path(), "TZ": "UTC", PASSWORD_VARIABLE: password},
                # The caller's directory may vanish.
                cwd=self.directory,
                start_new_session=True,
            )
        _children[:] = [*(earlier for earlier in _children if earlier.poll() is None), child]
        try:
            ProcessRecord.of(psutil.Process(child.pid)).save(self.pid_file)
        except psutil.NoSuchProcess:
            raise self._failure(port) from None

    def wait_until_ready(self, port: int) -> None:
        """Returns once the shard answers.

        Raises:
            PortTakenError: it ended, and another program has its port.
            LocalStackError: it ended, or did not answer in time; the message ends with its log.
        """
        deadline = time.monotonic() + START_SECONDS
        while not self.answers(port):
            if self.process() is None:
                raise self._failure(port)
            if time.monotonic() > deadline:
                raise LocalStackError(
                    f"{self.name} runs but has not answered on port {port} for {START_SECONDS:.0f} s; "
                    f"the end of {self.log}:\n{tail(self.log)}"
                )
            time.sleep(0.02)

    def answers(self, port: int, timeout_seconds: float = 3.0) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout_seconds)
        try:
            connection.request("GET", "/ping")
            response = connection.getresponse()
            return response.status == 200 and response.read().strip() == b"Ok."
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def processes(self) -> list[psutil.Process]:
        """Every process that serves this shard, including any that a crashed start did not record."""
        recorded = self.process()
        processes = processes_with_argument(self._command_line)
        return processes if recorded is None or recorded in processes else [recorded, *processes]

    def _failure(self, port: int) -> LocalStackError:
        if not port_is_free(port):
            return PortTakenError(f"{self.name} could not start: another program has taken port {port}")
        return LocalStackError(f"{self.name} ended while starting; the end of {self.log}:\n{tail(self.log)}")


def stop_shards(shards: Sequence[LocalShard]) -> None:
    """Ends the processes of several shards at the same time."""
    end_processes([process for shard in shards for process in shard.processes()], STOP_SECONDS)
    for shard in shards:
        shard.pid_file.unlink(missing_ok=True)


def _import_path() -> str:
    """PYTHONPATH with this package first: the server must have the same version as its supervisor."""
    own_package = str(Path(reindex_assets.__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, (own_package, os.environ.get("PYTHONPATH"))))
