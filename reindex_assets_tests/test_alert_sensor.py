"""The sensor `alerts` on a real Dagster instance, with real receivers: from what Dagster records to what a person reads.

What lives here: ticks. What does not: the delivery's own failures (test_alert_delivery.py) and the rules (test_alerts.py).
"""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    Definitions,
    SensorDefinition,
    build_sensor_context,
    job,
    schedule,
    sensor,
)
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.errors import SensorExecutionError, user_code_error_boundary
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._utils.error import serializable_error_info_from_exc_info

from reindex_assets.alert_sensor import build_alert_sensor
from reindex_assets.alerts import GIVEN_UP_CHECK
from reindex_assets.asset_names import REPAIR_TAG, checks_job_name, job_name, op_name
from reindex_assets.checks import CHECKS
from reindex_assets.definitions import build_defs
from reindex_assets.errors import ConfigurationError, ShardUnreachableError
from reindex_assets.fleet import Fleet
from reindex_assets.partitions import range_tags
from reindex_assets_tests.alert_receivers import SECRET, MailReceiver, Mood, WebReceiver
from reindex_assets_tests.conftest import CUSTOMERS
from reindex_assets_tests.test_assets import FIRST, LAST, WRITES

UI = "http://dagster.example.org"
HOUR = 3_600


@sensor(name="probe")
def broken_sensor() -> None:
    raise ShardUnreachableError("shard 2 of cluster local (127.0.0.1:9) did not answer")


@sensor(name="broken")
def other_sensor() -> None:
    raise KeyError("no such thing")


@schedule(cron_schedule="0 1 * * *", name="nightly", target="*")
def broken_schedule() -> None:
    raise ConfigurationError("the environment variable X is not set")


@job
def elsewhere() -> None:
    """A job of somebody else."""


@dataclass
class Alerting:
    """The sensor as the daemon ticks it: its cursor is kept when a tick ends well, and only then."""

    fleet: Fleet
    instance: DagsterInstance
    now: float = field(default_factory=time.time)
    cursor: str | None = None

    def __post_init__(self) -> None:
        self.sensor: SensorDefinition = build_alert_sensor(self.fleet, clock=lambda: self.now)
        self.definitions = Definitions.merge(
            build_defs(self.fleet),
            Definitions(sensors=[broken_sensor, other_sensor], schedules=[broken_schedule]),
        )

    def tick(self, after: float = 0) -> str:
        """Lets time pass, then ticks; what the tick says."""
        self.now = max(self.now, time.time()) + after
        with build_sensor_context(self.instance, self.cursor, definitions=self.definitions) as context:
            result: SensorExecutionData = self.sensor.evaluate_tick(context)
        assert not result.run_requests
        self.cursor = result.cursor
        return result.skip_message or ""

    def judge(
        self,
        passed: bool,
        partition: str | None = "acme|2026-01-02",
        check: str = "rows_agree",
        severity: AssetCheckSeverity = AssetCheckSeverity.ERROR,
        asset: AssetKey = WRITES,
        run_id: str | None = None,
    ) -> None:
        """A check judges a partition, in a run of its own: Dagster 1.13 can't store a second verdict without a run."""
        name = (partition or "").replace("|", " ")
        evaluation = AssetCheckEvaluation(
            asset_key=asset,
            check_name=check,
            passed=passed,
            severity=severity,
            description=f"{name}: {check} says {'yes' if passed else 'no'}.",
            partition=partition,
        )
        event = DagsterEvent(
            DagsterEventType.ASSET_CHECK_EVALUATION.value, job_name("local"), event_specific_data=evaluation
        )
        self.instance.report_dagster_event(event, run_id or str(uuid.uuid4()))

    def fail_a_run(self, tags: Mapping[str, str] = MappingProxyType({})) -> str:
        """A run whose process died; its id."""
        job = self.definitions.resolve_job_def(job_name("local"))
        run = self.instance.create_run_for_job(job, tags={**range_tags(list(CUSTOMERS), FIRST, LAST), **tags})
        self.instance.report_run_failed(run, "its process died")
        return run.run_id


@pytest.fixture
def alerting(fleet: Fleet, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Alerting:
    """Alerts that have begun, with nothing wrong so far."""
    monkeypatch.setenv("REINDEX_UI_URL", UI + "/")
    monkeypatch.setenv("REINDEX_ALERT_URLS", "")
    alerting = Alerting(fleet, instance)
    assert "REINDEX_ALERT_URLS is not set" in alerting.tick()
    return alerting


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets whom the alerts tell."""
    return lambda *urls: monkeypatch.setenv("REINDEX_ALERT_URLS", "\n".join(urls))


Tell = Callable[..., None]


def test_a_red_check_is_told_after_the_grace_again_after_the_window_and_once_when_green(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())
    run_id = alerting.fail_a_run({REPAIR_TAG: "1"})
    alerting.judge(False, run_id=run_id)
    assert alerting.tick() == "nothing new; 1 open, 1 of them red for less than 120 s"
    assert alerting.tick(after=100) == "nothing new; 1 open, 1 of them red for less than 120 s"
    assert alerting.tick(after=45) == "told 1 problem to 1 target; 1 open"
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
    assert alerting.tick(after=2.5 * HOUR) == "told 1 problem to 1 target; 1 open"
    assert web.take()["title"] == "reindex_assets: 1 problem (1 still open)"
    assert alerting.tick() == "nothing new; 1 open"

    alerting.judge(True)
    assert alerting.tick() == "told 1 recovery to 1 target; 0 open"
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
    assert alerting.tick(after=200) == "told 11 problems to 1 target; 11 open"
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
    assert alerting.tick() == "told 1 problem to 1 target; 1 open"
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
    # Being judged anew at this moment does not make it green.
    alerting.judge(False, "initech|2026-01-02")
    partitions = build_defs(fleet).resolve_asset_graph().get(WRITES).partitions_def
    assert partitions is not None
    subset = partitions.empty_subset().with_partition_keys(["initech|2026-01-02"])
    planned = AssetCheckEvaluationPlanned(asset_key=WRITES, check_name="rows_agree", partitions_subset=subset)
    kind = DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value
    instance.report_dagster_event(DagsterEvent(kind, job_name("local"), event_specific_data=planned), str(uuid.uuid4()))
    assert "3 open" in alerting.tick()
    assert alerting.tick(after=200) == "told 3 problems to 1 target; 3 open"
    body = web.take()["message"]
    assert "acme 2026-01-02: rows_agree" in body
    assert "acme 2026-01-03: nothing_quarantined (warning)" in body
    assert "initech 2026-01-02: rows_agree" in body
    assert "globex" not in body
    alerting.judge(True)
    assert alerting.tick() == "told 1 recovery to 1 target; 2 open"


def test_checks_of_other_assets_and_of_customers_who_left_are_nobodys_problem(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())
    alerting.judge(False, asset=AssetKey(["somebody", "elses"]))
    alerting.judge(False, "departed|2026-01-02")
    alerting.judge(False, None)
    assert alerting.tick(after=200) == "told 1 problem to 1 target; 1 open"
    assert "- local/process/shard_writes: the whole asset: rows_agree" in web.take()["message"]


def test_a_customer_who_leaves_the_fleet_takes_its_problems_along(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())
    alerting.judge(False, "initech|2026-01-02")
    assert alerting.tick(after=200) == "told 1 problem to 1 target; 1 open"
    local = alerting.fleet.clusters["local"]
    fewer = {name: customer for name, customer in local.customers.items() if name != "initech"}
    fleet = alerting.fleet.model_copy(update={"clusters": {"local": local.model_copy(update={"customers": fewer})}})
    without = Alerting(fleet, alerting.instance, cursor=alerting.cursor)
    assert without.tick(after=48 * HOUR) == "nothing new; 0 open"
    assert len(web.received) == 1


def test_a_failed_run_is_told_once_with_its_reason_and_link(alerting: Alerting, tell: Tell, web: WebReceiver) -> None:
    tell(web.url())
    run_id = failing_run(alerting, {})
    assert alerting.tick() == "told 1 problem to 1 target; 0 open"
    body = web.take()["message"]
    assert f"FAILED RUNS\n- run {run_id[:8]}: acme 2026-01-01 to initech 2026-01-04: Postgres" in body
    assert f"run {UI}/runs/{run_id}" in body
    assert [alerting.tick(after=48 * HOUR) for _ in range(2)] == ["nothing new; 0 open"] * 2


def test_failed_runs_of_the_repair_sensor_are_not_told(alerting: Alerting, tell: Tell, web: WebReceiver) -> None:
    tell(web.url())
    alerting.fail_a_run({REPAIR_TAG: "1"})
    assert alerting.tick() == "nothing new; 0 open"


def test_failed_runs_of_the_checks_alone_are_told_and_those_of_others_are_not(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())
    checks_job = build_defs(alerting.fleet).resolve_job_def(checks_job_name("local"))
    for run in (
        alerting.instance.create_run_for_job(checks_job),
        alerting.instance.create_run_for_job(Definitions(jobs=[elsewhere]).resolve_job_def("elsewhere")),
    ):
        alerting.instance.report_run_failed(run, "its process died")
    assert alerting.tick() == "told 1 problem to 1 target; 0 open"
    assert "its process died" in web.take()["message"]


def failing_run(alerting: Alerting, tags: dict[str, str]) -> str:
    """A real run that fails because Postgres is out of reach; its id."""
    cluster = alerting.fleet.clusters["local"]
    dead = cluster.postgres.model_copy(update={"port": 1})
    broken = alerting.fleet.model_copy(update={"clusters": {"local": cluster.model_copy(update={"postgres": dead})}})
    result = (
        build_defs(broken)
        .resolve_job_def(job_name("local"))
        .execute_in_process(
            run_config={
                "ops": {op_name("local"): {"config": {"attempts": 1}}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            instance=alerting.instance,
            tags={**range_tags(list(cluster.customers), FIRST, LAST), **tags},
            raise_on_error=False,
        )
    )
    assert not result.success
    return result.run_id


@dataclass
class Automated:
    """A sensor or schedule as the daemon keeps it: its state, and its ticks."""

    instance: DagsterInstance
    name: str
    type: InstigatorType = InstigatorType.SENSOR

    def __post_init__(self) -> None:
        repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("reindex"), "__repository__")
        data = (
            SensorInstigatorData()
            if self.type is InstigatorType.SENSOR
            else ScheduleInstigatorData("0 1 * * *", start_timestamp=0.0)
        )
        self.state = InstigatorState(
            RemoteInstigatorOrigin(repository_origin=repository, instigator_name=self.name),
            self.type,
            InstigatorStatus.RUNNING,
            data,
        )
        self.instance.add_instigator_state(self.state)

    def ticks(self, status: TickStatus, evaluate: Callable[[], object] | None = None) -> None:
        """One tick that ended so; a failure with the error that `evaluate` raises, wrapped as the code server wraps it."""
        error = None
        if evaluate is not None:
            try:
                with user_code_error_boundary(
                    SensorExecutionError, lambda: f"Error during the evaluation of {self.name}"
                ):
                    evaluate()
            except SensorExecutionError:
                error = serializable_error_info_from_exc_info(sys.exc_info())
            assert error is not None
        self.instance.create_tick(
            TickData(
                instigator_origin_id=self.state.instigator_origin_id,
                instigator_name=self.name,
                instigator_type=self.type,
                status=status,
                timestamp=time.time(),
                selector_id=self.state.selector_id,
                error=error,
                run_ids=[],
                run_keys=[],
            )
        )

    def stop(self) -> None:
        self.instance.update_instigator_state(self.state.with_status(InstigatorStatus.STOPPED))


def test_a_failing_sensor_is_told_with_its_cause_and_so_is_its_recovery(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())
    broken = Automated(alerting.instance, "broken")
    broken.ticks(TickStatus.FAILURE, lambda: other_sensor(build_sensor_context()))
    assert alerting.tick() == "told 1 problem to 1 target; 1 open"
    body = web.take()["message"]
    assert "FAILING SENSORS AND SCHEDULES\n- KeyError: 'no such thing' (sensor broken)" in body
    assert "Traceback" not in body
    assert "Stack Trace" not in body

    # A tick that has begun has no outcome yet.
    broken.ticks(TickStatus.STARTED)
    assert alerting.tick() == "nothing new; 1 open"
    broken.ticks(TickStatus.SKIPPED)
    assert alerting.tick() == "told 1 recovery to 1 target; 0 open"
    assert "- sensor broken works again" in web.take()["message"]


def test_an_engine_out_of_reach_is_told_once_for_all_who_need_it(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())
    probe = Automated(alerting.instance, "probe")
    nightly = Automated(alerting.instance, "nightly", InstigatorType.SCHEDULE)
    probe.ticks(TickStatus.FAILURE, lambda: broken_sensor(build_sensor_context()))
    nightly.ticks(TickStatus.FAILURE, lambda: broken_sensor(build_sensor_context()))
    assert alerting.tick() == "told 2 problems to 1 target; 2 open"
    line = "- shard 2 of cluster local (127.0.0.1:9) did not answer (schedule nightly, sensor probe)"
    assert f"ENGINE OUT OF REACH\n{line}\nWhat to do: " in web.take()["message"]

    # It fails for another reason now: that says nothing of the engine, and is news.
    probe.ticks(TickStatus.FAILURE, lambda: other_sensor(build_sensor_context()))
    assert alerting.tick() == "told 1 problem to 1 target; 2 open"
    assert "KeyError" in web.take()["message"]
    for automated in (probe, nightly):
        automated.ticks(TickStatus.SUCCESS)
    assert alerting.tick() == "told 3 recoveries to 1 target; 0 open"
    assert "- sensor probe reaches its engine again" in web.take()["message"]


def test_a_failing_schedule_shows_the_sentence_written_for_the_operator(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())

    def from_below() -> None:
        try:
            raise OSError("errno 111")
        except OSError as error:
            raise ConfigurationError("the environment variable X is not set") from error

    Automated(alerting.instance, "nightly", InstigatorType.SCHEDULE).ticks(TickStatus.FAILURE, from_below)
    alerting.tick()
    assert "- the environment variable X is not set (schedule nightly)" in web.take()["message"]


def test_sensors_that_were_stopped_or_removed_or_are_the_alerts_themselves_are_not_told(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())
    broken = Automated(alerting.instance, "broken")
    for automated in (broken, Automated(alerting.instance, "renamed_since"), Automated(alerting.instance, "alerts")):
        automated.ticks(TickStatus.FAILURE, lambda: other_sensor(build_sensor_context()))
    assert alerting.tick() == "told 1 problem to 1 target; 1 open"
    # Switched off while it failed: it is neither failing nor well.
    broken.stop()
    assert alerting.tick(after=48 * HOUR) == "nothing new; 0 open"


def test_without_urls_the_tick_says_how_to_set_them_and_a_later_url_is_told_what_is_open(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    alerting.judge(False)
    alerting.judge(False, "globex|2026-01-02")
    said = alerting.tick(after=200)
    assert "REINDEX_ALERT_URLS is not set, so nobody is told; 2 open" in said
    alerting.judge(True)
    alerting.tick()
    tell(web.url())
    assert alerting.tick() == "told 1 problem to 1 target; 1 open"
    assert "globex" in web.take()["message"]


def test_a_target_that_missed_something_gets_it_later_and_the_others_only_once(
    alerting: Alerting, tell: Tell, web: WebReceiver, mail: MailReceiver
) -> None:
    tell(web.url(), mail.url())
    mail.refuses = True
    failed = alerting.fail_a_run()
    alerting.judge(False)
    said = alerting.tick(after=200)
    assert said.startswith("told 2 problems to 1 target; target 2 (mailto) did not get it (")
    assert web.take()["title"] == "reindex_assets: 2 problems"

    # In the meantime one more: the first hears of that only, the second is missing all of it.
    alerting.judge(False, "globex|2026-01-02")
    assert alerting.tick(after=200).startswith("told 1 problem to 1 target; target 2 (mailto)")
    assert "acme" not in web.take()["message"]

    mail.refuses = False
    alerting.judge(True)
    assert alerting.tick() == "told 1 recovery to 1 target; told 2 problems to 1 target; 1 open"
    assert "GREEN AGAIN" in web.take()["message"]
    text = mail.received[0].get_content()
    assert failed in text
    assert "globex" in text
    # It turned green before this target had heard of it.
    assert "GREEN AGAIN" not in text
    assert alerting.tick() == "nothing new; 1 open"


def test_when_nobody_can_be_reached_the_tick_fails_and_nothing_is_lost(
    alerting: Alerting, tell: Tell, web: WebReceiver, other_web: WebReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    tell(web.url(), other_web.url())
    web.mood, other_web.mood = Mood.BROKEN, Mood.HANGING
    failed = alerting.fail_a_run()
    alerting.judge(False)
    for _ in range(2):
        with pytest.raises(Exception, match="no target of the alerts could be reached") as raised:
            alerting.tick(after=200)
        info = serializable_error_info_from_exc_info((type(raised.value), raised.value, raised.value.__traceback__))  # type: ignore[arg-type]
        assert "target 1 (json): it answered with status 500; target 2 (json): no connection" in info.to_string()
        assert SECRET not in info.to_string()
    web.mood = other_web.mood = Mood.WELL
    assert alerting.tick() == "told 2 problems to 2 targets; 1 open"
    for receiver in (web, other_web):
        assert failed in receiver.take()["message"]
    assert SECRET not in (alerting.cursor or "")
    assert "127.0.0.1" not in (alerting.cursor or "")
    assert SECRET not in caplog.text


def test_a_url_that_is_not_understood_fails_the_tick_without_showing_it(alerting: Alerting, tell: Tell) -> None:
    tell("json://example.org/x", f"nosuchservice://{SECRET}")
    with pytest.raises(ConfigurationError, match=r"target 2 \(nosuchservice\)") as raised:
        alerting.tick()
    assert SECRET not in str(raised.value)


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
    monkeypatch.setattr("reindex_assets.alert_sensor._PAGE", 2)
    monkeypatch.setattr("reindex_assets.alert_sensor.MOST_EVALUATIONS", 4)
    tell(web.url())
    for partition in ("acme|2026-01-02", "acme|2026-01-03", "acme|2026-01-04", "acme|2026-01-05"):
        alerting.judge(False, partition)
    alerting.judge(True)
    assert (
        alerting.tick(after=200) == "read 4 evaluations of checks, and there are more: telling waits for the next tick"
    )
    assert alerting.tick() == "told 3 problems to 1 target; 3 open"
    assert "acme 2026-01-03 to 2026-01-05" in web.take()["message"]


def test_when_more_is_red_than_is_followed_the_rest_is_told_when_there_is_room(
    alerting: Alerting, tell: Tell, web: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindex_assets.alert_state.MOST_RANGES", 4)
    tell(web.url())
    for customer in CUSTOMERS:
        for check in ("rows_agree", "right_shard"):
            alerting.judge(False, f"{customer}|2026-01-02", check)
    assert alerting.tick(after=200) == "told 4 problems to 1 target; 4 open"
    told = web.take()["message"]
    assert "More checks are red than are followed one by one" in told
    # Until those events are not read again.
    assert [alerting.tick() for _ in range(2)] == ["nothing new; 4 open"] * 2
    for customer in CUSTOMERS:
        if f"{customer} 2026-01-02" in told:
            for check in ("rows_agree", "right_shard"):
                alerting.judge(True, f"{customer}|2026-01-02", check)
    assert alerting.tick() == "told 4 recoveries to 1 target; 0 open"
    # Found anew, and their grace begins now.
    assert alerting.tick() == "nothing new; 2 open, 2 of them red for less than 120 s"
    assert alerting.tick(after=200) == "told 2 problems to 1 target; 2 open"


def test_after_the_events_were_wiped_nothing_stays_open(alerting: Alerting, tell: Tell, web: WebReceiver) -> None:
    tell(web.url())
    alerting.judge(False)
    assert alerting.tick(after=200) == "told 1 problem to 1 target; 1 open"
    alerting.instance.wipe()
    assert alerting.tick() == "told 1 recovery to 1 target; 0 open"


def test_a_cursor_of_another_version_starts_afresh(alerting: Alerting, tell: Tell, web: WebReceiver) -> None:
    tell(web.url())
    alerting.judge(False)
    alerting.cursor = '{"version": 99}'
    assert "1 open" in alerting.tick()
    assert alerting.tick(after=200) == "told 1 problem to 1 target; 1 open"
    assert web.take()
