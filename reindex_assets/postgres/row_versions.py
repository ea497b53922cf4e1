"""Marks: what each engine itself can say, cheaply, about whether a slice has been touched since somebody looked.

What lives here: the marks of both engines, and where marks are from (`read_origin`). What does not: lists of parts, which tell where
in ClickHouse nothing happened without reading a row (clickhouse/parts.py), who keeps marks and what follows from one that moved
(drift/watch.py, drift/unchanged.py), and any comparison of the engines with each other (comparison/comparison.py): a mark of Postgres
and one of ClickHouse have nothing in common.

Postgres: a sum of 64-bit hashes over (xmin, ctid) of the rows, that is over the row *versions*: every insert, update and delete makes other
versions, whatever the application does to `updated_at`. A rewrite of the table (VACUUM FULL, a restored dump) moves all marks,
which costs a closer look and loses nothing.

ClickHouse: a sum of hashes over every column of every physical row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from reindex_assets.model import SCORE, SCORECARD, Kind, Slice, Table
from reindex_assets.postgres.extract import SOURCE_OF
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.row_digest import MODULUS
from reindex_assets.selection.source_sql import BELONGS, relations_of, source_sql


@dataclass(frozen=True)
class SourceMark:
    """A table of a slice in Postgres: how many rows, and a sum over their versions. Equal marks: nothing has touched it."""

    rows: int = 0
    mark: int = 0

    @staticmethod
    def of(rows: int, total: str | int) -> SourceMark:
        """From a count and a sum of `VERSION`; Postgres sums without end."""
        return SourceMark(rows, int(total) % MODULUS)


#: The hash of the row versions behind a row of ClickHouse, as a Postgres expression by table name. A scorecard's kind and template
#: come from its revision, and of some kinds the time from its conversation, so those are part of it.
VERSION: Mapping[str, str] = MappingProxyType(
    {
        SCORECARD.name: "hash_record_extended(ROW(c.xmin, c.ctid, r.xmin, r.ctid{version_of_conversation}), 0)",
        SCORE.name: "hash_record_extended(ROW(s.xmin, s.ctid), 0)",
    }
)


def read_source_marks(session: SourceSession, group: SliceGroup, table: Table) -> dict[Slice, SourceMark]:
    """The marks of a table, of every slice of a group; inside `group_snapshot(session, group)`. The score table costs a join."""
    sql = source_sql(
        f"""\
SELECT c.customer, ({{time}} AT TIME ZONE 'UTC')::date AS day, count(*) AS found,
       sum({VERSION[table.name]})::text AS mark
FROM {SOURCE_OF[table.name]}
WHERE {BELONGS}
GROUP BY 1, 2""",
        session.postgres.relations,
        group,
    )
    found = {item: SourceMark() for item in group.slices}
    for row in session.rows(sql):
        found[Slice.of_row(row)] = SourceMark.of(row["found"], row["mark"])
    return found


def read_table_mark(session: SourceSession, kind: Kind) -> str:
    """A mark of everything in the tables of Postgres, of any customer and day, in the snapshot that is open.

    Equal: every mark in them is equal too. It reads the tables without joining them: 0.1 s a million rows.
    """
    marks = []
    for relation in relations_of(session.postgres.relations, kind):
        [row] = session.rows(
            f"SELECT count(*) AS found, coalesce(sum(hash_record_extended(ROW(t.xmin, t.ctid), 0)), 0)::text AS mark FROM {relation} AS t"
        )
        mark = SourceMark.of(row["found"], row["mark"])
        marks.append(f"{mark.rows}:{mark.mark}")
    return ",".join(marks)


def has_versions(session: SourceSession, kind: Kind) -> bool:
    """Whether the relations are tables, whose rows have versions; a view's and a foreign table's have none that could be marked."""
    relations = relations_of(session.postgres.relations, kind)
    found = session.rows(
        "SELECT count(*) AS tables FROM unnest(string_to_array($1, ',')) AS name "
        "JOIN pg_class AS c ON c.oid = to_regclass(name) WHERE c.relkind IN ('r', 'p', 'm')",
        (",".join(relations),),
    )
    return bool(found[0]["tables"] == len(relations))
