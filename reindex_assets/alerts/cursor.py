"""What the alerts remember from one tick to the next: the sensor's cursor.

What lives here: the state, its JSON, and the bound on its size. What does not: what the state means (alerts/problems.py).

Dagster stores the cursor again with every tick, so problems are kept by ranges of days: a customer's red month is one short row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from pydantic import BaseModel, ConfigDict, ValidationError

from reindex_assets.alerts.problems import Problem, ProblemKind, Rules, Severity, Standing, TargetState
from reindex_assets.model import Slice, days_between
from reindex_assets.selection.days import day_ranges

#: Ranges of days of open problems that are followed: about 100 KB of JSON. A month that is red everywhere is one for each customer.
MOST_RANGES = 5_000

_SINCE_STEP_SECONDS = 10
_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class AlertState:
    """All that is remembered.

    Attributes:
        position: events up to this storage id have been read.
        reread_from: where the tick before had begun. The next tick reads from here: an event may get its id first and be
            committed a moment after later ones.
        failed_runs_seen: failed runs of the part that is read again.
        target_states: by the fingerprint of the target.
        incomplete: more was red than is followed; what was left out is looked up when there is room.
    """

    position: int
    reread_from: int
    failed_runs_seen: tuple[str, ...] = ()
    open_checks: Mapping[Problem, Standing] = field(default_factory=dict)
    target_states: Mapping[str, TargetState] = field(default_factory=dict)
    incomplete: bool = False

    @property
    def has_room(self) -> bool:
        return count_ranges(self.open_checks) < MOST_RANGES // 2


#: kind, where, check, customer, days. Without days: the fourth is the whole partition key.
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
    """Targets that have been told the same share one."""

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
    opened: dict[Standing, list[Problem]] = defaultdict(list)
    for problem, standing in state.open_checks.items():
        opened[standing].append(problem)
    shared: dict[str, list[str]] = defaultdict(list)
    for target, target_state in state.target_states.items():
        told: dict[int, list[Problem]] = defaultdict(list)
        for problem, at in target_state.told.items():
            told[at].append(problem)
        packed = _TargetState(
            targets=[],
            told=[_Told(at=at, rows=_pack(problems)) for at, problems in sorted(told.items())],
            failed_runs=list(target_state.failed_runs),
            failed_runs_left_out=target_state.failed_runs_left_out,
        )
        shared[packed.model_dump_json()].append(target)
    return _Cursor(
        position=state.position,
        reread_from=state.reread_from,
        failed_runs_seen=list(state.failed_runs_seen),
        incomplete=state.incomplete,
        open=[
            _Open(since=standing.since, severity=standing.severity, rows=_pack(problems))
            for standing, problems in opened.items()
        ],
        ledgers=[
            _TargetState.model_validate_json(packed).model_copy(update={"targets": targets})
            for packed, targets in shared.items()
        ],
    ).model_dump_json()


def from_cursor(cursor: str) -> AlertState | None:
    """The state of a cursor; None when it is not one of this version's: the alerts then start afresh and tell all that is open."""
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
            problem: Standing(group.since, group.severity) for group in model.open for problem in _unpack(group.rows)
        }
    except (ValidationError, ValueError):
        return None
    return AlertState(
        model.position, model.reread_from, tuple(model.failed_runs_seen), open_checks, target_states, model.incomplete
    )


def _slice_of(partition: str) -> Slice | None:
    try:
        found = Slice.of(partition)
    except ValueError:
        return None
    return found if found.partition_key == partition else None


def _pack(problems: Iterable[Problem]) -> list[_Row]:
    rows: list[_Row] = []
    by_customer: dict[tuple[str, str, str, str], list[Slice]] = defaultdict(list)
    for problem in problems:
        found = _slice_of(problem.partition)
        if found is None:
            rows.append((problem.kind.value, problem.where, problem.check, problem.partition, ""))
        else:
            by_customer[problem.kind.value, problem.where, problem.check, found.customer].append(found)
    for key, slices in by_customer.items():
        ranges = day_ranges(item.day for item in slices)
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
            begin, end = Slice.of(f"{customer}|{first}"), Slice.of(f"{customer}|{last or first}")
            for day in days_between(begin.day, end.day):
                yield Problem(ProblemKind(kind), where, check, Slice(customer, day).partition_key)


def coarse(open_checks: Mapping[Problem, Standing], rules: Rules, now: int) -> dict[Problem, Standing]:
    """The same with rounded times, so that neighbouring days share a row: once the grace is over, the day is enough."""
    rounded: dict[Problem, Standing] = {}
    for problem, standing in open_checks.items():
        if rules.is_ripe(problem, standing, now):
            since = standing.since // _DAY_SECONDS * _DAY_SECONDS
        else:
            # Up: nothing is to be told before the grace is over.
            since = -(-standing.since // _SINCE_STEP_SECONDS) * _SINCE_STEP_SECONDS
        rounded[problem] = Standing(since, standing.severity)
    return rounded


def count_ranges(open_checks: Mapping[Problem, Standing]) -> int:
    """How many ranges the cursor needs for these."""
    return sum(count for _, count in _rows_with_ranges(open_checks))


def _rows_with_ranges(open_checks: Mapping[Problem, Standing]) -> list[tuple[list[Problem], int]]:
    """The problems that share a row, with the number of its ranges; the longest standing first."""
    rows: dict[tuple[Standing, str, str, str], list[Problem]] = defaultdict(list)
    days: dict[tuple[Standing, str, str, str], list[Slice]] = defaultdict(list)
    for problem, standing in open_checks.items():
        found = _slice_of(problem.partition)
        key = (standing, problem.where, problem.check, found.customer if found else problem.partition)
        rows[key].append(problem)
        days[key] += [found] if found else []
    counted = [(rows[key], max(1, len(day_ranges(item.day for item in days[key])))) for key in rows]
    return sorted(counted, key=lambda row: open_checks[row[0][0]].since)


def bounded(
    open_checks: Mapping[Problem, Standing], told: set[Problem], most_ranges: int | None = None
) -> tuple[dict[Problem, Standing], int]:
    """What is followed of the open problems, and how many are left out.

    What somebody has been told is always followed: its recovery must be noticed. Of the rest, the longest standing.
    """
    kept = {problem: standing for problem, standing in open_checks.items() if problem in told}
    others = {problem: standing for problem, standing in open_checks.items() if problem not in told}
    room = (MOST_RANGES if most_ranges is None else most_ranges) - count_ranges(kept)
    for problems, ranges in _rows_with_ranges(others):
        if ranges <= room:
            room -= ranges
            kept |= {problem: others[problem] for problem in problems}
    return kept, len(open_checks) - len(kept)
