"""The command line as an operator has it: exit statuses, JSON, the runs in Dagster, and errors in words.

What lives here: `python -m reindex_assets` as a process of its own, by what is documented of it. What does not: the demo and `local`.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from clickhouse_connect.driver.client import Client
from dagster import AssetKey, DagsterInstance, DagsterRunStatus
from psycopg2.extensions import connection as Connection

from reindex_assets.fleet import load_fleet
from reindex_assets.local.layout import CLUSTER
from reindex_assets.local.made_data import DataPlan, make_source
from reindex_assets.local.stack import LocalStack
from reindex_assets.model import Slice
from reindex_assets_tests.conftest import CUSTOMERS, SOURCE_TABLES, connect_shards, connect_source
from reindex_assets_tests.hand_made_rows import silent_port
from reindex_assets_tests.oracle import assert_equal, differences

PLAN = DataPlan(CUSTOMERS, date(2026, 1, 31), days=2, scale=0.0006, seed=9)
RANGE = ["--from", "2026-01-31", "--to", "2026-02-01"]
#: Customers at both ends of the fleet file: no range of Dagster's can hold them without the one between.
APART = ["--customer", "acme", "--customer", "initech"]
SECRET = "hunter2-as-typed"


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
    def words(self) -> str:
        return " ".join(f"{self.output} {self.errors}".split())


def command(*arguments: str, without: tuple[str, ...] = (), cwd: Path | None = None, **variables: str) -> Answer:
    """Runs the command line with this process's environment, changed by `variables` and `without`."""
    environment = {name: value for name, value in {**os.environ, **variables}.items() if name not in without}
    done = subprocess.run(
        [sys.executable, "-m", "reindex_assets", *arguments],
        env={**environment, "COLUMNS": "200", "NO_COLOR": "1"},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Story:
    """One story that several tests look at: each command's answer, and the differences that were left after it."""

    before: Answer
    dry_run: Answer
    after_dry_run: int
    apart: Answer
    after_apart: list[str]
    whole: Answer
    verified: Answer


@pytest.fixture(scope="module")
def source_of_module(stack: LocalStack) -> Iterator[Connection]:
    with contextlib.closing(connect_source(load_fleet(stack.fleet_path))) as connection:
        yield connection


@pytest.fixture(scope="module")
def shards_of_module(stack: LocalStack) -> Iterator[list[Client]]:
    clients = connect_shards(load_fleet(stack.fleet_path))
    yield clients
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def story(source_of_module: Connection, shards_of_module: list[Client]) -> Story:
    with source_of_module.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(SOURCE_TABLES)}")
    for client in shards_of_module:
        for table in ("scorecard", "score"):
            client.command(f"TRUNCATE TABLE {table}")
    make_source(source_of_module, PLAN)
    before = command("verify", *RANGE, "--json", "--settle", "0")
    dry_run = command("reindex", *RANGE, "--dry-run", "--json")
    after_dry_run = sum(client.query("SELECT count() FROM score").result_rows[0][0] for client in shards_of_module)
    apart = command("reindex", *RANGE, *APART, "--json")
    after_apart = differences(source_of_module, shards_of_module)
    whole = command("reindex", *RANGE)
    verified = command("verify", *RANGE, "--json")
    return Story(before, dry_run, after_dry_run, apart, after_apart, whole, verified)


def test_verify_ends_with_1_and_says_what_differs(story: Story) -> None:
    assert story.before.status == 1, story.before.words
    assert [(row["customer"], row["day"]) for row in story.before.json] == sorted(
        (customer, str(day)) for customer in PLAN.customers for day in PLAN.all_days
    )
    for row in story.before.json:
        assert row["equal"] is False
        assert row["scorecard"]["postgres"] > 0
        assert row["scorecard"]["clickhouse"] == 0
        assert f"-{row['scorecard']['postgres']} scorecards" in row["difference"]


def test_a_dry_run_says_what_it_would_write_and_writes_nothing(story: Story) -> None:
    # The run went well, and its checks say that both sides still differ.
    assert story.dry_run.status == 1, story.dry_run.words
    [report] = story.dry_run.json
    assert report["success"] is True
    assert report["red_checks"]
    assert report["customers"] == list(PLAN.customers)
    expected = sum(row[table]["postgres"] for row in story.before.json for table in ("scorecard", "score"))
    assert (report["rows_read"], report["rows_written"]) == (expected, expected)
    assert story.after_dry_run == 0


def test_customers_that_are_no_neighbours_get_a_run_each_and_the_one_between_stays_as_it_was(story: Story) -> None:
    assert story.apart.status == 0, story.apart.words
    assert [report["customers"] for report in story.apart.json] == [["acme"], ["initech"]]
    assert all(report["success"] and not report["red_checks"] for report in story.apart.json)
    assert {line.split(":")[0] for line in story.after_apart} == {"missing"}
    assert all(" globex/" in line for line in story.after_apart)


def test_reindex_makes_everything_equal_and_verify_ends_with_0(
    story: Story, source_of_module: Connection, shards_of_module: list[Client]
) -> None:
    assert story.whole.status == 0, story.whole.words
    assert_equal(source_of_module, shards_of_module)
    assert story.verified.status == 0, story.verified.words
    assert len(story.verified.json) == len(PLAN.customers) * PLAN.days
    for row in story.verified.json:
        assert row["equal"] is True
        assert row["difference"] is None
        assert sum(row["score"]["by_shard"]) == row["score"]["postgres"] == row["score"]["clickhouse"] > 0


def test_the_runs_stand_in_dagster_with_their_partitions_materialized(story: Story) -> None:
    with DagsterInstance.get() as instance:
        for report in (*story.apart.json, *story.dry_run.json):
            run = instance.get_run_by_id(report["run_id"])
            assert run is not None
            assert run.status is DagsterRunStatus.SUCCESS
        keys = {Slice(customer, day).partition_key for customer in PLAN.customers for day in PLAN.all_days}
        for step in ("scorecard_extract", "score_rows", "shard_writes"):
            assert keys <= set(instance.get_materialized_partitions(AssetKey([CLUSTER, "process", step])))


def test_reindex_and_verify_end_with_2_on_a_request_that_makes_no_sense(stack: LocalStack) -> None:
    for name in ("verify", "reindex"):
        unknown = command(name, *RANGE, "--customer", "nobody")
        assert unknown.status == 2
        assert "unknown customer 'nobody'" in unknown.words
        assert "acme" in unknown.words
        assert "Traceback" not in unknown.errors
    backwards = command("verify", "--from", "2026-02-02", "--to", "2026-02-01")
    assert backwards.status == 2
    assert "backwards" in backwards.words
    early = command("verify", "--from", "2025-12-31", "--to", "2026-01-01")
    assert early.status == 2
    assert "first day" in early.words


@pytest.fixture
def changed_fleet(stack: LocalStack, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    def changed(change: Callable[[dict[str, Any]], object]) -> Path:
        document = yaml.safe_load(stack.fleet_path.read_text(encoding="utf-8"))
        change(document["clusters"][CLUSTER])
        path = tmp_path / "changed.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    return changed


def test_verify_ends_with_2_when_a_shard_does_not_answer(
    changed_fleet: Callable[[Callable[[dict[str, Any]], object]], Path],
) -> None:
    port = silent_port()
    path = changed_fleet(lambda cluster: cluster["clickhouse"]["shards"][1].update(port=port))
    answer = command("verify", *RANGE, "--fleet", str(path))
    assert answer.status == 2
    assert f"shard 1 (127.0.0.1:{port})" in answer.words
    assert "Traceback" not in answer.errors


def test_a_wrong_password_ends_with_2_and_is_not_repeated(
    changed_fleet: Callable[[Callable[[dict[str, Any]], object]], Path],
) -> None:
    path = changed_fleet(lambda cluster: cluster["clickhouse"].update(password={"env": "MISTYPED"}))
    answer = command("verify", *RANGE, "--fleet", str(path), MISTYPED=SECRET)
    assert answer.status == 2
    assert "MISTYPED" in answer.words
    assert SECRET not in answer.words


def test_the_fleet_file_is_found_by_option_and_by_variable_and_its_absence_has_a_remedy(
    stack: LocalStack, tmp_path: Path
) -> None:
    fleet = str(stack.fleet_path)
    by_option = command("verify", *RANGE, "--fleet", fleet, without=("REINDEX_FLEET",), cwd=tmp_path)
    assert by_option.status in (0, 1), by_option.words
    by_variable = command("verify", *RANGE, cwd=tmp_path, REINDEX_FLEET=str(tmp_path / "absent.yaml"))
    assert by_variable.status == 2
    assert "absent.yaml" in by_variable.words
    none = command("verify", *RANGE, without=("REINDEX_FLEET",), cwd=tmp_path)
    assert none.status == 2
    assert "--fleet" in none.words
    assert "REINDEX_FLEET" in none.words


def test_reindex_without_dagster_home_says_what_to_set(stack: LocalStack) -> None:
    answer = command("reindex", *RANGE, without=("DAGSTER_HOME",))
    assert answer.status == 2
    assert "DAGSTER_HOME is not set" in answer.words
