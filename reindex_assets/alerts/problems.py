"""Alerts: what a problem is, and which problems a person is told now, again, or no more.

What lives here: problems, whether each is open, and what each target has been told of them. What does not: reading them from Dagster
(defs/automation/alert_sensor.py), the words (alerts/message.py), what is remembered between ticks (alerts/cursor.py), sending
(alerts/delivery.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reindex_assets.model import GIVEN_UP_CHECK

#: Failed runs that wait for one target that can't be reached; of more, only the number is kept.
MOST_WAITING_RUNS = 100


class ProblemKind(StrEnum):
    """The kinds of problems, the most urgent first."""

    ENGINE = "engine out of reach"
    GIVEN_UP = "repair given up"
    CHECK = "red check"
    RUN = "failed run"
    AUTOMATION = "failing sensor or schedule"


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, order=True)
class Problem:
    """What can be open and closed again: a check on a partition, a sensor, a schedule. Equal means the same problem.

    Attributes:
        where: the asset's path, or `sensor name` or `schedule name`.
        check: of an asset; empty for a sensor or schedule.
        partition: its key; empty when the check judges the whole asset.
    """

    kind: ProblemKind
    where: str
    check: str = ""
    partition: str = ""

    @property
    def of_automation(self) -> bool:
        return self.kind in (ProblemKind.ENGINE, ProblemKind.AUTOMATION)


def check_problem(asset: str, check: str, partition: str) -> Problem:
    """The problem that a red check is."""
    kind = ProblemKind.GIVEN_UP if check == GIVEN_UP_CHECK else ProblemKind.CHECK
    return Problem(kind, asset, check, partition)


@dataclass(frozen=True)
class Standing:
    """An open problem: since when (epoch seconds), and how bad."""

    since: int
    severity: Severity


@dataclass(frozen=True)
class Evaluation:
    """One verdict of a check, in the order in which they were recorded."""

    problem: Problem
    passed: bool
    severity: Severity
    time: int


def judged(open_problems: Mapping[Problem, Standing], evaluations: Iterable[Evaluation]) -> dict[Problem, Standing]:
    """What is open after some evaluations.

    Evaluations may be given a second time, as long as none after them is left out: only the last one of a problem counts.
    """
    result = dict(open_problems)
    for evaluation in evaluations:
        if evaluation.passed:
            result.pop(evaluation.problem, None)
        else:
            known = result.get(evaluation.problem)
            since = evaluation.time if known is None else known.since
            result[evaluation.problem] = Standing(since, evaluation.severity)
    return result


@dataclass(frozen=True)
class Rules:
    """When a problem is told.

    Attributes:
        grace_seconds: a red check is told when it is still red after this time: mostly it has been repaired by then.
        repeat_seconds: an open problem is told again after this time.
    """

    grace_seconds: int
    repeat_seconds: int

    def is_ripe(self, problem: Problem, standing: Standing, now: int) -> bool:
        """Nothing repairs the other kinds by itself: they don't wait."""
        return problem.kind is not ProblemKind.CHECK or now - standing.since >= self.grace_seconds

    def remembered_time(self, now: int) -> int:
        """The time under which a telling is remembered: the end of a 24th of the repeat window.

        So problems told shortly after each other are told again in one message, and what is remembered stays small.
        """
        step = max(1, self.repeat_seconds // 24)
        return -(-now // step) * step


@dataclass(frozen=True)
class TargetState:
    """What one target has been told, and what waits for it.

    Attributes:
        told: problems told and not yet told to be over, with the time.
        failed_runs: runs it has not been told of.
        failed_runs_left_out: how many more there were than are kept.
    """

    told: Mapping[Problem, int] = field(default_factory=dict)
    failed_runs: tuple[str, ...] = ()
    failed_runs_left_out: int = 0

    def with_failed_runs(self, run_ids: Iterable[str]) -> TargetState:
        waiting = (*self.failed_runs, *run_ids)
        left_out = max(0, len(waiting) - MOST_WAITING_RUNS)
        return TargetState(self.told, waiting[left_out:], self.failed_runs_left_out + left_out)

    def keeping(self, is_watched: Callable[[Problem], bool]) -> TargetState:
        """Without the problems that nobody watches any more: they are neither open nor over."""
        told = {problem: at for problem, at in self.told.items() if is_watched(problem)}
        return TargetState(told, self.failed_runs, self.failed_runs_left_out)


@dataclass(frozen=True)
class News:
    """What one target is to be told now."""

    first: tuple[Problem, ...] = ()
    again: tuple[Problem, ...] = ()
    recovered: tuple[Problem, ...] = ()
    failed_runs: tuple[str, ...] = ()
    failed_runs_left_out: int = 0

    @property
    def problems(self) -> int:
        return len(self.first) + len(self.again) + len(self.failed_runs) + self.failed_runs_left_out

    def __bool__(self) -> bool:
        return bool(self.problems or self.recovered)


def news_for(target_state: TargetState, open_problems: Mapping[Problem, Standing], rules: Rules, now: int) -> News:
    """What a target in this state is to be told."""
    ripe = sorted(p for p, standing in open_problems.items() if rules.is_ripe(p, standing, now))
    # A sensor that failed for an engine and now fails for another reason proves nothing about the engine.
    still_failing = {problem.where for problem in open_problems if problem.of_automation}
    return News(
        first=tuple(problem for problem in ripe if problem not in target_state.told),
        again=tuple(p for p in ripe if p in target_state.told and now - target_state.told[p] >= rules.repeat_seconds),
        recovered=tuple(
            problem
            for problem in sorted(target_state.told)
            if problem not in open_problems and not (problem.of_automation and problem.where in still_failing)
        ),
        failed_runs=target_state.failed_runs,
        failed_runs_left_out=target_state.failed_runs_left_out,
    )


def after_telling(target_state: TargetState, news: News, rules: Rules, now: int) -> TargetState:
    """The state of a target that has got `news`."""
    over = set(news.recovered)
    told = {problem: at for problem, at in target_state.told.items() if problem not in over}
    told |= dict.fromkeys((*news.first, *news.again), rules.remembered_time(now))
    return TargetState(told)
