"""What is wrong now: the alerts' own set of problems, with what the repairs do about each, and the command that shows it.

What lives here: results and repairs in an instance of files. What does not: when checks are red, and when repairs are given up (the tests
of checks and of the policy).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetCheckSeverity, DagsterInstance, DagsterRunStatus
from typer.testing import CliRunner

from reindex_assets.__main__ import app
from reindex_assets.alerts.cursor import from_cursor
from reindex_assets.alerts.problems import ProblemKind, Severity
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.defs.automation.open_problems import OpenProblem, open_problems
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.dagster_private import InstigatorType, TickStatus
from reindex_assets.defs.keys.names import REPAIR_TAG, checks_job_name, repair_sensor_name
from reindex_assets.drift.repair_policy import Repair
from reindex_assets.model import CONVERSATION
from reindex_assets_tests.support.alerting import Alerting, Automated, broken_sensor
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.problem_places import (
    BEFORE,
    FLEET,
    SENSOR,
    YESTERDAY,
    instance_in,
    key,
    remember,
    run_over,
)

#: The fleet's mode is that of a file that doesn't say.
OF_MODE = repair_sensor_name(dataset_named("local", CONVERSATION))


@pytest.fixture
def fleet_file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET, encoding="utf-8")
    return path


@pytest.fixture
def fleet(fleet_file: Path) -> Fleet:
    return load_fleet(fleet_file)


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    with instance_in(tmp_path) as instance:
        monkeypatch.setattr(
            "reindex_assets.defs.instance.opening.open_instance", lambda: contextlib.nullcontext(instance)
        )
        yield instance


@pytest.fixture
def alerting(fleet: Fleet, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Alerting:
    monkeypatch.setenv("REINDEX_ALERT_URLS", "")
    alerting = Alerting(fleet, instance)
    alerting.tick()
    return alerting


def repair_of(day: date, **changes: Any) -> Repair:
    known = {"customer": "acme", "day": day, "seen_at": time.time(), "differs": "3 scores missing", "evidence": (1,)}
    return Repair(**{**known, "state": 1, **changes})


def found(instance: DagsterInstance, fleet: Fleet) -> list[OpenProblem]:
    return list(open_problems(instance, fleet, build_defs(fleet).get_repository_def()).problems)


def problems(fleet_file: Path, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["problems", "--fleet", str(fleet_file), *arguments], env={"COLUMNS": "80"})


def test_the_open_problems_are_those_of_the_alerts(alerting: Alerting) -> None:
    for day in (BEFORE, YESTERDAY):
        alerting.judge(False, key("acme", day))
        alerting.judge(False, key("acme", day), check="counts_agree")
    alerting.judge(False, key("globex", YESTERDAY), check="no_gap_in_days", severity=AssetCheckSeverity.WARN)
    alerting.judge(False, key("globex", BEFORE), check="nothing_left_failed")
    alerting.judge(True, key("acme", BEFORE), check="counts_agree")
    alerting.tick()
    state = from_cursor(alerting.cursor or "")
    assert state is not None
    listed = found(alerting.instance, alerting.fleet)
    assert {item.problem: item.severity for item in listed} == {
        problem: opened.severity for problem, opened in state.open_checks.items()
    }
    assert len(listed) == 5
    assert listed[0].problem.kind is ProblemKind.GIVEN_UP
    assert next(item for item in listed if item.problem.check == "counts_agree").what == (
        f"acme {YESTERDAY}: counts_agree says no."
    )


def test_a_problem_is_open_since_the_first_red_result_after_the_last_green_one(alerting: Alerting) -> None:
    alerting.judge(False, key("acme", YESTERDAY))
    alerting.judge(True, key("acme", YESTERDAY))
    begun = time.time()
    alerting.judge(False, key("acme", YESTERDAY))
    turned = time.time()
    alerting.judge(False, key("acme", YESTERDAY))
    [item] = found(alerting.instance, alerting.fleet)
    assert begun <= item.since <= turned
    alerting.judge(True, key("acme", YESTERDAY))
    assert found(alerting.instance, alerting.fleet) == []


def test_a_problem_says_what_is_being_done_about_it(alerting: Alerting) -> None:
    instance, now = alerting.instance, time.time()
    days = [YESTERDAY - timedelta(days=number) for number in range(5)]
    long_ago = YESTERDAY - timedelta(days=60)
    for day in (*days, long_ago):
        alerting.judge(False, key("acme", day))

    def told() -> dict[date, str]:
        return {item.problem.slice.day: item.repair for item in found(instance, alerting.fleet) if item.problem.slice}

    assert told()[days[0]] == f"nobody repairs it: the sensor {SENSOR} is off"
    remember(
        instance,
        repair_of(days[1], failed=3, tried=1, given_up_at=now),
        repair_of(days[2], failed=1, requested_at=now),
    )
    repairing = run_over(instance, days[3], DagsterRunStatus.STARTED, **{REPAIR_TAG: "1 drifted"})
    queued = run_over(instance, days[4], DagsterRunStatus.NOT_STARTED)
    words = told()
    assert words[days[0]] == "the repair sensor compares it at its next tick"
    assert words[days[1]] == (
        "given up after 3 repairs, and nothing has changed since: correct the cause, then run 'reindex-assets repairs --again'"
    )
    assert words[days[2]].startswith("waits: pause until ")
    assert words[days[3]] == f"under repair by run {repairing.run_id[:8]}"
    assert words[days[4]] == f"run {queued.run_id[:8]} is queued to reindex it"
    assert words[long_ago] == "nobody repairs it: the day is outside the look-back. Reindex it"


def test_drift_that_no_check_has_seen_yet_is_a_problem_until_it_is_red(alerting: Alerting) -> None:
    remember(alerting.instance, repair_of(YESTERDAY))
    [item] = found(alerting.instance, alerting.fleet)
    assert (item.problem.kind, item.what) == (ProblemKind.DRIFT, "3 scores missing")
    assert item.repair == "the repair sensor requests its repair at its next tick"
    alerting.judge(False, key("acme", YESTERDAY))
    assert [item.problem.kind for item in found(alerting.instance, alerting.fleet)] == [ProblemKind.CHECK]


def test_a_sensor_that_fails_is_a_problem_with_its_error(alerting: Alerting) -> None:
    sensor = remember(alerting.instance)
    sensor.ticks(TickStatus.FAILURE, broken_sensor)
    [item] = found(alerting.instance, alerting.fleet)
    assert item.problem.kind is ProblemKind.ENGINE
    assert item.what == "shard 2 of cluster local (127.0.0.1:9) did not answer"
    sensor.ticks(TickStatus.SUCCESS)
    assert found(alerting.instance, alerting.fleet) == []


def test_the_command_shows_groups_of_days_and_ends_with_1(alerting: Alerting, fleet_file: Path) -> None:
    for day in (BEFORE, YESTERDAY):
        alerting.judge(False, key("acme", day))
    alerting.judge(False, key("globex", YESTERDAY))
    answer = problems(fleet_file)
    assert answer.exit_code == 1
    words = " ".join(answer.output.split())
    assert (
        f"RED CHECKS - local/process/shard_writes: acme {BEFORE} to {YESTERDAY} (2 days) rows_agree, since 2" in words
    )
    assert f"{YESTERDAY}: rows_agree says no" in words
    assert f"nobody repairs it: the sensor {SENSOR} is off" in words
    assert "What to do: The automatic repair, if it is on, has not fixed this yet." in words
    assert "Open: 3 problems, on 3 customer-days." in words
    of_globex = problems(fleet_file, "--customer", "globex")
    assert "acme" not in of_globex.output
    assert "Open: 1 problem, on 1 customer-day." in of_globex.output


def test_the_document_of_the_command_has_every_problem(alerting: Alerting, fleet_file: Path) -> None:
    alerting.judge(False, key("acme", YESTERDAY))
    answer = problems(fleet_file, "--json")
    assert answer.exit_code == 1
    document = json.loads(answer.stdout)
    [item] = document["problems"]
    since = datetime.fromisoformat(item.pop("since"))
    assert abs(time.time() - since.timestamp()) < 60
    assert item == {
        "kind": "red check",
        "severity": "error",
        "where": "local/process/shard_writes",
        "check": "rows_agree",
        "customer": "acme",
        "day": str(YESTERDAY),
        "what": f"acme {YESTERDAY}: rows_agree says no.",
        "repair": f"nobody repairs it: the sensor {SENSOR} is off",
        "run_id": None,
    }
    assert len(document["notes"]) == 3


def test_where_no_daemon_looks_nothing_open_is_no_good_news(
    alerting: Alerting, fleet_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = problems(fleet_file)
    assert answer.exit_code == 2
    assert "No Dagster daemon is running" in answer.output
    assert f"the sensor {SENSOR} is off" in " ".join(answer.output.split())
    monkeypatch.setattr("reindex_assets.defs.automation.open_problems.daemon_is_alive", lambda instance: True)
    # A daemon that evaluates nothing is none.
    assert problems(fleet_file).exit_code == 2
    # The kind that the fleet's mode asks for is looked at; of the other one it is said that it isn't.
    sensor = Automated(alerting.instance, OF_MODE)
    answer = problems(fleet_file)
    assert answer.exit_code == 0
    assert "Nothing is open, as far as checks, sensors and runs have found." in answer.output
    assert f"the sensor {SENSOR} is off" in " ".join(answer.output.split())

    sensor.stop()
    assert problems(fleet_file).exit_code == 2
    Automated(
        alerting.instance, f"{checks_job_name(dataset_named('local', CONVERSATION))}_daily", InstigatorType.SCHEDULE
    )
    assert problems(fleet_file).exit_code == 0


def test_a_sensor_that_is_on_and_not_evaluated_looks_for_nothing(
    alerting: Alerting, fleet_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the code location can't be loaded: the daemon lives, and makes no ticks."""
    monkeypatch.setattr("reindex_assets.defs.automation.open_problems.daemon_is_alive", lambda instance: True)
    sensor = Automated(alerting.instance, OF_MODE)
    sensor.ticks(TickStatus.SKIPPED)
    assert problems(fleet_file).exit_code == 0
    with monkeypatch.context() as later:
        now = time.time()
        later.setattr("reindex_assets.defs.automation.problems.time.time", lambda: now + 3_600)
        answer = problems(fleet_file)
    assert answer.exit_code == 2
    assert f"the sensor {OF_MODE} is on, and was last evaluated at" in " ".join(answer.output.split())


def test_a_red_result_is_not_forgotten_while_its_check_is_to_run_again(
    alerting: Alerting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many results of other partitions there are since."""
    monkeypatch.setattr("reindex_assets.defs.automation.problems._MAX_HISTORY", 2)
    alerting.judge(False, key("acme", YESTERDAY))
    for _ in range(3):
        alerting.judge(True, key("globex", YESTERDAY))
    alerting.plan(key("acme", YESTERDAY))
    [item] = found(alerting.instance, alerting.fleet)
    assert item.problem.partition == key("acme", YESTERDAY)


def test_what_no_run_repairs_by_itself_is_not_said_to_be_repaired(alerting: Alerting) -> None:
    remember(alerting.instance)
    alerting.judge(False, key("acme", YESTERDAY), check="no_strays")
    [item] = found(alerting.instance, alerting.fleet)
    assert item.repair == "nobody repairs it automatically: reindex it"


def test_warnings_alone_are_listed_and_end_with_0(
    alerting: Alerting, fleet_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindex_assets.defs.automation.open_problems.daemon_is_alive", lambda instance: True)
    Automated(alerting.instance, OF_MODE)
    alerting.judge(False, key("acme", YESTERDAY), check="nothing_quarantined", severity=AssetCheckSeverity.WARN)
    answer = problems(fleet_file)
    assert answer.exit_code == 0, answer.output
    assert "nothing_quarantined (warning)" in answer.output
    assert "Open: 1 warning, on 1 customer-day." in answer.output
    [item] = found(alerting.instance, alerting.fleet)
    assert (item.severity, item.repair) == (Severity.WARNING, "")
