"""Compares both engines: counts, placement and an exact digest of every slice, read from the real tables of both.

What lives here: the comparison that the asset checks, the repair sensor, the command line and the reports share. What does not: its
result (comparison/parity.py), the rows behind a difference (comparison/differences.py), any bookkeeping of a run (a comparison never
trusts it), any repair.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pyarrow as pa

from reindex_assets.clickhouse.canary import prove_conversations
from reindex_assets.clickhouse.checksums import add_checksum, checksum
from reindex_assets.clickhouse.foreign_columns import foreign_columns
from reindex_assets.clickhouse.parts import read_parts
from reindex_assets.clickhouse.shards import ShardConnection, ShardSet
from reindex_assets.comparison.checkpoint import Checkpoint
from reindex_assets.comparison.counts import TableTally
from reindex_assets.comparison.differences import (
    HARMLESS,
    count_differences,
    drift_evidence,
    first_version_ahead,
    look_at_rows,
)
from reindex_assets.comparison.origin import Origin, read_origin
from reindex_assets.comparison.parity import SliceDifferences, SliceParity, TableParity
from reindex_assets.comparison.samples import RowSample, read_samples
from reindex_assets.config.cluster import Watch
from reindex_assets.config.dataset import Dataset
from reindex_assets.model import TABLE_NAMES, Slice, Table
from reindex_assets.placement.resolver import GroupPlacement
from reindex_assets.postgres.extract import read_quarantined
from reindex_assets.postgres.join_plan import group_snapshot, reads_the_table
from reindex_assets.postgres.row_versions import VERSION, RowVersions, read_table_versions
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup, group_slices
from reindex_assets.selection.row_digest import MODULUS, digest_of_rows, rows_to_digest, shard_digest
from reindex_assets.selection.shard_sql import IN_SLICES, shard_scope
from reindex_assets.selection.source_sql import source_sql

#: Seconds after which a difference can no longer be a row in flight.
SETTLE_SECONDS = Watch().settle_seconds
#: Seconds that ClickHouse has to merge an older version into the right one (Difference.UNMERGED).
MERGE_PATIENCE_SECONDS = 600.0
#: Scores compared row by row at once: bounds the memory (about 150 bytes per row and side).
_ROWS_AT_ONCE = 500_000


class Comparison:
    """Connects to both engines of a dataset, and compares sums of slices and the rows behind them. Use as a context.

    Args:
        with_checkpoint: whether `sums` also adds a checkpoint of the equal slices to `checkpoints`.
    """

    def __init__(self, dataset: Dataset, *, with_checkpoint: bool = False) -> None:
        self.dataset = dataset
        self._with_checkpoint = with_checkpoint
        self._stack = ExitStack()
        self.checkpoints: list[Checkpoint] = []

    def __enter__(self) -> Comparison:
        with ExitStack() as opening:
            cluster = self.dataset.cluster
            self.session = opening.enter_context(SourceSession(cluster.postgres))
            self.shards = opening.enter_context(ShardSet(cluster, "reindex_assets compare"))
            if self.dataset.kind.is_of_conversations:
                self.shards.map(prove_conversations)
            self._stack = opening.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def left_out(self) -> str:
        """What is not looked at, in words: what the fleet file says, and columns of others on some shard."""
        found: dict[str, list[str]] = {name: [] for name in TABLE_NAMES}

        def ask(shard: ShardConnection) -> dict[str, list[str]]:
            return {table.name: foreign_columns(shard, table) for table in self.dataset.tables}

        for of_shard in self.shards.map(ask):
            for name, columns in of_shard.items():
                found[name] += columns
        return self.dataset.tables.left_out(found)

    def groups(
        self, slices: Iterable[Slice], rows: Mapping[Slice, int], max_rows: int, max_slices: int
    ) -> list[SliceGroup]:
        """The slices, grouped for one query each."""
        return group_slices(slices, self.dataset, rows, max_rows, max_slices)

    def sums(self, slices: Iterable[Slice], max_slices: int = 2_000) -> list[SliceParity]:
        """Compares slices by their sums; in the order of customer and day.

        Each engine digests its own rows; only sums are transferred. A row that changes in Postgres between the two reads, or is on its
        way to ClickHouse, shows as a difference: `settled` looks again before it reports drift.

        Raises:
            SourceUnreachableError, ShardUnreachableError: an engine could not be asked; there is no result.
            LaggingReplicaError: Postgres is a standby that is too far behind.
        """
        wanted = sorted(set(slices))
        compared: dict[Slice, SliceParity] = {}
        origin = read_origin(self.session, self.dataset) if self._with_checkpoint else None
        for group in self.groups(wanted, {}, 1, max_slices):
            parities, checkpoint = _compare_group(self.session, self.shards, group, origin)
            compared |= {parity.slice: parity for parity in parities}
            self.checkpoints += [checkpoint] if checkpoint is not None else []
        return [compared[item] for item in wanted]

    def settled(
        self,
        slices: Iterable[Slice],
        settle_seconds: float = SETTLE_SECONDS,
        samples: int = 0,
        max_slices: int = 2_000,
    ) -> list[SliceParity]:
        """Compares slices by their sums, and those that differ by their rows: which still differ in the same way after `settle_seconds`?

        A busy slice always differs, but in other rows each time. That's why this compares rows twice instead of sums: by the second
        time, a row in flight has arrived or has changed again.

        Args:
            samples: rows to show for each table and class of difference.
        """
        compared = {parity.slice: parity for parity in self.sums(slices, max_slices)}
        different = [parity for parity in compared.values() if not parity.sums_agree]
        compared |= {parity.slice: parity for parity in self.rows(different, settle_seconds, samples)}
        return list(compared.values())

    def rows(
        self, parities: Iterable[SliceParity], settle_seconds: float = SETTLE_SECONDS, samples: int = 0
    ) -> list[SliceParity]:
        """Adds the differing rows to each parity; compares rows that differ a second time after `settle_seconds`."""
        compared = {parity.slice: parity for parity in parities}
        sizes = {
            item: max(parity.scores.postgres_rows, parity.scores.clickhouse_rows) for item, parity in compared.items()
        }
        groups = self.groups(compared, sizes, _ROWS_AT_ONCE, 2_000)
        begun = time.monotonic()
        looks = [(group, look_at_rows(self.session, self.shards, group, MERGE_PATIENCE_SECONDS)) for group in groups]
        if settle_seconds and any(look.rows.num_rows for _, look in looks):
            time.sleep(max(0.0, begun + settle_seconds - time.monotonic()))
        for group, first in looks:
            last = first
            if settle_seconds and first.rows.num_rows:
                last = look_at_rows(self.session, self.shards, group, MERGE_PATIENCE_SECONDS).lasting(first)
            gone, stayed = first.of_slices(group), last.of_slices(group)
            shown = read_samples(self.session, self.shards, group, stayed, samples) if samples else {}
            for item, rows in stayed.items():
                compared[item] = replace(
                    compared[item],
                    snapshot=last.snapshot.microseconds,
                    differences=_differences(rows, gone[item].num_rows - rows.num_rows, shown.get(item, ())),
                )
        return list(compared.values())


def _differences(rows: pa.Table, in_flight: int, samples: tuple[RowSample, ...]) -> SliceDifferences:
    counts = count_differences(rows)
    return SliceDifferences(
        {key: number for key, number in counts.items() if key[1] not in HARMLESS},
        {key: number for key, number in counts.items() if key[1] in HARMLESS},
        in_flight,
        drift_evidence(rows),
        samples,
        first_version_ahead(rows),
    )


class _Sums:
    """Collects the answers of the engines for one table of one slice."""

    def __init__(self, shard_count: int) -> None:
        self.shard_count = shard_count
        self.templates: dict[str, TableTally] = defaultdict(lambda: TableTally(shard_count))
        self.distinct_rows = 0
        self.postgres_digest = 0
        self.clickhouse_digest = 0
        self.versions = 0

    def parity(self) -> TableParity:
        by_template = {template: tally.counts() for template, tally in sorted(self.templates.items())}
        same = (self.postgres_digest - self.clickhouse_digest) % MODULUS == 0
        return TableParity.of_counts(by_template, self.shard_count, self.distinct_rows, digests_agree=same)

    def row_versions(self) -> RowVersions:
        """The versions of the rows that Postgres has digested."""
        return RowVersions.of(sum(sum(tally.postgres) for tally in self.templates.values()), self.versions)


def _compare_group(
    session: SourceSession, shards: ShardSet, group: SliceGroup, origin: Origin | None
) -> tuple[list[SliceParity], Checkpoint | None]:
    """The parities of a group and, if the origin of row versions is given, a checkpoint of the equal slices."""
    sums = {(item, table.name): _Sums(len(shards)) for item in group.slices for table in group.tables}
    with_checkpoint = origin is not None
    # Read first, also before the placement, so that a later reader of the checkpoint notices every change from here on.
    parts = read_parts(shards, group.kind) if with_checkpoint else {}
    placement = GroupPlacement(shards, group)
    questions: dict[str, Callable[[ShardConnection], Any]] = {}
    for table in group.tables:
        questions |= {
            table.name: _ask_shard(table, group, placement, with_checksum=with_checkpoint),
            **placement.ask_misplaced(table),
        }
    table_versions = ""
    # ClickHouse works while Postgres does.
    with shards.asked(questions) as answers, group_snapshot(session, group) as snapshot:
        session.assert_not_lagging(snapshot)
        for table in group.tables:
            rows = session.table(source_digests(table, group, session, placement, versions=with_checkpoint))
            for row in placement.by_shard(
                rows, ("found", "digest", "versions") if with_checkpoint else ("found", "digest")
            ):
                of_slice = sums[Slice.of_row(row), table.name]
                of_slice.templates[row["template"]].postgres[row["shard"]] = int(row["found"])
                of_slice.postgres_digest += int(row["digest"])
                of_slice.versions += int(row["versions"]) if with_checkpoint else 0
        quarantined = read_quarantined(session, group)
        if with_checkpoint and reads_the_table(session, group):
            table_versions = read_table_versions(session, group.kind)
    answered = answers()
    checksums = dict.fromkeys(group.slices, 0)
    for table in group.tables:
        for shard in range(len(shards)):
            for row in answered[table.name, shard]:
                item = Slice.of_row(row)
                of_slice = sums[item, table.name]
                tally = of_slice.templates[row["template"]]
                tally.clickhouse[shard], tally.misplaced[shard] = row["found"], row["misplaced"]
                of_slice.distinct_rows += row["keys"]
                of_slice.clickhouse_digest += row["digest"]
                if with_checkpoint:
                    checksums[item] = add_checksum(checksums[item], row["checksum"], shard)
    for (item, template), name, shard, number in placement.misplaced_in(answered):
        sums[item, name].templates[template].misplaced[shard] += number
    parities = [
        SliceParity(
            item,
            {table.name: sums[item, table.name].parity() for table in group.tables},
            tuple(row for row in quarantined if row.slice == item),
            snapshot.microseconds,
        )
        for item in group.slices
    ]
    if origin is None:
        return parities, None
    with_versions = [
        (
            parity,
            {table.name: sums[parity.slice, table.name].row_versions() for table in group.tables},
            checksums[parity.slice],
        )
        for parity in parities
        if parity.slice not in placement.without_conversation_shard
    ]
    return parities, Checkpoint.of(with_versions, snapshot.microseconds, origin, table_versions, parts)


def _ask_shard(
    table: Table, group: SliceGroup, placement: GroupPlacement, *, with_checksum: bool
) -> Callable[[ShardConnection], list[dict[str, Any]]]:
    # In the same statement as the digest: it is the checksum of just the rows that are compared.
    checksums = f",\n       {checksum(table)} AS checksum" if with_checksum else ""
    sql = f"""\
SELECT customer, day, toString(template_id) AS template,
       count() AS found,
       uniqExact({", ".join(table.key)}) AS keys,
       {placement.misplaced} AS misplaced,
       sum({shard_digest(table)}) AS digest{checksums}
FROM {table.clickhouse}
WHERE {IN_SLICES}
GROUP BY customer, day, template_id"""
    return lambda shard: shard.rows(sql, {**shard_scope(group), "shard": shard.index})


def source_digests(
    table: Table, group: SliceGroup, session: SourceSession, placement: GroupPlacement, *, versions: bool = False
) -> str:
    """The statement for the count and the sum of digests by slice, template and shard. A sum shows duplicates, which XOR would hide.

    With `versions`, also the sum of the row versions' hashes (VERSION).
    """
    columns = [
        "c.customer, c.scorecard_id, c.template_id",
        *dict.fromkeys(("c.profile", *placement.source_columns)),
        "({time} AT TIME ZONE 'UTC')::date AS day",
    ]
    by = ", ".join(f"c.{name}" for name in placement.source_names)
    sums = f"count(*) AS found, sum({digest_of_rows(table)})::text AS digest"
    if versions:
        if table.is_parent:
            columns.append(f"{VERSION[table.name]} AS version")
        sums += f", sum({'c.version' if table.is_parent else VERSION[table.name]})::text AS versions"
    return source_sql(
        f"""\
SELECT c.customer, c.day, c.template_id::text AS template, {by}, {sums}
FROM {rows_to_digest(table, columns)}
GROUP BY c.customer, c.day, c.template_id, {by}""",
        session.postgres.relations,
        group,
    )
