"""Dagster as an operator runs it: webserver, daemon and code location as processes of their own.

What lives here: starting and stopping them, and the questions that the UI asks by GraphQL. What does not: any import of Dagster, and
what a demonstration or a test does with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reindex_assets.local.stack.files import LocalStackError, tail
from reindex_assets.local.stack.processes import LOOPBACK, choose_port

_LOCATION = "reindex_assets.definitions"


class DagsterProcesses:
    """A running Dagster, by the address of its webserver.

    Attributes:
        pid: of the process that began all the others, where that is one of ours.
    """

    def __init__(self, port: int, pid: int | None = None) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self.pid = pid

    def ask(self, query: str, variables: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Asks the webserver by GraphQL."""
        body = json.dumps({"query": query, "variables": variables or {}}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            document = json.load(answer)
        assert "errors" not in document, document
        data: dict[str, Any] = document["data"]
        return data

    def start_sensor(self, name: str) -> None:
        """Switches a sensor on, as the UI does."""
        answer = self.ask(
            "mutation($s: SensorSelector!) { startSensor(sensorSelector: $s) { __typename } }", {"s": _selector(name)}
        )
        assert answer["startSensor"]["__typename"] == "Sensor", answer

    def ticks(self, name: str) -> list[dict[str, Any]]:
        """The ticks of a sensor that have ended, the latest first."""
        answer = self.ask(
            """query($s: SensorSelector!) { sensorOrError(sensorSelector: $s) { ... on Sensor { sensorState {
                ticks(limit: 500) { timestamp endTimestamp status skipReason runIds error { message cause { message } } } } } } }""",
            {"s": _selector(name)},
        )
        ticks: list[dict[str, Any]] = answer["sensorOrError"]["sensorState"]["ticks"]
        return [tick for tick in ticks if tick["endTimestamp"] is not None]

    def runs(self) -> list[dict[str, Any]]:
        """Every run, the latest first."""
        answer = self.ask(
            "{ runsOrError { ... on Runs { results { runId jobName status tags { key value } startTime endTime creationTime } } } }"
        )
        runs: list[dict[str, Any]] = answer["runsOrError"]["results"]
        return runs


def _selector(name: str) -> dict[str, str]:
    return {"repositoryName": "__repository__", "repositoryLocationName": _LOCATION, "sensorName": name}


def dev_command(port: int) -> list[str]:
    """`dg dev`: the webserver on loopback, the daemon, and the code location."""
    # Not what `dg` finds in the directory: the name of the location is part of what the instance remembers of sensors and schedules.
    return [sys.executable, "-m", "dagster_dg_cli.cli", "dev", "-m", _LOCATION, "-h", LOOPBACK, "-p", str(port)]


@contextlib.contextmanager
def running_dagster(
    log: Path, environment: Mapping[str, str], preferred_port: int | None = None
) -> Iterator[DagsterProcesses]:
    """`dg dev` in the DAGSTER_HOME of the environment, on the preferred port if that is free; everything is ended with the context.

    Raises:
        LocalStackError: it ended while starting, or never answered; the message ends with its log.
    """
    port = choose_port(preferred_port, taken=())
    with log.open("wb") as output:
        process = subprocess.Popen(
            dev_command(port),
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    dagster = DagsterProcesses(port, process.pid)
    try:
        _await(dagster, process, log)
        yield dagster
    finally:
        # The whole group: runs are children of the code server.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await(dagster: DagsterProcesses, process: subprocess.Popen[bytes], log: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise LocalStackError(f"Dagster ended while starting; the end of {log}:\n{tail(log)}")
        with contextlib.suppress(OSError):
            workspace = dagster.ask("{ workspaceOrError { ... on Workspace { locationEntries { loadStatus } } } }")
            if [entry["loadStatus"] for entry in workspace["workspaceOrError"]["locationEntries"]] == ["LOADED"]:
                return
        time.sleep(0.3)
    raise LocalStackError(f"Dagster has not started within {seconds:.0f} s; the end of {log}:\n{tail(log)}")
