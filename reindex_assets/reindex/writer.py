"""Writes a group of slices to the shards of a cluster, so that no reader ever misses a row.

What lives here: the safe order of the writes. What does not: the statements (clickhouse/difference.py,
clickhouse/deletes.py), placement (selection/shard_rule.py).

1. Load the expected rows into staging tables, each row on its shard. If the slices are empty on all shards, insert into the live tables
   directly.
2. Each shard compares staging with live, and finds rows of the same scorecards outside the group's slices (they moved).
   An acknowledgement is no evidence: before it is compared, staging has to show what was sent.
3. Insert scores, then scorecards. Once every shard shows them, delete superseded, extra and moved rows: scorecards, then scores.
   At every instant a row that is right before and after is visible, and a visible scorecard has its scores.
4. Never cover or delete rows as new as the snapshot or newer: another writer has seen a later Postgres.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from reindex_assets.clickhouse import deletes, difference, staging
from reindex_assets.clickhouse.evidence import Evidence, evidence_of, expect
from reindex_assets.clickhouse.insert_block import ArrowStream, InsertBlock
from reindex_assets.clickhouse.keys import Key
from reindex_assets.clickhouse.shards import ShardConnection, ShardSet, quoted, results
from reindex_assets.clickhouse.staging import StagingNames
from reindex_assets.model import TABLE_NAMES, Column, Slice, Table
from reindex_assets.reindex.mass_deletion import DeletionGuard, Loss
from reindex_assets.reindex.rows import count_by_slice_and_shard, cut_by_shard
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.shard_sql import IN_SLICES, shard_scope

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """How a group is written.

    Attributes:
        batch_rows: rows per insert.
        dry_run: stop after the comparison: report, and write nothing.
        clean_up: delete the slices first, then rebuild them. Until then readers see a hole.
    """

    batch_rows: int = 50_000
    dry_run: bool = False
    clean_up: bool = False


@dataclass
class TableWrite:
    """What happened to one table's rows of one slice on one shard. `unchanged` rows were right already and not touched."""

    read: int = 0
    missing: int = 0
    changed: int = 0
    deleted: int = 0
    newer: int = 0

    @property
    def written(self) -> int:
        return self.missing + self.changed

    @property
    def unchanged(self) -> int:
        return self.read - self.written


#: By slice, table name and shard.
SliceWrites = dict[Slice, dict[tuple[str, int], TableWrite]]


@dataclass
class _Waiting:
    """Rows that wait for their insert, and the running insert: one at a time, so that memory stays flat."""

    block: InsertBlock = field(default_factory=InsertBlock)
    inserts: list[Future[None]] = field(default_factory=list)
    sent: Evidence = field(default_factory=Evidence)

    @property
    def began(self) -> bool:
        return bool(self.sent.rows)

    def add(self, rows: pa.RecordBatch, columns: Sequence[Column]) -> None:
        self.block.add(rows)
        self.sent += evidence_of(rows, columns)

    def take(self) -> ArrowStream:
        """The finished block, once the insert before it is done; starts a new block."""
        results(self.inserts)
        block, self.block = self.block, InsertBlock()
        return block.finish()


class GroupWriter:
    """Writes one group of slices. Use as a context, which always drops the staging tables at its end.

    Call `add` for every batch, scores first and then scorecards; then `finish`.
    """

    def __init__(
        self,
        shards: ShardSet,
        group: SliceGroup,
        snapshot: int,
        names: StagingNames,
        options: WriteOptions,
        deletions: DeletionGuard,
    ) -> None:
        self._shards = shards
        self._group = group
        self._tables = group.tables
        self._snapshot = snapshot
        self._names = names
        self._options = options
        self._deletions = deletions
        self._waiting: dict[tuple[str, int], _Waiting] = defaultdict(_Waiting)
        #: Every scorecard goes to every shard, as its former row may be on any.
        self._identities = _Waiting()
        self._writes: SliceWrites = {
            item: {(name, shard): TableWrite() for name in TABLE_NAMES for shard in range(len(shards.connections))}
            for item in group.slices
        }
        #: Whether rows go into the live tables at once. Where a shard holds any, nothing is written before it is known what has to go.
        self._direct = False
        self._moved: dict[tuple[str, int], list[Key]] = {}
        #: By table name, and shards by number.
        self._changed: dict[str, list[list[difference.SliceChange]]] = {}

    def __enter__(self) -> GroupWriter:
        try:
            if self._options.clean_up and not self._options.dry_run:
                self._clean_up()
            self._direct = not self._options.dry_run and all(self._shards.map(self._is_empty))
            self._shards.map(self._prepare)
        except BaseException:
            self._drop_staging()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._drop_staging()

    def add(self, table: Table, rows: pa.RecordBatch) -> None:
        """Takes a batch from `rows.with_shards`; all scores come before the first scorecard."""
        for (item, shard), count in count_by_slice_and_shard(rows).items():
            self._writes[item][table.name, shard].read += count
        if table.is_parent:
            if not self._identities.began:
                # Where rows go into the live tables, a scorecard must not arrive before its last score, nor after a failed insert.
                self._drain(self._tables.child)
            self._identities.add(staging.identities(rows, self._tables), self._tables.parent.identity_columns)
            if self._identities.block.rows >= self._options.batch_rows:
                self._send_identities()
        for shard, part in cut_by_shard(rows, len(self._shards)):
            waiting = self._waiting[table.name, shard]
            waiting.add(self._with_version(part) if self._direct else part, table.columns)
            if waiting.block.rows >= self._options.batch_rows:
                self._insert(table, shard)

    def finish(self, before_write: Callable[[], None] = lambda: None) -> SliceWrites:
        """Compares and writes; returns what happened to each slice. `before_write` may raise to prevent the writing."""
        for table in self._tables:
            self._drain(table)
        if self._identities.block.rows:
            self._send_identities()
        results(self._identities.inserts)
        self._shards.map(self._expect_sent)
        if not self._options.dry_run:
            self._shards.map(lambda shard: deletes.await_late_deletes(shard, self._group.days))
        self._compare()
        if self._options.dry_run:
            return self._writes
        self._deletions.permit(self._losses())
        before_write()
        for table in self._tables:
            self._on_every_shard(self._expect_deletable, table)
        for table in self._tables:
            self._on_every_shard(self._upsert, table)
        for table in self._tables:
            self._on_every_shard(self._expect_upserts, table)
        for table in reversed(self._tables):
            self._on_every_shard(self._delete, table)
        return self._writes

    def _on_every_shard(self, step: Callable[[ShardConnection, Table], T], table: Table) -> list[T]:
        """Runs a step for one table on all shards at once; returns when the last one is done."""
        return self._shards.map(lambda shard: step(shard, table))

    # --- steps on one shard

    def _is_empty(self, shard: ShardConnection) -> bool:
        return all(staging.is_empty(shard, table, self._group) for table in self._tables)

    def _prepare(self, shard: ShardConnection) -> None:
        """Creates the shard's staging tables."""
        staging.create_identities(shard, self._names)
        for table in self._tables:
            if self._direct:
                # Rows of the same scorecards may have to go elsewhere.
                deletes.expect_deletable(shard, table)
            else:
                staging.create_rows(shard, self._names, table)

    def _clean_up(self) -> None:
        for table in reversed(self._tables):
            deleted = self._on_every_shard(
                lambda shard, table: deletes.delete_slices(shard, table, self._group, self._snapshot), table
            )
            for shard, rows_by_slice in enumerate(deleted):
                for item, rows in rows_by_slice.items():
                    self._writes[item][table.name, shard].deleted += rows

    def _expect_sent(self, shard: ShardConnection) -> None:
        """An acknowledgement is no evidence: what staging lacks would be deleted from the live table."""
        names = self._names
        for table in self._tables:
            sent = self._waiting[table.name, shard.index].sent
            if self._direct:
                ours = f"{table.clickhouse} WHERE {IN_SLICES} AND version = {{snapshot:UInt64}}"
                scope = {**shard_scope(self._group), "snapshot": self._snapshot}
                expect(shard, f"rows of {table.name}", ours, table.columns, sent, scope)
            else:
                expect(shard, f"staged rows of {table.name}", quoted(names.rows(table)), table.columns, sent)
        identities = quoted(names.identities)
        expect(shard, "identities", identities, self._tables.parent.identity_columns, self._identities.sent)

    def _expect_deletable(self, shard: ShardConnection, table: Table) -> None:
        of_table = [writes[table.name, shard.index] for writes in self._writes.values()]
        if not self._direct and any(write.changed or write.deleted for write in of_table):
            deletes.expect_deletable(shard, table)

    def _upsert(self, shard: ShardConnection, table: Table) -> None:
        changes = any(writes[table.name, shard.index].written for writes in self._writes.values())
        if changes and not self._direct:
            difference.insert_upserts(shard, self._names, table, self._group, self._snapshot)

    def _expect_upserts(self, shard: ShardConnection, table: Table) -> None:
        if not self._direct:
            difference.expect_upserts(shard, self._names, table, self._group, self._snapshot)

    def _delete(self, shard: ShardConnection, table: Table) -> None:
        gone = list(self._moved[table.name, shard.index])
        if not self._direct:
            keys, below = difference.keys_to_delete(shard, self._names, table, self._group, self._snapshot)
            gone += keys
            deletes.delete_rows(shard, table, deletes.older_copies(shard, table, below), self._snapshot)
        deletes.delete_rows(shard, table, gone, self._snapshot)
        # Also if only the other table was written, or has newer rows: another writer is at work on these slices.
        of_shard = [writes[either.name, shard.index] for writes in self._writes.values() for either in self._tables]
        if any(write.written or write.newer for write in of_shard):
            ours, newer = difference.superseded(shard, table, self._group, self._snapshot)
            deletes.delete_rows(shard, table, ours, self._snapshot)
            deletes.delete_rows(shard, table, newer, self._snapshot + 1)

    # --- the rows on their way

    def _with_version(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        return rows.append_column("version", pa.repeat(pa.scalar(self._snapshot, pa.uint64()), rows.num_rows))

    def _insert(self, table: Table, shard: int) -> None:
        """Starts inserting the rows that wait for a shard."""
        target = table.clickhouse if self._direct else self._names.rows(table)
        waiting = self._waiting[table.name, shard]
        rows = waiting.take()
        waiting.inserts = [self._shards.submit(shard, lambda connection: connection.insert(target, rows))]

    def _send_identities(self) -> None:
        rows = self._identities.take()
        self._identities.inserts = [
            self._shards.submit(connection.index, lambda shard: shard.insert(self._names.identities, rows))
            for connection in self._shards.connections
        ]

    def _drain(self, table: Table) -> None:
        """Inserts the waiting rows of a table, and waits until all are on their shards."""
        all_shards = [self._waiting[table.name, shard] for shard in range(len(self._shards))]
        for shard, waiting in enumerate(all_shards):
            if waiting.block.rows:
                self._insert(table, shard)
        results(insert for waiting in all_shards for insert in waiting.inserts)

    # --- the comparison

    def _compare(self) -> None:
        for table in self._tables:
            self._changed[table.name] = self._on_every_shard(self._changes, table)
            for shard, changes in enumerate(self._changed[table.name]):
                for change in changes:
                    write = self._writes[change.slice][table.name, shard]
                    write.missing, write.changed = change.missing, change.changed
                    write.deleted += change.extra
                    write.newer = change.newer
            for shard, moved in enumerate(self._on_every_shard(self._moved_keys, table)):
                self._moved[table.name, shard] = moved
                self._count_moved(table, shard, moved)

    def _losses(self) -> dict[tuple[Slice, str], Loss]:
        """What each slice would lose: no rows that are copies or have moved."""
        losses = {}
        for table in self._tables:
            unexpected_rows: Counter[Slice] = Counter()
            vanished: Counter[Slice] = Counter()
            for changes in self._changed[table.name]:
                unexpected_rows.update({change.slice: change.unexpected for change in changes if change.unexpected})
            if unexpected_rows and any(
                writes[table.name, shard].read for writes in self._writes.values() for shard in range(len(self._shards))
            ):
                for of_shard in self._on_every_shard(self._vanished, table):
                    vanished.update(of_shard)
            else:
                # Where nothing is expected, nothing has moved: scorecards whose scores are all hidden may still be there.
                vanished = unexpected_rows
            for item, writes in self._writes.items():
                of_table = [writes[table.name, shard] for shard in range(len(self._shards))]
                expected = sum(write.read for write in of_table)
                missing = sum(write.missing for write in of_table)
                losses[item, table.name] = Loss(
                    held=expected - missing + unexpected_rows[item], vanished=vanished[item], expected=expected
                )
        return losses

    def _vanished(self, shard: ShardConnection, table: Table) -> dict[Slice, int]:
        if not any(change.unexpected for change in self._changed[table.name][shard.index]):
            return {}
        return difference.count_vanished(shard, self._names, table)

    def _moved_keys(self, shard: ShardConnection, table: Table) -> list[Key]:
        return difference.moved_keys(shard, self._names, table, self._group, self._snapshot)

    def _changes(self, shard: ShardConnection, table: Table) -> list[difference.SliceChange]:
        if self._direct:
            # Every row that was read has been written.
            return [
                difference.SliceChange(slice=item, missing=writes[table.name, shard.index].read)
                for item, writes in self._writes.items()
            ]
        return difference.find_difference(shard, self._names, table, self._group, self._snapshot)

    def _count_moved(self, table: Table, shard: int, moved: Iterable[Key]) -> None:
        """Counts rows that left another slice under their customer's first slice: their old slice is not part of the run."""
        customer_position = table.key.index("customer")
        for key in moved:
            item = Slice(str(key[customer_position]), self._group.first_day)
            self._writes[item][table.name, shard].deleted += 1

    def _drop_staging(self) -> None:
        """Drops the staging tables once nothing writes to them.

        A shard that can't be reached keeps them; the next run finds that their owner is gone, and drops them.
        """
        wait([insert for waiting in (*self._waiting.values(), self._identities) for insert in waiting.inserts])
        names = self._names.all(self._tables)
        for connection in self._shards.connections:
            self._shards.submit(connection.index, lambda shard: staging.drop(shard, names)).exception()


def drop_orphaned_staging_tables(shards: ShardSet, is_alive: Callable[[int], bool]) -> None:
    """Drops the staging tables of runs that were killed."""

    def clean(shard: ShardConnection) -> None:
        staging.drop(
            shard, [name for name, owner in staging.orphaned_staging_tables(shard).items() if not is_alive(owner)]
        )

    # One shard after the other: `is_alive` asks Postgres over one connection.
    for connection in shards.connections:
        shards.submit(connection.index, clean).result()
