"""A sample of the differing rows in readable form: where each is, and the values of its differing columns on both sides.

What lives here: choosing the rows and reading their values. What does not: finding them (comparison/differences.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from reindex_assets.clickhouse.shards import ShardConnection, ShardSet
from reindex_assets.comparison.differences import Difference, difference_of
from reindex_assets.model import MICROSECONDS, Slice, Table
from reindex_assets.postgres.extract import SOURCE_OF
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.shard_sql import IN_SLICES, shard_scope
from reindex_assets.selection.source_sql import BELONGS, source_scope, source_sql


@dataclass(frozen=True)
class ColumnValues:
    """A column with different values, in readable form."""

    column: str
    postgres: str
    clickhouse: str


@dataclass(frozen=True, kw_only=True)
class RowSample:
    """One differing row.

    Attributes:
        shard: where it is in ClickHouse or, if missing, where it belongs.
        what: what is wrong with it, in words.
        columns: the columns of a changed row that differ.
    """

    table: str
    difference: Difference
    profile: str
    scorecard_id: str
    score_id: str | None
    shard: int
    what: str
    columns: tuple[ColumnValues, ...] = ()


#: Rows per query to a shard: their keys are part of the request's URL, which servers limit to 64 KB or more.
_KEYS_A_QUESTION = 100


def read_samples(
    session: SourceSession, shards: ShardSet, group: SliceGroup, rows: Mapping[Slice, pa.Table], limit: int
) -> dict[Slice, tuple[RowSample, ...]]:
    """At most `limit` rows per table and difference of each slice, from tables of the schema `differences.FOUND`."""
    chosen = {item: _chosen(differing, limit) for item, differing in rows.items()}
    changed = [row for sample in chosen.values() for row in sample if difference_of(row)[1] is Difference.CHANGED]
    values = _values(session, shards, group, changed)
    return {item: tuple(_sample(row, values) for row in sample) for item, sample in chosen.items()}


def _chosen(rows: pa.Table, limit: int) -> list[dict[str, Any]]:
    kinds = rows.select(["table", "difference"]).group_by(["table", "difference"]).aggregate([]).to_pylist()
    chosen: list[dict[str, Any]] = []
    for kind in sorted(kinds, key=lambda kind: (kind["difference"], -kind["table"])):
        mine = pc.and_(
            pc.equal(rows.column("table"), kind["table"]), pc.equal(rows.column("difference"), kind["difference"])
        )
        chosen += rows.filter(mine).slice(0, limit).to_pylist()
    return chosen


#: Customer, profile, scorecard id and, for a score, score id.
_Key = tuple[str, str, str, str | None]


def _key(row: Mapping[str, Any]) -> _Key:
    score_id = row.get("score_id")
    return (
        row["customer"],
        row["profile"],
        str(_uuid(row["scorecard_id"])),
        None if score_id is None else str(_uuid(score_id)),
    )


def version_text(version: int) -> str:
    """The time that a version stands for, as text; it may hold any number.

    >>> version_text(1_800_000_000_000_000), version_text(2**64 - 1)
    ('2027-01-15 08:00:00 UTC', 'the year 10000')
    """
    try:
        return f"{datetime.fromtimestamp(version / MICROSECONDS, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return "the year 10000"


def _uuid(value: object) -> UUID:
    return UUID(bytes=value) if isinstance(value, bytes) else UUID(str(value))


def _sample(row: dict[str, Any], values: Mapping[tuple[str, _Key], tuple[ColumnValues, ...]]) -> RowSample:
    table, difference = difference_of(row)
    _, profile, scorecard_id, score_id = _key(row)
    columns = values.get((table, _key(row)), ()) if difference is Difference.CHANGED else ()
    return RowSample(
        table=table,
        difference=difference,
        profile=profile,
        scorecard_id=scorecard_id,
        score_id=score_id,
        shard=row["shard"],
        what=_WHAT[difference].format(
            shard=row["shard"],
            belongs=row["source_shard"],
            day=row["source_day"] or "another day",
            version="" if row["version"] is None else version_text(row["version"]),
            columns="; ".join(
                f"{each.column}: Postgres {each.postgres}, ClickHouse {each.clickhouse}" for each in columns
            ),
        ),
        columns=columns,
    )


_WHAT = {
    Difference.MISSING: "not on shard {shard}, where it belongs",
    Difference.EXTRA: "on shard {shard}, and Postgres has no such row",
    Difference.CHANGED: "on shard {shard}: {columns}",
    Difference.DUPLICATED: "on shard {shard} more than once",
    Difference.WRONG_SHARD: "on shard {shard}, belongs on shard {belongs}",
    Difference.MOVED_DAY: "on shard {shard}, and Postgres has it on {day}",
    Difference.ORPHAN_SCORE: "on shard {shard}, and neither engine has its scorecard",
    Difference.APPEAL: "on shard {shard}, and its scorecard is an appeal's",
    Difference.AHEAD: "wrong on shard {shard}, with a version ahead of the clock: no repair may touch it before {version}",
    Difference.UNMERGED: "an older version on shard {shard}, waiting for a merge",
    Difference.NEWER: "on shard {shard}, newer than what this standby has replayed",
}


def _values(
    session: SourceSession, shards: ShardSet, group: SliceGroup, rows: list[dict[str, Any]]
) -> dict[tuple[str, _Key], tuple[ColumnValues, ...]]:
    """The differing columns of changed rows, by table and key; read now, maybe later than the comparison."""
    values: dict[tuple[str, _Key], tuple[ColumnValues, ...]] = {}
    for table in group.tables:
        mine = [row for row in rows if difference_of(row)[0] == table.name]
        if not mine:
            continue
        with session.snapshot(source_scope(group)):
            ids = ",".join(sorted({str(_uuid(row["scorecard_id"])) for row in mine}))
            source = {_key(row): row for row in session.rows(_source_values(table, group, session), (ids,))}
        there = _shard_values(shards, table, group, mine)
        for row in mine:
            key = _key(row)
            on_shard = there.get((row["shard"], key, row["version"]))
            if key in source and on_shard is not None:
                values[table.name, key] = tuple(
                    ColumnValues(column.name, column.readable(expected), column.readable(actual))
                    for column in table.columns
                    if (expected := source[key][f"text_{column.name}"]) != (actual := on_shard[f"text_{column.name}"])
                )
    return values


def _source_values(table: Table, group: SliceGroup, session: SourceSession) -> str:
    ids = [f"{column.source} AS {column.name}" for column in table.identity_columns]
    texts = [f"{column.source_text} AS {column.label('text_')}" for column in table.columns]
    return source_sql(
        f"SELECT {', '.join(ids + texts)}\nFROM {SOURCE_OF[table.name]}\nWHERE {BELONGS}\n"
        "  AND c.scorecard_id = ANY (string_to_array($1, ',')::uuid[])",
        session.postgres.relations,
        group,
    )


def _shard_values(
    shards: ShardSet, table: Table, group: SliceGroup, rows: Iterable[Mapping[str, Any]]
) -> dict[tuple[int, _Key, int], Mapping[str, Any]]:
    """The texts of rows on their shards, by shard, key and version."""
    names = {**{column.name: column.type.clickhouse for column in table.identity_columns}, "version": "UInt64"}
    texts = [f"{column.shard_text} AS text_{column.name}" for column in table.columns]
    keys = [f"{name if name == 'version' else f'toString({name})'} AS key_{name}" for name in names]
    sql = (
        f"SELECT {', '.join(keys + texts)} FROM {table.clickhouse}\nWHERE {IN_SLICES}\n"
        f"  AND ({', '.join(names)}) IN {{keys:Array(Tuple({', '.join(names.values())}))}}"
    )
    by_shard: dict[int, list[tuple[object, ...]]] = defaultdict(list)
    for row in rows:
        by_shard[row["shard"]].append((*(part for part in _key(row) if part is not None), row["version"]))

    def ask(shard: ShardConnection) -> list[dict[str, Any]]:
        wanted = by_shard[shard.index]
        return [
            row
            for start in range(0, len(wanted), _KEYS_A_QUESTION)
            for row in shard.rows(sql, {**shard_scope(group), "keys": wanted[start : start + _KEYS_A_QUESTION]})
        ]

    return {
        (shard, _key({name: row[f"key_{name}"] for name in names}), row["key_version"]): row
        for shard, answer in enumerate(shards.map(ask))
        for row in answer
    }
