"""Asking both engines how many rows they have: by one grouped statement a table and engine for a whole look-back.

What lives here: the statements. What does not: what is made of the numbers (comparison/counts.py).

Rows of ClickHouse are counted as they stand, without FINAL: what dashboards count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from reindex_assets.clickhouse.shards import ShardConnection, ShardSet
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.counts import PLURALS, Counts, TableTally, TemplateCounts
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.dataset import Dataset
from reindex_assets.errors import ReindexError, SourceUnreachableError
from reindex_assets.model import TABLES, Slice, Table
from reindex_assets.placement.resolver import GroupPlacement
from reindex_assets.postgres.extract import SOURCE_OF, QuarantinedRow, read_quarantined
from reindex_assets.postgres.join_plan import group_snapshot
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup, group_slices
from reindex_assets.selection.shard_sql import IN_SLICES, shard_scope
from reindex_assets.selection.source_sql import BELONGS, source_scope, source_sql

#: By slice and template id, then by table name.
_Tallies = defaultdict[tuple[Slice, str], dict[str, TableTally]]

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
    tallies: _Tallies = defaultdict(lambda: {table.name: TableTally(len(shards)) for table in TABLES})
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
    titles, titles_error = _titles(comparison, wanted)
    return Counts(
        slices=wanted,
        templates=templates,
        shard_count=len(shards),
        snapshots=tuple(snapshots),
        quarantined=tuple(quarantined),
        titles=titles,
        titles_error=titles_error,
    )


def counts_of(comparison: Comparison, parities: Iterable[SliceParity]) -> Counts:
    """The same counts out of a comparison that has been made already."""
    found = sorted(parities, key=lambda parity: parity.slice)
    nothing = TableTally(len(comparison.shards)).counts()
    templates = tuple(
        TemplateCounts(
            parity.slice,
            template_id,
            {name: table.by_template.get(template_id, nothing) for name, table in parity.tables.items()},
        )
        for parity in found
        for template_id in sorted({template for table in parity.tables.values() for template in table.by_template})
    )
    wanted = tuple(parity.slice for parity in found)
    snapshots = tuple(sorted({parity.snapshot for parity in found}))
    quarantined = tuple(row for parity in found for row in parity.quarantined)
    titles, titles_error = _titles(comparison, wanted)
    return Counts(
        slices=wanted,
        templates=templates,
        shard_count=len(comparison.shards),
        snapshots=snapshots,
        quarantined=quarantined,
        titles=titles,
        titles_error=titles_error,
    )


def _titles(comparison: Comparison, slices: Iterable[Slice]) -> tuple[dict[tuple[str, str], str], str | None]:
    """The titles of templates, and why they could not be read: nothing depends on them."""
    titles: dict[tuple[str, str], str] = {}
    try:
        for group in comparison.groups(slices, {}, 1, _MAX_SLICES):
            titles |= _read_titles(comparison.session, group)
    except SourceUnreachableError:
        raise
    except ReindexError as error:
        return {}, str(error)
    return titles, None


def count_clickhouse(dataset: Dataset, slices: Iterable[Slice]) -> dict[str, int]:
    """Rows of some slices on all shards, by table name; Postgres is not asked.

    Raises:
        ShardUnreachableError: a shard could not be asked.
    """
    found = dict.fromkeys(PLURALS, 0)
    with ShardSet(dataset.cluster.clickhouse, "reindex_assets count") as shards:
        for group in group_slices(slices, dataset, {}, 1, _MAX_SLICES):
            for table in dataset.tables:
                sql = f"SELECT count() AS found FROM {table.name}\nWHERE {IN_SLICES}"
                found[table.name] += sum(shards.map(_ask_number(sql, group)))
    return found


def _count_group(
    session: SourceSession, shards: ShardSet, group: SliceGroup, tallies: _Tallies
) -> tuple[int, list[QuarantinedRow]]:
    placement = GroupPlacement(shards, group)
    questions: dict[str, Callable[[ShardConnection], Any]] = {}
    for table in TABLES:
        questions |= {table.name: _ask_counts(table, group, placement), **placement.ask_misplaced(table)}
    # ClickHouse works while Postgres does.
    with shards.asked(questions) as answers, group_snapshot(session, group) as snapshot:
        session.assert_not_lagging(snapshot)
        for table in TABLES:
            found = session.table(_source_counts(table, group, session, placement))
            for row in placement.by_shard(found, ("found",)):
                tally = tallies[Slice.of_row(row), row["template_id"]][table.name]
                tally.postgres[row["shard"]] = int(row["found"])
        quarantined = read_quarantined(session, group)
    answered = answers()
    for table in TABLES:
        for shard in range(len(shards)):
            for row in answered[table.name, shard]:
                tally = tallies[Slice.of_row(row), row["template_id"]][table.name]
                tally.clickhouse[shard] = row["found"]
                tally.misplaced[shard] = row["misplaced"]
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
    with session.snapshot(source_scope(group)):
        return {(row["customer"], row["template_id"]): row["title"] for row in session.rows(sql)}
