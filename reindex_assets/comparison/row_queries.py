"""Reads the keys, place and digest of every row of a group of slices on both sides, as Arrow columns.

What lives here: the queries. What does not: their comparison (comparison/differences.py).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reindex_assets.clickhouse.shards import ShardConnection
from reindex_assets.model import Table
from reindex_assets.placement.resolver import GroupPlacement
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.row_digest import digest_of_rows, rows_to_digest, shard_digest
from reindex_assets.selection.shard_rule import day_numbers, shard_expression, shard_numbers
from reindex_assets.selection.shard_sql import IN_SLICES, shard_scope
from reindex_assets.selection.source_sql import IN_CUSTOMERS, SCORECARDS_AND_REVISIONS, source_sql

_CONVERSATION = "conversation_id"


def source_rows(session: SourceSession, table: Table, group: SliceGroup, placement: GroupPlacement) -> pa.Table:
    """A table's rows in Postgres: ids, `day`, `shard` (where they belong), `digest`. Reads in the group's snapshot."""
    parent = group.tables.parent
    names = (*parent.identity, _CONVERSATION) if group.kind.is_of_conversations else parent.identity
    columns = [f"{column.source} AS {column.name}" for column in parent.columns if column.name in names]
    ids = [f"c.{name}" for name in names]
    if not table.is_parent:
        ids.append("s.score_id")
    sql = source_sql(
        f"SELECT {', '.join(ids)}, c.scorecard_time, {digest_of_rows(table)} AS digest\n"
        f"FROM {rows_to_digest(table, [*columns, '{time} AS scorecard_time'])}",
        session.postgres.relations,
        group,
    )
    return _placed(session.table(sql), placement)


def _placed(rows: pa.Table, placement: GroupPlacement) -> pa.Table:
    """Rows of Postgres with their day, and the shard that the writer places them on."""
    micros = rows.column("scorecard_time").cast(pa.int64()).to_numpy()
    kept = [name for name in rows.column_names if name not in ("scorecard_time", _CONVERSATION)]
    columns = {name: _storage(rows.column(name)) for name in kept}
    days = day_numbers(micros).astype(np.int32)
    shards, _ = placement.resolve(rows, shard_numbers(micros, placement.shard_count))
    shards = shards.astype(np.int32)
    return pa.table({**columns, "day": pa.array(days, pa.int32()).cast(pa.date32()), "shard": pa.array(shards)})


def ask_rows(table: Table, group: SliceGroup, shard_count: int) -> Callable[[ShardConnection], pa.Table]:
    """The query for a shard's physical rows, for `shard_rows`."""
    conversation = f", {_CONVERSATION}" if group.kind.is_of_conversations else ""
    sql = f"""\
SELECT {", ".join(table.identity)}, day, version, {shard_digest(table)} AS digest,
       toInt32({shard_expression(shard_count)}) AS own_shard{conversation}
FROM {table.clickhouse}
WHERE {IN_SLICES}"""
    schema = pa.schema(
        [
            *((column.name, column.type.arrow) for column in table.identity_columns),
            ("day", pa.date32()),
            ("version", pa.uint64()),
            ("digest", pa.int64()),
            ("own_shard", pa.int32()),
            *([(_CONVERSATION, pa.string())] if conversation else []),
        ]
    )

    def ask(shard: ShardConnection) -> pa.Table:
        rows = shard.table(sql, shard_scope(group))
        if not rows.num_rows:
            rows = schema.empty_table()
        rows = pa.table({field.name: _plain(rows.column(field.name), field.type) for field in schema})
        return rows.append_column("shard", pa.repeat(pa.scalar(shard.index, pa.int32()), rows.num_rows))

    return ask


def shard_rows(rows: pa.Table, placement: GroupPlacement) -> pa.Table:
    """The answers to `ask_rows`: ids, `day`, `version`, `digest`, `own_shard` (where the row belongs) and `shard` (where it is)."""
    own, _ = placement.resolve(rows, rows.column("own_shard").to_numpy())
    columns = {name: rows.column(name) for name in rows.column_names if name != _CONVERSATION}
    return pa.table({**columns, "own_shard": pa.array(own, pa.int32())})


def _storage(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of the driver's uuid type as its 16 bytes."""
    if isinstance(column.type, pa.BaseExtensionType):
        return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    return column


def _plain(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column if column.type == kind else column.cast(kind)


#: The day of a scorecard without one: its time is NULL or infinite.
NO_DAY = date(1, 1, 1)

#: Ids per query: about 1 MB of text.
_IDS_A_QUESTION = 25_000


def known_scorecards(session: SourceSession, group: SliceGroup, rows: pa.Table) -> pa.Table:
    """The rows' scorecards in Postgres, of any day and type (those that are to be known); `day` is NO_DAY if there is none."""
    sql = source_sql(
        f"""\
SELECT c.customer, c.profile, c.scorecard_id, coalesce(c.scorecard_type, 0)::int AS scorecard_type,
       coalesce(r.template_type, 0)::int AS template_type,
       CASE WHEN isfinite({{time}}) THEN ({{time}} AT TIME ZONE 'UTC')::date END AS day
FROM {SCORECARDS_AND_REVISIONS}
WHERE {IN_CUSTOMERS}{{where_scorecards}}
  AND c.scorecard_id = ANY (string_to_array($1, ',')::uuid[])""",
        session.postgres.relations,
        group,
    )
    ids = [value.hex() for value in pc.unique(rows.column("scorecard_id")).to_pylist()]
    scorecards = pa.concat_tables(
        session.table(sql, (",".join(ids[start : start + _IDS_A_QUESTION]),))
        for start in range(0, len(ids), _IDS_A_QUESTION)
    )
    days = scorecards.column("day").fill_null(NO_DAY)
    return pa.table({**{name: _storage(scorecards.column(name)) for name in scorecards.column_names}, "day": days})
