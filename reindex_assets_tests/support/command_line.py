"""The command line as a process of its own, with what it printed.

What lives here: running it, and its answer. What does not: tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit status."""

    status: int
    output: str
    errors: str

    @property
    def json(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.output)
        return found

    @property
    def verification(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.output)
        return found

    @property
    def slices(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.verification["slices"]
        return found

    @property
    def words(self) -> str:
        return " ".join(f"{self.output} {self.errors}".split())


def command(*arguments: str, without: tuple[str, ...] = (), cwd: Path | None = None, **variables: str) -> Answer:
    """Runs the command line with this process's environment, changed by `variables` and `without`."""
    environment = {name: value for name, value in {**os.environ, **variables}.items() if name not in without}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "reindex_assets", *arguments],
            env={**environment, "COLUMNS": "200", "NO_COLOR": "1"},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        pytest.fail(
            f"{arguments} did not end within {error.timeout} s, and said so far:\n{error.stdout!r}\n{error.stderr!r}"
        )
    return Answer(done.returncode, done.stdout, done.stderr)
