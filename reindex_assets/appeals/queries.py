"""Where appeals stand in ClickHouse: those that Postgres knows, staged on every shard and matched there with the live rows.

What lives here: the statements on Postgres and on one shard. What does not: the order in which a purge goes (appeals/purge.py).

ClickHouse's tables don't say that a row is of an appeal, so the ids come from Postgres. Both tables are matched by themselves: of an appeal
whose scorecard is gone already, the scores are found all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from reindex_assets.clickhouse.insert_block import InsertBlock
from reindex_assets.clickhouse.shards import ShardConnection, quoted
from reindex_assets.clickhouse.staging import Key, StagingNames, keys_of
from reindex_assets.model import APPEAL_TYPES, SCORECARD, TABLES, UUID
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.shard_sql import OF_CUSTOMERS, ON_DAYS, shard_scope
from reindex_assets.selection.source_sql import IS_APPEAL, SCORECARDS_AND_REVISIONS, in_days_of_either_kind, source_sql

#: What an appeal's `scorecard_type` means.
TYPE_NAMES = dict(zip(APPEAL_TYPES, ("replica", "request", "resolve"), strict=True))

#: `is_asked`: in Postgres it is of one of the days that are asked for.
_STAGED = pa.schema(
    [
        ("customer", pa.string()),
        ("profile", pa.string()),
        ("scorecard_id", UUID),
        ("scorecard_type", pa.uint8()),
        ("is_asked", pa.bool_()),
    ]
)
_IDENTITY = ", ".join(SCORECARD.identity)
_KEY = ", ".join(SCORECARD.key)

#: Customer, profile and scorecard id as text: what names a scorecard wherever it stands.
Identity = tuple[object, ...]


def identity_of(key: Key) -> Identity:
    """The scorecard that stands at a key."""
    return tuple(key[SCORECARD.key.index(name)] for name in SCORECARD.identity)


@dataclass(frozen=True)
class FoundRows:
    """Rows of appeals: `appeals` have some, `scorecards` and `scores` are the rows of the two tables."""

    appeals: int = 0
    scorecards: int = 0
    scores: int = 0

    def __add__(self, other: FoundRows) -> FoundRows:
        return FoundRows(self.appeals + other.appeals, self.scorecards + other.scorecards, self.scores + other.scores)


@dataclass(frozen=True)
class AppealPlace:
    """One place where rows of an appeal stand."""

    shard: int
    customer: str
    profile: str
    scorecard_id: str
    day: date
    template_type: int
    scorecard_type: int
    rows: FoundRows
    newest_version: int


# --- Postgres


def read_appeals(session: SourceSession, group: SliceGroup) -> Iterator[pa.RecordBatch]:
    """Streams every appeal of the group's customers, of whatever day, in the schema of the staging table; inside a snapshot."""
    sql = source_sql(
        f"""\
SELECT c.customer, c.profile, c.scorecard_id, c.scorecard_type, {in_days_of_either_kind(group)} AS is_asked
FROM {SCORECARDS_AND_REVISIONS}
WHERE {IS_APPEAL}""",
        session.postgres.relations,
        group,
    )
    for batch in session.stream(sql):
        if batch.num_rows:
            columns = [column.cast(field.type) for column, field in zip(batch.columns, _STAGED, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=_STAGED)


def still_appeals(session: SourceSession, group: SliceGroup, identities: Collection[Identity]) -> set[Identity]:
    """Those of some scorecards that are appeals in the open snapshot."""
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
    found = {tuple(row[name] for name in SCORECARD.identity) for row in session.rows(sql, (ids,))}
    return found & set(identities)


def count_asked(batch: pa.RecordBatch) -> dict[tuple[str, int], int]:
    """How many appeals of a batch are of the days that are asked for, by customer and type."""
    rows = pa.table(batch.filter(batch.column("is_asked")))
    counted = rows.group_by(["customer", "scorecard_type"]).aggregate([([], "count_all")])
    return {(row["customer"], row["scorecard_type"]): row["count_all"] for row in counted.to_pylist()}


# --- one shard


def create(shard: ShardConnection, names: StagingNames) -> None:
    """An empty table for the appeals."""
    shard.command(
        f"CREATE TABLE {quoted(names.appeals)} "
        "(customer LowCardinality(String), profile LowCardinality(String), scorecard_id UUID, scorecard_type UInt8, is_asked Bool) "
        "ENGINE = MergeTree ORDER BY tuple()"
    )


def block_of(batch: pa.RecordBatch) -> InsertBlock:
    """A block of one batch."""
    block = InsertBlock()
    block.add(batch)
    return block


def match(shard: ShardConnection, names: StagingNames, group: SliceGroup) -> None:
    """Fills a table with the places of one shard where rows of the staged appeals stand.

    A place counts when it is on one of the group's days, or its appeal is of one of them in Postgres. `is_attempted` says whether
    its scorecard stands in the table of identities: a purge has tried to remove it.
    """
    live = "\n    UNION ALL\n".join(
        f"""\
    SELECT {_KEY}, version, {int(table is SCORECARD)} AS is_scorecard
    FROM {table.name}
    WHERE {OF_CUSTOMERS}
      AND scorecard_id IN (SELECT scorecard_id FROM {quoted(names.appeals)})"""
        for table in TABLES
    )
    shard.command(
        f"""\
CREATE TABLE {quoted(names.appeal_places)} ENGINE = MergeTree ORDER BY tuple() AS
SELECT {_KEY},
       any(appeal.scorecard_type) AS scorecard_type,
       countIf(is_scorecard = 1) AS scorecards,
       countIf(is_scorecard = 0) AS scores,
       max(version) AS newest,
       ({_IDENTITY}) IN (SELECT {_IDENTITY} FROM {quoted(names.identities)}) AS is_attempted
FROM
(
{live}
) AS live
INNER JOIN {quoted(names.appeals)} AS appeal USING ({_IDENTITY})
WHERE is_asked OR {ON_DAYS}
GROUP BY {_KEY}""",
        shard_scope(group),
    )


def count_places(
    shard: ShardConnection, names: StagingNames, attempted_only: bool = False
) -> dict[tuple[str, int], FoundRows]:
    """What stands on a shard, by customer and type."""
    found = shard.rows(
        f"SELECT toString(customer) AS name, scorecard_type, uniqExact(profile, scorecard_id) AS appeals, "
        f"sum(scorecards) AS scorecards, sum(scores) AS scores FROM {quoted(names.appeal_places)} "
        f"WHERE is_attempted OR NOT {{attempted_only:Bool}} GROUP BY customer, scorecard_type",
        {"attempted_only": attempted_only},
    )
    return {
        (str(row["name"]), _number(row["scorecard_type"])): FoundRows(
            _number(row["appeals"]), _number(row["scorecards"]), _number(row["scores"])
        )
        for row in found
    }


def examples(
    shard: ShardConnection, names: StagingNames, limit: int, attempted_only: bool = False
) -> list[AppealPlace]:
    """The first places of a shard, by day and customer."""
    found = shard.rows(
        f"""\
SELECT {_KEY}, scorecard_type, scorecards, scores, newest
FROM {quoted(names.appeal_places)}
WHERE is_attempted OR NOT {{attempted_only:Bool}}
ORDER BY day, customer, profile, toString(scorecard_id)
LIMIT {{limit:UInt64}}""",
        {"attempted_only": attempted_only, "limit": limit},
    )
    return [
        AppealPlace(
            shard.index,
            str(row["customer"]),
            str(row["profile"]),
            str(row["scorecard_id"]),
            _day(row["day"]),
            _number(row["template_type"]),
            _number(row["scorecard_type"]),
            FoundRows(1, _number(row["scorecards"]), _number(row["scores"])),
            _number(row["newest"]),
        )
        for row in found
    ]


def first_appeals(shard: ShardConnection, names: StagingNames, limit: int) -> pa.Table:
    """The first appeals of a shard, by the first day on which they stand there, and by customer: their identities and that `day`."""
    found = shard.table(
        f"""\
SELECT {_IDENTITY}, min(day) AS day
FROM {quoted(names.appeal_places)}
GROUP BY {_IDENTITY}
ORDER BY day, customer, profile, toString(scorecard_id)
LIMIT {{limit:UInt64}}""",
        {"limit": limit},
    )
    if not found.num_rows:
        return _FIRST.empty_table()
    return found.cast(_FIRST)


_FIRST = pa.schema([("customer", pa.string()), ("profile", pa.string()), ("scorecard_id", UUID), ("day", pa.date32())])


def first_of_all(of_shards: list[pa.Table], limit: int) -> pa.RecordBatch:
    """The identities of the first appeals of all shards, out of the first ones of each: rows for the table of identities
    (clickhouse/staging.py).

    What is among the first of all is among the first of the shard where its first day is; so `limit` of each are enough.
    """
    days = pa.concat_tables(of_shards).group_by(list(SCORECARD.identity)).aggregate([("day", "min")])
    order = ["day_min", *SCORECARD.identity]
    first = days.sort_by([(name, "ascending") for name in order]).slice(0, limit).select(list(SCORECARD.identity))
    return first.combine_chunks().to_batches()[0]


def places_of_attempted(shard: ShardConnection, names: StagingNames) -> list[Key]:
    """The places of one shard at which the scorecards of the table of identities stand: keys of scorecards, of both tables."""
    found = shard.table(
        f"""\
SELECT {_KEY}
FROM {quoted(names.appeal_places)}
WHERE ({_IDENTITY}) IN (SELECT {_IDENTITY} FROM {quoted(names.identities)})"""
    )
    return keys_of(found, SCORECARD) if found.num_rows else []


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def _day(value: object) -> date:
    assert isinstance(value, date)
    return value
