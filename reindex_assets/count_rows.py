"""Asking both engines how many rows they have: by one grouped statement a table and engine for a whole look-back.

What lives here: the statements. What does not: what is made of the numbers (counts.py).

Rows of ClickHouse are counted as they stand, without FINAL: what dashboards count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from reindex_assets.clickhouse import ShardConnection, ShardSet
from reindex_assets.comparison import Comparison
from reindex_assets.counts import PLURALS, Counts, TableCounts, TemplateCounts
from reindex_assets.errors import ReindexError, SourceUnreachableError
from reindex_assets.extract import SOURCE_OF, QuarantinedRow, read_quarantined
from reindex_assets.fleet import Fleet
from reindex_assets.model import PROCESS, TABLES, Kind, Slice, Table
from reindex_assets.placement import shard_expression, source_shard_expression
from reindex_assets.selection import (
    BELONGS,
    IN_SLICES,
    SliceGroup,
    group_slices,
    shard_scope,
    source_sql,
)
from reindex_assets.source import SourceSession
from reindex_assets.source_plan import group_snapshot

#: Slices in one statement: an answer of some hundred thousand numbers.
_MAX_SLICES = 50_000


def count_both_sides(comparison: Comparison, slices: Iterable[Slice]) -> Counts:
    """Counts slices by template and shard on both engines, by one statement a table and engine for each rectangle of slices.

    Raises:
        SourceUnreachableError, ShardUnreachableError: an engine could not be asked; nothing is known then.
        LaggingReplicaError: Postgres is a standby that is too far behind to tell.
    """
    session, shards = comparison.session, comparison.shards
    wanted = tuple(sorted(set(slices)))
    tallies: dict[tuple[Slice, str], _Tally] = defaultdict(lambda: _Tally(len(shards)))
    snapshots: list[int] = []
    quarantined: list[QuarantinedRow] = []
    titles: dict[tuple[str, str], str] = {}
    titles_error: str | None = None
    for group in comparison.groups(wanted, {}, 1, _MAX_SLICES):
        snapshot, rows = _count_group(session, shards, group, tallies)
        snapshots.append(snapshot)
        quarantined += rows
        try:
            titles |= _read_titles(session, group)
        except SourceUnreachableError:
            raise
        except ReindexError as error:
            titles_error = str(error)
    templates = tuple(
        TemplateCounts(item, template_id, tally.counts()) for (item, template_id), tally in sorted(tallies.items())
    )
    return Counts(
        wanted, templates, len(shards), tuple(snapshots), tuple(quarantined), titles, titles_error if wanted else None
    )


def count_clickhouse(fleet: Fleet, cluster_name: str, slices: Iterable[Slice], kind: Kind = PROCESS) -> dict[str, int]:
    """Rows of some slices on all shards, by table name; Postgres is not asked.

    Raises:
        ShardUnreachableError: a shard could not be asked.
    """
    cluster = fleet.clusters[cluster_name]
    found = dict.fromkeys(PLURALS, 0)
    with ShardSet(cluster.clickhouse, "reindex_assets count") as shards:
        for group in group_slices(slices, cluster, fleet.first_day, {}, 1, kind, _MAX_SLICES):
            for table in TABLES:
                sql = f"SELECT count() AS found FROM {table.name}\nWHERE {IN_SLICES}"
                found[table.name] += sum(shards.map(_ask_number(sql, group)))
    return found


class _Tally:
    """The counts of one template in one slice while the answers come in, by table name."""

    def __init__(self, shard_count: int) -> None:
        self.postgres = {table.name: [0] * shard_count for table in TABLES}
        self.clickhouse = {table.name: [0] * shard_count for table in TABLES}
        self.misplaced = {table.name: [0] * shard_count for table in TABLES}

    def counts(self) -> dict[str, TableCounts]:
        return {
            name: TableCounts(tuple(self.postgres[name]), tuple(self.clickhouse[name]), tuple(self.misplaced[name]))
            for name in self.postgres
        }


def _count_group(
    session: SourceSession, shards: ShardSet, group: SliceGroup, tallies: dict[tuple[Slice, str], _Tally]
) -> tuple[int, list[QuarantinedRow]]:
    questions = {table.name: _ask_counts(table, group, len(shards)) for table in TABLES}
    # ClickHouse works while Postgres does.
    with shards.asked(questions) as answers, group_snapshot(session, group) as snapshot:
        session.assert_not_lagging(snapshot)
        for table in TABLES:
            for row in session.rows(_source_counts(table, group.kind, session, len(shards))):
                tally = tallies[Slice(row["customer"], row["day"]), row["template_id"]]
                tally.postgres[table.name][row["shard"]] = row["found"]
        quarantined = read_quarantined(session, group)
    for (name, shard), answer in answers().items():
        for row in answer:
            tally = tallies[Slice(row["customer"], row["day"]), row["template_id"]]
            tally.clickhouse[name][shard] = row["found"]
            tally.misplaced[name][shard] = row["misplaced"]
    return snapshot.microseconds, quarantined


def _source_counts(table: Table, kind: Kind, session: SourceSession, shard_count: int) -> str:
    return source_sql(
        f"""\
SELECT c.customer, ({{time}} AT TIME ZONE 'UTC')::date AS day, c.template_id::text AS template_id,
       {source_shard_expression(shard_count)} AS shard, count(*) AS found
FROM {SOURCE_OF[table.name]}
WHERE {BELONGS}
GROUP BY 1, 2, c.template_id, 4""",
        session.postgres.relations,
        kind,
    )


def _ask_counts(table: Table, group: SliceGroup, shard_count: int) -> Callable[[ShardConnection], list[dict[str, Any]]]:
    sql = f"""\
SELECT customer, day, toString(template_id) AS template_id,
       count() AS found,
       countIf({shard_expression(shard_count)} != {{shard:UInt16}}) AS misplaced
FROM {table.name}
WHERE {IN_SLICES}
GROUP BY customer, day, {table.name}.template_id"""

    def ask(shard: ShardConnection) -> list[dict[str, Any]]:
        return shard.rows(sql, {**shard_scope(group), "shard": shard.index})

    return ask


def _ask_number(sql: str, group: SliceGroup) -> Callable[[ShardConnection], int]:
    return lambda shard: int(str(shard.rows(sql, shard_scope(group))[0]["found"]))


def _read_titles(session: SourceSession, group: SliceGroup) -> dict[tuple[str, str], str]:
    """The titles of the customers' templates. A transaction of its own: the relation may be absent, which ends the transaction."""
    sql = f"""\
SELECT t.customer, t.template_id::text AS template_id, string_agg(DISTINCT t.title, ' / ' ORDER BY t.title) AS title
FROM {session.postgres.relations.templates} AS t
WHERE t.customer = ANY (string_to_array(current_setting('reindex.customers'), E'\\x1f'))
GROUP BY t.customer, t.template_id"""
    with group_snapshot(session, group):
        return {(row["customer"], row["template_id"]): row["title"] for row in session.rows(sql)}
