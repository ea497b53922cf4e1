"""Do both engines hold the same? Counts, places and an exact digest of every slice, read from the real tables of both.

What lives here: the comparison that the asset checks, the repair sensor, the command line and the reports share. What does not: what
it says (comparison/parity.py), the rows behind a difference (comparison/differences.py), any bookkeeping of a run (a comparison never
trusts it), any repair.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any

import pyarrow as pa

from reindex_assets.clickhouse.parts import read_parts
from reindex_assets.clickhouse.shards import ShardConnection, ShardSet
from reindex_assets.comparison.checkpoint import Checkpoint, read_origin
from reindex_assets.comparison.counts import TableTally
from reindex_assets.comparison.differences import HARMLESS, count_differences, drift_evidence, look_at_rows
from reindex_assets.comparison.parity import SliceDifferences, SliceParity, TableParity
from reindex_assets.comparison.samples import RowSample, read_samples
from reindex_assets.config.cluster import Watch
from reindex_assets.config.dataset import Dataset
from reindex_assets.model import SCORECARD, TABLES, Slice, Table
from reindex_assets.placement.resolver import GroupPlacement
from reindex_assets.postgres.extract import read_quarantined
from reindex_assets.postgres.join_plan import group_snapshot, reads_the_table
from reindex_assets.postgres.row_versions import VERSION, RowVersions, has_versions, read_table_versions
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup, group_slices
from reindex_assets.selection.row_digest import MODULUS, digest_of_rows, rows_to_digest, shard_digest
from reindex_assets.selection.shard_sql import IN_SLICES, shard_scope
from reindex_assets.selection.source_sql import source_sql

#: Seconds after which a difference is no longer a row on its way.
SETTLE_SECONDS = Watch().settle_seconds
#: Seconds that ClickHouse has for folding an older version into the right one (differences.UNMERGED).
MERGE_PATIENCE_SECONDS = 600.0
#: Scores that are compared row by row at once: bounds the memory (about 150 bytes a row and side).
_ROWS_AT_ONCE = 500_000


class Comparison:
    """Both engines of a dataset, connected: sums of slices, and the rows behind them. Use as a context.

    Args:
        with_checkpoint: whether `sums` also notes in `checkpoints` what each engine says of the rows of slices that are equal.
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
            self.shards = opening.enter_context(ShardSet(cluster.clickhouse, "reindex_assets compare"))
            self._stack = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def groups(
        self, slices: Iterable[Slice], rows: Mapping[Slice, int], max_rows: int, max_slices: int
    ) -> list[SliceGroup]:
        """Rectangles that cover the slices."""
        return group_slices(slices, self.dataset, rows, max_rows, max_slices)

    def sums(self, slices: Iterable[Slice], max_slices: int = 2_000) -> list[SliceParity]:
        """Slices by their sums, in the order of customer and day.

        Each engine digests its own rows; nothing but sums travels. A row that changes in Postgres between the two reads, or is on
        its way to ClickHouse, shows as a difference: `settled` looks again before it calls it drift.

        Raises:
            SourceUnreachableError, ShardUnreachableError: an engine could not be asked; nothing is known then.
            LaggingReplicaError: Postgres is a standby that is too far behind to tell.
        """
        wanted = sorted(set(slices))
        found: dict[Slice, SliceParity] = {}
        origin = None
        if self._with_checkpoint and has_versions(self.session, self.dataset.kind):
            origin = read_origin(self.session, self.dataset)
        for group in self.groups(wanted, {}, 1, max_slices):
            parities, checkpoint = _compare_group(self.session, self.shards, group, origin)
            found |= {item.slice: item for item in parities}
            self.checkpoints += [checkpoint] if checkpoint is not None else []
        return [found[item] for item in wanted]

    def settled(
        self,
        slices: Iterable[Slice],
        settle_seconds: float = SETTLE_SECONDS,
        samples: int = 0,
        max_slices: int = 2_000,
    ) -> list[SliceParity]:
        """The sums of slices, and of each slice that differs the rows: those that still differ in the same way after `settle_seconds`.

        A busy slice differs at every moment, each time in other rows. So it is the rows that are looked at twice and not the sums:
        a row on its way has arrived at the second look, or has changed again.

        Args:
            samples: rows that are shown of each table and class of difference.
        """
        found = {parity.slice: parity for parity in self.sums(slices, max_slices)}
        different = [parity for parity in found.values() if not parity.sums_agree]
        found |= {parity.slice: parity for parity in self.rows(different, settle_seconds, samples)}
        return list(found.values())

    def rows(
        self, parities: Iterable[SliceParity], settle_seconds: float = SETTLE_SECONDS, samples: int = 0
    ) -> list[SliceParity]:
        """The same slices with their differing rows; looked at a second time after `settle_seconds`, where there are any."""
        found = {parity.slice: parity for parity in parities}
        sizes = {
            item: max(parity.scores.postgres_rows, parity.scores.clickhouse_rows) for item, parity in found.items()
        }
        groups = self.groups(found, sizes, _ROWS_AT_ONCE, 2_000)
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
                found[item] = replace(
                    found[item],
                    snapshot=last.snapshot.microseconds,
                    differences=_differences(rows, gone[item].num_rows - rows.num_rows, shown.get(item, ())),
                )
        return list(found.values())


def _differences(rows: pa.Table, on_their_way: int, samples: tuple[RowSample, ...]) -> SliceDifferences:
    counts = count_differences(rows)
    return SliceDifferences(
        {key: number for key, number in counts.items() if key[1] not in HARMLESS},
        {key: number for key, number in counts.items() if key[1] in HARMLESS},
        on_their_way,
        drift_evidence(rows),
        samples,
    )


class _Sums:
    """What is known of one table of one slice while the answers of the engines come in."""

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
        """Those of the rows that Postgres has digested."""
        return RowVersions.of(sum(sum(tally.postgres) for tally in self.templates.values()), self.versions)


def _compare_group(
    session: SourceSession, shards: ShardSet, group: SliceGroup, origin: Mapping[str, str] | None
) -> tuple[list[SliceParity], Checkpoint | None]:
    """The sums of a group, and, given the origin of row versions, the checkpoint of those slices that are equal."""
    sums = {(item, table.name): _Sums(len(shards)) for item in group.slices for table in TABLES}
    placement = GroupPlacement(shards, group)
    questions: dict[str, Callable[[ShardConnection], Any]] = {}
    for table in TABLES:
        questions |= {table.name: _ask_shard(table, group, placement), **placement.ask_misplaced(table)}
    with_checkpoint = origin is not None
    # Before anything is asked: what happens in between is seen by who looks at the checkpoint.
    parts = read_parts(shards, group.kind) if with_checkpoint else {}
    table_versions = ""
    # ClickHouse works while Postgres does.
    with shards.asked(questions) as answers, group_snapshot(session, group) as snapshot:
        session.assert_not_lagging(snapshot)
        for table in TABLES:
            found = session.table(source_digests(table, group, session, placement, versions=with_checkpoint))
            for row in placement.by_shard(
                found, ("found", "digest", "versions") if with_checkpoint else ("found", "digest")
            ):
                of_slice = sums[Slice.of_row(row), table.name]
                of_slice.templates[row["template"]].postgres[row["shard"]] = int(row["found"])
                of_slice.postgres_digest += int(row["digest"])
                of_slice.versions += int(row["versions"]) if with_checkpoint else 0
        quarantined = read_quarantined(session, group)
        if with_checkpoint and reads_the_table(session, group):
            table_versions = read_table_versions(session, group.kind)
    answered = answers()
    for table in TABLES:
        for shard in range(len(shards)):
            for row in answered[table.name, shard]:
                of_slice = sums[Slice.of_row(row), table.name]
                tally = of_slice.templates[row["template"]]
                tally.clickhouse[shard], tally.misplaced[shard] = row["found"], row["misplaced"]
                of_slice.distinct_rows += row["keys"]
                of_slice.clickhouse_digest += row["digest"]
    for (item, template), name, shard, number in placement.misplaced_in(answered):
        sums[item, name].templates[template].misplaced[shard] += number
    parities = [
        SliceParity(
            item,
            {table.name: sums[item, table.name].parity() for table in TABLES},
            tuple(row for row in quarantined if row.slice == item),
            snapshot.microseconds,
        )
        for item in group.slices
    ]
    if origin is None:
        return parities, None
    versions = [{table.name: sums[item, table.name].row_versions() for table in TABLES} for item in group.slices]
    found = [
        one for one in zip(parities, versions, strict=True) if one[0].slice not in placement.without_conversation_shard
    ]
    return parities, Checkpoint.of(found, snapshot.microseconds, origin, table_versions, parts)


def _ask_shard(
    table: Table, group: SliceGroup, placement: GroupPlacement
) -> Callable[[ShardConnection], list[dict[str, Any]]]:
    sql = f"""\
SELECT customer, day, toString(template_id) AS template,
       count() AS found,
       uniqExact({", ".join(table.key)}) AS keys,
       {placement.misplaced} AS misplaced,
       sum({shard_digest(table)}) AS digest
FROM {table.name}
WHERE {IN_SLICES}
GROUP BY customer, day, template_id"""

    def ask(shard: ShardConnection) -> list[dict[str, Any]]:
        return shard.rows(sql, {**shard_scope(group), "shard": shard.index})

    return ask


def source_digests(
    table: Table, group: SliceGroup, session: SourceSession, placement: GroupPlacement, *, versions: bool = False
) -> str:
    """The statement for the count and the sum of digests per slice, template and shard. The sum sees duplicates, which XOR would hide.

    With `versions` also the sum of the hashes of the row versions (VERSION).
    """
    columns = [
        "c.customer, c.scorecard_id, c.template_id",
        *dict.fromkeys(("c.profile", *placement.source_columns)),
        "({time} AT TIME ZONE 'UTC')::date AS day",
    ]
    by = ", ".join(f"c.{name}" for name in placement.source_names)
    sums = f"count(*) AS found, sum({digest_of_rows(table)})::text AS digest"
    if versions:
        if table is SCORECARD:
            columns.append(f"{VERSION[table.name]} AS version")
        sums += f", sum({'c.version' if table is SCORECARD else VERSION[table.name]})::text AS versions"
    return source_sql(
        f"""\
SELECT c.customer, c.day, c.template_id::text AS template, {by}, {sums}
FROM {rows_to_digest(table, columns)}
GROUP BY c.customer, c.day, c.template_id, {by}""",
        session.postgres.relations,
        group,
    )
