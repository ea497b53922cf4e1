"""Processes and ports: who is alive, who is ours, which port is free.

What lives here: what Postgres and the shards have in common. What does not: how either is started.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from reindex_assets.local.stack.files import LocalStackError, write_atomically

LOOPBACK = "127.0.0.1"
#: Below the range from which the system takes the ports of outgoing connections: one kept across restarts stays free.
PORTS = range(20_000, 32_768)


class PortTakenError(LocalStackError):
    """Another program took the port between its choice and the start of the server: choose another one."""


@dataclass(frozen=True)
class ProcessRecord:
    """A process for certain: the kernel gives a pid anew, but not with the same time of creation."""

    pid: int
    created_at: float

    @staticmethod
    def of(process: psutil.Process) -> ProcessRecord:
        return ProcessRecord(process.pid, process.create_time())

    @staticmethod
    def load(path: Path) -> ProcessRecord | None:
        """The record in a pid file; None without one, or when a crash of the machine left it damaged."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return ProcessRecord(int(document["pid"]), float(document["created_at"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def save(self, path: Path) -> None:
        write_atomically(path, json.dumps(asdict(self)) + "\n")

    def process(self) -> psutil.Process | None:
        """The process, if it lives."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created_at) < 1.0
        except psutil.NoSuchProcess:
            return None
        return process if same and is_alive(process) else None


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs. A zombie, which stays where nobody reaps (a container without an init), is dead."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_with_argument(text: str) -> list[psutil.Process]:
    """The living processes whose command line (or title, for Postgres' workers) contains `text`."""
    found = []
    for process in psutil.process_iter():
        try:
            if text in " ".join(process.cmdline()) and is_alive(process):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def end_processes(processes: Sequence[psutil.Process], grace_seconds: float) -> None:
    """SIGTERM to all; SIGKILL to those still alive after the grace.

    Raises:
        LocalStackError: one survived even that.
    """
    living = [process for process in processes if is_alive(process)]
    for process in living:
        _tell(process, kill=False)
    kill_processes(still_alive(living, grace_seconds))


def kill_processes(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL, and returns when they are gone."""
    living = [process for process in processes if is_alive(process)]
    for process in living:
        _tell(process, kill=True)
    immortal = ", ".join(str(process.pid) for process in still_alive(living, timeout_seconds=10))
    if immortal:
        raise LocalStackError(f"these processes survive SIGKILL (blocked in the kernel?): pid {immortal}")


def still_alive(processes: Sequence[psutil.Process], timeout_seconds: float) -> list[psutil.Process]:
    """Waits until all have ended, at most so long; returns those that have not.

    (psutil's own wait takes a zombie for alive.)
    """
    deadline = time.monotonic() + timeout_seconds
    while (living := [process for process in processes if is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return living


def _tell(process: psutil.Process, *, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
    except psutil.NoSuchProcess:
        pass  # it ended by itself in the meantime


def port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As the servers do: connections of a killed server that linger in TIME_WAIT don't occupy its port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose_port(preferred: int | None, taken: Collection[int]) -> int:
    """The preferred port if it is free, else another one.

    Raises:
        LocalStackError: no port is free.
    """
    if preferred is not None and preferred not in taken and port_is_free(preferred):
        return preferred
    for port in random.sample(PORTS, k=200):
        if port not in taken and port_is_free(port):
            return port
    raise LocalStackError(f"found no free port between {PORTS.start} and {PORTS.stop - 1} on {LOOPBACK}")
