"""The watch: which slices of the look-back have drifted, for little more than nothing while little happens.

What lives here: which slices a look compares, and what it proves. What does not: row versions (postgres/row_versions.py), the comparison
(comparison/comparison.py), and what is done about drift (drift/repair_policy.py).

A look asks each engine what has been touched since the slice was last proved equal. Only what was touched, or was never proved, is
compared; a slice counts as equal only by that exact comparison. What a look can't see is a change in Postgres on a day whose turn has
not come, to scores alone: the versions of scores (and of scorecards, where there are very many) are read by turns (`limits`).

The order makes it safe: versions and checksums are read before the comparison. What changes in between is seen the next time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TypeVar

from reindex_assets.clickhouse.checksums import read_shard_checksums, read_shard_counts
from reindex_assets.clickhouse.parts import Parts, look_at_parts, read_parts
from reindex_assets.comparison.checkpoint import read_origin
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.dataset import Dataset
from reindex_assets.drift.watch_state import SliceState, WatchState
from reindex_assets.model import SCORE, SCORECARD, Slice, Table, days_between
from reindex_assets.postgres.join_plan import group_snapshot
from reindex_assets.postgres.row_versions import RowVersions, read_row_versions

T = TypeVar("T")
K = TypeVar("K")

#: Slices in one statement that groups by slice: nothing but sums travels.
_SLICES_AT_ONCE = 20_000
#: A scorecard has three to nine scores.
_SCORES_A_SCORECARD = 6


@dataclass(frozen=True, kw_only=True)
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
    dataset: Dataset,
    days: tuple[date, date],
    state: WatchState,
    *,
    suspect: Collection[Slice] = (),
    in_flight: Collection[Slice] = (),
    paused: Collection[Slice] = (),
) -> WatchLook:
    """Looks at some days of a dataset once. Its rules limit how many rows one look reads and compares; something of each queue is always
    taken, however large, so that everything has its turn.

    Args:
        days: the first and the last day, both included.
        state: of the last look; an empty one proves every slice anew.
        suspect: slices to compare whatever is remembered of them.
        in_flight: slices that a run is at work on: they are left for the next look.
        paused: slices that are known to differ, and of interest only when something touches them.

    Raises:
        SourceUnreachableError, ShardUnreachableError, LaggingReplicaError: nothing is known then, and the state stays as it was.
    """
    with _Look(dataset, days, state, frozenset(paused)) as one:
        return one.run(frozenset(suspect), frozenset(in_flight))


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
        """Takes from the state of the last look what still holds."""
        self._origin = read_origin(self._comparison.session, self._dataset)
        known = self._state.slices_of(self._origin)
        self._known: dict[Slice, SliceState] = {item: known.get(item, SliceState()) for item in self._slices}
        # Slices whose standing is known, as long as nothing touches them.
        self._settled = {
            item
            for item, state in self._known.items()
            if state.is_equal or (item in self._paused and state.row_versions and not state.is_touched)
        }
        days, now = {day.isoformat() for day in self._days}, time.time()
        # A time that has not come yet is of a clock that was wrong: its day would wait until then.
        self._looked = {place: at for place, at in self._state.looked.items() if place[1] in days and at <= now}

    def __enter__(self) -> _Look:
        self._comparison.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._comparison.__exit__(None, None, None)

    def run(self, suspect: frozenset[Slice], in_flight: frozenset[Slice]) -> WatchLook:
        self._remember()
        listed = self._timed("parts", lambda: read_parts(self._comparison.shards, self._dataset.kind))
        self._timed("postgres_versions", self._read_turns)
        touched = {item for item in self._slices if self._has_moved(item)} | (suspect & set(self._slices))
        in_clickhouse, parts = self._timed("clickhouse_checksums", lambda: self._touched_in_clickhouse(listed))
        touched |= in_clickhouse
        chosen = self._chosen(touched, in_flight)

        # Before the comparison: what changes in between is seen the next time.
        self._timed(
            "postgres_versions", lambda: self._read_row_versions(chosen, self._dataset.tables, missing_only=True)
        )
        self._timed("clickhouse_checksums", lambda: self._read_shard_checksums(chosen))
        found = self._timed(
            "comparison",
            lambda: self._comparison.settled(chosen, self._limits.settle_seconds, max_slices=_SLICES_AT_ONCE),
        )

        slices = {item: state.as_touched() if item in touched else state for item, state in self._known.items()}
        turn = 1 + max((state.turn for state in self._known.values()), default=0)
        for parity in found:
            row_versions, shard_checksum = dict(self._fresh[parity.slice]), self._shard_checksums[parity.slice]
            slices[parity.slice] = SliceState(
                row_versions=row_versions, shard_checksum=shard_checksum, is_equal=parity.sums_agree, turn=turn
            )
        compared = {parity.slice for parity in found}
        return WatchLook(
            state=WatchState(slices, parts, self._looked, self._origin),
            drifted={parity.slice: parity for parity in sorted(found, key=_by_day) if not parity.is_equal},
            equal=frozenset(parity.slice for parity in found if parity.is_equal),
            watched=len(self._slices),
            touched=len(touched),
            waiting=sum(not state.is_equal and item not in compared for item, state in slices.items()),
            seconds={name: round(seconds, 3) for name, seconds in self._seconds.items()},
        )

    # --- what has been touched

    def _read_turns(self) -> None:
        """Reads the row versions of the days whose turn it is."""
        for table, limit in ((SCORECARD, self._limits.scorecards), (SCORE, self._limits.scores)):
            # What is not settled is compared whatever is remembered of it; those of scorecards tell how large it is.
            wanted = [item for item in self._slices if table is SCORECARD or item in self._settled]
            rows = dict.fromkeys(self._days, 0)
            for item in wanted:
                rows[item.day] += self._known[item].rows(table.name)
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
        for table in tables:
            wanted = [item for item in slices if not missing_only or table.name not in self._fresh[item]]
            for group in self._comparison.groups(wanted, {}, 1, _SLICES_AT_ONCE):
                with group_snapshot(self._comparison.session, group) as snapshot:
                    self._comparison.session.assert_not_lagging(snapshot)
                    for item, versions in read_row_versions(self._comparison.session, group, table).items():
                        self._fresh[item][table.name] = versions

    def _has_moved(self, item: Slice) -> bool:
        known = self._known[item]
        return item in self._settled and any(
            known.row_versions.get(name) != versions for name, versions in self._fresh[item].items()
        )

    def _touched_in_clickhouse(self, listed: Parts) -> tuple[set[Slice], Parts]:
        """The settled slices that were touched between the last look and a list of parts, and the list to remember."""
        groups = self._comparison.groups(
            [item for item in self._slices if item in self._settled], {}, 1, _SLICES_AT_ONCE
        )
        found = look_at_parts(self._comparison.shards, self._dataset.kind, groups, self._state.parts, listed)
        # How many rows there should be is known of equal slices only.
        in_doubt = found.in_doubt | {item for item in found.merged if not self._known[item].is_equal}
        self._read_shard_checksums(in_doubt)
        touched = {item for item in in_doubt if self._shard_checksums[item] != self._known[item].shard_checksum}
        for group in self._comparison.groups(found.merged - in_doubt, {}, 1, _SLICES_AT_ONCE):
            for item, counts in read_shard_counts(self._comparison.shards, group).items():
                if any(counts[table.name] != self._known[item].rows(table.name) for table in self._dataset.tables):
                    touched.add(item)
        return touched, found.parts

    def _read_shard_checksums(self, slices: Iterable[Slice]) -> None:
        wanted = [item for item in slices if item not in self._shard_checksums]
        for group in self._comparison.groups(wanted, {}, 1, _SLICES_AT_ONCE):
            self._shard_checksums |= read_shard_checksums(self._comparison.shards, group)

    # --- what is compared

    def _chosen(self, touched: set[Slice], in_flight: frozenset[Slice]) -> list[Slice]:
        """What is compared this time: what was touched first, then what was never proved; late days first."""
        candidates = [
            item for item in self._slices if (item in touched or item not in self._settled) and item not in in_flight
        ]
        rows = {item: self._rows(item) for item in candidates}
        by_need = sorted(candidates, key=lambda item: (item not in touched, -item.day.toordinal(), item.customer))
        chosen = _first_within(by_need, rows, self._limits.compared_scores // 2)
        # A busy day is touched at every look: what has waited longest has a part of its own.
        by_turn = sorted(
            set(candidates) - set(chosen),
            key=lambda item: (self._known[item].turn, -item.day.toordinal(), item.customer),
        )
        return chosen + _first_within(by_turn, rows, self._limits.compared_scores - sum(rows[item] for item in chosen))

    def _rows(self, item: Slice) -> int:
        """About how many scores a comparison of a slice reads."""
        fresh = self._fresh[item]
        scores = fresh[SCORE.name].rows if SCORE.name in fresh else self._known[item].rows(SCORE.name)
        scorecards = fresh[SCORECARD.name].rows if SCORECARD.name in fresh else self._known[item].rows(SCORECARD.name)
        return max(scores, scorecards * _SCORES_A_SCORECARD, 1)

    def _timed(self, name: str, call: Callable[[], T]) -> T:
        begun = time.perf_counter()
        try:
            return call()
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - begun


def _first_within(queue: Sequence[K], rows: Mapping[K, int], limit: int) -> list[K]:
    """The head of a queue within a limit of rows, and its first in any case.

    >>> _first_within(["a", "b", "c", "d"], {"a": 9, "b": 1, "c": 5, "d": 1}, 11), _first_within(["a"], {"a": 9}, -1)
    (['a', 'b'], ['a'])
    """
    total = 0
    for place, item in enumerate(queue):
        total += rows[item]
        if place and total > limit:
            return list(queue[:place])
    return list(queue)


def _by_day(parity: SliceParity) -> tuple[date, str]:
    return parity.slice.day, parity.slice.customer
