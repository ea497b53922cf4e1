"""The Dagster sensor `alerts`, which tells people about problems and about their recovery.

What lives here: a tick, and reading what is new. What does not: reading everything that is wrong (defs/automation/problems.py), deciding
what to send, and sending it (alerts/round.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from dagster import (
    AssetCheckSeverity,
    DagsterEventType,
    DagsterInstance,
    DefaultSensorStatus,
    EventRecordsFilter,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from reindex_assets.alerts.cursor import AlertState, from_cursor, to_cursor
from reindex_assets.alerts.delivery import parse_targets
from reindex_assets.alerts.message import Detail, Details
from reindex_assets.alerts.problems import (
    Evaluation,
    Problem,
    Rules,
    Severity,
    check_problem,
)
from reindex_assets.alerts.round import Observations, run_round
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.settings import Settings
from reindex_assets.defs.automation.problems import Automation, cause_of, latest_result, red_checks, sentence_of
from reindex_assets.defs.history.runs_in_flight import is_of_fleet
from reindex_assets.defs.keys.names import REPAIR_TAG, asset_key
from reindex_assets.defs.keys.partitions import RANGE_END_TAG, RANGE_START_TAG
from reindex_assets.model import Slice, Step

SENSOR_NAME = "alerts"

#: New evaluations read in one tick. A tick that reaches no target has to read them again, so this also limits the cost of waiting.
MAX_EVALUATIONS = 10_000
_PAGE = 1_000


def build_alert_sensor(fleet: Fleet, clock: Callable[[], float] = time.time) -> SensorDefinition:
    """The sensor that tells people about the problems of a fleet. It starts no runs.

    Args:
        clock: returns the current time in epoch seconds.
    """

    @sensor(
        name=SENSOR_NAME,
        minimum_interval_seconds=30,
        # REINDEX_ALERT_URLS decides whether alerts are sent. People would forget to turn on a second switch.
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            "Reports red checks, repairs that were given up, failed runs, failing sensors and schedules, and unreachable engines to the "
            "targets in REINDEX_ALERT_URLS, and reports when they have recovered. Sends at most one message per tick and target. Fails "
            "when no target could be reached."
        ),
    )
    def alerts(context: SensorEvaluationContext) -> SensorResult:
        state, message = _tick(context, fleet, Settings(), int(clock()))
        return SensorResult(skip_reason=SkipReason(message), cursor=to_cursor(state))

    return alerts


def _tick(context: SensorEvaluationContext, fleet: Fleet, settings: Settings, now: int) -> tuple[AlertState, str]:
    """One tick. Returns the state to keep, and a sentence that says what was done."""
    targets = parse_targets(settings.alert_urls)
    instance = context.instance
    location = context.code_location_origin
    # The alerts can't report their own failure.
    automation = Automation.of(
        instance, context.repository_def, location.location_name if location else None, but=SENSOR_NAME
    )

    end = instance.event_log_storage.get_maximum_record_id() or 0
    stored = from_cursor(context.cursor) if context.cursor else None
    state = stored or AlertState(position=end, reread_from=end)
    # A position beyond the last event means that events have been deleted, maybe all of them.
    starts_over = stored is None or end < state.position
    if starts_over:
        state = replace(state, position=end, reread_from=end)
    observations = _read(instance, fleet, state, end)
    if starts_over or (state.incomplete and state.has_room):
        observations = replace(observations, red_now=red_checks(instance, context.repository_def, fleet, now))
    return run_round(
        state,
        replace(observations, failing={problem: opened for problem, (opened, _) in automation.failing.items()}),
        _watched(fleet, automation.running),
        targets,
        Rules(grace_seconds=settings.alert_grace_seconds, repeat_seconds=int(settings.alert_repeat_hours * 3600)),
        Details(
            lambda problem: (
                automation.failing[problem][1] if problem.of_automation else latest_result(instance, problem)
            ),
            lambda run_id: _failure(instance, run_id),
        ),
        settings.ui_url,
        now,
    )


def _watched(fleet: Fleet, automation: set[str]) -> Callable[[Problem], bool]:
    """Tells whether a problem is of the fleet's assets and customers, or of a sensor or schedule that is turned on."""
    customers = {
        asset_key(dataset, step).to_user_string(): dataset.customers for dataset in fleet.datasets() for step in Step
    }

    def is_watched(problem: Problem) -> bool:
        if problem.of_automation:
            return problem.where in automation
        customer, _, day = problem.partition.rpartition("|")
        return problem.where in customers and (not day or not customer or customer in customers[problem.where])

    return is_watched


def _read(instance: DagsterInstance, fleet: Fleet, state: AlertState, end: int) -> Observations:
    """What the instance has recorded since the tick before the previous one, up to the storage id `end`."""
    storage = instance.event_log_storage
    evaluations: list[Evaluation] = []
    position, new, behind = state.reread_from, 0, False
    while True:
        wanted = EventRecordsFilter(
            DagsterEventType.ASSET_CHECK_EVALUATION, after_cursor=position, before_cursor=end + 1
        )
        page = storage.get_event_records(wanted, limit=_PAGE, ascending=True)
        for record in page:
            event = record.event_log_entry.asset_check_evaluation
            new += record.storage_id > state.position
            if event is not None:
                severity = Severity.WARNING if event.severity is AssetCheckSeverity.WARN else Severity.ERROR
                problem = check_problem(event.asset_key.to_user_string(), event.check_name, event.partition or "")
                evaluations.append(
                    Evaluation(problem=problem, passed=event.passed, severity=severity, time=int(record.timestamp))
                )
        if len(page) < _PAGE:
            position = end
            break
        position = page[-1].storage_id
        if new >= MAX_EVALUATIONS:
            behind = True
            break
    failed = EventRecordsFilter(
        DagsterEventType.RUN_FAILURE, after_cursor=state.reread_from, before_cursor=position + 1
    )
    seen = [record.run_id for record in storage.get_event_records(failed, limit=_PAGE, ascending=True)]
    unknown = [run_id for run_id in seen if run_id not in state.failed_runs_seen]
    runs = {run.run_id: run for run in instance.get_runs(RunsFilter(run_ids=unknown))} if unknown else {}
    # Failed repairs are left out: the repair sensor tries again, and a check turns red when it gives up.
    failed_runs = [r for r in unknown if r in runs and is_of_fleet(runs[r], fleet) and REPAIR_TAG not in runs[r].tags]
    return Observations(
        evaluations=evaluations, failed_runs=failed_runs, failed_runs_seen=seen, position=position, is_behind=behind
    )


def _failure(instance: DagsterInstance, run_id: str) -> Detail | None:
    """Why a run failed: the error of its step, else of the run."""
    run = instance.get_run_by_id(run_id)
    if run is None:
        return None
    tags = [run.tags[tag] for tag in (RANGE_START_TAG, RANGE_END_TAG) if tag in run.tags]
    partitions = " to ".join(dict.fromkeys(str(Slice.of(tag)) for tag in tags))
    wanted = {DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE}
    page = instance.get_records_for_run(run_id, of_type=wanted, limit=20)
    reason = "no reason was recorded"
    for record in page.records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        if event.event_type is DagsterEventType.STEP_FAILURE:
            data = event.step_failure_data
            if data.user_failure_data is not None and data.user_failure_data.description:
                reason = data.user_failure_data.description
            elif data.error is not None:
                reason = sentence_of(cause_of(data.error))
            break
        reason = event.message or reason
    return Detail(f"{partitions}: {reason}" if partitions else reason, run_id)
