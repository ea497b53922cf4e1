"""Do both engines hold the same? Counts, places and an exact digest of every slice, read from the real tables of both.

What lives here: the comparison that the asset checks, the command line and the reports share, and its explanation in words.
What does not: any bookkeeping of a run (a comparison never trusts it), and any repair.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from reindex_assets.clickhouse import ShardConnection, ShardSet
from reindex_assets.extract import SOURCE_OF, QuarantinedRow, read_quarantined
from reindex_assets.fleet import Fleet
from reindex_assets.model import PROCESS, SCORE, SCORECARD, TABLES, Column, Kind, Slice, Table
from reindex_assets.selection import (
    BELONGS,
    IN_SLICES,
    SliceGroup,
    group_slices,
    shard_scope,
    source_scope,
    source_sql,
)
from reindex_assets.shards import shard_expression
from reindex_assets.source import SourceSession

T = TypeVar("T")

_DIGEST_BITS = 64


@dataclass(frozen=True)
class TableParity:
    """One table of one slice on both engines.

    Attributes:
        clickhouse_rows: physical rows on all shards, those that a merge would fold together included.
        by_shard: the same, a number for each shard.
        distinct_rows: different keys, summed over the shards.
        misplaced_rows: rows that stand on another shard than their time says.
        digests_agree: the sums of the 64-bit row digests over every column are equal, and the counts too.
    """

    postgres_rows: int = 0
    clickhouse_rows: int = 0
    by_shard: tuple[int, ...] = ()
    distinct_rows: int = 0
    misplaced_rows: int = 0
    digests_agree: bool = True

    @property
    def counts_agree(self) -> bool:
        return self.postgres_rows == self.clickhouse_rows

    @property
    def repeated_rows(self) -> int:
        """Rows that stand again on their shard under the same key: duplicates, and versions that nothing has merged yet."""
        return self.clickhouse_rows - self.distinct_rows


@dataclass(frozen=True)
class SliceParity:
    """One slice on both engines."""

    slice: Slice
    tables: Mapping[str, TableParity]
    quarantined: tuple[QuarantinedRow, ...] = ()

    @property
    def scorecards(self) -> TableParity:
        return self.tables[SCORECARD.name]

    @property
    def scores(self) -> TableParity:
        return self.tables[SCORE.name]

    @property
    def is_equal(self) -> bool:
        return explain(self) is None


@dataclass
class _Sums:
    """What is known of one table of one slice while the answers of the engines come in."""

    postgres_rows: int = 0
    postgres_digest: int = 0
    by_shard: dict[int, int] = field(default_factory=dict)
    distinct_rows: int = 0
    misplaced_rows: int = 0
    clickhouse_digest: int = 0


def compare(
    fleet: Fleet, cluster_name: str, slices: Iterable[Slice], kind: Kind = PROCESS, max_slices: int = 2_000
) -> list[SliceParity]:
    """Compares slices of one cluster, in the order of customer and day.

    Each engine digests its own rows; nothing but sums travels. A row that changes in Postgres between the two reads, or is on
    its way to ClickHouse, shows as a difference: look again before you call it drift.

    Raises:
        SourceUnreachableError, ShardUnreachableError: an engine could not be asked; nothing is known then.
    """
    wanted = sorted(set(slices))
    cluster = fleet.clusters[cluster_name]
    found: dict[Slice, SliceParity] = {}
    with (
        SourceSession(cluster.postgres) as session,
        ShardSet(cluster.clickhouse, "reindex_assets compare") as shards,
    ):
        for group in group_slices(wanted, cluster, fleet.first_day, {}, 1, kind, max_slices):
            found |= {item.slice: item for item in _compare_group(session, shards, group)}
    return [found[item] for item in wanted]


def compare_settled(
    fleet: Fleet, cluster_name: str, slices: Iterable[Slice], kind: Kind = PROCESS, settle_seconds: float = 3.0
) -> list[SliceParity]:
    """`compare`, and a second look at what differs after `settle_seconds`: a row may have been on its way to ClickHouse."""
    found = {parity.slice: parity for parity in compare(fleet, cluster_name, slices, kind)}
    different = [item for item, parity in found.items() if not parity.is_equal]
    if different and settle_seconds:
        time.sleep(settle_seconds)
        found |= {parity.slice: parity for parity in compare(fleet, cluster_name, different, kind)}
    return list(found.values())


def explain(parity: SliceParity) -> str | None:
    """What differs in a slice, in a few words (the numbers of both sides stand beside it); None when nothing does."""
    parts = []
    for name, plural in ((SCORECARD.name, "scorecards"), (SCORE.name, "scores")):
        table = parity.tables[name]
        if not table.counts_agree:
            parts.append(f"{table.clickhouse_rows - table.postgres_rows:+,} {plural}")
        if table.misplaced_rows:
            parts.append(f"{table.misplaced_rows:,} {plural} on a wrong shard")
        if table.repeated_rows:
            parts.append(f"{table.repeated_rows:,} {plural} stand more than once")
        if table.counts_agree and not table.digests_agree:
            parts.append(f"as many {plural}, but not the same values")
    return "; ".join(parts) or None


def _compare_group(session: SourceSession, shards: ShardSet, group: SliceGroup) -> list[SliceParity]:
    sums = {(item, table.name): _Sums() for item in group.slices for table in TABLES}
    # ClickHouse works while Postgres does: one thread a shard.
    asked = {
        (table.name, connection.index): shards.submit(connection.index, _ask_shard(table, group, len(shards)))
        for table in TABLES
        for connection in shards.connections
    }
    try:
        with session.snapshot(source_scope(group)):
            for table in TABLES:
                for row in session.rows(_source_digests(table, group.kind, session)):
                    of_slice = sums[Slice(row["customer"], row["day"]), table.name]
                    of_slice.postgres_rows = row["found"]
                    of_slice.postgres_digest = int(row["digest"])
            quarantined = read_quarantined(session, group)
    finally:
        # The shards' answers are waited for in any case: their connections close with the caller.
        answers = {place: future.exception() or future.result() for place, future in asked.items()}
    for (name, shard), answer in answers.items():
        if isinstance(answer, BaseException):
            raise answer
        for row in answer:
            of_slice = sums[Slice(row["customer"], row["day"]), name]
            of_slice.by_shard[shard] = row["found"]
            of_slice.distinct_rows += row["keys"]
            of_slice.misplaced_rows += row["misplaced"]
            of_slice.clickhouse_digest += row["digest"]
    return [
        SliceParity(
            item,
            {table.name: _table_parity(sums[item, table.name], len(shards)) for table in TABLES},
            tuple(row for row in quarantined if row.slice == item),
        )
        for item in group.slices
    ]


def _table_parity(sums: _Sums, shard_count: int) -> TableParity:
    rows = sum(sums.by_shard.values())
    return TableParity(
        postgres_rows=sums.postgres_rows,
        clickhouse_rows=rows,
        by_shard=tuple(sums.by_shard.get(shard, 0) for shard in range(shard_count)),
        distinct_rows=sums.distinct_rows,
        misplaced_rows=sums.misplaced_rows,
        # Postgres sums without end, ClickHouse modulo 2^64.
        digests_agree=rows == sums.postgres_rows
        and (sums.postgres_digest - sums.clickhouse_digest) % 2**_DIGEST_BITS == 0,
    )


def _ask_shard(table: Table, group: SliceGroup, shard_count: int) -> Callable[[ShardConnection], list[dict[str, Any]]]:
    sql = f"""\
SELECT customer, day,
       count() AS found,
       uniqExact({", ".join(table.key)}) AS keys,
       countIf({shard_expression(shard_count)} != {{shard:UInt16}}) AS misplaced,
       sum({_shard_digest(table)}) AS digest
FROM {table.name}
WHERE {IN_SLICES}
GROUP BY customer, day"""

    def ask(shard: ShardConnection) -> list[dict[str, Any]]:
        return shard.rows(sql, {**shard_scope(group), "shard": shard.index})

    return ask


# --- the digest: 64 bits of the MD5 of a text that both engines write alike -------------------------------------------
#
# A value's text is unambiguous whatever is in it: a text is preceded by its length in bytes, a float is its bits, a time its
# microseconds, NULL is apart from every value. The sum over rows sees duplicates, which XOR would hide.


def _source_digests(table: Table, kind: Kind, session: SourceSession) -> str:
    text = " || ',' || ".join(_source_text(column) for column in table.columns)
    return source_sql(
        f"""\
SELECT c.customer, ({{time}} AT TIME ZONE 'UTC')::date AS day, count(*) AS found,
       sum(('x' || substr(md5({text}), 1, 16))::bit(64)::int8)::text AS digest
FROM {SOURCE_OF[table.name]}
WHERE {BELONGS}
GROUP BY 1, 2""",
        session.postgres.relations,
        kind,
    )


def _shard_digest(table: Table) -> str:
    text = ", ',', ".join(_shard_text(column) for column in table.columns)
    return f"reinterpretAsInt64(reinterpretAsUInt64(reverse(substring(MD5(concat({text})), 1, 8))))"


def _source_text(column: Column) -> str:
    value = column.source
    if "DateTime64" in column.clickhouse:
        text = f"floor(extract(epoch FROM {value}) * 1000000)::bigint::text"
    elif "Float64" in column.clickhouse:
        text = f"encode(float8send({value}), 'hex')"
    elif "String" in column.clickhouse:
        text = f"octet_length({value}) || ':' || {value}"
    elif column.clickhouse == "Bool":
        text = f"({value})::int::text"
    else:
        text = f"({value})::text"
    return f"coalesce({text}, '~')" if column.nullable else f"({text})"


def _shard_text(column: Column) -> str:
    value = column.name
    if "DateTime64" in column.clickhouse:
        text = f"toString(toUnixTimestamp64Micro({value}))"
    elif "Float64" in column.clickhouse:
        text = f"leftPad(lower(hex(reinterpretAsUInt64({value}))), 16, '0')"
    elif "String" in column.clickhouse:
        text = f"concat(toString(length({value})), ':', {value})"
    elif column.clickhouse == "Bool":
        text = f"toString(toUInt8({value}))"
    else:
        text = f"toString({value})"
    return f"ifNull({text}, '~')" if column.nullable else text
