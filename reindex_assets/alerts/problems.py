"""Alerts: what a problem is, and which problems each target hears of now, again, or as recovered.

What lives here: problems, which of them are open, and what each target has heard of them. What does not: reading them from Dagster
(defs/automation/alert_sensor.py), wording (alerts/message.py), the state between ticks (alerts/cursor.py), sending
(alerts/delivery.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reindex_assets.model import GIVEN_UP_CHECK, Slice

#: Failed runs kept for a target that can't be reached; of any more, only the number is kept.
MAX_WAITING_RUNS = 100


class ProblemKind(StrEnum):
    """The kinds of problems, the most urgent first. The cursor stores these values.

    Drift that the repair sensor has seen and no check has yet is a problem of the list (`reindex-assets problems`), not of the alerts.
    """

    ENGINE = "engine out of reach"
    GIVEN_UP = "repair given up"
    CHECK = "red check"
    DRIFT = "drift"
    RUN = "failed run"
    AUTOMATION = "failing sensor or schedule"


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, order=True)
class Problem:
    """What can be open or recovered: a check on a partition, a sensor or a schedule. Equal values are the same problem.

    Attributes:
        where: the asset's path, or `sensor NAME` or `schedule NAME`.
        check: the check's name; empty for a sensor or schedule.
        partition: the partition key; empty when the check is about the whole asset.
    """

    kind: ProblemKind
    where: str
    check: str = ""
    partition: str = ""

    @property
    def of_automation(self) -> bool:
        return self.kind in (ProblemKind.ENGINE, ProblemKind.AUTOMATION)

    @property
    def slice(self) -> Slice | None:
        """The slice of its partition; None when its partition key is not a slice's."""
        try:
            item = Slice.of(self.partition)
        except ValueError:
            return None
        return item if item.partition_key == self.partition else None


def check_problem(asset: str, check: str, partition: str) -> Problem:
    """The problem of a red check."""
    kind = ProblemKind.GIVEN_UP if check == GIVEN_UP_CHECK else ProblemKind.CHECK
    return Problem(kind, asset, check, partition)


@dataclass(frozen=True)
class OpenState:
    """Since when (epoch seconds) a problem is open, and how bad it is."""

    since: int
    severity: Severity


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One result of a check. `time` is in epoch seconds."""

    problem: Problem
    passed: bool
    severity: Severity
    time: int


def after_evaluations(
    open_problems: Mapping[Problem, OpenState], evaluations: Iterable[Evaluation]
) -> dict[Problem, OpenState]:
    """The open problems after some evaluations, oldest first.

    Only the last evaluation of a problem counts, so it does no harm to pass the latest ones a second time.
    """
    result = dict(open_problems)
    for evaluation in evaluations:
        if evaluation.passed:
            result.pop(evaluation.problem, None)
        else:
            before = result.get(evaluation.problem)
            since = evaluation.time if before is None else before.since
            result[evaluation.problem] = OpenState(since, evaluation.severity)
    return result


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When a problem is reported.

    Attributes:
        grace_seconds: a red check is reported if it is still red after this time; by then it has usually been repaired.
        repeat_seconds: an open problem is reported again after this time.
    """

    grace_seconds: int
    repeat_seconds: int

    def is_due(self, problem: Problem, state: OpenState, now: int) -> bool:
        """Whether to report a problem. Only red checks wait for the grace: nothing repairs the other kinds automatically."""
        return problem.kind is not ProblemKind.CHECK or now - state.since >= self.grace_seconds

    def report_time(self, now: int) -> int:
        """The time to remember for a report: `now`, rounded up to a 24th of the repeat window.

        Problems reported shortly after each other are then repeated in one message, and the state stays small.
        """
        step = max(1, self.repeat_seconds // 24)
        return -(-now // step) * step


@dataclass(frozen=True)
class TargetState:
    """What one target has heard of, and which failed runs it has not.

    Attributes:
        told: the problems reported to it and not yet reported as recovered, with the time of the report.
        failed_runs: the runs still to be reported to it.
        failed_runs_left_out: how many more there are than are kept.
    """

    told: Mapping[Problem, int] = field(default_factory=dict)
    failed_runs: tuple[str, ...] = ()
    failed_runs_left_out: int = 0

    def with_failed_runs(self, run_ids: Iterable[str]) -> TargetState:
        waiting = (*self.failed_runs, *run_ids)
        left_out = max(0, len(waiting) - MAX_WAITING_RUNS)
        return TargetState(self.told, waiting[left_out:], self.failed_runs_left_out + left_out)

    def keeping(self, is_watched: Callable[[Problem], bool]) -> TargetState:
        """This state without the problems that nothing watches any more: they are neither open nor recovered."""
        told = {problem: at for problem, at in self.told.items() if is_watched(problem)}
        return TargetState(told, self.failed_runs, self.failed_runs_left_out)


@dataclass(frozen=True)
class News:
    """What to report to one target now."""

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


def news_for(target_state: TargetState, open_problems: Mapping[Problem, OpenState], rules: Rules, now: int) -> News:
    """What to report to a target in this state."""
    due = sorted(problem for problem, state in open_problems.items() if rules.is_due(problem, state, now))
    told = target_state.told
    # A sensor that failed because of an engine and now fails for another reason proves nothing about the engine.
    still_failing = {problem.where for problem in open_problems if problem.of_automation}
    return News(
        first=tuple(problem for problem in due if problem not in told),
        again=tuple(problem for problem in due if problem in told and now - told[problem] >= rules.repeat_seconds),
        recovered=tuple(
            problem
            for problem in sorted(told)
            if problem not in open_problems and not (problem.of_automation and problem.where in still_failing)
        ),
        failed_runs=target_state.failed_runs,
        failed_runs_left_out=target_state.failed_runs_left_out,
    )


def after_news(target_state: TargetState, news: News, rules: Rules, now: int) -> TargetState:
    """The state of a target that has received `news`."""
    recovered = set(news.recovered)
    told = {problem: at for problem, at in target_state.told.items() if problem not in recovered}
    return TargetState(told | dict.fromkeys((*news.first, *news.again), rules.report_time(now)))
