"""Dagster's daemon as a process of its own, without a webserver, to be stopped and killed.

What lives here: starting and ending it, and the processes of its runs. What does not: tests.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from dagster import DagsterEventType, DagsterInstance

#: From the launch of a run to its first event: twenty times what it takes when nothing else runs.
START_SECONDS = 90
_PID = re.compile(r"pid: (\d+)")


class Daemon:
    """A running daemon, with the code server that it has started."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """As a deployment does it: the daemon is asked to end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """`kill -9` of the daemon alone; runs are children of the code server, and go on."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        self._process.send_signal(how)
        self._process.wait(60)


@contextlib.contextmanager
def running_daemon(log: Path, environment: Mapping[str, str] | None = None) -> Iterator[Daemon]:
    """`dagster-daemon run` in the DAGSTER_HOME of the environment. With the context it ends, and all that it has started."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-m", "reindex_assets.definitions"],
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Daemon(process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def impatient_home(directory: Path) -> dict[str, str]:
    """The environment of a daemon which finds dead runs sooner: Dagster waits three minutes for a run whose launch died with its daemon.

    The instance is the same: it lives in Postgres, and DAGSTER_HOME holds its settings.
    """
    document = yaml.safe_load((Path(os.environ["DAGSTER_HOME"]) / "dagster.yaml").read_text(encoding="utf-8"))
    document["run_monitoring"].update(start_timeout_seconds=START_SECONDS, poll_interval_seconds=2)
    directory.mkdir()
    (directory / "dagster.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return {"DAGSTER_HOME": str(directory)}


def pid_of_run(instance: DagsterInstance, run_id: str) -> int | None:
    """The process of a run; None while it has none."""
    for record in instance.get_records_for_run(run_id, of_type=DagsterEventType.ENGINE_EVENT).records:
        event = record.event_log_entry.dagster_event
        found = _PID.search(event.message or "") if event is not None else None
        if found is not None:
            return int(found[1])
    return None
