"""Dagster as an operator runs it: webserver, daemon and code location as processes of their own.

What lives here: starting and stopping them, and the questions that the UI asks by GraphQL. What does not: tests.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_LOCATION = "reindex_assets.definitions"


class DagsterProcesses:
    """A running Dagster, by the address of its webserver."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

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


@contextlib.contextmanager
def running_dagster(log: Path, environment: Mapping[str, str]) -> Iterator[DagsterProcesses]:
    """`dagster dev` on a free port, in the DAGSTER_HOME of the environment; everything is ended with the context."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster", "dev", "-m", _LOCATION, "-h", "127.0.0.1", "-p", str(port)],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    dagster = DagsterProcesses(port)
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
        assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
        try:
            found = dagster.ask("{ workspaceOrError { ... on Workspace { locationEntries { loadStatus } } } }")
            if [entry["loadStatus"] for entry in found["workspaceOrError"]["locationEntries"]] == ["LOADED"]:
                return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.3)
    raise AssertionError(f"Dagster has not started: {log.read_text(encoding='utf-8')[-3000:]}")
