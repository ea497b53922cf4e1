"""The Dagster sensor `alerts`, which tells people about problems and about their recovery.

What lives here: reading problems from the Dagster instance. What does not: deciding what to send, and sending it (alerts/round.py).
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from dagster import (
    AssetCheckKey,
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

from reindex_assets import errors
from reindex_assets.alerts.cursor import AlertState, from_cursor, to_cursor
from reindex_assets.alerts.delivery import parse_targets
from reindex_assets.alerts.message import Detail, Details
from reindex_assets.alerts.problems import (
    Evaluation,
    OpenState,
    Problem,
    ProblemKind,
    Rules,
    Severity,
    check_problem,
)
from reindex_assets.alerts.round import Observations, run_round
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.settings import Settings
from reindex_assets.defs.checks.specs import CHECKS
from reindex_assets.defs.dagster_private import (
    AssetCheckExecutionRecordStatus,
    InstigatorType,
    PartitionKeyFilter,
    SerializableErrorInfo,
    TickStatus,
)
from reindex_assets.defs.history.runs_in_flight import is_of_fleet
from reindex_assets.defs.keys.names import REPAIR_TAG, asset_key
from reindex_assets.defs.keys.partitions import RANGE_END_TAG, RANGE_START_TAG
from reindex_assets.model import Slice, Step

SENSOR_NAME = "alerts"

#: New evaluations read in one tick. A tick that reaches no target has to read them again, so this also limits the cost of waiting.
MAX_EVALUATIONS = 10_000
_PAGE = 1_000
#: Earlier results to search when a check is running while all red checks are looked up.
_MAX_HISTORY = 5_000

_UNREACHABLE = {errors.SourceUnreachableError.__name__, errors.ShardUnreachableError.__name__}
_OWN_ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type)}
_FAILED, _SUCCEEDED = AssetCheckExecutionRecordStatus.FAILED, AssetCheckExecutionRecordStatus.SUCCEEDED


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
    automation = _Automation.of(context)

    end = instance.event_log_storage.get_maximum_record_id() or 0
    stored = from_cursor(context.cursor) if context.cursor else None
    state = stored or AlertState(position=end, reread_from=end)
    # A position beyond the last event means that events have been deleted, maybe all of them.
    starts_over = stored is None or end < state.position
    if starts_over:
        state = replace(state, position=end, reread_from=end)
    observations = _read(instance, fleet, state, end)
    if starts_over or (state.incomplete and state.has_room):
        observations = replace(observations, red_now=_red_now(context, fleet, now))
    return run_round(
        state,
        replace(observations, failing={problem: opened for problem, (opened, _) in automation.failing.items()}),
        _watched(fleet, automation.running),
        targets,
        Rules(grace_seconds=settings.alert_grace_seconds, repeat_seconds=int(settings.alert_repeat_hours * 3600)),
        Details(
            lambda problem: automation.failing[problem][1] if problem.of_automation else _result(instance, problem),
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


def _red_now(context: SensorEvaluationContext, fleet: Fleet, now: int) -> dict[Problem, OpenState]:
    """Every check that is red now, from Dagster's table of the latest executions."""
    keys = {
        AssetCheckKey(asset_key(dataset, Step.WRITE), check.name) for dataset in fleet.datasets() for check in CHECKS
    }
    if context.repository_def is not None:
        keys |= set(context.repository_def.asset_graph.asset_check_keys)
    storage = context.instance.event_log_storage
    red: dict[AssetCheckKey, set[str | None]] = defaultdict(set)
    planned: dict[AssetCheckKey, set[str | None]] = defaultdict(set)
    for info in storage.get_asset_check_partition_info(sorted(keys)):
        if info.latest_execution_status is _FAILED:
            red[info.check_key].add(info.partition_key)
        elif info.latest_execution_status is not _SUCCEEDED:
            planned[info.check_key].add(info.partition_key)
    for key, partitions in planned.items():
        # A run is going to evaluate the check, or was killed before it did. Until then, the result before it counts.
        decided = set[str | None]()
        for record in storage.get_asset_check_execution_history(key, _MAX_HISTORY, status={_FAILED, _SUCCEEDED}):
            if record.partition in partitions and record.partition not in decided:
                decided.add(record.partition)
                red[key] |= {record.partition} if record.status is _FAILED else set()
    problems: dict[Problem, OpenState] = {}
    for key, partitions in red.items():
        latest = storage.get_asset_check_execution_history(key, 1, status={_FAILED})
        warns = any(r.evaluation is not None and r.evaluation.severity is AssetCheckSeverity.WARN for r in latest)
        for partition in partitions:
            problem = check_problem(key.asset_key.to_user_string(), key.name, partition or "")
            problems[problem] = OpenState(now, Severity.WARNING if warns else Severity.ERROR)
    return problems


@dataclass(frozen=True)
class _Automation:
    """The sensors and schedules that are turned on, and those of them whose latest tick failed."""

    running: set[str]
    failing: dict[Problem, tuple[OpenState, Detail]]

    @staticmethod
    def of(context: SensorEvaluationContext) -> _Automation:
        repository, location = context.repository_def, context.code_location_origin
        existing = None
        if repository is not None:
            existing = {f"sensor {definition.name}" for definition in repository.sensor_defs}
            existing |= {f"schedule {definition.name}" for definition in repository.schedule_defs}
        result = _Automation(set(), {})
        for state in context.instance.all_instigator_state():
            kind = "sensor" if state.instigator_type is InstigatorType.SENSOR else "schedule"
            where = f"{kind} {state.instigator_name}"
            elsewhere = location is not None and state.origin.location_name != location.location_name
            # Dagster keeps the state and the last tick of what no longer exists. And the alerts can't report their own failure.
            gone = existing is not None and where not in existing
            if not state.is_running or elsewhere or gone or state.instigator_name == SENSOR_NAME:
                continue
            result.running.add(where)
            # A tick that has only started has no outcome yet.
            ended = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]
            ticks = context.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1, statuses=ended)
            if ticks and ticks[0].status is TickStatus.FAILURE:
                cause = _cause(ticks[0].error) if ticks[0].error is not None else None
                unreachable = cause is not None and cause.cls_name in _UNREACHABLE
                problem = Problem(ProblemKind.ENGINE if unreachable else ProblemKind.AUTOMATION, where)
                opened = OpenState(int(ticks[0].timestamp), Severity.ERROR)
                result.failing[problem] = (opened, Detail(_sentence(cause) if cause else "no reason was recorded"))
        return result


def _cause(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """The error to show of a chain: one of this project's, which are written for the operator, else the innermost."""
    chain = [error]
    while link := chain[-1].cause or chain[-1].context:
        chain.append(link)
    return next((link for link in chain if link.cls_name in _OWN_ERRORS), chain[-1])


def _sentence(error: SerializableErrorInfo) -> str:
    """The message without the module's path, and for an error of this project also without its class."""
    name, text = error.cls_name or "", error.message.strip()
    bare = re.sub(rf"^[\w.<>]*\b{re.escape(name)}(: |$)", "", text) if name else text
    return bare or name if name in _OWN_ERRORS else f"{name}: {bare}".rstrip(": ") or "no reason was recorded"


def _result(instance: DagsterInstance, problem: Problem) -> Detail | None:
    """The description of the latest red evaluation of a check."""
    partition = PartitionKeyFilter(key=problem.partition or None)
    key = AssetCheckKey.from_user_string(f"{problem.where}:{problem.check}")
    storage = instance.event_log_storage
    records = storage.get_asset_check_execution_history(key, 1, status={_FAILED}, partition_filter=partition)
    if not records or records[0].evaluation is None:
        return None
    run_id = records[0].run_id
    # A result may come from a sensor, without a run.
    return Detail(records[0].evaluation.description or "", run_id if instance.has_run(run_id) else "")


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
                reason = _sentence(_cause(data.error))
            break
        reason = event.message or reason
    return Detail(f"{partitions}: {reason}" if partitions else reason, run_id)
