"""The assets `health`: their colour is that of all customers and days together, whatever was evaluated last.

What lives here: the sensor's ticks, and the check executed by hand. What does not: what is wrong (defs/test_open_problems.py), and the
pages that show it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckSeverity,
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
    DagsterRunStatus,
    build_sensor_context,
)

from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.defs.automation.health import build_health_sensor
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.dagster_private import TickStatus
from reindex_assets.defs.keys.names import (
    FLEET_HEALTH,
    HEALTH_CHECK,
    checks_job_name,
    health_key,
)
from reindex_assets.drift.repair_policy import Repair
from reindex_assets.model import CONVERSATION, KINDS, PROCESS
from reindex_assets_tests.support.alerting import Alerting, Automated, broken_sensor
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.problem_places import BEFORE, FLEET, YESTERDAY, instance_in, key, remember, run_over

OURS, OTHER = health_key("local", PROCESS.name), health_key("local", CONVERSATION.name)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    path = tmp_path / "fleet.yaml"
    path.write_text(f"mode: process\n{FLEET}", encoding="utf-8")
    return load_fleet(path)


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DagsterInstance]:
    monkeypatch.setattr("reindex_assets.defs.automation.open_problems.daemon_is_alive", lambda instance: True)
    with instance_in(tmp_path) as instance:
        yield instance


@dataclass
class HealthLoop:
    """The sensor as the daemon ticks it: its cursor is kept, and its events are stored."""

    alerting: Alerting
    cursor: str | None = None

    def tick(self) -> dict[AssetKey, list[Any]]:
        """What was stored, by asset."""
        instance = self.alerting.instance
        repository = build_defs(self.alerting.fleet).get_repository_def()
        with build_sensor_context(instance, self.cursor, repository_def=repository) as context:
            result = build_health_sensor(self.alerting.fleet).evaluate_tick(context)
        assert not result.run_requests
        self.cursor = result.cursor
        events: dict[AssetKey, list[Any]] = {}
        for event in result.asset_events:
            instance.report_runless_asset_event(event)
            events.setdefault(event.asset_key, []).append(event)
        return events

    def colour(self, asset: AssetKey) -> str:
        """As Dagster keeps it."""
        key = AssetCheckKey(asset, HEALTH_CHECK)
        record = self.alerting.instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
        if record is None or record.evaluation is None:
            return "grey"
        if record.evaluation.passed:
            return "green"
        return "yellow" if record.evaluation.severity is AssetCheckSeverity.WARN else "red"


@pytest.fixture
def loop(fleet: Fleet, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> HealthLoop:
    monkeypatch.setenv("REINDEX_ALERT_URLS", "")
    return HealthLoop(Alerting(fleet, instance))


def test_the_colour_is_that_of_all_partitions_whatever_was_evaluated_last(loop: HealthLoop) -> None:
    remember(loop.alerting.instance)
    loop.tick()
    assert (loop.colour(OURS), loop.colour(FLEET_HEALTH)) == ("green", "green")
    loop.alerting.judge(False, key("acme", BEFORE))
    # The last result of shard_writes, which gives it its colour in Dagster.
    loop.alerting.judge(True, key("globex", YESTERDAY))
    loop.tick()
    assert (loop.colour(OURS), loop.colour(FLEET_HEALTH)) == ("red", "red")
    loop.alerting.judge(False, key("globex", BEFORE), check="nothing_quarantined", severity=AssetCheckSeverity.WARN)
    loop.alerting.judge(True, key("acme", BEFORE))
    loop.tick()
    assert (loop.colour(OURS), loop.colour(FLEET_HEALTH)) == ("yellow", "yellow")
    loop.alerting.judge(True, key("globex", BEFORE), check="nothing_quarantined")
    loop.tick()
    assert (loop.colour(OURS), loop.colour(FLEET_HEALTH)) == ("green", "green")


def test_a_red_result_says_what_differs_since_when_and_what_is_being_done(loop: HealthLoop) -> None:
    now = time.time()
    repair = Repair(
        customer="acme", day=BEFORE, seen_at=now - 7_200, differs="3 scores missing", evidence=(1,), state=1
    )
    remember(loop.alerting.instance, repair)
    for day in (BEFORE, YESTERDAY):
        loop.alerting.judge(False, key("globex", day))
    seen, judged = loop.tick()[OURS]
    assert isinstance(seen, AssetMaterialization)
    assert isinstance(judged, AssetCheckEvaluation)
    words = judged.description or ""
    assert words.startswith("3 problems; ")
    assert f"globex {BEFORE} to {YESTERDAY}" in words
    assert "3 scores missing (the repair sensor requests its repair at its next tick)" in words
    numbers = {name: value.value for name, value in judged.metadata.items() if name != "open"}
    assert numbers.pop("oldest_hours") == pytest.approx(2, abs=0.1)
    assert numbers == {"problems": 3, "warnings": 0, "customer_days": 3, "given_up": 0, "under_repair": 0}
    rows = {record.data["where"]: record.data for record in judged.metadata["open"].value.records}  # type: ignore[union-attr]
    assert len(rows) == 2
    [of_acme] = (row for what, row in rows.items() if "acme" in what)
    assert (of_acme["checks"], of_acme["differs"]) == ("drift", "3 scores missing")


def test_what_a_run_is_about_to_mend_is_counted_as_such(loop: HealthLoop) -> None:
    remember(loop.alerting.instance)
    for day in (BEFORE, YESTERDAY):
        loop.alerting.judge(False, key("acme", day))
    run = run_over(loop.alerting.instance, BEFORE, DagsterRunStatus.STARTED)
    [_, judged] = loop.tick()[OURS]
    assert judged.metadata["under_repair"].value == 1
    assert f"under reindex by run {run.run_id[:8]}" in str(judged.metadata["open"].value)


def test_of_more_red_checks_than_a_tick_can_look_up_it_is_said_that_they_are_red(
    loop: HealthLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindex_assets.defs.automation.health._MOST_DETAILS", 1)
    remember(loop.alerting.instance)
    for customer in ("acme", "globex"):
        loop.alerting.judge(False, key(customer, YESTERDAY))
    [_, judged] = loop.tick()[OURS]
    words = judged.description or ""
    assert words.startswith("2 problems; ")
    assert f"acme {YESTERDAY}: rows_agree says no" in words
    assert f"globex {YESTERDAY}: rows_agree (" in words


def test_a_customer_who_has_left_and_a_day_that_is_no_partition_any_more_make_nothing_red(loop: HealthLoop) -> None:
    remember(loop.alerting.instance)
    loop.alerting.judge(False, key("initech", YESTERDAY))
    loop.alerting.judge(False, key("acme", YESTERDAY - timedelta(days=200)))
    loop.tick()
    assert (loop.colour(OURS), loop.colour(FLEET_HEALTH)) == ("green", "green")
    loop.alerting.judge(False, key("acme", YESTERDAY - timedelta(days=99)))
    loop.tick()
    assert loop.colour(OURS) == "red"


def test_where_nobody_looks_it_is_not_green(loop: HealthLoop) -> None:
    [_, judged] = loop.tick()[OURS]
    assert loop.colour(OURS) == "yellow"
    assert "Nobody looks for drift in local, process" in (judged.description or "")
    assert loop.colour(FLEET_HEALTH) == "yellow"
    # A schedule of checks looks, too.
    Automated(loop.alerting.instance, f"{checks_job_name(dataset_named('local', PROCESS))}_daily")
    sensor = remember(loop.alerting.instance)
    loop.tick()
    assert loop.colour(OURS) == "green"
    sensor.stop()
    loop.tick()
    assert loop.colour(OURS) == "yellow"


def test_a_daemon_that_is_gone_is_said(loop: HealthLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(loop.alerting.instance)
    monkeypatch.setattr("reindex_assets.defs.automation.open_problems.daemon_is_alive", lambda instance: False)
    [_, judged] = loop.tick()[OURS]
    assert "No Dagster daemon is running" in (judged.description or "")
    assert loop.colour(FLEET_HEALTH) == "yellow"


def test_a_kind_that_the_mode_leaves_out_has_no_colour_until_something_is_wrong(loop: HealthLoop) -> None:
    remember(loop.alerting.instance)
    assert [type(event) for event in loop.tick()[OTHER]] == [AssetMaterialization]
    assert loop.colour(OTHER) == "grey"
    asset = AssetKey(["local", CONVERSATION.name, "shard_writes"])
    loop.alerting.judge(False, key("acme", YESTERDAY), asset=asset)
    loop.tick()
    assert (loop.colour(OTHER), loop.colour(OURS), loop.colour(FLEET_HEALTH)) == ("red", "green", "red")
    loop.alerting.judge(True, key("acme", YESTERDAY), asset=asset)
    loop.tick()
    # Not green, as nobody looks.
    assert (loop.colour(OTHER), loop.colour(FLEET_HEALTH)) == ("yellow", "green")


def test_a_sensor_that_fails_makes_its_kind_red(loop: HealthLoop) -> None:
    remember(loop.alerting.instance).ticks(TickStatus.FAILURE, broken_sensor)
    [_, judged] = loop.tick()[OURS]
    assert loop.colour(OURS) == "red"
    assert "shard 2 of cluster local (127.0.0.1:9) did not answer" in (judged.description or "")
    assert loop.colour(OTHER) == "grey"


def test_only_news_are_stored_and_once_an_hour_everything(loop: HealthLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    remember(loop.alerting.instance)
    assert set(loop.tick()) == {OURS, OTHER, FLEET_HEALTH}
    assert loop.tick() == {}
    loop.alerting.judge(False, key("acme", YESTERDAY))
    assert set(loop.tick()) == {OURS, FLEET_HEALTH}
    assert loop.tick() == {}
    begun = time.time()
    monkeypatch.setattr("reindex_assets.defs.automation.health.time.time", lambda: begun + 3_600)
    assert set(loop.tick()) == {OURS, OTHER, FLEET_HEALTH}


@pytest.mark.parametrize("cursor", ["", "{", "[1]", '{"local/process/health": 5}', json.dumps({"a": ["b", "c", 1]})])
def test_a_damaged_cursor_has_everything_stored_again(loop: HealthLoop, cursor: str) -> None:
    loop.cursor = cursor
    assert set(loop.tick()) == {OURS, OTHER, FLEET_HEALTH}
    assert loop.tick() == {}


def test_the_check_can_be_executed_at_any_time(loop: HealthLoop) -> None:
    remember(loop.alerting.instance)
    loop.alerting.judge(False, key("acme", YESTERDAY))
    definitions = build_defs(loop.alerting.fleet)
    chosen = AssetCheckKey(OURS, HEALTH_CHECK)
    result = definitions.resolve_implicit_global_asset_job_def().get_subset(asset_check_selection={chosen})
    run = result.execute_in_process(instance=loop.alerting.instance)
    assert run.success
    [evaluation] = run.get_asset_check_evaluations()
    assert (evaluation.asset_key, evaluation.passed) == (OURS, False)
    assert loop.colour(OURS) == "red"
    assert loop.colour(FLEET_HEALTH) == "grey"


def test_the_alerts_do_not_report_it_again(loop: HealthLoop) -> None:
    remember(loop.alerting.instance)
    loop.alerting.tick()
    loop.alerting.judge(False, key("acme", YESTERDAY))
    loop.tick()
    assert "; 1 open, " in loop.alerting.tick()
    # Nor after a start from nothing, which reads the latest results.
    fresh = Alerting(loop.alerting.fleet, loop.alerting.instance)
    assert "; 1 open, " in fresh.tick()


def test_every_kind_has_its_asset_below_its_lineage(fleet: Fleet) -> None:
    graph = build_defs(fleet).resolve_asset_graph()
    for kind in KINDS:
        node = graph.get(health_key("local", kind.name))
        assert node.parent_keys == {AssetKey(["local", kind.name, "shard_writes"])}
        assert not node.is_executable
    assert graph.get(FLEET_HEALTH).parent_keys == {OURS, OTHER}
