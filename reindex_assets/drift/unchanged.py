"""Which slices have not changed since a checkpoint, so that a run need not read them.

What lives here: the look at both engines that tells. What does not: the checkpoint (comparison/checkpoint.py), its file
(drift/checkpoint_store.py), row versions (postgres/row_versions.py) and lists of parts (clickhouse/parts.py).

A slice is unchanged when its row versions in Postgres are the same, and no ClickHouse part with rows of it has come or gone, or its rows
there have the same checksum as when they were compared: a deletion rewrites every part of its month, and most slices of that month stand as
they were. Every run asks both engines again, and reindexes a slice like any other when in doubt. What neither can show is found by a limit
of age: a checkpoint that is older than `prove_every_hours` counts for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reindex_assets.clickhouse.checksums import read_shard_checksums, read_shard_counts
from reindex_assets.clickhouse.parts import Parts, changes_of_slices, read_parts
from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.comparison.checkpoint import Checkpoint, EqualSlice
from reindex_assets.comparison.origin import read_origin
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.dataset import Dataset
from reindex_assets.model import Slice
from reindex_assets.postgres.extract import read_quarantined
from reindex_assets.postgres.join_plan import group_snapshot, reads_the_table
from reindex_assets.postgres.row_versions import read_row_versions, read_table_versions
from reindex_assets.postgres.session import Snapshot, SourceSession
from reindex_assets.selection.groups import SliceGroup, group_slices

#: Slices whose row versions one statement reads: its answer is two numbers for each.
_SLICES_AT_ONCE = 20_000
#: By how much the clocks of Postgres and of this machine may differ.
_CLOCK_SKEW_SECONDS = 60


@dataclass(frozen=True)
class _WholeTables:
    """The row versions of whole tables of Postgres, and when they were read, microseconds."""

    versions: str
    snapshot: int


class Unchanged:
    """One look for the unchanged slices of a dataset."""

    def __init__(self, session: SourceSession, shards: ShardSet, dataset: Dataset) -> None:
        self._session = session
        self._shards = shards
        self._dataset = dataset
        self._whole: _WholeTables | None = None

    def among(self, slices: Iterable[Slice], checkpoints: Sequence[Checkpoint]) -> dict[Slice, SliceParity]:
        """The unchanged ones of some slices, each as a comparison would report it.

        Raises:
            SourceUnreachableError, ShardUnreachableError, LaggingReplicaError: there is no answer.
        """
        wanted = set(slices)
        valid = [checkpoint for checkpoint in checkpoints if not self._is_too_old(checkpoint)]
        if not any(equal.slice in wanted for checkpoint in valid for equal in checkpoint.slices):
            return {}
        origin = read_origin(self._session, self._dataset)
        if origin is None:
            return {}
        # Before Postgres is read: the next look sees what changes in between.
        listed = read_parts(self._shards, self._dataset.kind)
        unchanged: dict[Slice, SliceParity] = {}
        for checkpoint in valid:
            equal = checkpoint.holds_for(wanted, origin)
            untouched = self._untouched_in_clickhouse(checkpoint, equal, listed)
            for group in self._groups(untouched):
                unchanged |= self._untouched_in_postgres(checkpoint, equal, group)
        return unchanged

    def _is_too_old(self, checkpoint: Checkpoint) -> bool:
        """Whether the slices are due to be compared again, whatever their row versions say. A time in the future is of a wrong clock."""
        age = time.time() - checkpoint.snapshot / 1_000_000
        return not 0 <= age + _CLOCK_SKEW_SECONDS <= self._dataset.rules.watch.prove_every_hours * 3_600

    def _groups(self, slices: Iterable[Slice]) -> list[SliceGroup]:
        return group_slices(slices, self._dataset, {}, 1, _SLICES_AT_ONCE)

    def _untouched_in_clickhouse(
        self, checkpoint: Checkpoint, equal: Mapping[Slice, EqualSlice], listed: Parts
    ) -> set[Slice]:
        changes = changes_of_slices(
            self._shards, self._dataset.kind, self._groups(equal), dict(checkpoint.parts), listed
        )
        untouched = set(equal) - changes.in_doubt
        # A conversation that has come or gone changes where rows belong, and no row.
        for group in self._groups(changes.in_doubt - changes.placement_in_doubt):
            for item, checksum in read_shard_checksums(self._shards, group).items():
                if checksum == equal[item].shard_checksum:
                    untouched.add(item)
        for group in self._groups(changes.merged):
            for item, counts in read_shard_counts(self._shards, group).items():
                if any(counts[name] != versions.rows for name, versions in equal[item].versions.items()):
                    untouched.discard(item)
        return untouched

    def _untouched_in_postgres(
        self, checkpoint: Checkpoint, equal: Mapping[Slice, EqualSlice], group: SliceGroup
    ) -> dict[Slice, SliceParity]:
        with group_snapshot(self._session, group) as snapshot:
            self._session.assert_not_lagging(snapshot)
            # A quarantined row belongs to no slice, so row versions do not include it.
            quarantined = {row.slice for row in read_quarantined(self._session, group)}
            untouched = [item for item in group.slices if item not in quarantined]
            whole = self._whole_tables(checkpoint, group, snapshot)
            if whole is not None and whole.versions == checkpoint.table_versions:
                read_at = whole.snapshot
            else:
                read_at = snapshot.microseconds
                for table in self._dataset.tables:
                    if not untouched:
                        break
                    fresh = read_row_versions(self._session, group, table)
                    untouched = [item for item in untouched if fresh[item] == equal[item].versions[table.name]]
        return {item: equal[item].parity(len(self._shards), read_at, checkpoint.snapshot) for item in untouched}

    def _whole_tables(self, checkpoint: Checkpoint, group: SliceGroup, snapshot: Snapshot) -> _WholeTables | None:
        """The row versions of whole tables, which can show that nothing at all has changed in Postgres since a checkpoint. They are read
        once, and only where that costs less than reading those of the slices.
        """
        if not checkpoint.table_versions:
            return None
        if self._whole is None and reads_the_table(self._session, group):
            self._whole = _WholeTables(read_table_versions(self._session, self._dataset.kind), snapshot.microseconds)
        return self._whole
