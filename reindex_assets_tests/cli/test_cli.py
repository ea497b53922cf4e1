"""The command line as an operator has it: exit statuses, JSON, the runs in Dagster, and errors in words.

What lives here: `python -m reindex_assets` as a process of its own, by what is documented of it. What does not: the demo and `local`.
"""

from __future__ import annotations

import contextlib
import json
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

from reindex_assets.config.fleet import load_fleet
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.oracle.compare import assert_equal, differences
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import Slice
from reindex_assets_tests.support.command_line import Answer, command
from reindex_assets_tests.support.hand_made_rows import silent_port
from reindex_assets_tests.support.session_stack import CUSTOMERS, SOURCE_TABLES, connect_shards, connect_source

PLAN = DataPlan(CUSTOMERS, date(2026, 1, 31), days=2, scale=0.0006, seed=9)
RANGE = ["--from", "2026-01-31", "--to", "2026-02-01"]
#: Customers at both ends of the fleet file: no range of Dagster's can hold them without the one between.
APART = ["--customer", "acme", "--customer", "initech"]
SECRET = "hunter2-as-typed"


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
    counted: Answer
    page: Path


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
def story(
    source_of_module: Connection, shards_of_module: list[Client], tmp_path_factory: pytest.TempPathFactory
) -> Story:
    page = tmp_path_factory.mktemp("report") / "report.html"
    with source_of_module.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(SOURCE_TABLES)}")
    for client in shards_of_module:
        for table in ("scorecard", "score"):
            client.command(f"TRUNCATE TABLE {table}")
    make_source(source_of_module, PLAN)
    before = command(
        "verify", *RANGE, "--json", "--settle", "0", "--depth", "rows", "--samples", "2", "--html", str(page)
    )
    dry_run = command("reindex", *RANGE, "--dry-run", "--json")
    after_dry_run = sum(client.query("SELECT count() FROM score").result_rows[0][0] for client in shards_of_module)
    apart = command("reindex", *RANGE, *APART, "--json")
    after_apart = differences(source_of_module, shards_of_module, kind="process")
    whole = command("reindex", *RANGE)
    verified = command("verify", *RANGE, "--json")
    counted = command("verify", *RANGE, "--depth", "counts")
    return Story(before, dry_run, after_dry_run, apart, after_apart, whole, verified, counted, page)


def test_verify_ends_with_1_and_says_what_differs(story: Story) -> None:
    assert story.before.status == 1, story.before.words
    assert [(row["customer"], row["day"]) for row in story.before.slices] == sorted(
        (customer, str(day)) for customer in PLAN.customers for day in PLAN.all_days
    )
    for row in story.before.slices:
        assert row["equal"] is False
        assert row["scorecard"]["postgres"] > 0
        assert row["scorecard"]["clickhouse"] == 0
        assert f"{row['scorecard']['postgres']} scorecards missing" in row["difference"]


def test_the_rows_behind_a_difference_are_counted_exactly_and_shown_up_to_the_cap(story: Story) -> None:
    for row in story.before.slices:
        rows = row["rows"]
        exact = {(one["table"], one["difference"]): one["rows"] for one in rows["different"]}
        assert exact == {(table, "missing"): row[table]["postgres"] for table in ("scorecard", "score")}
        shown = [(sample["table"], sample["difference"]) for sample in rows["samples"]]
        assert sorted(shown) == sorted(key for key, number in exact.items() for _ in range(min(2, number)))
        assert rows["samples_limit"] == 2
        assert all("where it belongs" in sample["what"] for sample in rows["samples"])
    page = story.page.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert story.before.verification["verdict"] in page
    assert [entry.name for entry in story.page.parent.iterdir()] == [story.page.name]


def test_a_verification_has_its_templates_shards_and_verdict_in_json(story: Story) -> None:
    for answer, difference in ((story.before, -1), (story.verified, 0)):
        found = answer.verification
        for plural, name in (("scorecards", "scorecard"), ("scores", "score")):
            expected = sum(row[name]["postgres"] for row in found["slices"])
            assert expected > 0
            assert sum(row[f"{plural}_postgres"] for row in found["templates"]) == expected
            assert sum(row[f"{plural}_difference"] for row in found["templates"]) == difference * expected
            assert sum(row[f"{plural}_expected"] for row in found["shards"]) == expected
        assert [row["shard"] for row in found["shards"]] == [0, 1]
        assert all(row["title"] for row in found["templates"])
        assert found["gaps"] == []
        assert found["values_compared"] is True
        assert len(found["snapshots"]) >= 1
    assert "every column of every row" in story.verified.verification["verdict"]


def test_counts_alone_agree_with_status_0_and_never_say_equal(story: Story) -> None:
    assert story.counted.status == 0, story.counted.words
    assert "values were not compared" in story.counted.words
    assert "counts agree" in story.counted.words
    assert "equal" not in story.counted.words.lower()


def test_a_reindex_tells_what_clickhouse_held_before_and_after(story: Story) -> None:
    [dry_run] = story.dry_run.json
    assert dry_run["before"] == dry_run["after"] == {"scorecard": 0, "score": 0}
    held = {
        customer: {
            name: sum(row[name]["postgres"] for row in story.before.slices if row["customer"] == customer)
            for name in ("scorecard", "score")
        }
        for customer in PLAN.customers
    }
    for report in story.apart.json:
        [customer] = report["customers"]
        assert report["before"] == {"scorecard": 0, "score": 0}
        assert report["after"] == held[customer]
    # Then the customer between them came to what the two had.
    for name, plural in (("scorecard", "scorecards"), ("score", "scores")):
        had = held["acme"][name] + held["initech"][name]
        more = held["globex"][name]
        line = next(line for line in story.whole.output.splitlines() if f" {plural} " in line and "+" in line)
        numbers = [cell.strip() for cell in line.split("\u2502")][2:5]
        assert numbers == [f"{had:,}", f"{had + more:,}", f"+{more:,} (+{more / had:.1%})"]


def test_a_report_that_cannot_be_written_ends_with_2_before_anything_is_compared(
    changed_fleet: Callable[[Callable[[dict[str, Any]], object]], Path], tmp_path: Path
) -> None:
    # Nobody listens there: a comparison would say so.
    path = changed_fleet(lambda cluster: cluster["postgres"].update(port=silent_port()))
    answer = command("verify", *RANGE, "--fleet", str(path), "--html", str(tmp_path / "absent" / "report.html"))
    assert answer.status == 2
    assert "the report cannot be written" in answer.words
    assert "Postgres" not in answer.words


def test_a_dry_run_says_what_it_would_write_and_writes_nothing(story: Story) -> None:
    # The run went well, and its checks say that both sides still differ.
    assert story.dry_run.status == 1, story.dry_run.words
    [report] = story.dry_run.json
    assert report["success"] is True
    assert report["red_checks"]
    assert report["customers"] == list(PLAN.customers)
    expected = sum(row[table]["postgres"] for row in story.before.slices for table in ("scorecard", "score"))
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
    assert_equal(source_of_module, shards_of_module, kind="process")
    assert story.verified.status == 0, story.verified.words
    assert len(story.verified.slices) == len(PLAN.customers) * PLAN.days
    for row in story.verified.slices:
        assert row["equal"] is True
        assert row["rows"] is None
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
    for name in ("verify", "reindex"):
        late = command(name, "--from", "2026-02-01", "--to", "2126-02-01")
        assert late.status == 2
        assert "later days have no partition yet" in late.words


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


def test_a_mass_deletion_is_a_question_that_an_option_answers(
    story: Story, source_of_module: Connection, shards_of_module: list[Client]
) -> None:
    """It empties a day: what stands above has been answered by then."""
    day = ["--from", "2026-01-31", "--to", "2026-01-31"]
    with source_of_module.cursor() as cursor:
        cursor.execute(
            "DELETE FROM director.scorecards WHERE (process_interaction_at AT TIME ZONE 'UTC')::date = '2026-01-31'"
        )
    held = len(differences(source_of_module, shards_of_module, kind="process"))
    assert held > 100

    asked = command("reindex", *day, "--json")

    assert asked.status == 2, asked.words
    [report] = asked.json
    assert "--allow-deletes" in json.dumps(report), report
    assert len(differences(source_of_module, shards_of_module, kind="process")) > 0
    answered = command("reindex", *day, "--allow-deletes", "--json")
    assert answered.status == 0, answered.words
    assert_equal(source_of_module, shards_of_module, kind="process")
