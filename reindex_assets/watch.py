"""The watch: which slices of the look-back have drifted, for little more than nothing while little happens.

What lives here: which slices a look compares, and what it proves. What does not: marks (marks.py), the comparison (parity.py), and what is
done about drift (repairs.py).

A look asks each engine what has been touched since the slice was last proved equal. Only what was touched, or was never proved, is
compared; a slice counts as equal only by that exact comparison. What a look can't see is a change to scores alone, in Postgres, on
a day whose turn has not come: the marks of scores are read by turns where the look-back is large (`WatchLimits`).

The order makes it safe: marks are read before the comparison. What happens in between moves the marks again, and is seen the next time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TypeVar

from reindex_assets.fleet import Fleet
from reindex_assets.marks import (
    PartChanges,
    SourceMark,
    compare_parts,
    read_parts,
    read_shard_marks,
    read_source_marks,
    slices_in_parts,
)
from reindex_assets.model import PROCESS, SCORE, SCORECARD, TABLES, Kind, Slice, Table, days_between
from reindex_assets.parity import SETTLE_SECONDS, Comparison, SliceParity
from reindex_assets.watch_state import SliceMarks, WatchState

T = TypeVar("T")

#: Slices in one statement that groups by slice: nothing but sums travels.
_SLICES_AT_ONCE = 20_000
#: A scorecard has three to nine scores.
_SCORES_A_SCORECARD = 6


@dataclass(frozen=True)
class WatchLimits:
    """What one look may cost. Each limit is in rows; the first day of a turn is always read, however large.

    Attributes:
        scorecards: scorecards whose marks are read in Postgres (0.8 s a million). The latest two days come first, then those whose
            turn is longest ago.
        scores: scores whose marks are read in Postgres (2 s a million), by turns in the same way.
        compared_rows: scores that are compared to the bit (3 to 4 s a million in Postgres).
        settle_seconds: a difference younger than this is a row on its way.
    """

    scorecards: int = 2_000_000
    scores: int = 500_000
    compared_rows: int = 400_000
    settle_seconds: float = SETTLE_SECONDS


@dataclass(frozen=True)
class WatchLook:
    """What a look has found.

    Attributes:
        state: what to remember.
        drifted: slices that differ, with the rows behind it, in the order of day and customer.
        equal: slices that were compared and are equal (rows on their way, or waiting for a merge, aside).
        watched: slices of the look-back.
        touched: slices in which something has happened since they were last proved equal.
        waiting: slices that are not proved equal and were not compared this time.
        seconds: what took how long.
    """

    state: WatchState
    drifted: Mapping[Slice, SliceParity]
    equal: frozenset[Slice]
    watched: int
    touched: int
    waiting: int
    seconds: Mapping[str, float] = field(default_factory=dict)


def look(
    fleet: Fleet,
    cluster_name: str,
    days: tuple[date, date],
    state: WatchState,
    kind: Kind = PROCESS,
    doubted: Collection[Slice] = (),
    untouchable: Collection[Slice] = (),
    resting: Collection[Slice] = (),
    limits: WatchLimits | None = None,
) -> WatchLook:
    """Looks at the days of a cluster once.

    Args:
        days: the first and the last day, both included.
        state: of the last look; an empty one proves every slice anew.
        doubted: slices to compare whatever their marks say.
        untouchable: slices that a run is at work on: they are left for the next look.
        resting: slices that are known to differ, and of interest only when something touches them.

    Raises:
        SourceUnreachableError, ShardUnreachableError, LaggingReplicaError: nothing is known then, and the state stays as it was.
    """
    with _Look(fleet, cluster_name, days, state, kind, frozenset(resting), limits or WatchLimits()) as one:
        return one.run(frozenset(doubted), frozenset(untouchable))


class _Look:
    def __init__(
        self,
        fleet: Fleet,
        cluster_name: str,
        days: tuple[date, date],
        state: WatchState,
        kind: Kind,
        resting: frozenset[Slice],
        limits: WatchLimits,
    ) -> None:
        self._limits = limits
        self._days = days_between(*days)
        self._slices = [
            Slice(customer, day) for day in self._days for customer in fleet.clusters[cluster_name].customers
        ]
        known = state.slices
        self._known: dict[Slice, SliceMarks] = {item: known.get(item, SliceMarks()) for item in self._slices}
        # Slices whose standing is known, as long as nothing touches them.
        self._settled = {
            item for item, marks in self._known.items() if marks.is_equal or (item in resting and marks.source)
        }
        self._parts = state.parts
        self._looked = {
            place: at for place, at in state.looked.items() if date.fromisoformat(place[1]) in set(self._days)
        }
        self._fresh: dict[Slice, dict[str, SourceMark]] = {item: {} for item in self._slices}
        self._comparison = Comparison(fleet, cluster_name, kind)
        self._seconds: dict[str, float] = {}

    def __enter__(self) -> _Look:
        self._comparison.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._comparison.__exit__(None, None, None)

    def run(self, doubted: frozenset[Slice], untouchable: frozenset[Slice]) -> WatchLook:
        parts = self._timed("parts", lambda: read_parts(self._comparison.shards))
        self._timed("postgres_marks", self._read_turns)
        touched = {item for item in self._slices if self._has_moved(item)}
        touched |= self._timed(
            "clickhouse_marks", lambda: self._touched_in_clickhouse(compare_parts(self._parts, parts))
        )
        touched |= doubted & set(self._slices)
        chosen = self._chosen(touched, untouchable)

        # Before the comparison: what happens in between moves these marks again.
        self._timed("postgres_marks", lambda: self._read_marks(chosen, TABLES, missing_only=True))
        shard_marks = self._timed("clickhouse_marks", lambda: self._shard_marks(chosen))
        found = self._timed("comparison", lambda: self._compare(chosen))

        slices = {item: marks.doubted() if item in touched else marks for item, marks in self._known.items()}
        for parity in found:
            slices[parity.slice] = SliceMarks(
                dict(self._fresh[parity.slice]), shard_marks[parity.slice], is_equal=parity.sums_agree
            )
        compared = {parity.slice for parity in found}
        return WatchLook(
            WatchState(slices, parts, self._looked),
            {parity.slice: parity for parity in sorted(found, key=_by_day) if not parity.is_equal},
            frozenset(parity.slice for parity in found if parity.is_equal),
            len(self._slices),
            len(touched),
            sum(not marks.is_equal and item not in compared for item, marks in slices.items()),
            {name: round(seconds, 3) for name, seconds in self._seconds.items()},
        )

    # --- what has been touched

    def _read_turns(self) -> None:
        """Reads the marks of the days whose turn it is."""
        for table, limit in ((SCORECARD, self._limits.scorecards), (SCORE, self._limits.scores)):
            rows = dict.fromkeys(self._days, 0)
            for item, marks in self._known.items():
                rows[item.day] += marks.rows(table.name)
            latest = set(self._days[-2:])
            by_turn = sorted(
                self._days,
                key=lambda day: (day not in latest, self._looked.get((table.name, day.isoformat()), 0.0), day),
            )
            due: list[date] = []
            for day in by_turn:
                if due and sum(rows[other] for other in due) + rows[day] > limit:
                    break
                due.append(day)
            chosen = set(due)
            self._read_marks([item for item in self._slices if item.day in chosen], [table])
            now = time.time()
            self._looked |= {(table.name, day.isoformat()): now for day in due}

    def _read_marks(self, slices: Iterable[Slice], tables: Iterable[Table], missing_only: bool = False) -> None:
        for table in tables:
            wanted = [item for item in slices if not missing_only or table.name not in self._fresh[item]]
            for group in self._comparison.groups(wanted, {}, 1, _SLICES_AT_ONCE):
                snapshot, marks = read_source_marks(self._comparison.session, group, table)
                self._comparison.session.assert_not_lagging(snapshot)
                for item, mark in marks.items():
                    self._fresh[item][table.name] = mark

    def _has_moved(self, item: Slice) -> bool:
        known = self._known[item]
        return item in self._settled and any(known.source.get(name) != mark for name, mark in self._fresh[item].items())

    def _touched_in_clickhouse(self, changes: PartChanges) -> set[Slice]:
        touched: set[Slice] = set()
        if changes.nothing:
            return touched
        settled = [item for item in self._slices if item in self._settled]
        for group in self._comparison.groups(settled, {}, 1, _SLICES_AT_ONCE):
            touched |= slices_in_parts(self._comparison.shards, group, changes.inserted)
        in_doubt = [
            item
            for item in settled
            if item not in touched
            and (None in changes.rewritten or (item.day.year, item.day.month) in changes.rewritten)
        ]
        marks = self._shard_marks(in_doubt)
        return touched | {item for item in in_doubt if marks[item] != self._known[item].shard_mark}

    def _shard_marks(self, slices: Iterable[Slice]) -> dict[Slice, int]:
        marks: dict[Slice, int] = {}
        for group in self._comparison.groups(slices, {}, 1, _SLICES_AT_ONCE):
            marks |= read_shard_marks(self._comparison.shards, group)
        return marks

    # --- what is compared

    def _chosen(self, touched: set[Slice], untouchable: frozenset[Slice]) -> list[Slice]:
        """What is compared this time: what was touched first, then what was never proved; late days first."""
        candidates = [
            item for item in self._slices if (item in touched or item not in self._settled) and item not in untouchable
        ]
        candidates.sort(key=lambda item: (item not in touched, -item.day.toordinal(), item.customer))
        chosen: list[Slice] = []
        rows = 0
        for item in candidates:
            rows += self._rows(item)
            if chosen and rows > self._limits.compared_rows:
                break
            chosen.append(item)
        return chosen

    def _rows(self, item: Slice) -> int:
        """About how many scores a comparison of a slice reads."""
        fresh = self._fresh[item]
        scores = fresh[SCORE.name].rows if SCORE.name in fresh else self._known[item].rows(SCORE.name)
        scorecards = fresh[SCORECARD.name].rows if SCORECARD.name in fresh else self._known[item].rows(SCORECARD.name)
        return max(scores, scorecards * _SCORES_A_SCORECARD, 1)

    def _compare(self, slices: list[Slice]) -> list[SliceParity]:
        found = {parity.slice: parity for parity in self._comparison.sums(slices, _SLICES_AT_ONCE)}
        different = [parity for parity in found.values() if not parity.sums_agree]
        found |= {parity.slice: parity for parity in self._comparison.rows(different, self._limits.settle_seconds)}
        return list(found.values())

    def _timed(self, name: str, call: Callable[[], T]) -> T:
        begun = time.perf_counter()
        try:
            return call()
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - begun


def _by_day(parity: SliceParity) -> tuple[date, str]:
    return parity.slice.day, parity.slice.customer
