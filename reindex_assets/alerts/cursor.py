"""What the alerts remember from one tick to the next: the sensor's cursor.

What lives here: the state, its JSON, and the limit on its size. What does not: what the state means (alerts/problems.py).

Dagster stores the whole cursor at every tick, so it holds ranges of days: a customer's red month is one short row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from pydantic import BaseModel, ConfigDict

from reindex_assets.alerts.problems import OpenState, Problem, ProblemKind, Rules, Severity, TargetState
from reindex_assets.model import Slice, days_between
from reindex_assets.selection.days import day_ranges

#: Ranges of days of open problems that are followed: about 100 KB of JSON. A month that is red everywhere is one per customer.
MAX_RANGES = 5_000

_SINCE_STEP_SECONDS = 10
_DAY_SECONDS = 86_400


@dataclass(frozen=True, kw_only=True)
class AlertState:
    """All that the alerts remember.

    Attributes:
        position: the storage id up to which events have been read.
        reread_from: where the previous tick began. The next tick reads from here again, because an event can be committed a moment
            after events with a later id.
        failed_runs_seen: the failed runs in the part that is read again.
        target_states: by the target's fingerprint.
        incomplete: more checks are red than are followed. The others are looked up when there is room.
    """

    position: int
    reread_from: int
    failed_runs_seen: tuple[str, ...] = ()
    open_checks: Mapping[Problem, OpenState] = field(default_factory=dict)
    target_states: Mapping[str, TargetState] = field(default_factory=dict)
    incomplete: bool = False

    @property
    def has_room(self) -> bool:
        return count_ranges(self.open_checks) < MAX_RANGES // 2


#: kind, where, check, customer, days. When days is empty, the fourth is the whole partition key.
_Row = tuple[str, str, str, str, str]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Open(_Model):
    since: int
    severity: Severity
    rows: list[_Row]


class _Told(_Model):
    at: int
    rows: list[_Row]


class _TargetState(_Model):
    """Targets in the same state share one."""

    targets: list[str]
    told: list[_Told]
    failed_runs: list[str]
    failed_runs_left_out: int


class _Cursor(_Model):
    version: int = 1
    position: int
    reread_from: int
    failed_runs_seen: list[str]
    incomplete: bool
    open: list[_Open]
    ledgers: list[_TargetState]


def to_cursor(state: AlertState) -> str:
    """The state as JSON."""
    by_open_state: dict[OpenState, list[Problem]] = defaultdict(list)
    for problem, open_state in state.open_checks.items():
        by_open_state[open_state].append(problem)
    targets_in: dict[str, list[str]] = defaultdict(list)
    for target, target_state in state.target_states.items():
        by_time: dict[int, list[Problem]] = defaultdict(list)
        for problem, at in target_state.told.items():
            by_time[at].append(problem)
        packed = _TargetState(
            targets=[],
            told=[_Told(at=at, rows=_pack(problems)) for at, problems in sorted(by_time.items())],
            failed_runs=list(target_state.failed_runs),
            failed_runs_left_out=target_state.failed_runs_left_out,
        )
        targets_in[packed.model_dump_json()].append(target)
    return _Cursor(
        position=state.position,
        reread_from=state.reread_from,
        failed_runs_seen=list(state.failed_runs_seen),
        incomplete=state.incomplete,
        open=[
            _Open(since=open_state.since, severity=open_state.severity, rows=_pack(problems))
            for open_state, problems in by_open_state.items()
        ],
        ledgers=[
            _TargetState.model_validate_json(packed).model_copy(update={"targets": targets})
            for packed, targets in targets_in.items()
        ],
    ).model_dump_json()


def from_cursor(cursor: str) -> AlertState | None:
    """The state in a cursor; None when this version can't read it. The alerts then start over and report everything that is open."""
    try:
        model = _Cursor.model_validate_json(cursor)
        target_states = {
            target: TargetState(
                {problem: told.at for told in target_state.told for problem in _unpack(told.rows)},
                tuple(target_state.failed_runs),
                target_state.failed_runs_left_out,
            )
            for target_state in model.ledgers
            for target in target_state.targets
        }
        open_checks = {
            problem: OpenState(group.since, group.severity) for group in model.open for problem in _unpack(group.rows)
        }
    except ValueError:
        return None
    return AlertState(
        position=model.position,
        reread_from=model.reread_from,
        failed_runs_seen=tuple(model.failed_runs_seen),
        open_checks=open_checks,
        target_states=target_states,
        incomplete=model.incomplete,
    )


def _pack(problems: Iterable[Problem]) -> list[_Row]:
    rows: list[_Row] = []
    days: dict[tuple[str, str, str, str], list[date]] = defaultdict(list)
    for problem in problems:
        item = problem.slice
        if item is None:
            rows.append((problem.kind.value, problem.where, problem.check, problem.partition, ""))
        else:
            days[problem.kind.value, problem.where, problem.check, item.customer].append(item.day)
    for key, customer_days in days.items():
        ranges = day_ranges(customer_days)
        rows.append((*key, ",".join(_short(a) if a == b else f"{_short(a)}-{_short(b)}" for a, b in ranges)))
    return sorted(rows)


def _short(day: date) -> str:
    return day.isoformat().replace("-", "")


def _unpack(rows: Iterable[_Row]) -> Iterable[Problem]:
    for kind, where, check, customer, days in rows:
        if not days:
            yield Problem(ProblemKind(kind), where, check, customer)
            continue
        for part in days.split(","):
            first, _, last = part.partition("-")
            for day in days_between(date.fromisoformat(first), date.fromisoformat(last or first)):
                yield Problem(ProblemKind(kind), where, check, Slice(customer, day).partition_key)


def rounded(open_checks: Mapping[Problem, OpenState], rules: Rules, now: int) -> dict[Problem, OpenState]:
    """The same with rounded times, so that neighbouring days share a row. Once a problem is due, the day is precise enough."""
    result: dict[Problem, OpenState] = {}
    for problem, state in open_checks.items():
        if rules.is_due(problem, state, now):
            since = state.since // _DAY_SECONDS * _DAY_SECONDS
        else:
            # Rounded up, so that nothing is reported before its grace is over.
            since = -(-state.since // _SINCE_STEP_SECONDS) * _SINCE_STEP_SECONDS
        result[problem] = OpenState(since, state.severity)
    return result


def count_ranges(open_checks: Mapping[Problem, OpenState]) -> int:
    """How many ranges of days the cursor needs for these problems."""
    return sum(count for _, count in _rows_with_ranges(open_checks))


def _rows_with_ranges(open_checks: Mapping[Problem, OpenState]) -> list[tuple[list[Problem], int]]:
    """The problems that share a row, with the number of its ranges; the longest open first."""
    rows: dict[tuple[OpenState, str, str, str], list[tuple[Problem, Slice | None]]] = defaultdict(list)
    for problem, state in open_checks.items():
        item = problem.slice
        key = (state, problem.where, problem.check, item.customer if item else problem.partition)
        rows[key].append((problem, item))
    return [
        ([problem for problem, _ in row], max(1, len(day_ranges(item.day for _, item in row if item))))
        for _, row in sorted(rows.items(), key=lambda keyed: keyed[0][0].since)
    ]


def within_limit(
    open_checks: Mapping[Problem, OpenState], told: set[Problem], max_ranges: int | None = None
) -> tuple[dict[Problem, OpenState], int]:
    """The open problems to follow, and how many are left out.

    Problems that some target was told are always followed, so that their recovery is noticed. Then come those open the longest.
    """
    kept = {problem: state for problem, state in open_checks.items() if problem in told}
    others = {problem: state for problem, state in open_checks.items() if problem not in told}
    room = (MAX_RANGES if max_ranges is None else max_ranges) - count_ranges(kept)
    for problems, ranges in _rows_with_ranges(others):
        if ranges <= room:
            room -= ranges
            kept |= {problem: others[problem] for problem in problems}
    return kept, len(open_checks) - len(kept)
