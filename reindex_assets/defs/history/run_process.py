"""Which process a run works in, and whether that process is gone: the evidence that a run is dead.

What lives here: the run's tag, and what the kernel says about it. What does not: what follows from it (defs/history/dead_runs.py).

A pid alone proves nothing: another container has its own, and the kernel uses it again. So the tag also names the machine since its start,
the namespaces in which pid and time count, and when the process began. Whoever is elsewhere can't tell, and says so.
"""

from __future__ import annotations

import os
import socket
from enum import Enum
from pathlib import Path

from dagster import DagsterInstance, DagsterRun
from pydantic import BaseModel, ConfigDict, ValidationError

#: The tag, whose value is a `RunProcess` as JSON. A run that is retried or launched again inherits the tags of the one before it, so
#: the value names its run.
PROCESS_TAG = "reindex/process"

_PROC = Path("/proc")
#: Zombie and dead: a container without an init reaps nobody.
_ENDED_STATES = frozenset("ZXx")


class ProcessState(Enum):
    """What is known of a process."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "it can't be seen from here"


class RunProcess(BaseModel):
    """The process of a run.

    Attributes:
        kernel: the machine since its start, and the namespaces of pids and time. The same text means that pids can be compared.
        started: clock ticks between the machine's start and the process's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    run_id: str
    host: str
    kernel: str
    pid: int
    started: int

    def __str__(self) -> str:
        return f"pid {self.pid} on {self.host}"

    def state(self) -> ProcessState:
        """Whether the process lives, as far as this one can see."""
        if (self.host, self.kernel) != (socket.gethostname(), _kernel()):
            return ProcessState.UNKNOWN
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return ProcessState.GONE
        except PermissionError:
            # It lives, or another has its pid now.
            pass
        try:
            state, started = _state_and_start(self.pid)
        except FileNotFoundError:
            # It has just ended, or /proc hides the processes of others.
            return ProcessState.UNKNOWN
        except (OSError, ValueError):
            return ProcessState.UNKNOWN
        return ProcessState.GONE if started != self.started or state in _ENDED_STATES else ProcessState.ALIVE


def process_tags(run_id: str) -> dict[str, str]:
    """The tag that says that the run works in this process; none where the kernel does not tell (only Linux does)."""
    kernel = _kernel()
    if kernel is None:
        return {}
    process = RunProcess(
        run_id=run_id,
        host=socket.gethostname(),
        kernel=kernel,
        pid=os.getpid(),
        started=_state_and_start(os.getpid())[1],
    )
    return {PROCESS_TAG: process.model_dump_json()}


def note_process(instance: DagsterInstance, run: DagsterRun) -> None:
    """Tags a run of this process, unless it is tagged already: whoever launched it did not know its process."""
    tags = process_tags(run.run_id)
    if not tags.items() <= run.tags.items():
        instance.add_run_tags(run.run_id, tags)


def process_of(run: DagsterRun) -> RunProcess | None:
    """The process of a run, if the run says so."""
    try:
        process = RunProcess.model_validate_json(run.tags[PROCESS_TAG])
    except (KeyError, ValidationError):
        return None
    return process if process.run_id == run.run_id else None


def _kernel() -> str | None:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespaces = [os.readlink(_PROC / "self/ns" / name) for name in ("pid", "time")]
    except OSError:
        return None
    return " ".join((boot, *namespaces))


def _state_and_start(pid: int) -> tuple[str, int]:
    # The name in parentheses may hold spaces and parentheses.
    fields = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[19])
