"""The command line as it presents itself: its help, its version, and what it makes of arguments. No engine answers here.

What lives here: every command, whatever it does. What does not: what the commands do (cli/test_cli.py and the tests of their packages).
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from reindex_assets.__main__ import app
from reindex_assets.cli import options
from reindex_assets.config.fleet import load_fleet
from reindex_assets.config.modes import Mode
from reindex_assets.errors import ConfigurationError
from reindex_assets_tests.support.fleet_files import EXAMPLE, write

DAYS = ["--from", "2026-01-05", "--to", "2026-01-05"]


def commands_of(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group, by the words that call it."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands_of(inner, (*path, name))


COMMANDS = dict(commands_of(typer.main.get_command(app)))
#: Those that take customers of the fleet file; `local up` makes one.
OF_CUSTOMERS = [
    path
    for path, command in COMMANDS.items()
    if path[:1] != ("local",) and any("--customer" in parameter.opts for parameter in command.params)
]


@pytest.fixture
def fleet_file(tmp_path: Path) -> Path:
    return write(tmp_path, EXAMPLE)


def run(*arguments: str, **variables: str) -> Any:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "80", **variables})


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_fits_80_columns_and_shows_flags_as_flags(path: tuple[str, ...]) -> None:
    answer = run(*path, "-h")
    assert answer.exit_code == 0, answer.output
    assert answer.output == run(*path, "--help").output
    assert max(len(line) for line in answer.output.splitlines()) <= 80
    for what in ("<bool>", "%Y", "…", "list[", "(process)"):
        assert what not in answer.output


def test_the_overview_says_in_one_sentence_what_each_command_does() -> None:
    words = " ".join(run("--help").output.replace("│", " ").split())
    for name, command in COMMANDS[()].commands.items():
        [first, *_] = (command.help or "").split("\n\n")
        sentence = " ".join(first.split())
        assert f"{name} {sentence}" in words
        assert "Exit status" not in sentence


def test_commands_are_listed_in_the_order_of_use() -> None:
    output = run("--help").output
    order = (
        "fleet",
        "schema",
        "backfill",
        "status",
        "problems",
        "check",
        "verify",
        "reindex",
        "repairs",
        "appeals",
        "reshard",
        "worker",
    )
    places = [output.index(f"\n│ {name} ") for name in (*order, "demo", "dev", "local")]
    assert places == sorted(places)
    assert len(places) == len(COMMANDS[()].commands)
    up = run("local", "--help").output
    assert up.index("│ up ") < up.index("│ down ") < up.index("│ status ")


def test_the_version_is_that_of_the_package() -> None:
    answer = run("--version")
    assert (answer.exit_code, answer.output) == (0, f"reindex-assets {version('reindex-assets')}\n")


def test_customers_are_taken_by_the_same_option_everywhere() -> None:
    assert {path[0] for path in OF_CUSTOMERS} >= {"reindex", "verify", "backfill", "appeals", "repairs", "problems"}
    for path, command in COMMANDS.items():
        shown = {opt for parameter in command.params if not parameter.hidden for opt in parameter.opts}
        # Where it is a number of customers to make up.
        assert "--customers" not in shown or path in {("demo",), ("local", "up")}


@pytest.mark.parametrize("name", ["nobody", "", "spirit,nobody", "spirit,"])
@pytest.mark.parametrize("path", OF_CUSTOMERS, ids=" ".join)
def test_a_customer_that_the_fleet_does_not_have_is_refused(path: tuple[str, ...], name: str, fleet_file: Path) -> None:
    days = DAYS if any("--from" in parameter.opts for parameter in COMMANDS[path].params) else []
    answer = run(*path, *days, "--customer", name, "--fleet", str(fleet_file))
    assert answer.exit_code == 2
    missing = name.rpartition(",")[2]
    assert f"unknown customer '{missing}': the fleet file has holiday.inn, spirit, united-east" in answer.stderr


def test_customers_may_be_repeated_or_separated_by_commas(fleet_file: Path) -> None:
    fleet = load_fleet(fleet_file)
    assert options.customers_of(fleet, None) == []
    assert options.customers_of(fleet, ["spirit, holiday.inn", "united-east", "spirit"]) == [
        "spirit",
        "holiday.inn",
        "united-east",
    ]
    with pytest.raises(ConfigurationError, match="unknown customer ''"):
        options.customers_of(fleet, [""])


def test_the_former_name_of_the_option_still_works_in_backfill(fleet_file: Path) -> None:
    answer = run("backfill", *DAYS, "--customers", "nobody", "--dry-run", "--fleet", str(fleet_file))
    assert "unknown customer 'nobody'" in answer.stderr


@pytest.mark.parametrize("day", ["2026-01-99", "05.01.2026", ""])
def test_a_day_that_is_none_is_refused_with_an_example(day: str, fleet_file: Path) -> None:
    answer = run("verify", "--from", day, "--to", "2026-01-05", "--fleet", str(fleet_file))
    assert answer.exit_code == 2
    assert "is not a day: write it as 2026-01-31" in " ".join(answer.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("mode", "kind", "note"),
    [
        ("conversation", None, "The mode of this fleet is conversation: --kind conversation"),
        ("conversation", Mode.PROCESS, ""),
        ("process", None, ""),
        ("all", None, ""),
    ],
)
def test_without_a_kind_a_command_is_about_process_scorecards_and_says_so_where_nothing_else_is(
    mode: str,
    kind: Mode | None,
    note: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("REINDEX_MODE", raising=False)
    fleet = load_fleet(write(tmp_path, f"mode: {mode}\n{EXAMPLE}"))
    assert options.kind_of(fleet, kind) is Mode.PROCESS
    printed = capsys.readouterr()
    assert note in " ".join(printed.err.split())
    assert bool(printed.err) is bool(note)
    assert printed.out == ""
