"""The Dagster sensor `alerts`: what is wrong reaches a person, and so does its end.

What lives here: reading what is wrong from the Dagster instance. What does not: what follows from it (alerts/round.py).
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

#: New evaluations read in one tick. A tick that could reach nobody reads them again, so this also bounds what it costs to wait.
MAX_EVALUATIONS = 10_000
_PAGE = 1_000
#: Of a check that runs at this moment, the results before it that the first tick looks through.
_MOST_HISTORY = 5_000

_UNREACHABLE = {errors.SourceUnreachableError.__name__, errors.ShardUnreachableError.__name__}
_OWN_ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type)}
_FAILED, _SUCCEEDED = AssetCheckExecutionRecordStatus.FAILED, AssetCheckExecutionRecordStatus.SUCCEEDED


def build_alert_sensor(fleet: Fleet, clock: Callable[[], float] = time.time) -> SensorDefinition:
    """The sensor that tells people what is wrong with a fleet. It starts no runs.

    Args:
        clock: the present, in epoch seconds.
    """

    @sensor(
        name=SENSOR_NAME,
        minimum_interval_seconds=30,
        # Whether anybody is told is a matter of REINDEX_ALERT_URLS; a switch besides would be forgotten.
        default_status=DefaultSensorStatus.RUNNING,
        description=(
            "Tells the targets of REINDEX_ALERT_URLS of red checks, repairs that were given up, failed runs, failing sensors and "
            "engines out of reach, and when they are over: one message a tick. Its own failure means that nobody could be told."
        ),
    )
    def alerts(context: SensorEvaluationContext) -> SensorResult:
        state, message = _tick(context, fleet, Settings(), int(clock()))
        return SensorResult(skip_reason=SkipReason(message), cursor=to_cursor(state))

    return alerts


def _tick(context: SensorEvaluationContext, fleet: Fleet, settings: Settings, now: int) -> tuple[AlertState, str]:
    """One tick: what is remembered after it, and what it says it did."""
    targets = parse_targets(settings.alert_urls)
    instance = context.instance
    automation = _Automation.of(context)
    watch = _Watch(fleet, frozenset(automation.running))
    end = instance.event_log_storage.get_maximum_record_id() or 0
    state = from_cursor(context.cursor) if context.cursor else None
    # The second: events have been deleted, maybe all.
    starts_afresh = state is None or end < state.position
    state = (
        replace(state or AlertState(position=end, reread_from=end), position=end, reread_from=end)
        if starts_afresh
        else state
    )
    assert state is not None
    observed = _read(instance, watch, state, end)
    if starts_afresh or (state.incomplete and state.has_room):
        observed = replace(observed, red_now=_red_now(context, fleet, now))
    return run_round(
        state,
        replace(observed, failing={problem: standing for problem, (standing, _) in automation.failing.items()}),
        watch.sees,
        targets,
        Rules(grace_seconds=settings.alert_grace_seconds, repeat_seconds=int(settings.alert_repeat_hours * 3600)),
        Details(
            lambda problem: automation.failing[problem][1] if problem.of_automation else _result(instance, problem),
            lambda run_id: _failure(instance, run_id),
        ),
        settings.ui_url,
        now,
    )


class _Watch:
    """What the alerts look at: the fleet's assets and customers, and the sensors and schedules that are switched on."""

    def __init__(self, fleet: Fleet, automation: frozenset[str]) -> None:
        self.fleet = fleet
        self._automation = automation
        self._clusters = {
            asset_key(dataset, step).to_user_string(): dataset.cluster_name
            for dataset in fleet.datasets()
            for step in Step
        }

    def sees(self, problem: Problem) -> bool:
        if problem.of_automation:
            return problem.where in self._automation
        cluster = self._clusters.get(problem.where)
        customer, _, day = problem.partition.rpartition("|")
        return cluster is not None and (not day or not customer or customer in self.fleet.clusters[cluster].customers)


def _read(instance: DagsterInstance, watch: _Watch, state: AlertState, end: int) -> Observations:
    """What the instance has recorded since the tick before the last one, up to `end`."""
    storage = instance.event_log_storage
    evaluations: list[Evaluation] = []
    position, new, behind = state.reread_from, 0, False
    while True:
        wanted = EventRecordsFilter(
            DagsterEventType.ASSET_CHECK_EVALUATION, after_cursor=position, before_cursor=end + 1
        )
        page = storage.get_event_records(wanted, limit=_PAGE, ascending=True)
        for record in page:
            found = record.event_log_entry.asset_check_evaluation
            new += record.storage_id > state.position
            if found is not None:
                severity = Severity.WARNING if found.severity is AssetCheckSeverity.WARN else Severity.ERROR
                problem = check_problem(found.asset_key.to_user_string(), found.check_name, found.partition or "")
                evaluations.append(
                    Evaluation(problem=problem, passed=found.passed, severity=severity, time=int(record.timestamp))
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
    # The repair sensor tries again by itself, and says when it gives up.
    told = [r for r in unknown if r in runs and is_of_fleet(runs[r], watch.fleet) and REPAIR_TAG not in runs[r].tags]
    return Observations(
        evaluations=evaluations, failed_runs=told, failed_runs_seen=seen, position=position, is_behind=behind
    )


def _red_now(context: SensorEvaluationContext, fleet: Fleet, now: int) -> dict[Problem, OpenState]:
    """Every check that is red at present, from Dagster's table of the latest executions."""
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
        # A run that is to judge it anew, or was killed before it did: the result before it still holds.
        judged_before = set[str | None]()
        for record in storage.get_asset_check_execution_history(key, _MOST_HISTORY, status={_FAILED, _SUCCEEDED}):
            if record.partition in partitions and record.partition not in judged_before:
                judged_before.add(record.partition)
                red[key] |= {record.partition} if record.status is _FAILED else set()
    found: dict[Problem, OpenState] = {}
    for key, partitions in red.items():
        latest = storage.get_asset_check_execution_history(key, 1, status={_FAILED})
        warns = any(r.evaluation is not None and r.evaluation.severity is AssetCheckSeverity.WARN for r in latest)
        for partition in partitions:
            problem = check_problem(key.asset_key.to_user_string(), key.name, partition or "")
            found[problem] = OpenState(now, Severity.WARNING if warns else Severity.ERROR)
    return found


@dataclass(frozen=True)
class _Automation:
    """The sensors and schedules that are switched on, and those whose latest tick failed."""

    running: set[str]
    failing: dict[Problem, tuple[OpenState, Detail]]

    @staticmethod
    def of(context: SensorEvaluationContext) -> _Automation:
        repository, location = context.repository_def, context.code_location_origin
        known = None
        if repository is not None:
            known = {f"sensor {item.name}" for item in repository.sensor_defs}
            known |= {f"schedule {item.name}" for item in repository.schedule_defs}
        result = _Automation(set(), {})
        for state in context.instance.all_instigator_state():
            where = (
                f"{'sensor' if state.instigator_type is InstigatorType.SENSOR else 'schedule'} {state.instigator_name}"
            )
            elsewhere = location is not None and state.origin.location_name != location.location_name
            # What no longer exists keeps its state and its last tick. The failure of the alerts themselves can't be told by them.
            gone = known is not None and where not in known
            if not state.is_running or elsewhere or gone or state.instigator_name == SENSOR_NAME:
                continue
            result.running.add(where)
            # A tick that has begun has no outcome yet.
            ended = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]
            ticks = context.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1, statuses=ended)
            if ticks and ticks[0].status is TickStatus.FAILURE:
                cause = _cause(ticks[0].error) if ticks[0].error is not None else None
                unreachable = cause is not None and cause.cls_name in _UNREACHABLE
                problem = Problem(ProblemKind.ENGINE if unreachable else ProblemKind.AUTOMATION, where)
                standing = OpenState(int(ticks[0].timestamp), Severity.ERROR)
                result.failing[problem] = (standing, Detail(_sentence(cause) if cause else "no reason was recorded"))
        return result


def _cause(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """The link of a chain of errors to show: ours, which is written for the operator, else the innermost."""
    chain = [error]
    while link := chain[-1].cause or chain[-1].context:
        chain.append(link)
    return next((link for link in chain if link.cls_name in _OWN_ERRORS), chain[-1])


def _sentence(error: SerializableErrorInfo) -> str:
    """The message without the module's path, and without the class too where it is ours."""
    name, text = error.cls_name or "", error.message.strip()
    bare = re.sub(rf"^[\w.<>]*\b{re.escape(name)}(: |$)", "", text) if name else text
    return bare or name if name in _OWN_ERRORS else f"{name}: {bare}".rstrip(": ") or "no reason was recorded"


def _result(instance: DagsterInstance, problem: Problem) -> Detail | None:
    """What the latest red evaluation of a check says."""
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
    """Why a run failed: what its step said, else what Dagster says of the run."""
    run = instance.get_run_by_id(run_id)
    if run is None:
        return None
    asked = " to ".join(
        dict.fromkeys(str(Slice.of(run.tags[t])) for t in (RANGE_START_TAG, RANGE_END_TAG) if t in run.tags)
    )
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
    return Detail(f"{asked}: {reason}" if asked else reason, run_id)
