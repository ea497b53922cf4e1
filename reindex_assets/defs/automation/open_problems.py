"""Every open problem of a fleet, with what is wrong, since when, and what is being done about it.

What lives here: gathering that from the Dagster instance. What does not: what is red or failing (defs/automation/problems.py, which the
alerts use, too), the repairs (defs/history/repairs.py), and printing (cli/render/problems.py).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RepositoryDefinition

from reindex_assets.alerts.problems import OpenState, Problem, ProblemKind, Severity
from reindex_assets.config.dataset import Dataset
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.settings import Settings
from reindex_assets.defs.automation.problems import Automation, Episode, episode_of, red_checks
from reindex_assets.defs.checks.rules import no_strays
from reindex_assets.defs.history.repairs import ledger_of
from reindex_assets.defs.history.runs_in_flight import runs_in_flight
from reindex_assets.defs.instance.daemon import daemon_is_alive
from reindex_assets.defs.instance.opening import hold_connections
from reindex_assets.defs.keys.names import REPAIR_TAG, asset_key, checks_job_name, repair_sensor_name
from reindex_assets.drift.repair_policy import Repair, reason_to_wait
from reindex_assets.model import Slice, Step

NO_DAEMON = "No Dagster daemon is running: nothing is watched, checked or repaired, and this may be old."


@dataclass(frozen=True, kw_only=True)
class OpenProblem:
    """An open problem.

    Attributes:
        since: epoch seconds.
        what: what is wrong, as a sentence.
        repair: what is being done about it; empty where nothing can be done automatically.
        run_id: the run to look at; empty if there is none.
        is_under_way: a run that may mend it is queued or running.
    """

    problem: Problem
    severity: Severity
    since: float
    what: str
    repair: str = ""
    run_id: str = ""
    is_under_way: bool = False


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Whether somebody looks for what is wrong in a dataset.

    Attributes:
        is_wanted: the fleet's mode asks for it.
        is_looked_at: by a sensor that is evaluated, or by a schedule of checks.
        note: what is not watched; empty where the repair sensor looks.
    """

    dataset: Dataset
    is_wanted: bool
    is_looked_at: bool
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class OpenProblems:
    """All open problems, the most urgent first, and why there may be more than are known."""

    problems: tuple[OpenProblem, ...]
    watched: tuple[Watched, ...]
    has_daemon: bool

    @property
    def is_current(self) -> bool:
        """Whether everything that the fleet's mode asks for is looked at."""
        return self.has_daemon and all(of.is_looked_at or not of.is_wanted for of in self.watched)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is not watched."""
        return (*(() if self.has_daemon else (NO_DAEMON,)), *(of.note for of in self.watched if of.note))


def open_problems(
    instance: DagsterInstance,
    fleet: Fleet,
    repository: RepositoryDefinition,
    location_name: str | None = None,
    most_details: int | None = None,
) -> OpenProblems:
    """What is wrong now, as far as checks, sensors and runs have found it. Asks no engine.

    Args:
        location_name: of whose sensors and schedules it is; None is any.
        most_details: red checks of which it is looked up since when they are red and what they say; None is all. Of more, only that
            they are red.
    """
    hold_connections(instance)
    now = time.time()
    automation = Automation.of(instance, repository, location_name)
    red = {
        problem: state
        for problem, state in sorted(red_checks(instance, repository, fleet, int(now)).items())
        if _exists(problem, fleet)
    }
    detailed = set(list(red)[:most_details])
    found = [
        OpenProblem(
            problem=problem, severity=state.severity, since=state.since, what=detail.sentence, run_id=detail.run_id
        )
        for problem, (state, detail) in automation.failing.items()
    ]
    watched = []
    known = set[Problem]()
    for dataset in fleet.datasets():
        of = _watched(fleet, dataset, automation)
        watched.append(of)
        of_dataset = {problem: state for problem, state in red.items() if problem.where == _asset(dataset)}
        known |= of_dataset.keys()
        silent = f"sensor {repair_sensor_name(dataset)}" in automation.silent
        found += _of_dataset(instance, dataset, of_dataset, detailed, now, is_watched=not of.note, is_silent=silent)
    # Of assets without partitions of ours.
    found += [_red(instance, problem, state, detailed) for problem, state in red.items() if problem not in known]
    order = list(ProblemKind)
    found.sort(key=lambda item: (order.index(item.problem.kind), item.problem))
    return OpenProblems(problems=tuple(found), watched=tuple(watched), has_daemon=daemon_is_alive(instance))


def _exists(problem: Problem, fleet: Fleet) -> bool:
    """Whether its partition still is one. Dagster keeps the results of customers that have left the fleet file, and nothing mends them."""
    for dataset in fleet.datasets():
        if problem.where == _asset(dataset) and problem.slice is not None:
            return problem.slice.customer in dataset.customers and problem.slice.day >= dataset.first_day
    return True


def _watched(fleet: Fleet, dataset: Dataset, automation: Automation) -> Watched:
    sensor = f"sensor {repair_sensor_name(dataset)}"
    silent = automation.silent.get(sensor)
    note = ""
    if silent is not None:
        last = datetime.fromtimestamp(silent, UTC)
        note = (
            f"Nobody looks for drift in {dataset}: the {sensor} is on, and was last evaluated at {last:%Y-%m-%d %H:%M} UTC. Is its "
            "code location loaded?"
        )
    elif sensor not in automation.running:
        note = f"Nobody looks for drift in {dataset}: the {sensor} is off."
    return Watched(
        dataset=dataset,
        is_wanted=dataset.kind in fleet.rules(dataset.cluster_name, Settings().mode).mode.kinds,
        is_looked_at=not note or f"schedule {checks_job_name(dataset)}_daily" in automation.running,
        note=note,
    )


def _of_dataset(
    instance: DagsterInstance,
    dataset: Dataset,
    red: dict[Problem, OpenState],
    detailed: set[Problem],
    now: float,
    *,
    is_watched: bool,
    is_silent: bool,
) -> list[OpenProblem]:
    """The red checks of a dataset, and the drift that no check has seen."""
    ledger = ledger_of(instance, dataset)
    repairs, runs = ledger.by_slice(), runs_in_flight(instance, dataset)
    first, last = dataset.watched_days(datetime.now(UTC).date())

    def being_done(item: Slice, check: str = "") -> str:
        if item in runs:
            return _run_words(runs[item])
        if check == no_strays.__name__:
            return "nobody repairs it automatically: reindex it"
        if item not in repairs and not first <= item.day <= last:
            return "nobody repairs it: the day is outside the look-back. Reindex it"
        is_given_up = item in repairs and repairs[item].given_up_at is not None
        if not is_watched and not is_given_up:
            return f"nobody repairs it: the sensor {repair_sensor_name(dataset)} is {'silent' if is_silent else 'off'}"
        if item in repairs:
            return _repair_words(repairs[item], dataset, now)
        return "the repair sensor compares it at its next tick"

    found = []
    seen = set[Slice]()
    for problem, state in red.items():
        item = problem.slice
        automatic = item is not None and state.severity is Severity.ERROR
        if item is not None and automatic:
            seen.add(item)
        repair = being_done(item, problem.check) if item is not None and automatic else ""
        found.append(_red(instance, problem, state, detailed, repair, is_under_way=item in runs))
    for item, unfinished in repairs.items():
        if item not in seen:
            drift = Problem(ProblemKind.DRIFT, _asset(dataset), "", item.partition_key)
            found.append(
                OpenProblem(
                    problem=drift,
                    severity=Severity.ERROR,
                    since=unfinished.seen_at,
                    what=unfinished.differs,
                    repair=being_done(item),
                    run_id=runs[item].run_id if item in runs else "",
                    is_under_way=item in runs,
                )
            )
    return found


def _red(
    instance: DagsterInstance,
    problem: Problem,
    state: OpenState,
    detailed: set[Problem],
    repair: str = "",
    *,
    is_under_way: bool = False,
) -> OpenProblem:
    episode: Episode | None = episode_of(instance, problem) if problem in detailed else None
    return OpenProblem(
        problem=problem,
        severity=state.severity,
        since=episode.since if episode else state.since,
        what=episode.detail.sentence if episode else "",
        repair=repair,
        run_id=episode.detail.run_id if episode else "",
        is_under_way=is_under_way,
    )


def _run_words(run: DagsterRun) -> str:
    what = "repair" if REPAIR_TAG in run.tags else "reindex"
    if run.status in (DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED):
        return f"run {run.run_id[:8]} is queued to {what} it"
    return f"under {what} by run {run.run_id[:8]}"


def _repair_words(repair: Repair, dataset: Dataset, now: float) -> str:
    reason = reason_to_wait(repair, now, dataset.rules.watch)
    if repair.given_up_at is not None:
        return f"{reason or 'given up'}: correct the cause, then run 'reindex-assets repairs --again'"
    return f"waits: {reason}" if reason else "the repair sensor requests its repair at its next tick"


def _asset(dataset: Dataset) -> str:
    return asset_key(dataset, Step.WRITE).to_user_string()
