"""Errors that nobody expected: no command ends with the status that says that something differs, or shows a trace.

What lives here: every command of the production command line. What does not: errors in words (cli/test_cli.py).
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reindex_assets.__main__ import app
from reindex_assets.cli import options

EXAMPLE = Path(__file__).parents[2] / "deploy" / "fleet.example.yaml"
DAYS = ["--from", "2026-01-05", "--to", "2026-01-05"]
COMMANDS = [
    ["reindex", *DAYS],
    ["verify", *DAYS],
    ["repairs"],
    ["problems"],
    ["check", *DAYS],
    ["backfill", *DAYS, "--all", "--dry-run"],
    ["status"],
    ["reshard"],
    ["appeals", *DAYS],
    ["schema", "apply"],
]


def fails(option: Path | None) -> None:
    raise struct.error("unpack requires\na buffer of 8 bytes")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_an_error_that_nobody_expected_ends_with_2_and_one_line(
    command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "open_fleet", fails)
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 2
    assert answer.stdout == ""
    [line] = answer.stderr.splitlines()
    assert line.startswith("error: unexpected error: unpack requires a buffer of 8 bytes.")


def test_the_trace_is_shown_to_whoever_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "open_fleet", fails)
    answer = CliRunner().invoke(app, COMMANDS[1], env={"REINDEX_DEBUG": "1"})
    assert answer.exit_code == 2
    assert "Traceback" in answer.stderr


def test_a_question_that_nobody_answers_ends_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    def aborts(option: Path | None) -> None:
        import typer

        typer.confirm("Continue?", err=True)

    monkeypatch.setattr(options, "open_fleet", aborts)
    answer = CliRunner().invoke(app, COMMANDS[0], input="")
    assert answer.exit_code == 2
    assert "aborted" in answer.stderr


@pytest.mark.usefixtures("engines")
@pytest.mark.parametrize("arguments", [["show"], ["check"]])
def test_whoever_reads_only_the_beginning_of_the_output_is_told_no_error(arguments: list[str]) -> None:
    """As `head` does; a shell calls it 141. One prints by typer, and the other by rich."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = subprocess.run(
        [sys.executable, "-m", "reindex_assets", "fleet", *arguments, "--fleet", str(EXAMPLE)],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (ended.stderr, ended.returncode) == ("", 141)


def test_a_connection_that_breaks_is_not_taken_for_a_reader_who_has_seen_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def breaks(option: Path | None) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(options, "open_fleet", breaks)
    answer = CliRunner().invoke(app, COMMANDS[1])
    assert answer.exit_code == 2
    assert "unexpected BrokenPipeError" in answer.stderr
