"""The supervision of a local ClickHouse shard: one process of the shard server, its files, its port.

What lives here: starting, finding, asking and ending that process. What does not: the server (shard_server/), rows.

A shard's directory holds `data` (the engine's), `log` and `pid.json`.
"""

from __future__ import annotations

import http.client
import os
import shutil
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
    kill_processes,
    port_is_free,
    processes_with_argument,
)

MODULE = "reindex_assets.local.shard_server"
START_SECONDS = 60.0
STOP_SECONDS = 20.0

#: The shards that this process started: each is asked once more, so that it isn't left a zombie.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class LocalShard:
    """One shard of the local stack."""

    number: int
    directory: Path

    @property
    def name(self) -> str:
        return f"shard-{self.number}"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "log"

    @property
    def pid_file(self) -> Path:
        return self.directory / "pid.json"

    @property
    def _command_line(self) -> str:
        """What only this shard's process has in its command line: finds one that a crashed start left unrecorded."""
        return f"{MODULE} --path {self.data} --port"

    def process(self) -> psutil.Process | None:
        """The process that serves this shard, if one lives."""
        record = ProcessRecord.load(self.pid_file)
        return None if record is None else record.process()

    def has_crashed(self) -> bool:
        """Started, never stopped, and yet not alive."""
        return self.pid_file.exists() and self.process() is None

    def spawn(self, port: int, password: str) -> None:
        """Starts the process in a session of its own: it outlives this one, whatever ends that."""
        # An `up` that died between the start and the pid file leaves a server; a path admits one engine.
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
                # Where the caller stands may vanish.
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
            PortTakenError: it died, and its port belongs to another program.
            LocalStackError: it died or stayed silent; the message ends with its log.
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
        """Every process that serves this shard: one, or what crashed starts left."""
        recorded = self.process()
        found = processes_with_argument(self._command_line)
        return found if recorded is None or recorded in found else [recorded, *found]

    def kill(self) -> None:
        """SIGKILL, as a crash would: the pid file stays."""
        process = self.process()
        if process is not None:
            kill_processes([process])

    def remove(self) -> None:
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def _failure(self, port: int) -> LocalStackError:
        if not port_is_free(port):
            return PortTakenError(f"{self.name} could not start: another program has taken port {port}")
        return LocalStackError(f"{self.name} ended while starting; the end of {self.log}:\n{tail(self.log)}")


def stop_shards(shards: Sequence[LocalShard]) -> None:
    """Ends the processes of several shards, all at the same time."""
    end_processes([process for shard in shards for process in shard.processes()], STOP_SECONDS)
    for shard in shards:
        shard.pid_file.unlink(missing_ok=True)


def _import_path() -> str:
    """This very package first: the server must be of the same version as its supervisor."""
    here = str(Path(reindex_assets.__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
