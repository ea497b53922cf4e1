"""What is wrong now, as the Dagster instance has it: red checks, failing sensors and schedules, and why.

What lives here: reading that. What does not: what a problem is (alerts/problems.py), who is told (defs/automation/alert_sensor.py), and
what is being done about it (defs/automation/open_problems.py).
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial

from dagster import AssetCheckKey, AssetCheckSeverity, DagsterInstance, RepositoryDefinition

from reindex_assets import errors
from reindex_assets.alerts.message import Detail
from reindex_assets.alerts.problems import OpenState, Problem, ProblemKind, Severity, check_problem
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.checks.specs import CHECKS
from reindex_assets.defs.dagster_private import (
    AssetCheckExecutionRecordStatus,
    InstigatorType,
    PartitionKeyFilter,
    SerializableErrorInfo,
    TickStatus,
)
from reindex_assets.defs.keys.names import HEALTH_CHECK, asset_key
from reindex_assets.model import Step

#: Earlier results of a check that are read at once where one of its partitions is to be evaluated; older ones are asked for one by one.
_MAX_HISTORY = 5_000
#: A sensor without a tick for so many of its intervals, and for so many seconds at least, is not evaluated.
_SILENT_INTERVALS = 10
_SILENT_SECONDS = 600

#: Results of a check that are searched for the one with which it turned red.
_MAX_RESULTS = 100

_UNREACHABLE = {errors.SourceUnreachableError.__name__, errors.ShardUnreachableError.__name__}
_OWN_ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type)}
_FAILED, _SUCCEEDED = AssetCheckExecutionRecordStatus.FAILED, AssetCheckExecutionRecordStatus.SUCCEEDED


def red_checks(
    instance: DagsterInstance, repository: RepositoryDefinition | None, fleet: Fleet, now: int
) -> dict[Problem, OpenState]:
    """Every check that is red now, from Dagster's table of the latest executions. `now` stands for the time at which it turned red."""
    keys = {
        AssetCheckKey(asset_key(dataset, Step.WRITE), check.name) for dataset in fleet.datasets() for check in CHECKS
    }
    if repository is not None:
        # Those of the health assets repeat what the others say.
        keys |= {key for key in repository.asset_graph.asset_check_keys if key.name != HEALTH_CHECK}
    storage = instance.event_log_storage
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
        for partition in partitions - decided:
            only = PartitionKeyFilter(key=partition)
            for record in storage.get_asset_check_execution_history(
                key, 1, status={_FAILED, _SUCCEEDED}, partition_filter=only
            ):
                red[key] |= {partition} if record.status is _FAILED else set()
    problems: dict[Problem, OpenState] = {}
    for key, partitions in red.items():
        latest = storage.get_asset_check_execution_history(key, 1, status={_FAILED})
        warns = any(r.evaluation is not None and r.evaluation.severity is AssetCheckSeverity.WARN for r in latest)
        for partition in partitions:
            problem = check_problem(key.asset_key.to_user_string(), key.name, partition or "")
            problems[problem] = OpenState(now, Severity.WARNING if warns else Severity.ERROR)
    return problems


@dataclass(frozen=True)
class Automation:
    """The sensors and schedules that are turned on, and those of them whose latest tick failed.

    Attributes:
        silent: sensors that are turned on and have not been evaluated for long, with the time of their latest tick, epoch seconds: the
            daemon does not find them, as when the code location can't be loaded.
    """

    running: set[str]
    failing: dict[Problem, tuple[OpenState, Detail]]
    silent: dict[str, float]

    @staticmethod
    def of(
        instance: DagsterInstance, repository: RepositoryDefinition | None, location_name: str | None, *, but: str = ""
    ) -> Automation:
        """What the instance remembers.

        Args:
            location_name: only of this code location; None is any.
            but: a sensor that is left out.
        """
        existing = None
        if repository is not None:
            existing = {f"sensor {definition.name}" for definition in repository.sensor_defs}
            existing |= {f"schedule {definition.name}" for definition in repository.schedule_defs}
        sensors = [] if repository is None else repository.sensor_defs
        intervals = {f"sensor {definition.name}": definition.minimum_interval_seconds or 0 for definition in sensors}
        now = time.time()
        result = Automation(set(), {}, {})
        for state in instance.all_instigator_state():
            kind = "sensor" if state.instigator_type is InstigatorType.SENSOR else "schedule"
            where = f"{kind} {state.instigator_name}"
            elsewhere = location_name is not None and state.origin.location_name != location_name
            # Dagster keeps the state and the last tick of what no longer exists.
            gone = existing is not None and where not in existing
            if not state.is_running or elsewhere or gone or state.instigator_name == but:
                continue
            result.running.add(where)
            # A tick that has only started has no outcome yet.
            ended = [TickStatus.SUCCESS, TickStatus.SKIPPED, TickStatus.FAILURE]
            ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1, statuses=ended)
            # One that has not ended is a sign of life, too.
            begun = instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
            if begun and kind == "sensor":
                patience = max(_SILENT_SECONDS, _SILENT_INTERVALS * intervals.get(where, 0))
                if now - begun[0].timestamp > patience:
                    result.silent[where] = begun[0].timestamp
            if ticks and ticks[0].status is TickStatus.FAILURE:
                cause = cause_of(ticks[0].error) if ticks[0].error is not None else None
                unreachable = cause is not None and cause.cls_name in _UNREACHABLE
                problem = Problem(ProblemKind.ENGINE if unreachable else ProblemKind.AUTOMATION, where)
                opened = OpenState(int(ticks[0].timestamp), Severity.ERROR)
                result.failing[problem] = (opened, Detail(sentence_of(cause) if cause else "no reason was recorded"))
        return result


def cause_of(error: SerializableErrorInfo) -> SerializableErrorInfo:
    """The error to show of a chain: one of this project's, which are written for the operator, else the innermost."""
    chain = [error]
    while link := chain[-1].cause or chain[-1].context:
        chain.append(link)
    return next((link for link in chain if link.cls_name in _OWN_ERRORS), chain[-1])


def sentence_of(error: SerializableErrorInfo) -> str:
    """The message without the module's path, and for an error of this project also without its class."""
    name, text = error.cls_name or "", error.message.strip()
    bare = re.sub(rf"^[\w.<>]*\b{re.escape(name)}(: |$)", "", text) if name else text
    return bare or name if name in _OWN_ERRORS else f"{name}: {bare}".rstrip(": ") or "no reason was recorded"


@dataclass(frozen=True)
class Episode:
    """A problem from when it began (epoch seconds), with its latest detail."""

    since: float
    detail: Detail


def episode_of(instance: DagsterInstance, problem: Problem) -> Episode | None:
    """Since when a check is red, and its latest result; None if it never was."""
    partition = PartitionKeyFilter(key=problem.partition or None)
    key = AssetCheckKey.from_user_string(f"{problem.where}:{problem.check}")
    history = partial(instance.event_log_storage.get_asset_check_execution_history, key, partition_filter=partition)
    green = history(1, status={_SUCCEEDED})
    red = [record for record in history(_MAX_RESULTS, status={_FAILED}) if not green or record.id > green[0].id]
    detail = latest_result(instance, problem)
    if not red or detail is None:
        return None
    # The event has the time to the microsecond.
    return Episode(red[-1].event.timestamp if red[-1].event is not None else red[-1].create_timestamp, detail)


def latest_result(instance: DagsterInstance, problem: Problem) -> Detail | None:
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
