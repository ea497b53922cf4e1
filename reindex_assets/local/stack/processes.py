"""Processes and ports: which processes live, which are ours, what they take, and which port is free.

What lives here: finding, measuring and ending processes. What does not: what any of them is for (local/stack/server.py).
"""

from __future__ import annotations

import contextlib
import random
import signal
import socket
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import TypeAdapter, ValidationError

from reindex_assets.errors import TransientError
from reindex_assets.local.stack.files import LocalStackError, write_atomically

LOOPBACK = "127.0.0.1"
#: Below the range of the ports for outgoing connections, so that a server finds its port free after a restart.
PORTS = range(20_000, 32_768)


class PortTakenError(LocalStackError, TransientError):
    """Another program took the port before the server could: choose another port."""


@dataclass(frozen=True)
class ProcessRecord:
    """Identifies a process: the kernel reuses a pid, but not together with the time of creation."""

    pid: int
    created_at: float

    @staticmethod
    def of(process: psutil.Process) -> ProcessRecord:
        return ProcessRecord(process.pid, process.create_time())

    @staticmethod
    def load(path: Path) -> ProcessRecord | None:
        """The record in a pid file; None if there is no file, or if a crash of the machine has damaged it."""
        try:
            return _RECORD.validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def save(self, path: Path) -> None:
        write_atomically(path, _RECORD.dump_json(self).decode() + "\n")

    def process(self) -> psutil.Process | None:
        """The process, if it lives."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created_at) < 1.0
        except psutil.NoSuchProcess:
            return None
        return process if same and is_alive(process) else None


_RECORD = TypeAdapter(ProcessRecord)


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs. A zombie counts as dead: in a container without an init nobody reaps it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def processes_with_argument(text: str) -> list[psutil.Process]:
    """The living processes whose command line (or title, for Postgres' workers) contains `text`."""
    matching = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if text in " ".join(process.cmdline()) and is_alive(process):
                matching.append(process)
    return matching


def process_tree(root: psutil.Process) -> list[psutil.Process]:
    """A process and its descendants; empty if it has ended."""
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def resident_bytes(processes: Iterable[psutil.Process]) -> int:
    """Resident memory of related processes; the pages that they share count once."""
    own, shared = 0, 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            memory = process.memory_info()
            # Only Linux reports what is shared.
            shared_bytes = getattr(memory, "shared", 0)
            own += memory.rss - shared_bytes
            shared = max(shared, shared_bytes)
    return own + shared


def end_processes(processes: Sequence[psutil.Process], grace_seconds: float, by: int = signal.SIGTERM) -> None:
    """Sends a signal to all, and SIGKILL to those still alive after the grace period.

    Raises:
        LocalStackError: a process survived even that.
    """
    kill_processes(_signalled(processes, by, grace_seconds))


def kill_processes(processes: Sequence[psutil.Process]) -> None:
    """Sends SIGKILL to all, and returns when they are gone.

    Raises:
        LocalStackError: a process survived.
    """
    survivors = ", ".join(str(process.pid) for process in _signalled(processes, signal.SIGKILL, 10))
    if survivors:
        raise LocalStackError(f"these processes survive SIGKILL (blocked in the kernel?): pid {survivors}")


def _signalled(processes: Sequence[psutil.Process], by: int, timeout_seconds: float) -> list[psutil.Process]:
    """Those that still live so long after the signal."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(by)
    return still_alive(processes, timeout_seconds)


def still_alive(processes: Sequence[psutil.Process], timeout_seconds: float) -> list[psutil.Process]:
    """Waits until all have ended or the time is over; returns those that still live.

    psutil's own wait counts a zombie as alive.
    """
    deadline = time.monotonic() + timeout_seconds
    while (living := [process for process in processes if is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    return living


def port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Like the servers: connections of a killed server that linger in TIME_WAIT don't occupy its port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose_port(preferred: int | None, taken: Collection[int | None]) -> int:
    """The preferred port if it is free, else another one that is not taken.

    Raises:
        LocalStackError: no port is free.
    """
    if preferred is not None and port_is_free(preferred):
        return preferred
    for port in random.sample(PORTS, k=200):
        if port not in taken and port_is_free(port):
            return port
    raise LocalStackError(f"found no free port between {PORTS.start} and {PORTS.stop - 1} on {LOOPBACK}")
