"""The alerts as the daemon ticks them, with time at the test's will.

What lives here: the sensor with its cursor, automation that fails, and the fixtures of the test_alert files. What does not: who receives
(support/alert_receivers.py), and tests.
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
    schedule,
    sensor,
)
from dagster._core.definitions.sensor_definition import SensorExecutionData
from dagster._core.errors import SensorExecutionError, user_code_error_boundary
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, ScheduleInstigatorData, TickData
from dagster._utils.error import serializable_error_info_from_exc_info

from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.automation.alert_sensor import build_alert_sensor
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.dagster_private import (
    AssetCheckEvaluationPlanned,
    InstigatorType,
    SensorInstigatorData,
    TickStatus,
)
from reindex_assets.defs.keys.names import job_name
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.errors import ConfigurationError, ShardUnreachableError
from reindex_assets.model import PROCESS
from reindex_assets_tests.support.asset_runs import FIRST, LAST, WRITES
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.session_stack import CUSTOMERS

UI = "http://dagster.example.org"
HOUR = 3_600

Tell = Callable[..., None]


@sensor(name="probe")
def broken_sensor() -> None:
    raise ShardUnreachableError("shard 2 of cluster local (127.0.0.1:9) did not answer")


@sensor(name="broken")
def other_sensor() -> None:
    raise KeyError("no such thing")


@schedule(cron_schedule="0 1 * * *", name="nightly", target="*")
def broken_schedule() -> None:
    raise ConfigurationError("the environment variable X is not set")


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
            DagsterEventType.ASSET_CHECK_EVALUATION.value,
            job_name(dataset_named("local", PROCESS)),
            event_specific_data=evaluation,
        )
        self.instance.report_dagster_event(event, run_id or str(uuid.uuid4()))

    def plan(self, partition: str, check: str = "rows_agree") -> None:
        """A run is about to evaluate a check."""
        partitions = self.definitions.resolve_asset_graph().get(WRITES).partitions_def
        assert partitions is not None
        subset = partitions.empty_subset().with_partition_keys([partition])
        event = DagsterEvent(
            DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value,
            job_name(dataset_named("local", PROCESS)),
            event_specific_data=AssetCheckEvaluationPlanned(
                asset_key=WRITES, check_name=check, partitions_subset=subset
            ),
        )
        self.instance.report_dagster_event(event, str(uuid.uuid4()))

    def fail_a_run(self, tags: Mapping[str, str] = MappingProxyType({})) -> str:
        """A run whose process died; its id."""
        job = self.definitions.resolve_job_def(job_name(dataset_named("local", PROCESS)))
        run = self.instance.create_run_for_job(job, tags={**range_tags(list(CUSTOMERS), FIRST, LAST), **tags})
        self.instance.report_run_failed(run, "its process died")
        return run.run_id


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


@pytest.fixture(name="alerting")
def alerts_that_have_begun(fleet: Fleet, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Alerting:
    """Alerts that have begun, with nothing wrong so far."""
    monkeypatch.setenv("REINDEX_UI_URL", UI + "/")
    monkeypatch.setenv("REINDEX_ALERT_URLS", "")
    alerting = Alerting(fleet, instance)
    assert "REINDEX_ALERT_URLS is not set" in alerting.tick()
    return alerting


@pytest.fixture(name="tell")
def targets_of_the_alerts(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets whom the alerts tell."""
    return lambda *urls: monkeypatch.setenv("REINDEX_ALERT_URLS", "\n".join(urls))
