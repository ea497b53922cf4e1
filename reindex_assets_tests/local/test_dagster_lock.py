"""One Dagster at a time on a local stack.

What lives here: the lock, held by a program that has replaced its process, as `dev` does. What does not: Dagster.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reindex_assets.__main__ import app
from reindex_assets.errors import ConfigurationError
from reindex_assets.local.stack.dagster_lock import hold_for_dagster, refuse_beside_dagster
from reindex_assets.local.stack.stack import LocalStack

_HOLD = """
import os, sys
from pathlib import Path
from reindex_assets.local.stack.dagster_lock import hold_for_dagster
held = hold_for_dagster(Path(sys.argv[1]))
os.execv(sys.executable, [sys.executable, "-c", "print('held', flush=True); import time; time.sleep(600)"])
"""


@pytest.fixture
def holder(engines: None, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_one_is_refused_and_so_is_a_reset_until_the_first_has_ended(
    holder: subprocess.Popen[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=rf"runs on this stack \(process {holder.pid}\): end it with Ctrl-C"):
        hold_for_dagster(tmp_path)
    kept = tmp_path / "fleet.yaml"
    kept.touch()
    with pytest.raises(ConfigurationError, match=f"process {holder.pid}"):
        LocalStack(tmp_path).reset()
    assert kept.exists()
    holder.kill()
    holder.wait()
    refuse_beside_dagster(tmp_path)
    with hold_for_dagster(tmp_path), pytest.raises(ConfigurationError):
        hold_for_dagster(tmp_path)
    hold_for_dagster(tmp_path).close()
    LocalStack(tmp_path).reset()
    assert not tmp_path.exists()


def test_dev_says_that_it_runs_already(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindex_assets.local.demo.commands.DEFAULT_ROOT", tmp_path)
    answer = CliRunner().invoke(app, ["dev"], env={"COLUMNS": "200"})
    assert answer.exit_code != 0
    assert f"'reindex-assets dev' runs on this stack (process {holder.pid})" in answer.output


def test_dev_says_that_its_port_is_taken_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindex_assets.local.demo.commands.DEFAULT_ROOT", tmp_path)
    monkeypatch.setattr("reindex_assets.local.stack.processes.port_is_free", lambda port: False)
    answer = CliRunner().invoke(app, ["dev", "--port", "3999"], env={"COLUMNS": "200"})
    assert answer.exit_code != 0
    assert "port 3999 is in use: choose another one with --port" in answer.output
    assert {path.name for path in tmp_path.iterdir()} == {"dagster.lock"}
