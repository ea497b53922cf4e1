"""Tables where they are read: in a terminal of 80 columns, and in a pipe. Nothing is cut off, whatever the size of the numbers.

What lives here: widths. What does not: the figures of the tables (the tests of their commands).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from reindex_assets.__main__ import app
from reindex_assets.cli.render.backfill import status_line, status_tables
from reindex_assets.cli.render.terminal import open_console, print_table
from reindex_assets.defs.runs.backfill_status import BackfillStatus, CustomerStatus


def printed(table: Table, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_table(console, table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def wide_table() -> Table:
    table = Table(title="Rows")
    for name in ("customer", "scorecards\nof the day", "id", "verdict"):
        table.add_column(name, no_wrap=True)
    table.add_row("spirit", "1,634,498", "fe941cd6-b87b-c7d4-7fa0-b04816903222", Text("equal\nto the bit", "green"))
    table.add_row(Text("united[east]"), "7", "0b5d8b07-3f7a-41ae-9d0a-6a3a0f9a2a11", "differs")
    return table


def test_a_table_that_fits_is_a_table() -> None:
    output = printed(wide_table(), 100)
    assert "│ spirit" in output
    assert "…" not in output


def test_a_table_that_does_not_fit_is_a_paragraph_for_each_row_with_every_value() -> None:
    output = printed(wide_table(), 60)
    assert output.splitlines() == [
        "Rows",
        "  customer               spirit",
        "  scorecards of the day  1,634,498",
        "  id                     fe941cd6-b87b-c7d4-7fa0-b04816903222",
        "  verdict                equal",
        "                         to the bit",
        "",
        "  customer               united[east]",
        "  scorecards of the day  7",
        "  id                     0b5d8b07-3f7a-41ae-9d0a-6a3a0f9a2a11",
        "  verdict                differs",
        "",
    ]


def test_a_pipe_is_as_wide_as_what_is_printed_unless_columns_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    sentence = "a sentence that goes on and on " * 20
    open_console().print(sentence)
    print_table(open_console(), wide_table())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].rstrip() == sentence.strip()
    assert any(line.startswith("│ spirit") for line in lines)
    assert max(map(len, lines[1:])) < 100
    monkeypatch.setenv("COLUMNS", "60")
    print_table(open_console(), wide_table())
    assert "  verdict                differs" in capsys.readouterr().out.splitlines()


def status_of(state: str) -> BackfillStatus:
    """The size of the largest backfill: 95 customers of several clusters, 51 windows each."""
    customers = tuple(
        CustomerStatus(
            cluster_name=cluster,
            customer=customer,
            kind_name=kind,
            windows={"done": 17, "running": 2, state: 32},
            slices=510,
            slices_done=170,
            rows=6_765_534,
            written=6_765_534,
            deleted=0,
            busy_seconds=500.0,
            seconds_left=86_000.0,
        )
        for cluster in ("us-east-1-prod", "voice-prod")
        for kind in ("conversation", "process")
        for customer in ("spirit", "united-east")
    )
    return BackfillStatus(
        name="2026-01-01..2027-05-25", begun=0.0, customers=customers, elapsed_seconds=900.0, seconds_left=90_000.0
    )


@pytest.mark.parametrize("state", ["left", "failed"])
def test_the_status_of_a_large_backfill_can_be_read_in_80_columns(state: str) -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(status_tables(status_of(state)))
    assert isinstance(console.file, io.StringIO)
    output = console.file.getvalue()
    lines = output.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= 80
    assert "…" not in output
    failed = "32" if state == "failed" else "0"
    rows = [line.split() for line in lines if line.strip().startswith("united-east")]
    assert rows == [["united-east", "17/51", "2", failed, "170/510", "6,765,534", "13,531", "23", "h", "53", "min"]] * 4
    for head in ("us-east-1-prod, conversation", "voice-prod, process", "windows", "running", "failed", "time left"):
        assert head in output


def test_a_line_says_how_far_everything_is() -> None:
    assert status_line(status_of("left")) == (
        "Windows: 136 done, 16 running, 0 failed, 256 left; days done: 1,360/4,080; 54,124,272 rows read, 54,124,272 written; "
        "time left: 1 d 1 h"
    )


class _Backfill:
    """A backfill whose status is read again and again."""

    def __init__(self, answers: Iterator[BackfillStatus]) -> None:
        self.answers = answers


def test_watching_writes_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    import contextlib

    import reindex_assets.cli.backfill as command
    from reindex_assets.cli import options

    under_way, done = status_of("left"), BackfillStatus("b", 0.0, (), 900.0, None)
    answers: Iterator[Any] = iter([under_way, under_way, done])
    monkeypatch.setattr(command, "_WATCH_SECONDS", 0.0)
    monkeypatch.setattr(options, "open_fleet", lambda option: None)
    opening, progress = "reindex_assets.defs.instance.opening", "reindex_assets.defs.runs.backfill_progress"
    monkeypatch.setattr(f"{opening}.open_instance", lambda: contextlib.nullcontext(None))
    monkeypatch.setattr(f"{opening}.hold_connections", lambda instance: None)
    monkeypatch.setattr(f"{progress}.latest_names", lambda instance: ["b"])
    monkeypatch.setattr(f"{progress}.find_backfill", lambda instance, name: _Backfill(answers))
    monkeypatch.setattr(
        "reindex_assets.defs.runs.backfill_status.backfill_status", lambda backfill, now: next(backfill.answers)
    )
    answer = CliRunner().invoke(app, ["status", "--watch"], env={"COLUMNS": "80"})
    assert answer.exit_code == 0, answer.output
    assert "\x1b" not in answer.output
    lines = [line for line in answer.output.splitlines() if " UTC: Windows: " in line]
    # The second look found nothing new.
    assert [line.partition("UTC: ")[2] for line in lines] == [status_line(under_way), status_line(done)]
    assert "Done, in 15 min" in answer.output
