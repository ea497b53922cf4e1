"""Finds the rows of a group of slices that differ, and classifies how: compares every row of both engines by its digest.

What lives here: the classes of differences, and telling lasting ones from rows in flight. What does not: the queries that read both
sides (comparison/row_queries.py), sums (comparison/comparison.py), and the values of sample rows (comparison/samples.py).

Equal rows have equal digests, so a sorted comparison of 64-bit numbers settles most rows; only the rest is compared by key. Rows are Arrow
and numpy columns throughout.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.column_types import ID
from reindex_assets.comparison.row_queries import NO_DAY, ask_rows, known_scorecards, shard_rows, source_rows
from reindex_assets.model import APPEAL_TYPES, MICROSECONDS, PARENT, TABLE_NAMES, Slice, Table
from reindex_assets.placement.resolver import GroupPlacement
from reindex_assets.postgres.join_plan import group_snapshot
from reindex_assets.postgres.session import Snapshot, SourceSession
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.row_keys import joined_keys

_Numbers = np.ndarray[Any, np.dtype[Any]]


class Difference(StrEnum):
    """How a row differs. The first nine are drift; the last two are not.

    MISSING: Postgres has it, ClickHouse does not.
    EXTRA: ClickHouse has it, Postgres does not (not of this kind, or not this score).
    CHANGED: both have it, with different values.
    DUPLICATED: it is on its shard more than once, and no merge will remove the copies soon.
    WRONG_SHARD: it is on another shard than its time in Postgres says.
    MOVED_DAY: in Postgres it is on another day.
    ORPHAN_SCORE: a score whose scorecard neither engine has.
    APPEAL: it belongs to an appeal (scorecard_type 1, 2 or 3), which never belongs in ClickHouse.
    AHEAD: it is wrong in one of these ways, and its version lies ahead of Postgres' clock: no repair may touch it before that time.
    UNMERGED: an older version beside the right one. ClickHouse's next merge removes it, and FINAL does not show it.
    NEWER: written after the last change that this Postgres, a standby, has replayed: it can't be judged yet.
    """

    MISSING = "missing"
    EXTRA = "extra"
    CHANGED = "changed"
    DUPLICATED = "duplicated"
    WRONG_SHARD = "wrong_shard"
    MOVED_DAY = "moved_day"
    ORPHAN_SCORE = "orphan_score"
    APPEAL = "appeal"
    AHEAD = "ahead"
    UNMERGED = "unmerged"
    NEWER = "newer"


#: Differences that are no drift.
HARMLESS = frozenset({Difference.UNMERGED, Difference.NEWER})

_NUMBER = {difference: number for number, difference in enumerate(Difference)}
_BY_NUMBER = tuple(Difference)

#: A differing row. `shard` is where it is or, for a missing row, where it belongs; `source_day` and `source_shard` are its place by
#: Postgres, null if Postgres does not have it. `evidence` stays the same from one comparison to the next only while nothing about the row
#: changes: its values on either side, its version, its place.
FOUND = pa.schema(
    [
        ("table", pa.int8()),
        ("difference", pa.int8()),
        ("customer", pa.string()),
        ("day", pa.date32()),
        ("profile", pa.string()),
        ("scorecard_id", ID.arrow),
        ("score_id", ID.arrow),
        ("shard", pa.int32()),
        ("version", pa.uint64()),
        ("source_day", pa.date32()),
        ("source_shard", pa.int32()),
        ("evidence", pa.uint64()),
    ]
)


@dataclass(frozen=True)
class DifferingRows:
    """The differing rows of a group at one snapshot, in the schema `FOUND`."""

    snapshot: Snapshot
    rows: pa.Table

    def lasting(self, earlier: DifferingRows) -> DifferingRows:
        """The rows that differed in exactly the same way in an `earlier` look: the others were in flight."""
        seen = np.isin(_column(self.rows, "evidence"), _column(earlier.rows, "evidence"))
        return DifferingRows(self.snapshot, self.rows.filter(pa.array(seen)))

    def of_slices(self, group: SliceGroup) -> dict[Slice, pa.Table]:
        """The rows by slice; an empty table for a slice without any."""
        by_slice = {item: self.rows.slice(0, 0) for item in group.slices}
        ordered = self.rows.sort_by([("customer", "ascending"), ("day", "ascending")])
        start = 0
        places = ordered.select(["customer", "day"]).group_by(["customer", "day"], use_threads=False)
        for place in places.aggregate([([], "count_all")]).to_pylist():
            by_slice[Slice(place["customer"], place["day"])] = ordered.slice(start, place["count_all"])
            start += place["count_all"]
        return by_slice


def count_differences(rows: pa.Table) -> dict[tuple[str, Difference], int]:
    """Rows by table name and difference."""
    counted = rows.group_by(["table", "difference"]).aggregate([([], "count_all")]).to_pylist()
    return {(TABLE_NAMES[row["table"]], _BY_NUMBER[row["difference"]]): row["count_all"] for row in counted}


def drift_evidence(rows: pa.Table) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """The evidence of the rows that are drift, and that a repair can mend now."""
    left_alone = np.isin(_column(rows, "difference"), [_NUMBER[each] for each in (*HARMLESS, Difference.AHEAD)])
    evidence: np.ndarray[Any, np.dtype[np.uint64]] = _column(rows, "evidence")[~left_alone]
    return evidence


def first_version_ahead(rows: pa.Table) -> int | None:
    """The earliest version of the rows ahead of the clock: when the first of them can be repaired, in microseconds."""
    versions = _column(rows, "version")[_column(rows, "difference") == _NUMBER[Difference.AHEAD]]
    return int(versions.min()) if len(versions) else None


def difference_of(row: dict[str, Any]) -> tuple[str, Difference]:
    """Table name and difference of a row of the schema `FOUND`."""
    return TABLE_NAMES[row["table"]], _BY_NUMBER[row["difference"]]


def look_at_rows(
    session: SourceSession, shards: ShardSet, group: SliceGroup, merge_patience_seconds: float
) -> DifferingRows:
    """Compares every row of a group of slices.

    Args:
        merge_patience_seconds: how long an older version beside the right one is `UNMERGED`; after that, dashboards without FINAL have
            counted it twice for too long, and it is `DUPLICATED`.
    """
    placement = GroupPlacement(shards, group)
    questions = {table.name: ask_rows(table, group, len(shards)) for table in group.tables}
    # ClickHouse works while Postgres does.
    with shards.asked(questions) as answers, group_snapshot(session, group) as snapshot:
        session.assert_not_lagging(snapshot)
        source = {table.name: source_rows(session, table, group, placement) for table in group.tables}
        answered = answers()
        on_shards = {
            table.name: shard_rows(
                pa.concat_tables([answered[table.name, shard] for shard in range(len(shards))]), placement
            )
            for table in group.tables
        }
        folding = tuple(
            int((time.time() + seconds) * MICROSECONDS) for seconds in (-merge_patience_seconds, merge_patience_seconds)
        )
        differing = []
        for table in group.tables:
            sides = _Sides(table, source[table.name], on_shards[table.name], snapshot, (folding[0], folding[1]))
            differing.append(_classified(sides, session, group, on_shards[PARENT]))
    return DifferingRows(snapshot, pa.concat_tables(differing))


# --- the comparison


@dataclass(frozen=True)
class _Sides:
    """One table of a group on both sides.

    Attributes:
        folding: between which versions a right row is so new that a merge may still remove the copies that it supersedes. The later
            bound lets a writer's clock be ahead of ours; a version that lies further ahead says nothing about when it was written.
    """

    table: Table
    source: pa.Table
    shards: pa.Table
    snapshot: Snapshot
    folding: tuple[int, int]


def _classified(sides: _Sides, session: SourceSession, group: SliceGroup, scorecards: pa.Table) -> pa.Table:
    """The differing rows of one table, in the schema `FOUND`."""
    source_digests, digests = _column(sides.source, "digest"), _column(sides.shards, "digest")
    keepers = _keepers(sides, source_digests, digests)
    absent = ~np.isin(source_digests, digests[keepers])
    leftover = np.ones(len(digests), dtype=bool)
    leftover[keepers] = False
    missing = sides.source.filter(pa.array(absent))
    rest = sides.shards.filter(pa.array(leftover))
    if not missing.num_rows and not rest.num_rows:
        return FOUND.empty_table()
    keys = _keys(rest, sides.table)
    here = _Place(sides.source, sides.table, rest, keys)
    kept = _Place(sides.shards.take(pa.array(keepers)), sides.table, rest, keys)

    kinds = _kinds(sides, rest, keys, here, kept)
    source_days = here.column("day")
    if not here.known.all():
        parent = group.tables.parent
        strangers = np.flatnonzero(~here.known)
        strange = rest.take(pa.array(strangers))
        owners = _Place(known_scorecards(session, group, strange), parent, strange, _keys(strange, parent))
        kinds[strangers] = _strangers(sides.table, strange, owners, group, scorecards)
        days = owners.column("day")
        source_days = _filled(source_days, strangers, pc.if_else(pc.equal(days, NO_DAY), None, days))
    # A row that is present but wrong is not missing as well, unless it is in another slice: whatever its version says.
    explains = ~np.isin(kinds, [_NUMBER[Difference.UNMERGED], _NUMBER[Difference.MOVED_DAY]])
    version, judged = _column(rest, "version"), np.uint64(sides.snapshot.microseconds)
    if sides.snapshot.is_standby:
        now = max(judged, np.uint64(time.time() * MICROSECONDS))
        kinds[(version >= judged) & (version <= now)] = _NUMBER[Difference.NEWER]
        judged = now + np.uint64(1)
    kinds[(version >= judged) & (kinds != _NUMBER[Difference.UNMERGED])] = _NUMBER[Difference.AHEAD]

    missing = missing.filter(
        pc.invert(pc.is_in(_keys(missing, sides.table), value_set=keys.filter(pa.array(explains))))
    )
    return pa.concat_tables(
        [
            _found(sides, rest, kinds, source_days, here.column("shard"), _evidence(rest, here, kinds)),
            _found(
                sides,
                missing.append_column("version", pa.nulls(missing.num_rows, pa.uint64())),
                np.full(missing.num_rows, _NUMBER[Difference.MISSING], dtype=np.int8),
                missing.column("day"),
                missing.column("shard"),
                _column(missing, "digest").view(np.uint64),
            ),
        ]
    )


def _kinds(sides: _Sides, rest: pa.Table, keys: pa.Array, here: _Place, kept: _Place) -> _Numbers:
    """Classifies wrong rows whose keys Postgres has in these slices."""
    version, newest = _column(rest, "version"), kept.number("version").astype(np.uint64)
    moved = here.known & (here.number("day") != _column(rest, "day"))
    elsewhere = here.known & ~moved & (_column(rest, "shard") != here.number("shard"))
    folds = kept.known & (newest > version)
    since, until = (np.uint64(bound) for bound in sides.folding)
    soon = folds & (newest >= since) & (newest <= until)
    changed = here.known & ~moved & ~elsewhere & ~folds & (_column(rest, "digest") != here.number("digest"))

    kinds = np.full(rest.num_rows, _NUMBER[Difference.DUPLICATED], dtype=np.int8)
    kinds[soon] = _NUMBER[Difference.UNMERGED]
    # FINAL shows the newest of several wrong versions; a merge removes the others.
    positions = np.flatnonzero(changed)
    is_newest = _is_newest(keys.take(pa.array(positions)), version[positions])
    kinds[positions] = np.where(is_newest, _NUMBER[Difference.CHANGED], _NUMBER[Difference.UNMERGED])
    kinds[elsewhere] = _NUMBER[Difference.WRONG_SHARD]
    kinds[moved] = _NUMBER[Difference.MOVED_DAY]
    return kinds


def _keepers(sides: _Sides, source_digests: _Numbers, digests: _Numbers) -> _Numbers:
    """The positions of the right rows: the newest of those with the right values on the right shard."""
    right = np.flatnonzero(
        np.isin(digests, source_digests) & (_column(sides.shards, "shard") == _column(sides.shards, "own_shard"))
    )
    newest_first = np.lexsort((-_column(sides.shards, "version")[right].astype(np.int64), digests[right]))
    _, first = np.unique(digests[right][newest_first], return_index=True)
    kept: _Numbers = right[newest_first][first]
    return kept


class _Place:
    """Looks up the keys of some rows in another table of rows."""

    def __init__(self, rows: pa.Table, table: Table, wanted: pa.Table, wanted_keys: pa.Array) -> None:
        # Only rows of the same scorecards can have the same key: making keys for all rows would cost more than all the rest.
        candidates = rows.filter(
            pc.is_in(rows.column("scorecard_id"), value_set=wanted.column("scorecard_id").combine_chunks())
        )
        positions = pc.index_in(wanted_keys, value_set=_keys(candidates, table))
        self._rows = candidates
        self._positions = positions.fill_null(0).to_numpy(zero_copy_only=False)
        self.known: _Numbers = positions.is_valid().to_numpy(zero_copy_only=False)

    def number(self, name: str) -> _Numbers:
        """A column of the other table for each row; 0 if the row is not there."""
        column = _column(self._rows, name)
        values: _Numbers = np.zeros(len(self._positions), dtype=column.dtype)
        values[self.known] = column[self._positions[self.known]]
        return values

    def column(self, name: str) -> pa.Array:
        """The same, but null if the row is not there."""
        return pa.array(self.number(name), mask=~self.known)


def _strangers(table: Table, rows: pa.Table, owners: _Place, group: SliceGroup, scorecards: pa.Table) -> _Numbers:
    """Classifies rows that Postgres does not have in these slices, by their scorecards elsewhere in Postgres."""
    kinds = np.full(rows.num_rows, _NUMBER[Difference.EXTRA], dtype=np.int8)
    if not table.is_parent:
        parent = group.tables.parent
        shown = pc.is_in(_keys(rows, parent), value_set=_keys(scorecards, parent))
        kinds[~owners.known & ~shown.to_numpy(zero_copy_only=False)] = _NUMBER[Difference.ORPHAN_SCORE]
    appeal = owners.known & np.isin(owners.number("scorecard_type"), APPEAL_TYPES)
    # A scorecard without a day in Postgres (a quarantined one) has not moved.
    of_kind = (
        owners.known & (owners.number("template_type") == group.kind.template_type) & (owners.number("day") != NO_DAY)
    )
    kinds[of_kind & (owners.number("day") != _column(rows, "day"))] = _NUMBER[Difference.MOVED_DAY]
    kinds[appeal] = _NUMBER[Difference.APPEAL]
    return kinds


def _is_newest(keys: pa.Array, versions: _Numbers) -> _Numbers:
    """Whether each row has the highest version of its key."""
    codes = pc.dictionary_encode(keys)
    numbers = codes.indices.to_numpy(zero_copy_only=False)
    highest = np.zeros(max(1, len(codes.dictionary)), dtype=np.uint64)
    np.maximum.at(highest, numbers, versions.astype(np.uint64))
    newest: _Numbers = versions == highest[numbers]
    return newest


def _keys(rows: pa.Table, table: Table) -> pa.Array:
    """One binary value per row, which identifies it in any slice."""
    return joined_keys(rows, (*table.id_columns, "customer", "profile"))


def _evidence(rows: pa.Table, expected: _Place, kinds: _Numbers) -> _Numbers:
    with np.errstate(over="ignore"):
        mixed: _Numbers = _column(rows, "digest").view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= _column(rows, "version").astype(np.uint64) * np.uint64(0xC2B2AE3D27D4EB4F)
        mixed ^= expected.number("digest").astype(np.int64).view(np.uint64) * np.uint64(0x165667B19E3779F9)
        mixed ^= (
            _column(rows, "shard").astype(np.uint64) * np.uint64(len(Difference)) + kinds.astype(np.uint64)
        ) << np.uint64(40)
    return mixed


def _filled(values: pa.Array, positions: _Numbers, fillers: pa.Array) -> pa.Array:
    mask = np.zeros(len(values), dtype=bool)
    mask[positions] = True
    return pc.replace_with_mask(values, pa.array(mask), fillers)


def _found(
    sides: _Sides, rows: pa.Table, kinds: _Numbers, source_days: pa.Array, source_shards: pa.Array, evidence: _Numbers
) -> pa.Table:
    count = rows.num_rows
    columns = {
        "table": pa.array(np.full(count, TABLE_NAMES.index(sides.table.name), dtype=np.int8)),
        "difference": pa.array(kinds),
        **{name: rows.column(name) for name in ("customer", "day", "profile", "scorecard_id")},
        "score_id": pa.nulls(count, ID.arrow) if sides.table.is_parent else rows.column("score_id"),
        "shard": rows.column("shard"),
        "version": rows.column("version"),
        "source_day": source_days,
        "source_shard": source_shards,
        "evidence": pa.array(evidence),
    }
    return pa.table(columns).cast(FOUND)


def _column(rows: pa.Table, name: str) -> _Numbers:
    values: _Numbers = rows.column(name).to_numpy()
    return values
