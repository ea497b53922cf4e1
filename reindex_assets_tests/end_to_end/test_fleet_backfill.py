"""Backfills over the fleet: the plan and its launch on the command line, what is left after some of it, and a daemon that is killed.

What lives here: real backfills in the real Dagster instance. What does not: limits (defs/test_run_limits.py), and the plan's arithmetic
(backfill/test_backfill_plan.py).
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from clickhouse_connect.driver.client import Client
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from psycopg2.extensions import connection as Connection
from typer.testing import CliRunner

from reindex_assets.__main__ import app
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.dagster_private import BulkActionStatus, PartitionBackfill, SerializableErrorInfo
from reindex_assets.defs.runs.backfill_progress import NAME_TAG, FleetBackfill, PartitionRef, find_backfill
from reindex_assets.defs.runs.launch import launch
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.oracle.compare import assert_equal, differences
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice, days_between
from reindex_assets.selection.rectangles import Rectangle
from reindex_assets_tests.support.daemon_alone import Daemon, impatient_home, pid_of_run, running_daemon
from reindex_assets_tests.support.hand_made_rows import silent_port
from reindex_assets_tests.support.holding import nobody_reads
from reindex_assets_tests.support.session_stack import CUSTOMERS
from reindex_assets_tests.support.waiting import until

PLAN = DataPlan(CUSTOMERS, date(2026, 1, 30), days=6, scale=0.002, seed=21)
FIRST, LAST = PLAN.first_day, PLAN.last_day
DAYS = ["--from", str(FIRST), "--to", str(LAST)]
NAME = f"{FIRST}..{LAST}"
_LOAD_ERROR = "DagsterAssetBackfillDataLoadError"


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit status."""

    status: int
    output: str
    stdout: str

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout)
        return found

    @property
    def words(self) -> str:
        return " ".join(self.output.split())


def command(*arguments: str, answer: str | None = None, **variables: str) -> Said:
    """Runs the command line in this process."""
    result = CliRunner().invoke(app, arguments, input=answer, env={"COLUMNS": "200", "NO_COLOR": "1", **variables})
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return Said(result.exit_code, result.output, result.stdout)


def stored(instance: DagsterInstance) -> list[PartitionBackfill]:
    return [one for one in instance.get_backfills() if NAME_TAG in one.tags]


def found(instance: DagsterInstance, name: str = NAME) -> FleetBackfill:
    backfill = find_backfill(instance, name)
    assert backfill is not None
    return backfill


def asked(backfills: Sequence[PartitionBackfill]) -> Counter[Slice]:
    """The slices that Dagster's backfills are about, and how often."""
    counted: Counter[Slice] = Counter()
    for backfill in backfills:
        assert backfill.asset_backfill_data is not None
        for subset in list(backfill.asset_backfill_data.target_subset.partitions_subsets_by_asset_key.values())[:1]:
            counted.update(Slice.of(key) for key in subset.get_partition_keys())
    return counted


def everything(customers: Sequence[str] = tuple(CUSTOMERS)) -> Counter[Slice]:
    return Counter(Slice(customer, day) for customer in customers for day in days_between(FIRST, LAST))


def cancel(instance: DagsterInstance) -> None:
    """Cancels all of Dagster's backfills, of which none has begun."""
    for backfill in stored(instance):
        instance.update_backfill(backfill.with_status(BulkActionStatus.CANCELED))  # type: ignore[no-untyped-call]


# --- the plan, and what a launch stores


@pytest.mark.usefixtures("clean")
def test_the_plan_says_what_would_be_done_and_launches_nothing(
    fleet: Fleet, instance: DagsterInstance, source: Connection
) -> None:
    make_source(source, PLAN)
    with source.cursor() as cursor:
        cursor.execute("ANALYZE director.scorecards, historic.scorecard_scores")
        cursor.execute("SELECT count(*) FROM director.scorecards WHERE process_interaction_at IS NOT NULL")
        [(scorecards,)] = cursor.fetchall()
    plan = command("backfill", *DAYS, "--all", "--window", "4d", "--dry-run", "--json")
    assert plan.status == 0
    assert len(plan.json["windows"]) == 2 * len(CUSTOMERS)
    assert {(window["from"], window["to"], len(window["days"])) for window in plan.json["windows"]} == {
        (str(FIRST), str(FIRST + timedelta(days=3)), 4),
        (str(FIRST + timedelta(days=4)), str(LAST), 2),
    }
    assert sum(window["scorecards"] for window in plan.json["windows"]) == pytest.approx(scorecards, rel=0.02)
    assert sum(window["scores"] for window in plan.json["windows"]) > scorecards
    assert plan.json["expected_seconds"] is None
    words = command("backfill", *DAYS, "--customers", "acme,globex", "--dry-run").words
    assert "unknown, because this instance has no past runs" in words
    assert "initech" not in words
    assert stored(instance) == []

    # A run says how long one takes.
    launch(instance, Rectangle(fleet.dataset(CLUSTER, PROCESS), ("globex",), FIRST, FIRST), {})
    again = command("backfill", *DAYS, "--cluster", CLUSTER, "--dry-run")
    assert "judging by the last run" in again.words
    # Nobody has launched it: a day that was done before is not left out.
    assert command("backfill", *DAYS, "--all", "--dry-run", "--json").json["customer_days"]["left"] == 18


def test_a_plan_without_its_postgres_goes_on_without_the_estimate(
    fleet: Fleet, instance: DagsterInstance, tmp_path: Path
) -> None:
    document = fleet.model_dump(mode="json")
    document["clusters"][CLUSTER]["postgres"]["port"] = silent_port()
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump(document))
    plan = command("backfill", *DAYS, "--all", "--fleet", str(path), "--dry-run")
    assert plan.status == 0
    assert f"no estimate of rows for {CLUSTER}: cannot connect" in plan.words or "no estimate of rows for" in plan.words
    assert "?" in plan.words


def test_a_launch_asks_first_and_says_that_no_daemon_is_alive(instance: DagsterInstance) -> None:
    said = command("backfill", *DAYS, "--all", answer="n\n")
    assert (said.status, stored(instance)) == (0, [])
    assert "No Dagster daemon is running" in said.words
    assert "Nothing was launched" in said.words
    # A program can't answer.
    refused = command("backfill", *DAYS, "--all", "--json")
    assert (refused.status, stored(instance)) == (2, [])
    assert command("status").status == 2

    assert command("backfill", *DAYS, "--all", "--window", "3d", "--kind", "all", answer="y\n").status == 0
    # Two customers in a backfill of three days, of each kind.
    assert len(stored(instance)) == 2 * 2 * 2
    assert asked(stored(instance)) == everything() + everything()
    status = command("status", "--json")
    assert status.json["windows"] == {"done": 0, "running": 0, "failed": 0, "left": 12}
    assert {one["kind"] for one in status.json["customers"]} == {"process", "conversation"}
    assert status.json["seconds_left"] is None


@pytest.mark.parametrize(
    ("words", "fails"),
    [
        ("Asset AssetKey(['local', 'process', 'shard_writes']) existed at storage-time, but no longer does. ", False),
        ("Targeted partitions for asset AssetKey(['a']) have been removed since this backfill was stored.", True),
    ],
)
def test_a_backfill_waits_for_assets_that_are_not_loaded(instance: DagsterInstance, words: str, fails: bool) -> None:
    command("backfill", *DAYS, "--customers", "acme", "--yes")
    [backfill] = stored(instance)
    error = SerializableErrorInfo(f"dagster._core.errors.{_LOAD_ERROR}: {words}", [], _LOAD_ERROR)
    instance.update_backfill(backfill.with_status(BulkActionStatus.FAILING).with_error(error))  # type: ignore[no-untyped-call]
    [now] = stored(instance)
    assert (now.status is BulkActionStatus.FAILING) is fails


# --- the same launch again


@pytest.mark.usefixtures("clean")
def test_a_second_launch_does_only_what_is_left(fleet: Fleet, instance: DagsterInstance) -> None:
    # Done before the first launch: that doesn't count.
    launch(instance, Rectangle(fleet.dataset(CLUSTER, PROCESS), ("initech",), FIRST, FIRST), {})
    command("backfill", *DAYS, "--customers", "acme", "--window", "3d", "--yes")
    assert asked(stored(instance)) == everything(["acme"])

    # What is under way is left out, and said; other customers of the same days belong to the same backfill.
    said = command("backfill", *DAYS, "--all", "--window", "3d", "--yes")
    assert "6 are under way" in said.words
    assert asked(stored(instance)) == everything()
    before = len(stored(instance))
    assert "Nothing is left to launch" in command("backfill", *DAYS, "--all", "--yes").words
    assert len(stored(instance)) == before
    refused = command("backfill", *DAYS, "--all", "--yes", "--afresh")
    assert refused.status == 2
    assert "still under way" in refused.words

    # Somebody reindexes two of the days, and cancels the rest.
    launch(instance, Rectangle(fleet.dataset(CLUSTER, PROCESS), ("globex",), FIRST, FIRST + timedelta(days=1)), {})
    cancel(instance)
    status = command("status")
    assert status.status == 1
    assert "failed or were cancelled" in status.words
    done = {Slice("globex", FIRST), Slice("globex", FIRST + timedelta(days=1))}
    assert found(instance).done_ids.keys() == {PartitionRef(CLUSTER, PROCESS.name, item) for item in done}
    earlier = {one.backfill_id for one in stored(instance)}
    said = command("backfill", *DAYS, "--all", "--window", "3d", "--yes")
    assert "2 have been done since" in said.words
    assert asked([one for one in stored(instance) if one.backfill_id not in earlier]) == everything() - Counter(done)

    # Afresh everything is left, and another name knows nothing of it.
    cancel(instance)
    assert (
        command("backfill", *DAYS, "--all", "--dry-run", "--json", "--name", "mine").json["customer_days"]["left"] == 18
    )
    earlier = {one.backfill_id for one in stored(instance)}
    command("backfill", *DAYS, "--all", "--afresh", "--yes")
    assert asked([one for one in stored(instance) if one.backfill_id not in earlier]) == everything()
    assert not found(instance).done_ids
    # What it left stays found afterwards.
    assert command("status", "--json").json["windows"]["left"] == 3


# --- whatever is killed


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("clean")
def test_a_backfill_outlives_whatever_is_killed(
    instance: DagsterInstance, fleet: Fleet, source: Connection, shard_clients: list[Client], tmp_path: Path
) -> None:
    make_source(source, PLAN)
    assert differences(source, shard_clients, kind="process")
    assert command("backfill", *DAYS, "--all", "--window", "2d", "--yes").status == 0
    windows = 9
    assert len(stored(instance)) == windows
    log, home = tmp_path / "daemon.log", impatient_home(tmp_path / "home")

    # The daemon is stopped, and then killed, while it asks for the runs.
    with running_daemon(log, home) as daemon:
        until(lambda: instance.get_runs_count() >= 1, lambda: daemon.log)
        daemon.stop()
    assert not [one for one in stored(instance) if one.status is not BulkActionStatus.REQUESTED]
    assert instance.get_runs_count() < windows
    with running_daemon(log, home) as daemon:
        asked_for = instance.get_runs_count()
        until(lambda: instance.get_runs_count() > asked_for, lambda: daemon.log)
        daemon.kill()
    assert "Nothing is left to launch" in command("backfill", *DAYS, "--all", "--window", "2d", "--yes").words

    with running_daemon(log, home) as daemon:
        killed = _kill_a_run(instance, fleet, daemon)
        until(lambda: found(instance).done_ids.keys() >= found(instance).asked, lambda: daemon.log)
        until(lambda: all(run.is_finished for run in instance.get_runs()), lambda: daemon.log)
        running = command("status", "--json").json
        assert running["windows"] == {"done": windows, "running": 0, "failed": 0, "left": 0}

    assert_equal(source, shard_clients, kind="process")
    runs = instance.get_runs()
    assert all(run.tags[NAME_TAG] == NAME for run in runs)
    [again] = [run for run in runs if run.root_run_id == killed]
    assert again.status is DagsterRunStatus.SUCCESS
    # Each window was done by one run, and the killed one by another; the runs that the daemon's end took are tried again like it.
    succeeded = Counter(
        (run.tags["customer"], run.tags["reindex/window"]) for run in runs if run.status is DagsterRunStatus.SUCCESS
    )
    assert succeeded == {
        (customer, f"{first} to {first + timedelta(days=1)}"): 1
        for customer in CUSTOMERS
        for first in days_between(FIRST, LAST)[::2]
    }
    said = command("status")
    assert said.status == 0
    assert "Done, in" in said.words
    assert "Nothing is left to launch" in command("backfill", *DAYS, "--all", "--yes").words
    assert len(stored(instance)) == windows


def _kill_a_run(instance: DagsterInstance, fleet: Fleet, daemon: Daemon) -> str:
    """`kill -9` of the process of a run that is at work; returns the run."""
    at_work: list[str] = []

    def begun() -> bool:
        runs = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED]))
        at_work[:] = [run.run_id for run in runs if run.parent_run_id is None]
        return bool(at_work)

    with nobody_reads(fleet):
        until(begun, lambda: daemon.log)
        pid = pid_of_run(instance, at_work[0])
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    return at_work[0]
