"""The sensor `alerts` on what fails by itself: runs, sensors, schedules, and engines out of reach.

What lives here: ticks. What does not: checks (defs/test_alert_sensor.py).
"""

from __future__ import annotations

from dagster import (
    Definitions,
    build_sensor_context,
    job,
)

from reindex_assets.defs.build import build_defs
from reindex_assets.defs.dagster_private import InstigatorType, TickStatus
from reindex_assets.defs.keys.names import REPAIR_TAG, checks_job_name, job_name, op_name
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import PROCESS
from reindex_assets_tests.support.alert_receivers import WebReceiver
from reindex_assets_tests.support.alerting import (  # noqa: F401 - fixtures
    HOUR,
    UI,
    Alerting,
    Automated,
    Tell,
    alerts_that_have_begun,
    broken_sensor,
    other_sensor,
    targets_of_the_alerts,
)
from reindex_assets_tests.support.asset_runs import FIRST, LAST
from reindex_assets_tests.support.datasets import dataset_named


@job
def elsewhere() -> None:
    """A job of somebody else."""


def test_a_failed_run_is_told_once_with_its_reason_and_link(alerting: Alerting, tell: Tell, web: WebReceiver) -> None:
    tell(web.url())
    run_id = failing_run(alerting, {})
    assert alerting.tick() == "sent 1 problem to 1 target; 0 open"
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
    checks_job = build_defs(alerting.fleet).resolve_job_def(checks_job_name(dataset_named("local", PROCESS)))
    for run in (
        alerting.instance.create_run_for_job(checks_job),
        alerting.instance.create_run_for_job(Definitions(jobs=[elsewhere]).resolve_job_def("elsewhere")),
    ):
        alerting.instance.report_run_failed(run, "its process died")
    assert alerting.tick() == "sent 1 problem to 1 target; 0 open"
    assert "its process died" in web.take()["message"]


def failing_run(alerting: Alerting, tags: dict[str, str]) -> str:
    """A real run that fails because Postgres is out of reach; its id."""
    cluster = alerting.fleet.clusters["local"]
    dead = cluster.postgres.model_copy(update={"port": 1})
    broken = alerting.fleet.model_copy(update={"clusters": {"local": cluster.model_copy(update={"postgres": dead})}})
    result = (
        build_defs(broken)
        .resolve_job_def(job_name(dataset_named("local", PROCESS)))
        .execute_in_process(
            run_config={
                "ops": {op_name(dataset_named("local", PROCESS)): {"config": {"attempts": 1}}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            instance=alerting.instance,
            tags={**range_tags(list(cluster.customers), FIRST, LAST), **tags},
            raise_on_error=False,
        )
    )
    assert not result.success
    return result.run_id


def test_a_failing_sensor_is_told_with_its_cause_and_so_is_its_recovery(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())
    broken = Automated(alerting.instance, "broken")
    broken.ticks(TickStatus.FAILURE, lambda: other_sensor(build_sensor_context()))
    assert alerting.tick() == "sent 1 problem to 1 target; 1 open"
    body = web.take()["message"]
    assert "FAILING SENSORS AND SCHEDULES\n- KeyError: 'no such thing' (sensor broken)" in body
    assert "Traceback" not in body
    assert "Stack Trace" not in body

    # A tick that has begun has no outcome yet.
    broken.ticks(TickStatus.STARTED)
    assert alerting.tick() == "nothing new; 1 open"
    broken.ticks(TickStatus.SKIPPED)
    assert alerting.tick() == "sent 1 recovery to 1 target; 0 open"
    assert "- sensor broken works again" in web.take()["message"]


def test_an_engine_out_of_reach_is_told_once_for_all_who_need_it(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    tell(web.url())
    probe = Automated(alerting.instance, "probe")
    nightly = Automated(alerting.instance, "nightly", InstigatorType.SCHEDULE)
    probe.ticks(TickStatus.FAILURE, lambda: broken_sensor(build_sensor_context()))
    nightly.ticks(TickStatus.FAILURE, lambda: broken_sensor(build_sensor_context()))
    assert alerting.tick() == "sent 2 problems to 1 target; 2 open"
    line = "- shard 2 of cluster local (127.0.0.1:9) did not answer (schedule nightly, sensor probe)"
    assert f"ENGINE UNREACHABLE\n{line}\nWhat to do: " in web.take()["message"]

    # It fails for another reason now: that says nothing of the engine, and is news.
    probe.ticks(TickStatus.FAILURE, lambda: other_sensor(build_sensor_context()))
    assert alerting.tick() == "sent 1 problem to 1 target; 2 open"
    assert "KeyError" in web.take()["message"]
    for automated in (probe, nightly):
        automated.ticks(TickStatus.SUCCESS)
    assert alerting.tick() == "sent 3 recoveries to 1 target; 0 open"
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
    assert alerting.tick() == "sent 1 problem to 1 target; 1 open"
    # Switched off while it failed: it is neither failing nor well.
    broken.stop()
    assert alerting.tick(after=48 * HOUR) == "nothing new; 0 open"
