"""The wall time, processor time and peak memory of a run, of Postgres and of each shard.

What lives here: measuring them from outside, without a cgroup. What does not: the run itself, and whether it was right (proof.py).

Processor time is the difference of what the kernel has counted for a whole tree of processes. That includes processes that have ended,
whose parent inherits their time, so nothing short-lived is missed. Memory is sampled ten times a second. For the run's process the
kernel's high-water mark is read too (VmHWM, which each program starts from zero), so that a short peak is not missed either. Postgres'
processes share their buffers, which count once.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import psutil

from benchmarks.target import Servers
from reindex_assets.local.stack.processes import process_tree, resident_bytes

_REPOSITORY = Path(__file__).resolve().parent.parent
_SECONDS_BETWEEN_SAMPLES = 0.1
#: Sampling Postgres' many processes takes milliseconds, enough to disturb a run on two cores.
_SAMPLES_BETWEEN_POSTGRES = 5
_HIGH_WATER = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Used:
    """What one tree of processes used."""

    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Measured:
    """What one run used.

    Attributes:
        run: the run's process with its children (if it is this process, without); the peak is that of the largest single process.
        max_rss_bytes: the kernel's ru_maxrss of a command; 0 for a run that is no command. It starts from the size of the process that
            started the command, so it can be too high but never too low.
    """

    wall_seconds: float
    run: Used
    postgres: Used
    shards: tuple[Used, ...]
    max_rss_bytes: int = 0

    @property
    def cpu_seconds(self) -> float:
        return self.run.cpu_seconds + self.postgres.cpu_seconds + sum(shard.cpu_seconds for shard in self.shards)


class Meter:
    """Measures while its context is open, and then holds the `result`."""

    def __init__(self, servers: Servers, run: psutil.Process) -> None:
        self._servers = servers
        self._run = run
        self._peaks: dict[str, int] = {}
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="meter", daemon=True)
        self.result: Measured | None = None

    def __enter__(self) -> Meter:
        self._cpu_before = self._cpu()
        self._begun = time.perf_counter()
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall = time.perf_counter() - self._begun
        self._done.set()
        self._sampler.join()
        used = [after - before for after, before in zip(self._cpu(), self._cpu_before, strict=True)]
        self.result = Measured(
            wall,
            Used(used[0], self._peaks.get("run", 0)),
            Used(used[1], self._peaks.get("postgres", 0)),
            tuple(Used(cpu, self._peaks.get(f"shard {number}", 0)) for number, cpu in enumerate(used[2:])),
        )

    def _cpu(self) -> list[float]:
        return [_cpu_of_tree(tree) for tree in (self._run, self._servers.postgres, *self._servers.shards)]

    def _sample(self) -> None:
        number = 0
        while True:
            self._note("run", max((_high_water(process) for process in _tree(self._run)), default=0))
            for shard, process in enumerate(self._servers.shards):
                self._note(f"shard {shard}", resident_bytes([process]))
            if number % _SAMPLES_BETWEEN_POSTGRES == 0:
                self._note("postgres", resident_bytes(_tree(self._servers.postgres)))
            number += 1
            if self._done.wait(_SECONDS_BETWEEN_SAMPLES):
                return

    def _note(self, name: str, sample: int) -> None:
        self._peaks[name] = max(self._peaks.get(name, 0), sample)


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    status: int
    output: str
    errors: str
    measured: Measured


def measure_command(command: Sequence[str], environment: Mapping[str, str], servers: Servers) -> Finished:
    """Runs a command to its end, in a new process at the root of the repository."""
    # Files, because nobody reads while the command runs, and a pipe would fill up.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output, tempfile.TemporaryFile("w+") as errors:
        begun = time.perf_counter()
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            cwd=_REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
        try:
            with Meter(servers, psutil.Process(process.pid)) as meter:
                _, status, used = os.wait4(process.pid, 0)
                wall = time.perf_counter() - begun
        except BaseException:
            process.kill()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        assert meter.result is not None
        measured = Measured(
            wall,
            # The process has ended, and the kernel keeps its times nowhere else.
            Used(used.ru_utime + used.ru_stime, meter.result.run.peak_bytes),
            meter.result.postgres,
            meter.result.shards,
            used.ru_maxrss * 1024,
        )
        output.seek(0)
        errors.seek(0)
        return Finished(process.returncode, output.read(), errors.read(), measured)


def _cpu_of_tree(root: psutil.Process) -> float:
    """Processor seconds of a process and its descendants, including ended ones; 0 when the process itself has ended."""
    total = 0.0
    for process in _tree(root):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _tree(root: psutil.Process) -> list[psutil.Process]:
    # A peer runs in this process, whose children are the servers too: they are counted separately.
    return [root] if root.pid == os.getpid() else process_tree(root)


def _high_water(process: psutil.Process) -> int:
    """The peak of a process's resident memory since its program began, or its present memory if the kernel doesn't report the peak."""
    with contextlib.suppress(OSError):
        line = _HIGH_WATER.search(Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8", errors="replace"))
        if line is not None:
            return int(line[1]) * 1024
    return resident_bytes([process])
