"""Finds the rows of appeals in ClickHouse: stages Postgres' appeals on every shard and matches them there with the live rows.

What lives here: the statements on Postgres and on one shard. What does not: the order of a purge (appeals/purge.py).

ClickHouse's tables don't show which rows belong to an appeal, so the ids come from Postgres. Each table is matched on its own, so scores
are found even when their scorecard is already gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from reindex_assets.clickhouse.keys import Key, keys_of
from reindex_assets.clickhouse.shards import ShardConnection, quoted
from reindex_assets.clickhouse.staging import StagingNames, identity_definitions
from reindex_assets.model import APPEAL_TYPES, Table, Tables
from reindex_assets.postgres.extract import stream_as
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.shard_sql import OF_CUSTOMERS, ON_DAYS, shard_scope
from reindex_assets.selection.source_sql import IS_APPEAL, SCORECARDS_AND_REVISIONS, in_days_of_any_kind, source_sql

#: The names of an appeal's `scorecard_type`.
TYPE_NAMES = dict(zip(APPEAL_TYPES, ("replica", "request", "resolve"), strict=True))

#: Customer, profile and scorecard id as text: they name a scorecard wherever its rows are.
Identity = tuple[object, ...]


def identity_of(key: Key, parent: Table) -> Identity:
    """The scorecard of a key of the parent's table."""
    return tuple(key[parent.key.index(name)] for name in parent.identity)


@dataclass(frozen=True)
class AppealCounts:
    """How many `appeals` have rows, and how many rows they have in the tables `scorecards` and `scores`."""

    appeals: int = 0
    scorecards: int = 0
    scores: int = 0

    def __add__(self, other: AppealCounts) -> AppealCounts:
        return AppealCounts(
            self.appeals + other.appeals, self.scorecards + other.scorecards, self.scores + other.scores
        )


@dataclass(frozen=True, kw_only=True)
class AppealPlace:
    """One sorting key, on one shard, at which an appeal has rows."""

    shard: int
    customer: str
    profile: str
    scorecard_id: str
    day: date
    template_type: int
    scorecard_type: int
    rows: AppealCounts


# --- Postgres


def read_appeals(session: SourceSession, group: SliceGroup) -> Iterator[pa.RecordBatch]:
    """Streams every appeal of the group's customers, of any day, in the schema of the staging table. Call it inside a snapshot."""
    sql = source_sql(
        f"""\
SELECT c.customer, c.profile, c.scorecard_id, c.scorecard_type, {in_days_of_any_kind(group)} AS is_asked
FROM {SCORECARDS_AND_REVISIONS}
WHERE {IS_APPEAL}""",
        session.postgres.relations,
        group,
    )
    # `is_asked`: its day in Postgres is one of the requested days.
    staged = pa.schema([*_identities(group.tables), ("scorecard_type", pa.uint8()), ("is_asked", pa.bool_())])
    yield from stream_as(staged, session, sql)


def still_appeals(session: SourceSession, group: SliceGroup, identities: Collection[Identity]) -> set[Identity]:
    """The given scorecards that are appeals in the open snapshot."""
    sql = source_sql(
        f"""\
SELECT c.customer, c.profile, c.scorecard_id::text AS scorecard_id
FROM {{scorecards}} AS c
WHERE {IS_APPEAL}
  AND c.scorecard_id = ANY (string_to_array($1, ',')::uuid[])""",
        session.postgres.relations,
        group,
    )
    ids = ",".join(sorted({str(identity[-1]) for identity in identities}))
    appeals = {tuple(row[name] for name in group.tables.parent.identity) for row in session.rows(sql, (ids,))}
    return appeals & set(identities)


def count_asked(batch: pa.RecordBatch) -> dict[tuple[str, int], int]:
    """How many appeals of a batch are of the requested days, by customer and type."""
    rows = pa.table(batch.filter(batch.column("is_asked")))
    counts = rows.group_by(["customer", "scorecard_type"]).aggregate([([], "count_all")])
    return {(row["customer"], row["scorecard_type"]): row["count_all"] for row in counts.to_pylist()}


# --- one shard


def create(shard: ShardConnection, names: StagingNames) -> None:
    """Creates the empty table of the appeals."""
    shard.command(
        f"CREATE TABLE {quoted(names.appeals)} "
        f"({identity_definitions(shard.tables)}, scorecard_type UInt8, is_asked Bool) "
        "ENGINE = MergeTree ORDER BY tuple()"
    )


def match(shard: ShardConnection, names: StagingNames, group: SliceGroup) -> None:
    """Creates a table of the places on one shard where the staged appeals have rows.

    A place counts if it is on one of the group's days, or if its appeal is of one of them in Postgres. `is_attempted` is true if its
    scorecard is in the table of identities, which means that a purge has tried to remove it.
    """
    key, identity = _key_and_identity(group.tables)
    live = "\n    UNION ALL\n".join(
        f"""\
    SELECT {key}, {int(table.is_parent)} AS is_scorecard
    FROM {table.clickhouse}
    WHERE {OF_CUSTOMERS}
      AND scorecard_id IN (SELECT scorecard_id FROM {quoted(names.appeals)})"""
        for table in group.tables
    )
    shard.command(
        f"""\
CREATE TABLE {quoted(names.appeal_places)} ENGINE = MergeTree ORDER BY tuple() AS
SELECT {key},
       any(appeal.scorecard_type) AS scorecard_type,
       countIf(is_scorecard = 1) AS scorecards,
       countIf(is_scorecard = 0) AS scores,
       ({identity}) IN (SELECT {identity} FROM {quoted(names.identities)}) AS is_attempted
FROM
(
{live}
) AS live
INNER JOIN {quoted(names.appeals)} AS appeal USING ({identity})
WHERE is_asked OR {ON_DAYS}
GROUP BY {key}""",
        shard_scope(group),
    )


def count_places(
    shard: ShardConnection, names: StagingNames, *, attempted_only: bool = False
) -> dict[tuple[str, int], AppealCounts]:
    """The appeals' rows on a shard, by customer and type."""
    rows = shard.rows(
        f"SELECT toString(customer) AS name, scorecard_type, uniqExact(profile, scorecard_id) AS appeals, "
        f"sum(scorecards) AS scorecards, sum(scores) AS scores FROM {quoted(names.appeal_places)} "
        f"WHERE is_attempted OR NOT {{attempted_only:Bool}} GROUP BY customer, scorecard_type",
        {"attempted_only": attempted_only},
    )
    return {
        (row["name"], row["scorecard_type"]): AppealCounts(row["appeals"], row["scorecards"], row["scores"])
        for row in rows
    }


def examples(
    shard: ShardConnection, names: StagingNames, limit: int, *, attempted_only: bool = False
) -> list[AppealPlace]:
    """The first places of a shard, by day and customer."""
    key, _ = _key_and_identity(shard.tables)
    rows = shard.rows(
        f"""\
SELECT {key}, scorecard_type, scorecards, scores
FROM {quoted(names.appeal_places)}
WHERE is_attempted OR NOT {{attempted_only:Bool}}
ORDER BY day, customer, profile, toString(scorecard_id)
LIMIT {{limit:UInt64}}""",
        {"attempted_only": attempted_only, "limit": limit},
    )
    return [
        AppealPlace(
            shard=shard.index,
            customer=str(row["customer"]),
            profile=str(row["profile"]),
            scorecard_id=str(row["scorecard_id"]),
            day=row["day"],
            template_type=row["template_type"],
            scorecard_type=row["scorecard_type"],
            rows=AppealCounts(1, row["scorecards"], row["scores"]),
        )
        for row in rows
    ]


def first_appeals(shard: ShardConnection, names: StagingNames, limit: int) -> pa.Table:
    """The identities of a shard's first appeals, by customer and the first `day` on which they have rows there; and that day."""
    _, identity = _key_and_identity(shard.tables)
    rows = shard.table(
        f"""\
SELECT {identity}, min(day) AS day
FROM {quoted(names.appeal_places)}
GROUP BY {identity}
ORDER BY day, customer, profile, toString(scorecard_id)
LIMIT {{limit:UInt64}}""",
        {"limit": limit},
    )
    first = pa.schema([*_identities(shard.tables), ("day", pa.date32())])
    return rows.cast(first) if rows.num_rows else first.empty_table()


def first_of_all(of_shards: list[pa.Table], limit: int, parent: Table) -> pa.RecordBatch:
    """The identities of the first `limit` appeals on all shards, as rows for the table of identities (clickhouse/staging.py).

    The first `limit` of each shard suffice: an appeal that is among the first of all is also among the first on the shard that has its
    first day.
    """
    days = pa.concat_tables(of_shards).group_by(list(parent.identity)).aggregate([("day", "min")])
    order = ["day_min", *parent.identity]
    first = days.sort_by([(name, "ascending") for name in order]).slice(0, limit).select(list(parent.identity))
    return first.combine_chunks().to_batches()[0]


def places_of_attempted(shard: ShardConnection, names: StagingNames) -> list[Key]:
    """The places on one shard, in both tables, of the scorecards in the table of identities: keys of the scorecard table."""
    key, identity = _key_and_identity(shard.tables)
    rows = shard.table(
        f"""\
SELECT {key}
FROM {quoted(names.appeal_places)}
WHERE ({identity}) IN (SELECT {identity} FROM {quoted(names.identities)})"""
    )
    return keys_of(rows, shard.tables.parent) if rows.num_rows else []


def _key_and_identity(tables: Tables) -> tuple[str, str]:
    """The columns that say where a scorecard's row stands, and those that name it wherever it stands."""
    return ", ".join(tables.parent.key), ", ".join(tables.parent.identity)


def _identities(tables: Tables) -> list[tuple[str, pa.DataType]]:
    return [(column.name, column.type.arrow) for column in tables.parent.identity_columns]
