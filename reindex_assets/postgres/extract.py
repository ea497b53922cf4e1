"""Postgres -> Arrow batches: the rows of a group of slices, and those that can't leave Postgres.

What lives here: the statements of the extract, derived from model.py and selection/source_sql.py. What does not: shards
(reindex/rows.py), files (storage/slice_store.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from reindex_assets.column_types.containers import delivered
from reindex_assets.config.engines import Relations
from reindex_assets.model import CHILD, PARENT, Slice, Table
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.source_sql import (
    BELONGS,
    QUARANTINED,
    SOURCE_SCORECARDS,
    SOURCE_SCORES,
    SOURCE_TIMES,
    TIMES_IN_SLICES,
    source_scope,
    source_sql,
)

SOURCE_OF = {PARENT: SOURCE_SCORECARDS, CHILD: SOURCE_SCORES}

_COUNTS = f"""\
SELECT c.customer, ({{time}} AT TIME ZONE 'UTC')::date AS day, count(*) AS scorecards
FROM {SOURCE_SCORECARDS}
WHERE {BELONGS}
GROUP BY 1, 2"""
#: Scorecards of any type, and conversations with or without a scorecard: an index-only scan, which takes a fifth of the time of
#: reading the rows.
_SIZES = f"""\
SELECT {{of_time}}.customer, ({{time}} AT TIME ZONE 'UTC')::date AS day, count(*) AS scorecards
FROM {SOURCE_TIMES}
WHERE {TIMES_IN_SLICES}
GROUP BY 1, 2"""


@dataclass(frozen=True, kw_only=True)
class QuarantinedRow:
    """A scorecard that belongs in ClickHouse but can't be stored there. It stays in Postgres and is reported under `day`."""

    customer: str
    day: date
    profile: str
    scorecard_id: str
    reason: str

    @property
    def slice(self) -> Slice:
        return Slice(self.customer, self.day)


def select_rows(table: Table, group: SliceGroup, relations: Relations) -> str:
    """The statement that reads a ClickHouse table's rows from Postgres, in the order of its columns."""
    columns = ",\n       ".join(
        f"{column.type.source_value(column.source)} AS {column.label()}" for column in table.columns
    )
    return source_sql(f"SELECT {columns}\nFROM {SOURCE_OF[table.name]}\nWHERE {BELONGS}", relations, group)


def read_rows(session: SourceSession, table: Table, group: SliceGroup) -> Iterator[pa.RecordBatch]:
    """Streams a table's rows, unordered, in the schema `table.arrow_schema`. Call it inside `group_snapshot(session, group)`."""
    yield from stream_as(table.arrow_schema, session, select_rows(table, group, session.postgres.relations))


def stream_as(schema: pa.Schema, session: SourceSession, sql: str) -> Iterator[pa.RecordBatch]:
    """Streams a statement's rows in a schema with the same columns. No batch is empty."""
    for batch in session.stream(sql):
        if batch.num_rows:
            columns = [delivered(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)


def read_quarantined(session: SourceSession, group: SliceGroup) -> list[QuarantinedRow]:
    """The group's scorecards that can't leave Postgres. Call it inside the same snapshot as `read_rows`."""
    table = session.table(source_sql(QUARANTINED, session.postgres.relations, group))
    return [QuarantinedRow(**row) for row in table.to_pylist()]


def count_scorecards(session: SourceSession, group: SliceGroup) -> dict[Slice, int]:
    """Scorecards per slice, without the empty ones."""
    return _counted(session, group, _COUNTS)


def estimate_scorecards(session: SourceSession, group: SliceGroup) -> dict[Slice, int]:
    """About how many scorecards each slice has: estimates the cost of a window before it is read."""
    return _counted(session, group, _SIZES)


def _counted(session: SourceSession, group: SliceGroup, sql: str) -> dict[Slice, int]:
    with session.snapshot(source_scope(group)):
        table = session.table(source_sql(sql, session.postgres.relations, group))
    return {Slice.of_row(row): row["scorecards"] for row in table.to_pylist()}
