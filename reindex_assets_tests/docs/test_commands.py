"""The commands of the documentation do what it says: each is run on real engines, in the order in which an operator comes to it.

What lives here: running them, and what they print. What does not: whether they are spelt rightly (docs/test_pages.py), and what each of
them does in every case (the tests of its package).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from clickhouse_connect.driver.client import Client
from dagster import DagsterInstance
from dagster._core.execution.backfill import BulkActionStatus
from psycopg2.extensions import connection as Connection
from typer.testing import CliRunner

from reindex_assets.__main__ import app
from reindex_assets.config.fleet import load_fleet
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import PROCESS
from reindex_assets_tests.support.pages import ROOT, section, typed
from reindex_assets_tests.support.session_stack import (
    FIRST_DAY,
    connect_shards,
    connect_source,
    empty_shards,
    empty_source,
)

#: In the order of an operator's first weeks.
ORDER = (
    *("docs/install.md", "README.md", "docs/fleet-file.md", "docs/backfill.md", "docs/checks.md", "docs/repair.md"),
    *("docs/appeals.md", "docs/reshard.md", "docs/deploy.md", "docs/commands.md", "docs/local-stack.md"),
)
#: The cluster and the customers of which the pages speak.
DOCUMENTED_CLUSTER = "us-east-1-prod"
PLAN = DataPlan({"spirit": ("main",), "hilton": ("main", "voice")}, FIRST_DAY, days=3, scale=0.001, seed=5)

#: Commands that can't be run beside other tests, and where they are.
ELSEWHERE = {
    "worker": "defs/test_celery.py",
    "local up": "local/test_local_stack.py",
    "local down": "local/test_local_stack.py",
    "local spoil": "local/test_spoil.py",
    "local reset": "local/test_local_stack.py",
}
#: Commands that end with 1, because of what they find; all others end with 0.
ENDS_WITH_1 = {
    # Nothing has been written yet.
    "reindex --from 2026-01-01 --to 2026-01-01 --customer spirit --dry-run",
    "verify --from 2026-01-01 --to 2026-01-07",
    "verify --from 2026-01-01 --to 2026-01-07 --customer spirit --depth rows --samples 2",
    "problems",
    "problems --customer spirit --json",
    "status --watch",
    "appeals --from 2026-01-01 --to 2026-01-07",
    "appeals --from 2026-01-01 --to 2026-01-07 --customer spirit --json",
}


@dataclass(frozen=True)
class Ran:
    status: int
    output: str


class Scene:
    """What must have happened before a command shows what its page says."""

    def __init__(self, source: Connection, shards: list[Client], instance: DagsterInstance) -> None:
        self._source, self._shards, self._instance = source, shards, instance
        self._before: Mapping[str, Callable[[], None]] = {
            "verify --from 2026-01-01 --to 2026-01-07": self._damage,
            "verify --from 2026-01-01 --to 2026-01-07 --kind conversation --depth counts": self._repair,
            "status --watch": self._cancel,
            "problems": self._find_damage,
            "repairs": self._repair,
            "appeals --from 2026-01-01 --to 2026-01-07": self._write_appeals,
        }

    def prepare(self, command: str) -> None:
        self._before.get(command, lambda: None)()

    def _damage(self) -> None:
        for number, (drift, customer, day) in enumerate(
            [(Drift.MISSING, "spirit", 1), (Drift.EXTRA, "spirit", 2), (Drift.CHANGED, "hilton", 2)]
        ):
            plant(
                drift,
                self._shards,
                customer,
                FIRST_DAY.replace(day=day),
                kind=PROCESS,
                count=2,
                seed=number * 2,
                source=self._source,
            )

    def _repair(self) -> None:
        assert run("reindex --from 2026-01-01 --to 2026-01-03").status == 0

    def _find_damage(self) -> None:
        self._damage()
        assert run("reindex --from 2026-01-01 --to 2026-01-03 --dry-run").status == 1

    def _cancel(self) -> None:
        # Without a daemon it would go on for ever.
        for backfill in self._instance.get_backfills():
            self._instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELED))  # type: ignore[no-untyped-call]

    def _write_appeals(self) -> None:
        for customer in PLAN.customers:
            plant(Drift.APPEAL, self._shards, customer, FIRST_DAY, kind=PROCESS, count=1, seed=1, source=self._source)


def run(command: str) -> Ran:
    """Runs a command in this process; whatever it asks is answered by yes."""
    result = CliRunner().invoke(app, command.split(), input="y\n", env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exception is None or isinstance(result.exception, SystemExit), (command, result.exc_info)
    return Ran(result.exit_code, result.output)


@pytest.fixture(scope="module")
def ran(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ran]]:
    """Every command of the documentation with what it printed, each run once."""
    directory = tmp_path_factory.mktemp("operator")
    (directory / ".local").symlink_to(stack.root.resolve())
    document = yaml.safe_load(stack.fleet_path.read_text(encoding="utf-8"))
    cluster = document["clusters"].pop(CLUSTER)
    cluster["customers"] = {customer: {} for customer in PLAN.customers}
    document["clusters"] = {DOCUMENTED_CLUSTER: cluster}
    fleet_file = directory / "fleet.yaml"
    fleet_file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    of_stack = load_fleet(stack.fleet_path)
    shards = connect_shards(of_stack)
    with (
        contextlib.closing(connect_source(of_stack)) as source,
        contextlib.ExitStack() as clients,
        pytest.MonkeyPatch.context() as environment,
        DagsterInstance.get() as instance,
    ):
        for client in shards:
            clients.enter_context(client)
        environment.chdir(directory)
        environment.setenv("REINDEX_FLEET", str(fleet_file))
        _empty(source, shards, instance)
        make_source(source, PLAN)
        scene, answers = Scene(source, shards, instance), dict[str, Ran]()
        for page in ORDER:
            for command in commands_of(page):
                if command not in answers and not is_elsewhere(command):
                    scene.prepare(command)
                    answers[command] = run(command)
        yield answers
        _empty(source, shards, instance)


def _empty(source: Connection, shards: list[Client], instance: DagsterInstance) -> None:
    empty_source(source)
    empty_shards(shards)
    instance.wipe()


def commands_of(page: str) -> list[str]:
    """What follows `reindex-assets` in the blocks of a page, whoever calls it there."""
    return [" ".join(words[words.index("reindex-assets") + 1 :]) for words in words_of(page)]


def words_of(page: str) -> list[tuple[str, ...]]:
    return [command.words for command in typed(page) if "reindex-assets" in command.words]


def is_elsewhere(command: str) -> bool:
    return any(command.startswith(name) for name in ELSEWHERE)


def test_every_page_with_commands_has_its_place_in_the_order() -> None:
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")} | {"README.md", "CONTRIBUTING.md"}
    assert {page for page in pages if commands_of(page)} == set(ORDER)
    for name, path in ELSEWHERE.items():
        assert name.split()[-1] in (ROOT / "reindex_assets_tests" / path).read_text(encoding="utf-8")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", ORDER)
def test_the_commands_of_a_page_work(page: str, ran: dict[str, Ran]) -> None:
    for command in commands_of(page):
        if not is_elsewhere(command):
            assert ran[command].status == (command in ENDS_WITH_1), f"{command}:\n{ran[command].output}"


def _words(text: str) -> set[str]:
    """Words without figures: those differ from machine to machine."""
    return {word for word in re.findall(r"[A-Za-z_][\w.-]*", text) if not re.search(r"\d", word)}


@pytest.mark.parametrize("page", ORDER)
def test_what_a_page_shows_of_an_output_is_in_that_output(page: str, ran: dict[str, Ran]) -> None:
    for command in typed(page):
        if command.output:
            output = ran[" ".join(command.words[1:])].output
            assert _words(command.output) <= _words(output), f"{command}:\n{output}"


def test_the_keys_of_a_verification_are_those_that_the_page_names(ran: dict[str, Ran]) -> None:
    document = json.loads(ran["verify --from 2026-01-01 --to 2026-01-07 --json"].output)
    [sentence] = re.findall(
        r"`--json` prints an object with the keys (.*?);", section("docs/checks.md", "Compare by hand"), re.S
    )
    assert set(re.findall(r"`(\w+)`", sentence)) == document.keys() - {"from", "to"}


def test_files_that_commands_write_are_whole(ran: dict[str, Ran]) -> None:
    assert Path("report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert "clusters" in json.loads(ran["fleet schema"].output)["properties"]
