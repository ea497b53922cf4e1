"""Takes one group of slices through the steps of the lineage: batches are stored as files, placed and sent to the shards.

What lives here: the flow of one group, and the outcome of each of its slices. What does not: planning, retries and locks
(reindex/job.py).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.clickhouse.staging import StagingNames
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.model import SHARD, Slice, Step, Table
from reindex_assets.placement.resolver import GroupPlacement
from reindex_assets.postgres.extract import QuarantinedRow
from reindex_assets.reindex.mass_deletion import DeletionGuard
from reindex_assets.reindex.rows import cut_by_slice, non_finite, with_shards
from reindex_assets.reindex.writer import GroupWriter, SliceWrites, TableWrite, WriteOptions
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.shard_rule import shards_by_time
from reindex_assets.storage import slice_store
from reindex_assets.storage.slice_store import ExtractInfo, SliceFile, SliceStore, SliceWriter

Reader = Callable[[Table], Iterator[pa.RecordBatch]]


@dataclass(frozen=True, kw_only=True)
class SliceOutcome:
    """What became of one slice in one run.

    Attributes:
        snapshot: time of the Postgres snapshot, microseconds; None if the slice failed before it.
        files: the Parquet files written, by step and table name.
        writes: what happened on the shards, by table name and shard.
        scorecards_without_conversation_shard: scorecards placed by their time, as their conversation is on no shard; None for a kind
            without conversations.
        seconds: by step, for the slice's whole group (`group_slices` slices).
        unchanged: both sides, if nothing has touched the slice since it was proved equal, and so nothing was read or written.
        error: why it failed; None if it succeeded.
    """

    slice: Slice
    steps: tuple[Step, ...]
    snapshot: int | None = None
    files: dict[tuple[Step, str], SliceFile] = field(default_factory=dict)
    writes: dict[tuple[str, int], TableWrite] = field(default_factory=dict)
    quarantined: tuple[QuarantinedRow, ...] = ()
    non_finite_values: int = 0
    scorecards_without_conversation_shard: int | None = None
    seconds: dict[Step, float] = field(default_factory=dict)
    group_slices: int = 1
    unchanged: SliceParity | None = None
    error: str | None = None


class GroupPipeline:
    """Runs a contiguous chain of steps on one group, as a context: `take` the rows, then `finish`.

    Args:
        extract: describes the extract that the rows come from; its snapshot becomes the version of every row written.
        on_rows: called with the number of rows of each batch.
    """

    def __init__(
        self,
        store: SliceStore,
        shards: ShardSet,
        group: SliceGroup,
        placement: GroupPlacement,
        chain: tuple[Step, ...],
        extract: ExtractInfo,
        names: StagingNames,
        options: WriteOptions,
        deletions: DeletionGuard,
        on_rows: Callable[[int], None],
    ) -> None:
        self._store = store
        self._shards = shards
        self._group = group
        self._chain = chain
        self._extract = extract
        self._names = names
        self._options = options
        self._deletions = deletions
        self._on_rows = on_rows
        self._seconds: dict[Step, float] = defaultdict(float)
        self._placement = placement
        self._non_finite: Counter[Slice] = Counter()
        self._without_conversation_shard: Counter[Slice] = Counter()
        self._stack = ExitStack()
        self._files: dict[tuple[Step, str], SliceWriter] = {}
        self._writer: GroupWriter | None = None

    def __enter__(self) -> GroupPipeline:
        with ExitStack() as opening:
            if Step.WRITE in self._chain:
                with self._timed(Step.WRITE):
                    self._writer = opening.enter_context(
                        GroupWriter(
                            self._shards,
                            self._group,
                            self._extract.snapshot,
                            self._names,
                            self._options,
                            self._deletions,
                        )
                    )
            for step in (Step.EXTRACT, Step.ROWS):
                if step in self._chain:
                    for table in self._group.tables:
                        self._files[step, table.name] = opening.enter_context(self._file_writer(step, table))
            self._stack = opening.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def take(self, read: Reader) -> None:
        """Stores and places every row that `read` streams, and sends it to its shard."""
        for table in self._group.tables:
            for batch in self._timed_batches(read(table)):
                self._take_batch(table, batch)
            for (step, name), file in self._files.items():
                if name == table.name:
                    with self._timed(step):
                        file.close_files()

    def finish(
        self, quarantined: Iterable[QuarantinedRow], before_write: Callable[[], None] = lambda: None
    ) -> list[SliceOutcome]:
        """Publishes the files, lets the shards compare and write, and returns one outcome per slice.

        Args:
            before_write: called after the comparison, before anything live is changed; may raise.
        """
        slices = self._group.slices
        published: dict[Slice, dict[tuple[Step, str], SliceFile]] = defaultdict(dict)
        for (step, name), file in self._files.items():
            with self._timed(step):
                for item, slice_file in file.finish(slices).items():
                    published[item][step, name] = slice_file
        writes: SliceWrites = {}
        if self._writer is not None:
            with self._timed(Step.WRITE):
                writes = self._writer.finish(before_write)
        kept_back: dict[Slice, list[QuarantinedRow]] = defaultdict(list)
        for row in quarantined:
            kept_back[row.slice].append(row)
        return [
            SliceOutcome(
                slice=item,
                steps=self._chain,
                snapshot=self._extract.snapshot,
                files=published[item],
                writes=writes.get(item, {}),
                quarantined=tuple(kept_back[item]),
                non_finite_values=self._non_finite[item],
                scorecards_without_conversation_shard=(
                    self._without_conversation_shard[item] if self._group.kind.is_of_conversations else None
                ),
                seconds=dict(self._seconds),
                group_slices=len(slices),
            )
            for item in slices
        ]

    def _take_batch(self, table: Table, batch: pa.RecordBatch) -> None:
        with self._timed(Step.ROWS if Step.ROWS in self._chain else self._chain[0]):
            placed = batch if SHARD in batch.schema.names else self._placed(table, batch)
            for item, rows in cut_by_slice(placed):
                self._non_finite[item] += non_finite(rows)
                if Step.ROWS in self._chain:
                    self._files[Step.ROWS, table.name].write(item, rows.select([SHARD]))
                if Step.EXTRACT in self._chain:
                    self._files[Step.EXTRACT, table.name].write(item, rows.drop_columns([SHARD]))
        if self._writer is not None:
            with self._timed(Step.WRITE):
                self._writer.add(table, placed)
        self._on_rows(batch.num_rows)

    def _placed(self, table: Table, batch: pa.RecordBatch) -> pa.RecordBatch:
        shards, without_conversation_shard = self._placement.resolve(batch, shards_by_time(batch, len(self._shards)))
        if table.is_parent and without_conversation_shard.any():
            for item, rows in cut_by_slice(batch.filter(pa.array(without_conversation_shard))):
                self._without_conversation_shard[item] += rows.num_rows
        return with_shards(batch, shards)

    def _file_writer(self, step: Step, table: Table) -> SliceWriter:
        name = slice_store.EXTRACT if step is Step.EXTRACT else slice_store.ROWS
        return self._store.writer(name, table, self._extract, len(self._shards))

    def _timed_batches(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        while True:
            with self._timed(self._chain[0]):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    @contextmanager
    def _timed(self, step: Step) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[step] += time.perf_counter() - begun
