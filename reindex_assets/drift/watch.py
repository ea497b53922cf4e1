"""The watch: finds the slices of the look-back that have drifted, at next to no cost while little changes.

What lives here: which slices a look compares, and what follows from that. What does not: row versions (postgres/row_versions.py), the
comparison (comparison/comparison.py), and what is done about drift (drift/repair_policy.py).

A look asks each engine what has changed since each slice was last found equal, and compares only what has changed or was never found
equal. Nothing but that comparison, which covers every bit, makes a slice count as equal. A look can miss one thing: a change in Postgres to
scores alone, on a day whose turn has not come. Reading the versions of all scores (and, where there are very many, of all scorecards)
would cost too much, so each look reads those of some days.

What versions and parts can't show, if there is such a thing, is found by comparing every slice again in `prove_every_hours`. Where a
relation is a view, its rows have no versions: then all slices are compared in turn.

Versions and checksums are read before the comparison, so the next look sees whatever changes in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TypeVar

from reindex_assets.clickhouse.checksums import read_shard_checksums, read_shard_counts
from reindex_assets.clickhouse.parts import Parts, changes_of_slices, read_parts
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.origin import Origin, read_origin
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.dataset import Dataset
from reindex_assets.drift.watch_state import SliceState, WatchState
from reindex_assets.model import CHILD, PARENT, Slice, Table, days_between
from reindex_assets.postgres.extract import estimate_scorecards
from reindex_assets.postgres.join_plan import group_snapshot
from reindex_assets.postgres.row_versions import RowVersions, read_row_versions

T = TypeVar("T")
K = TypeVar("K")

#: Slices in one statement that groups by slice: its answer is a few numbers for each.
_SLICES_AT_ONCE = 20_000
#: The share of `prove_every_hours` after which a slice is due.
_DUE_SHARE = 0.9
#: A scorecard has three to nine scores.
_SCORES_A_SCORECARD = 6


@dataclass(frozen=True, kw_only=True)
class WatchResult:
    """The result of a look.

    Attributes:
        state: the state for the next look.
        drifted: slices that differ, with their rows, by day and then by customer.
        equal: slices that were compared and are equal, apart from rows in flight or waiting for a merge.
        watched: how many slices the look-back has.
        touched: how many have changed since they were last found equal.
        waiting: how many are not known to be equal and were not compared this time.
        oldest: the slice that was compared longest ago, and when, seconds since the epoch; None until every slice has been compared.
        seconds: the time that each part took.
    """

    state: WatchState
    drifted: Mapping[Slice, SliceParity]
    equal: frozenset[Slice]
    watched: int
    touched: int
    waiting: int
    oldest: tuple[Slice, float] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


def look(
    dataset: Dataset,
    days: tuple[date, date],
    state: WatchState,
    *,
    suspect: Collection[Slice] = (),
    in_flight: Collection[Slice] = (),
    paused: Collection[Slice] = (),
) -> WatchResult:
    """Looks once at some days of a dataset. Its rules limit how many rows one look reads and compares. Every look takes at least one
    slice from each queue, however large that is, so that every slice has its turn.

    Args:
        days: the first and the last day, both included.
        state: of the last look; with an empty one, every slice is compared.
        suspect: slices to compare whatever the state says.
        in_flight: slices that a run is working on; they are left for the next look.
        paused: slices that are known to differ, and are compared only when they have changed.

    Raises:
        SourceUnreachableError, ShardUnreachableError, LaggingReplicaError: the look has no result, and the state stays as it was.
    """
    with _Look(dataset, days, state, frozenset(paused)) as this_look:
        return this_look.run(frozenset(suspect), frozenset(in_flight))


class _Look:
    def __init__(self, dataset: Dataset, days: tuple[date, date], state: WatchState, paused: frozenset[Slice]) -> None:
        self._dataset = dataset
        self._limits = dataset.rules.watch
        self._days = days_between(*days)
        self._slices = dataset.slices(*days)
        self._state = state
        self._paused = paused
        self._fresh: dict[Slice, dict[str, RowVersions]] = {item: {} for item in self._slices}
        self._shard_checksums: dict[Slice, int] = {}
        self._comparison = Comparison(dataset)
        self._seconds: dict[str, float] = {}

    def _remember(self) -> None:
        """Takes over what is still valid in the state of the last look."""
        origin = read_origin(self._comparison.session, self._dataset)
        self._has_versions = origin is not None
        self._origin = origin or Origin()
        remembered = self._state.slices_of(self._origin) if self._has_versions else dict(self._state.slices)
        self._before: dict[Slice, SliceState] = {item: remembered.get(item, SliceState()) for item in self._slices}
        # Slices that need no comparison while nothing changes them.
        self._settled = {
            item
            for item, state in self._before.items()
            if state.is_equal or (item in self._paused and state.row_versions and not state.is_touched)
        }
        days, now = {day.isoformat() for day in self._days}, time.time()
        #: Equal ones that are due to be compared again.
        self._due = {
            item
            for item in self._settled
            if not self._has_versions or self._is_due(self._before[item].compared_at, now)
        }
        # A time in the future comes from a clock that was wrong; keeping it would make its day wait until then.
        self._looked = {key: at for key, at in self._state.looked.items() if key[1] in days and at <= now}

    def __enter__(self) -> _Look:
        self._comparison.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._comparison.__exit__(None, None, None)

    def _is_due(self, compared_at: float, now: float) -> bool:
        """Some time before the limit, as not all of them can be compared at once."""
        return not 0 <= now - compared_at <= self._limits.prove_every_hours * 3_600 * _DUE_SHARE

    def run(self, suspect: frozenset[Slice], in_flight: frozenset[Slice]) -> WatchResult:
        self._remember()
        listed = self._timed("parts", lambda: read_parts(self._comparison.shards, self._dataset.kind))
        self._timed("postgres_versions", self._read_turns)
        touched = {item for item in self._slices if self._is_changed(item)} | (suspect & set(self._slices))
        in_clickhouse, parts = self._timed("clickhouse_checksums", lambda: self._touched_in_clickhouse(listed))
        touched |= in_clickhouse
        chosen = self._chosen(touched, in_flight)

        # Before the comparison: what changes in between is seen the next time.
        self._timed(
            "postgres_versions", lambda: self._read_row_versions(chosen, self._dataset.tables, missing_only=True)
        )
        self._timed("clickhouse_checksums", lambda: self._read_shard_checksums(chosen))
        parities = self._timed(
            "comparison",
            lambda: self._comparison.settled(chosen, self._limits.settle_seconds, max_slices=_SLICES_AT_ONCE),
        )

        slices = {item: state.as_touched() if item in touched else state for item, state in self._before.items()}
        turn = 1 + max((state.turn for state in self._before.values()), default=0)
        for parity in parities:
            slices[parity.slice] = SliceState(
                row_versions=dict(self._fresh[parity.slice]) if self._has_versions else _row_counts(parity),
                shard_checksum=self._shard_checksums[parity.slice],
                is_equal=parity.sums_agree,
                turn=turn,
                compared_at=parity.snapshot / 1_000_000,
            )
        compared = {parity.slice for parity in parities}
        oldest = min(slices, key=lambda item: slices[item].compared_at, default=None)
        return WatchResult(
            state=WatchState(slices, parts, self._looked, self._origin),
            drifted={parity.slice: parity for parity in sorted(parities, key=_by_day) if not parity.is_equal},
            equal=frozenset(parity.slice for parity in parities if parity.is_equal),
            watched=len(self._slices),
            touched=len(touched),
            waiting=sum(not state.is_equal and item not in compared for item, state in slices.items()),
            oldest=(oldest, slices[oldest].compared_at) if oldest and slices[oldest].compared_at else None,
            seconds={name: round(seconds, 3) for name, seconds in self._seconds.items()},
        )

    # --- what has been touched

    def _read_turns(self) -> None:
        """Reads the row versions of the days whose turn it is, beginning with the latest two days."""
        if not self._has_versions:
            # Only how large the slices are that were never compared.
            unknown = [item for item in self._slices if not self._before[item].row_versions]
            for group in self._comparison.groups(unknown, {}, 1, _SLICES_AT_ONCE):
                for item, scorecards in estimate_scorecards(self._comparison.session, group).items():
                    self._fresh[item][PARENT] = RowVersions(rows=scorecards)
            return
        tables = self._dataset.tables
        for table, limit in ((tables.parent, self._limits.scorecards), (tables.child, self._limits.scores)):
            # Slices that are not settled are compared anyway; the versions of their scorecards tell how large they are.
            wanted = [item for item in self._slices if table.is_parent or item in self._settled]
            rows = dict.fromkeys(self._days, 0)
            for item in wanted:
                rows[item.day] += self._before[item].rows(table.name)
            due: list[date] = []
            for days in (self._days[-2:], self._days[:-2]):
                due += _first_within(
                    sorted(days, key=lambda day: (self._looked.get((table.name, day.isoformat()), 0.0), day)),
                    rows,
                    limit - sum(rows[day] for day in due),
                )
            self._read_row_versions([item for item in wanted if item.day in set(due)], [table])
            now = time.time()
            self._looked |= {(table.name, day.isoformat()): now for day in due}

    def _read_row_versions(
        self, slices: Iterable[Slice], tables: Iterable[Table], *, missing_only: bool = False
    ) -> None:
        if not self._has_versions:
            return
        for table in tables:
            wanted = [item for item in slices if not missing_only or table.name not in self._fresh[item]]
            for group in self._comparison.groups(wanted, {}, 1, _SLICES_AT_ONCE):
                with group_snapshot(self._comparison.session, group) as snapshot:
                    self._comparison.session.assert_not_lagging(snapshot)
                    for item, versions in read_row_versions(self._comparison.session, group, table).items():
                        self._fresh[item][table.name] = versions

    def _is_changed(self, item: Slice) -> bool:
        before = self._before[item]
        return (
            self._has_versions
            and item in self._settled
            and any(before.row_versions.get(name) != versions for name, versions in self._fresh[item].items())
        )

    def _touched_in_clickhouse(self, listed: Parts) -> tuple[set[Slice], Parts]:
        """The settled slices that changed between the last look and this list of parts, and the parts for the next look."""
        groups = self._comparison.groups(
            [item for item in self._slices if item in self._settled], {}, 1, _SLICES_AT_ONCE
        )
        changes = changes_of_slices(self._comparison.shards, self._dataset.kind, groups, self._state.parts, listed)
        # The expected number of rows is known only for slices that were equal.
        in_doubt = changes.in_doubt | {item for item in changes.merged if not self._before[item].is_equal}
        self._read_shard_checksums(in_doubt)
        touched = {item for item in in_doubt if self._shard_checksums[item] != self._before[item].shard_checksum}
        touched |= changes.placement_in_doubt
        for group in self._comparison.groups(changes.merged - in_doubt, {}, 1, _SLICES_AT_ONCE):
            for item, counts in read_shard_counts(self._comparison.shards, group).items():
                if any(counts[table.name] != self._before[item].rows(table.name) for table in self._dataset.tables):
                    touched.add(item)
        return touched, changes.parts

    def _read_shard_checksums(self, slices: Iterable[Slice]) -> None:
        wanted = [item for item in slices if item not in self._shard_checksums]
        for group in self._comparison.groups(wanted, {}, 1, _SLICES_AT_ONCE):
            self._shard_checksums |= read_shard_checksums(self._comparison.shards, group)

    # --- what is compared

    def _chosen(self, touched: set[Slice], in_flight: frozenset[Slice]) -> list[Slice]:
        """The slices to compare this time: first those that changed, then those that were never found equal; latest days first."""
        candidates = [
            item
            for item in self._slices
            if (item in touched or item in self._due or item not in self._settled) and item not in in_flight
        ]
        rows = {item: self._rows(item) for item in candidates}
        by_need = sorted(
            candidates,
            key=lambda item: (item not in touched, item in self._due, -item.day.toordinal(), item.customer),
        )
        chosen = _first_within(by_need, rows, self._limits.compared_scores // 2)
        # A busy day changes at every look, so half of the limit is for those that have waited longest.
        by_turn = sorted(
            set(candidates) - set(chosen),
            key=lambda item: (self._before[item].turn, -item.day.toordinal(), item.customer),
        )
        return chosen + _first_within(by_turn, rows, self._limits.compared_scores - sum(rows[item] for item in chosen))

    def _rows(self, item: Slice) -> int:
        """About how many scores the comparison of a slice reads."""
        fresh = self._fresh[item]
        scores = fresh[CHILD].rows if CHILD in fresh else self._before[item].rows(CHILD)
        scorecards = fresh[PARENT].rows if PARENT in fresh else self._before[item].rows(PARENT)
        return max(scores, scorecards * _SCORES_A_SCORECARD, 1)

    def _timed(self, name: str, call: Callable[[], T]) -> T:
        begun = time.perf_counter()
        try:
            return call()
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - begun


def _first_within(queue: Sequence[K], rows: Mapping[K, int], limit: int) -> list[K]:
    """The head of a queue within a limit of rows, but at least its first item.

    >>> _first_within(["a", "b", "c", "d"], {"a": 9, "b": 1, "c": 5, "d": 1}, 11), _first_within(["a"], {"a": 9}, -1)
    (['a', 'b'], ['a'])
    """
    total = 0
    for position, item in enumerate(queue):
        total += rows[item]
        if position and total > limit:
            return list(queue[:position])
    return list(queue)


def _row_counts(parity: SliceParity) -> dict[str, RowVersions]:
    """How many rows Postgres had, where they have no versions: they tell how large the slice is."""
    return {name: RowVersions(rows=table.postgres_rows) for name, table in parity.tables.items()}


def _by_day(parity: SliceParity) -> tuple[date, str]:
    return parity.slice.day, parity.slice.customer
