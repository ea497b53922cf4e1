"""The sensor `alerts` on a real Dagster instance, with real receivers: from verdicts of checks to what a person reads.

What lives here: ticks over checks, and over the events that hold them. What does not: failed runs and failing automation
(defs/test_alert_failures.py), targets that miss something (alerts/test_alert_targets.py), the delivery's own failures
(alerts/test_alert_delivery.py) and the rules (alerts/test_alerts.py).
"""

from __future__ import annotations

import pytest
from dagster import (
    AssetCheckSeverity,
    AssetKey,
    DagsterEventType,
    DagsterInstance,
)
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.checks.specs import CHECKS
from reindex_assets.defs.dagster_private import SqlEventLogStorageTable
from reindex_assets.defs.keys.names import REPAIR_TAG
from reindex_assets.model import GIVEN_UP_CHECK
from reindex_assets_tests.support.alert_receivers import WebReceiver
from reindex_assets_tests.support.alerting import (  # noqa: F401 - fixtures
    HOUR,
    UI,
    Alerting,
    Tell,
    alerts_that_have_begun,
    targets_of_the_alerts,
)
from reindex_assets_tests.support.session_stack import CUSTOMERS


def test_a_red_check_is_told_after_the_grace_again_after_the_window_and_once_when_green(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())
    run_id = alerting.fail_a_run({REPAIR_TAG: "1"})
    alerting.judge(False, run_id=run_id)
    assert alerting.tick() == "nothing new; 1 open, 1 of them red for less than 120 s"
    assert alerting.tick(after=100) == "nothing new; 1 open, 1 of them red for less than 120 s"
    assert alerting.tick(after=45) == "sent 1 problem to 1 target; 1 open"
    message = web.take()
    assert message["title"] == "reindex_assets: 1 problem"
    assert message["type"] == "failure"
    assert "RED CHECKS\n- local/process/shard_writes: acme 2026-01-02: rows_agree, since " in message["message"]
    assert "2026-01-02: rows_agree says no" in message["message"]
    assert f"run {UI}/runs/{run_id}\n" in message["message"]
    link = f"{UI}/assets/local/process/shard_writes?partition=acme%7C2026-01-02&view=partitions"
    assert link in message["message"]
    assert "What to do: " in message["message"]

    alerting.judge(False)
    assert alerting.tick(after=23 * HOUR) == "nothing new; 1 open"
    assert alerting.tick(after=2.5 * HOUR) == "sent 1 problem to 1 target; 1 open"
    assert web.take()["title"] == "reindex_assets: 1 problem (1 still open)"
    assert alerting.tick() == "nothing new; 1 open"

    alerting.judge(True)
    assert alerting.tick() == "sent 1 recovery to 1 target; 0 open"
    message = web.take()
    assert (message["title"], message["type"]) == ("reindex_assets: 1 recovered", "success")
    assert "GREEN AGAIN\n- local/process/shard_writes: acme 2026-01-02: rows_agree" in message["message"]
    assert alerting.tick(after=48 * HOUR) == "nothing new; 0 open"
    assert web.received == []


def test_a_check_that_is_green_within_the_grace_is_never_told(alerting: Alerting, tell: Tell, web: WebReceiver) -> None:
    tell(web.url())
    alerting.judge(False)
    alerting.tick(after=60)
    alerting.judge(True)
    assert alerting.tick(after=600) == "nothing new; 0 open"
    assert web.received == []


def test_many_problems_are_one_message_with_days_as_ranges(alerting: Alerting, tell: Tell, web: WebReceiver) -> None:
    tell(web.url())
    for day in (2, 3, 4, 5, 9):
        alerting.judge(False, f"acme|2026-01-0{day}")
        alerting.judge(False, f"acme|2026-01-0{day}", "scorecard_counts_agree")
    alerting.judge(False, "globex|2026-01-02", "nothing_quarantined", AssetCheckSeverity.WARN)
    assert alerting.tick(after=200) == "sent 11 problems to 1 target; 11 open"
    body = web.take()["message"]
    assert "acme 2026-01-02 to 2026-01-05, 2026-01-09 (5 days): rows_agree, scorecard_counts_agree, since " in body
    assert "globex 2026-01-02: nothing_quarantined (warning)" in body


def test_warnings_alone_are_a_warning(alerting: Alerting, tell: Tell, web: WebReceiver) -> None:
    tell(web.url())
    alerting.judge(False, check="nothing_quarantined", severity=AssetCheckSeverity.WARN)
    alerting.tick(after=200)
    assert web.take()["type"] == "warning"


def test_a_repair_that_was_given_up_is_told_at_once(alerting: Alerting, tell: Tell, web: WebReceiver) -> None:
    tell(web.url())
    alerting.judge(False, check=GIVEN_UP_CHECK)
    assert alerting.tick() == "sent 1 problem to 1 target; 1 open"
    assert "REPAIR GIVEN UP\n- local/process/shard_writes: acme 2026-01-02" in web.take()["message"]


def test_what_is_red_before_the_first_tick_is_told(
    fleet: Fleet, instance: DagsterInstance, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())
    alerting = Alerting(fleet, instance)
    alerting.judge(False)
    alerting.judge(False, "acme|2026-01-03", "nothing_quarantined", AssetCheckSeverity.WARN)
    alerting.judge(False, "globex|2026-01-02")
    alerting.judge(True, "globex|2026-01-02")
    # Being evaluated again at this moment does not make it green.
    alerting.judge(False, "initech|2026-01-02")
    alerting.plan("initech|2026-01-02")
    assert "3 open" in alerting.tick()
    assert alerting.tick(after=200) == "sent 3 problems to 1 target; 3 open"
    body = web.take()["message"]
    assert "acme 2026-01-02: rows_agree" in body
    assert "acme 2026-01-03: nothing_quarantined (warning)" in body
    assert "initech 2026-01-02: rows_agree" in body
    assert "globex" not in body
    alerting.judge(True)
    assert alerting.tick() == "sent 1 recovery to 1 target; 2 open"


def test_checks_of_other_assets_and_of_customers_who_left_are_nobodys_problem(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())
    alerting.judge(False, asset=AssetKey(["somebody", "elses"]))
    alerting.judge(False, "departed|2026-01-02")
    alerting.judge(False, None)
    assert alerting.tick(after=200) == "sent 1 problem to 1 target; 1 open"
    assert "- local/process/shard_writes: the whole asset: rows_agree" in web.take()["message"]


def test_a_customer_who_leaves_the_fleet_takes_its_problems_along(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())
    alerting.judge(False, "initech|2026-01-02")
    assert alerting.tick(after=200) == "sent 1 problem to 1 target; 1 open"
    local = alerting.fleet.clusters["local"]
    fewer = {name: customer for name, customer in local.customers.items() if name != "initech"}
    fleet = alerting.fleet.model_copy(update={"clusters": {"local": local.model_copy(update={"customers": fewer})}})
    without = Alerting(fleet, alerting.instance, cursor=alerting.cursor)
    assert without.tick(after=48 * HOUR) == "nothing new; 0 open"
    assert len(web.received) == 1


def test_the_check_of_repairs_given_up_is_the_one_of_the_checks() -> None:
    assert GIVEN_UP_CHECK in {check.name for check in CHECKS}


def test_an_evaluation_that_is_committed_after_later_ones_is_not_missed(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())
    alerting.judge(False)
    storage = alerting.instance.event_log_storage
    assert isinstance(storage, SqlEventLogStorage)
    kind = SqlEventLogStorageTable.c.dagster_event_type
    early = SqlEventLogStorageTable.c.id == storage.get_maximum_record_id()
    # As it is to others before its commit, which comes a moment after that of a later one.
    with storage.index_connection() as connection:
        connection.execute(SqlEventLogStorageTable.update().where(early).values({kind: "NOT_COMMITTED"}))
    alerting.judge(False, "globex|2026-01-02")
    assert alerting.tick().startswith("nothing new; 1 open")
    with storage.index_connection() as connection:
        verdict = DagsterEventType.ASSET_CHECK_EVALUATION.value
        connection.execute(SqlEventLogStorageTable.update().where(early).values({kind: verdict}))
    assert alerting.tick().startswith("nothing new; 2 open")


def test_while_events_are_left_to_read_nothing_is_told(
    alerting: Alerting, tell: Tell, web: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindex_assets.defs.automation.alert_sensor._PAGE", 2)
    monkeypatch.setattr("reindex_assets.defs.automation.alert_sensor.MAX_EVALUATIONS", 4)
    tell(web.url())
    for partition in ("acme|2026-01-02", "acme|2026-01-03", "acme|2026-01-04", "acme|2026-01-05"):
        alerting.judge(False, partition)
    alerting.judge(True)
    assert (
        alerting.tick(after=200) == "read 4 evaluations of checks, and there are more: sending waits for the next tick"
    )
    assert alerting.tick() == "sent 3 problems to 1 target; 3 open"
    assert "acme 2026-01-03 to 2026-01-05" in web.take()["message"]


def test_when_more_is_red_than_is_followed_the_rest_is_told_when_there_is_room(
    alerting: Alerting, tell: Tell, web: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindex_assets.alerts.cursor.MAX_RANGES", 4)
    tell(web.url())
    for customer in CUSTOMERS:
        for check in ("rows_agree", "right_shard"):
            alerting.judge(False, f"{customer}|2026-01-02", check)
    assert alerting.tick(after=200) == "sent 4 problems to 1 target; 4 open"
    told = web.take()["message"]
    assert "More checks are red than the alerts can follow" in told
    # Until those events are not read again.
    assert [alerting.tick() for _ in range(2)] == ["nothing new; 4 open"] * 2
    for customer in CUSTOMERS:
        if f"{customer} 2026-01-02" in told:
            for check in ("rows_agree", "right_shard"):
                alerting.judge(True, f"{customer}|2026-01-02", check)
    assert alerting.tick() == "sent 4 recoveries to 1 target; 0 open"
    # Found anew, and their grace begins now.
    assert alerting.tick() == "nothing new; 2 open, 2 of them red for less than 120 s"
    assert alerting.tick(after=200) == "sent 2 problems to 1 target; 2 open"


def test_after_the_events_were_wiped_nothing_stays_open(alerting: Alerting, tell: Tell, web: WebReceiver) -> None:
    tell(web.url())
    alerting.judge(False)
    assert alerting.tick(after=200) == "sent 1 problem to 1 target; 1 open"
    alerting.instance.wipe()
    assert alerting.tick() == "sent 1 recovery to 1 target; 0 open"


def test_a_cursor_of_another_version_starts_afresh(alerting: Alerting, tell: Tell, web: WebReceiver) -> None:
    tell(web.url())
    alerting.judge(False)
    alerting.cursor = '{"version": 99}'
    assert "1 open" in alerting.tick()
    assert alerting.tick(after=200) == "sent 1 problem to 1 target; 1 open"
    assert web.take()
