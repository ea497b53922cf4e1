"""Counts the rows of both engines, with one grouped query per table and engine for many slices.

What lives here: the queries. What does not: what the numbers mean (comparison/counts.py).

Counts ClickHouse's rows without FINAL, as dashboards do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from reindex_assets.clickhouse.shards import ShardConnection, ShardSet
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.counts import PLURALS, Counts, TableTally, TemplateCounts
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.dataset import Dataset
from reindex_assets.errors import ReindexError, SourceUnreachableError
from reindex_assets.model import TABLE_NAMES, Slice, Table
from reindex_assets.placement.resolver import GroupPlacement
from reindex_assets.postgres.extract import SOURCE_OF, QuarantinedRow, read_quarantined
from reindex_assets.postgres.join_plan import group_snapshot
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup, group_slices
from reindex_assets.selection.shard_sql import IN_SLICES, shard_scope
from reindex_assets.selection.source_sql import BELONGS, source_scope, source_sql

#: By slice and template id, then by table name.
_Tallies = defaultdict[tuple[Slice, str], dict[str, TableTally]]

#: Slices per query: the answer has some hundred thousand numbers.
_MAX_SLICES = 50_000


def count_both_sides(comparison: Comparison, slices: Iterable[Slice]) -> Counts:
    """Counts slices by template and shard on both engines.

    Raises:
        SourceUnreachableError, ShardUnreachableError: an engine could not be asked; there is no result.
        LaggingReplicaError: Postgres is a standby that is too far behind.
    """
    session, shards = comparison.session, comparison.shards
    wanted = tuple(sorted(set(slices)))
    tallies: _Tallies = defaultdict(lambda: {name: TableTally(len(shards)) for name in TABLE_NAMES})
    snapshots: list[int] = []
    quarantined: list[QuarantinedRow] = []
    for group in comparison.groups(wanted, {}, 1, _MAX_SLICES):
        snapshot, rows = _count_group(session, shards, group, tallies)
        snapshots.append(snapshot)
        quarantined += rows
    templates = tuple(
        TemplateCounts(item, template_id, {name: tally.counts() for name, tally in tables.items()})
        for (item, template_id), tables in sorted(tallies.items(), key=lambda place: place[0])
    )
    return _counts(comparison, wanted, templates, snapshots, quarantined)


def counts_of(comparison: Comparison, parities: Iterable[SliceParity]) -> Counts:
    """The same counts, taken from a finished comparison."""
    ordered = sorted(parities, key=lambda parity: parity.slice)
    nothing = TableTally(len(comparison.shards)).counts()
    templates = tuple(
        TemplateCounts(
            parity.slice,
            template_id,
            {name: table.by_template.get(template_id, nothing) for name, table in parity.tables.items()},
        )
        for parity in ordered
        for template_id in sorted({template for table in parity.tables.values() for template in table.by_template})
    )
    slices = tuple(parity.slice for parity in ordered)
    snapshots = sorted({parity.snapshot for parity in ordered})
    return _counts(comparison, slices, templates, snapshots, [row for parity in ordered for row in parity.quarantined])


def _counts(
    comparison: Comparison,
    slices: tuple[Slice, ...],
    templates: tuple[TemplateCounts, ...],
    snapshots: Iterable[int],
    quarantined: Iterable[QuarantinedRow],
) -> Counts:
    """The counts, with the titles of the templates, or with the reason why those could not be read: nothing depends on them."""
    titles: dict[tuple[str, str], str] = {}
    titles_error = None
    try:
        for group in comparison.groups(slices, {}, 1, _MAX_SLICES):
            titles |= _read_titles(comparison.session, group)
    except SourceUnreachableError:
        raise
    except ReindexError as error:
        titles, titles_error = {}, str(error)
    return Counts(
        slices=slices,
        templates=templates,
        shard_count=len(comparison.shards),
        snapshots=tuple(snapshots),
        quarantined=tuple(quarantined),
        titles=titles,
        titles_error=titles_error,
    )


def count_clickhouse(dataset: Dataset, slices: Iterable[Slice]) -> dict[str, int]:
    """Rows of some slices on all shards, by table name; doesn't query Postgres.

    Raises:
        ShardUnreachableError: a shard could not be asked.
    """
    rows = dict.fromkeys(PLURALS, 0)
    with ShardSet(dataset.cluster, "reindex_assets count") as shards:
        for group in group_slices(slices, dataset, {}, 1, _MAX_SLICES):
            for table in dataset.tables:
                sql = f"SELECT count() AS found FROM {table.clickhouse}\nWHERE {IN_SLICES}"
                counted = shards.map(partial(ShardConnection.rows, sql=sql, parameters=shard_scope(group)))
                rows[table.name] += sum(row["found"] for [row] in counted)
    return rows


def _count_group(
    session: SourceSession, shards: ShardSet, group: SliceGroup, tallies: _Tallies
) -> tuple[int, list[QuarantinedRow]]:
    placement = GroupPlacement(shards, group)
    questions: dict[str, Callable[[ShardConnection], Any]] = {}
    for table in group.tables:
        questions |= {table.name: _ask_counts(table, group, placement), **placement.ask_misplaced(table)}
    # ClickHouse works while Postgres does.
    with shards.asked(questions) as answers, group_snapshot(session, group) as snapshot:
        session.assert_not_lagging(snapshot)
        for table in group.tables:
            rows = session.table(_source_counts(table, group, session, placement))
            for row in placement.by_shard(rows, ("found",)):
                tally = tallies[Slice.of_row(row), row["template_id"]][table.name]
                tally.postgres[row["shard"]] = int(row["found"])
        quarantined = read_quarantined(session, group)
    answered = answers()
    for table in group.tables:
        for shard in range(len(shards)):
            for row in answered[table.name, shard]:
                tally = tallies[Slice.of_row(row), row["template_id"]][table.name]
                tally.clickhouse[shard], tally.misplaced[shard] = row["found"], row["misplaced"]
    for (item, template), name, shard, number in placement.misplaced_in(answered):
        tallies[item, template][name].misplaced[shard] += number
    return snapshot.microseconds, quarantined


def _source_counts(table: Table, group: SliceGroup, session: SourceSession, placement: GroupPlacement) -> str:
    by = [column.partition(" AS ")[0] for column in placement.source_columns]
    return source_sql(
        f"""\
SELECT c.customer, ({{time}} AT TIME ZONE 'UTC')::date AS day, c.template_id::text AS template_id,
       {", ".join(placement.source_columns)}, count(*) AS found
FROM {SOURCE_OF[table.name]}
WHERE {BELONGS}
GROUP BY 1, 2, c.template_id, {", ".join(by)}""",
        session.postgres.relations,
        group,
    )


def _ask_counts(
    table: Table, group: SliceGroup, placement: GroupPlacement
) -> Callable[[ShardConnection], list[dict[str, Any]]]:
    sql = f"""\
SELECT customer, day, toString(template_id) AS template_id,
       count() AS found,
       {placement.misplaced} AS misplaced
FROM {table.clickhouse}
WHERE {IN_SLICES}
GROUP BY customer, day, {table.clickhouse}.template_id"""
    return lambda shard: shard.rows(sql, {**shard_scope(group), "shard": shard.index})


def _read_titles(session: SourceSession, group: SliceGroup) -> dict[tuple[str, str], str]:
    """The titles of the customers' templates. Has its own transaction, as an absent relation aborts it."""
    sql = f"""\
SELECT t.customer, t.template_id::text AS template_id, string_agg(DISTINCT t.title, ' / ' ORDER BY t.title) AS title
FROM {session.postgres.relations.templates} AS t
WHERE t.customer = ANY (string_to_array(current_setting('reindex.customers'), E'\\x1f'))
GROUP BY t.customer, t.template_id"""
    with session.snapshot(source_scope(group)):
        return {(row["customer"], row["template_id"]): row["title"] for row in session.rows(sql)}
