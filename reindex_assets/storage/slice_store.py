"""The slice store: Parquet files that hand a slice from one step to the next, on any path that fsspec knows.

What lives here: paths, atomic replacement, and the metadata by which a reader knows that a slice is whole. What does not: what is in a row.

Each step writes one file per slice and table, `<root>/<cluster>/<kind>/<customer>/<day>/<step>-<table>.parquet`; a later run replaces
it. The files carry the time of their snapshot and the id of their extract, and files of different extracts are never read together. The
file of the step `rows` holds only the shard of each row in the extract's file, in the same order, and two extracts may order their rows
differently even in the same snapshot (an idle standby keeps showing the same one).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from reindex_assets.config.dataset import Dataset
from reindex_assets.config.default_tables import TABLES
from reindex_assets.errors import ConfigurationError, MissingSliceError
from reindex_assets.model import SHARD, Slice, Table

EXTRACT = "extract"
ROWS = "rows"

_SNAPSHOT_KEY = b"reindex_assets.snapshot_microseconds"
_EXTRACT_KEY = b"reindex_assets.extract"
_LAYOUT_KEY = b"reindex_assets.shard_count"
#: Files without it are of a version in which there were no other tables than the default ones.
_TABLES_KEY = b"reindex_assets.tables"
#: A row group is written when this many rows of a slice are in memory, or this many bytes of all slices of a table.
_ROW_GROUP = 32_768
_BYTES_WAITING = 16 * 1024 * 1024
_SHARDS = pa.schema([pa.field(SHARD, pa.uint16(), nullable=False)])


@dataclass(frozen=True, kw_only=True)
class SliceFile:
    """A written file."""

    path: str
    rows: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class ExtractInfo:
    """The extract that the rows of a file come from.

    Attributes:
        snapshot: time of the Postgres snapshot, microseconds.
        extract_id: differs even between two extracts of the same snapshot.
    """

    snapshot: int
    extract_id: str

    @staticmethod
    def new(snapshot: int) -> ExtractInfo:
        """For an extract that is about to begin."""
        return ExtractInfo(snapshot=snapshot, extract_id=uuid.uuid4().hex)


def _what_is_read(tables: Iterable[Table]) -> bytes:
    """Which values of which rows an extract holds, as a digest."""
    read = [
        (table.name, table.where, [(column.name, column.clickhouse, column.source) for column in table.columns])
        for table in tables
    ]
    return hashlib.sha256(repr(read).encode()).hexdigest().encode()


class SliceStore:
    """The files of one dataset."""

    def __init__(self, dataset: Dataset) -> None:
        root = dataset.slices_root
        try:
            self._files, base = fsspec.core.url_to_fs(root)
        except (ValueError, ImportError, OSError) as error:
            raise ConfigurationError(f"'slices: {root}' in the fleet file can't be opened: {error}") from error
        self._root = f"{base}/{dataset.cluster_name}/{dataset.kind.name}"
        self._tables = dataset.tables
        # Each of a window's thousands of files is looked at.
        self._what_is_read = _what_is_read(dataset.tables)
        self._by_default = _what_is_read(TABLES)

    def path(self, item: Slice, step: str, table: Table) -> str:
        """The path of a slice's file."""
        return f"{self._root}/{item.customer}/{item.day.isoformat()}/{step}-{table.name}.parquet"

    def state_path(self, name: str) -> str:
        """The path of a state file (storage/state_file.py). The suffix is the one that version 0.1 used."""
        return f"{self._root}/{name}.memory"

    def open(self, path: str) -> Any:
        """Opens a file for reading."""
        return self._files.open(path, "rb")

    def writer(self, step: str, table: Table, extract: ExtractInfo, shard_count: int) -> SliceWriter:
        """A writer for one table's files of many slices."""
        metadata = {
            _SNAPSHOT_KEY: str(extract.snapshot).encode(),
            _EXTRACT_KEY: extract.extract_id.encode(),
            _LAYOUT_KEY: str(shard_count).encode(),
            _TABLES_KEY: self._what_is_read,
        }
        schema = table.arrow_schema if step == EXTRACT else _SHARDS
        return SliceWriter(self, step, table, schema.with_metadata(metadata))

    def extract_info(self, item: Slice, step: str, shard_count: int) -> ExtractInfo:
        """The extract that a slice's files of a step come from.

        Raises:
            MissingSliceError: the slice has no files, its files come from different extracts, or were read while the fleet file
                declared other tables, or its rows were placed for another shard count.
        """
        extracts = {self._extract_info(item, step, table, shard_count) for table in self._tables}
        if len(extracts) > 1:
            raise MissingSliceError(
                f"the {step} files of {item} come from different extracts (a run was killed between them): "
                "run scorecard_extract of this partition again"
            )
        if step == ROWS and extracts != {self.extract_info(item, EXTRACT, shard_count)}:
            raise MissingSliceError(
                f"the rows files of {item} belong to another extract than its extract files: run score_rows of this partition again"
            )
        return extracts.pop()

    def is_whole(self, item: Slice, shard_count: int) -> bool:
        """Whether a slice has the files of both steps, from the same extract and for this number of shards."""
        try:
            self.extract_info(item, ROWS, shard_count)
        except MissingSliceError:
            return False
        return True

    def _extract_info(self, item: Slice, step: str, table: Table, shard_count: int) -> ExtractInfo:
        path = self.path(item, step, table)
        try:
            with self._files.open(path, "rb") as file:
                metadata = pq.read_schema(file).metadata or {}
        except FileNotFoundError:
            raise MissingSliceError(
                f"there are no {step} files of {item} ({path}): run "
                f"{'scorecard_extract' if step == EXTRACT else 'scorecard_extract and score_rows'} "
                "of this partition first"
            ) from None
        if metadata.get(_TABLES_KEY, self._by_default) != self._what_is_read:
            # Rows that another condition left out would be taken for deleted ones.
            raise MissingSliceError(
                f"the {step} files of {item} were read while the fleet file declared other tables, columns or conditions: "
                "run scorecard_extract of this partition again"
            )
        if step == ROWS and int(metadata[_LAYOUT_KEY]) != shard_count:
            raise MissingSliceError(
                f"the rows of {item} were placed on {metadata[_LAYOUT_KEY].decode()} shards, the fleet file has "
                f"{shard_count}: run score_rows of this partition again"
            )
        if _EXTRACT_KEY not in metadata:
            raise MissingSliceError(
                f"the {step} files of {item} were written by an older version: run scorecard_extract of this partition again"
            )
        return ExtractInfo(snapshot=int(metadata[_SNAPSHOT_KEY]), extract_id=metadata[_EXTRACT_KEY].decode())

    def read(self, item: Slice, step: str, table: Table) -> Iterator[pa.RecordBatch]:
        """Streams a slice's rows of a table. After the step `rows` the last column is the shard."""
        extract = self._read(self.path(item, EXTRACT, table))
        if step == EXTRACT:
            yield from extract
            return
        for rows, placed in zip(extract, self._read(self.path(item, ROWS, table)), strict=True):
            yield rows.append_column(SHARD, placed.column(SHARD))

    def _read(self, path: str) -> Iterator[pa.RecordBatch]:
        with self._files.open(path, "rb") as file, pq.ParquetFile(file) as parquet:
            # A fixed batch size, so that the batches of both files match although their row groups may not.
            for batch in parquet.iter_batches(batch_size=_ROW_GROUP):
                yield batch.replace_schema_metadata(None)

    def create(self, path: str) -> Any:
        """Opens a temporary file beside `path` for writing: (its name, the file)."""
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        name = f"{path}.{uuid.uuid4().hex}.tmp"
        return name, self._files.open(name, "wb")

    def publish(self, name: str, path: str) -> int:
        """Puts a finished temporary file in its place and returns its size in bytes.

        Any other temporary files of that path were left by killed runs, as a run locks its slices.
        """
        self._files.mv(name, path)
        for left_over in self._files.glob(f"{path}.*.tmp"):
            self._files.rm(left_over)
        return int(self._files.size(path))

    def discard(self, name: str) -> None:
        """Removes a temporary file."""
        if self._files.exists(name):
            self._files.rm(name)


class SliceWriter(AbstractContextManager["SliceWriter"]):
    """Writes one table's rows of many slices, one file per slice. The files appear only in `finish`."""

    def __init__(self, store: SliceStore, step: str, table: Table, schema: pa.Schema) -> None:
        self._store = store
        self._step = step
        self._table = table
        self._schema = schema
        self._open: dict[Slice, _OpenFile] = {}
        self.waiting_bytes = 0

    def __exit__(self, *error: object) -> None:
        for file in self._open.values():
            file.abandon()

    def write(self, item: Slice, rows: pa.RecordBatch) -> None:
        """Adds rows to a slice's file."""
        self.waiting_bytes += rows.nbytes - self._file(item).write(rows)
        while self.waiting_bytes > _BYTES_WAITING:
            self.waiting_bytes -= max(self._open.values(), key=lambda open_file: open_file.waiting_bytes).flush()

    def close_files(self) -> None:
        """Writes the remaining rows and closes the files, as those of many slices would be too many to keep open."""
        for file in self._open.values():
            file.close()
        self.waiting_bytes = 0

    def finish(self, slices: list[Slice]) -> dict[Slice, SliceFile]:
        """Puts the files of `slices` in place. A slice without rows gets an empty file, so that a missing file means 'never run'."""
        done = {}
        for item in slices:
            done[item] = self._file(item).publish()
            del self._open[item]
        return done

    def _file(self, item: Slice) -> _OpenFile:
        if item not in self._open:
            repeating = [column.name for column in self._table.columns if column.type.repeats]
            dictionaries = [name for name in repeating if name in self._schema.names]
            path = self._store.path(item, self._step, self._table)
            self._open[item] = _OpenFile(self._store, path, self._schema, dictionaries or False)
        return self._open[item]


class _OpenFile:
    """A Parquet file under its temporary name, and the rows that wait for its next row group."""

    def __init__(self, store: SliceStore, path: str, schema: pa.Schema, dictionaries: list[str] | bool) -> None:
        self._store = store
        self._path = path
        self._schema = schema
        self._dictionaries = dictionaries
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self.waiting_bytes = 0
        self._rows = 0
        self._name = ""
        self._file: Any = None
        self._writer: pq.ParquetWriter | None = None

    def write(self, rows: pa.RecordBatch) -> int:
        """Adds rows; returns the bytes written, if that filled a row group."""
        self._waiting.append(rows)
        self._waiting_rows += rows.num_rows
        self.waiting_bytes += rows.nbytes
        return self.flush() if self._waiting_rows >= _ROW_GROUP else 0

    def flush(self) -> int:
        """Writes the waiting rows as a row group; returns their bytes."""
        if self._writer is None:
            self._name, self._file = self._store.create(self._path)
            self._writer = pq.ParquetWriter(
                self._file,
                self._schema,
                compression="lz4",
                write_statistics=False,
                # Trying a dictionary on values that never repeat took a third of the time.
                use_dictionary=self._dictionaries,
            )
        written = self.waiting_bytes
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting).cast(self._schema))
            self._rows += self._waiting_rows
            self._waiting, self._waiting_rows, self.waiting_bytes = [], 0, 0
        return written

    def close(self) -> None:
        """Writes the end of the file; it keeps its temporary name."""
        self.flush()
        assert self._writer is not None
        # Closing twice does nothing.
        self._writer.close()
        self._file.close()

    def publish(self) -> SliceFile:
        self.close()
        return SliceFile(path=self._path, rows=self._rows, bytes=self._store.publish(self._name, self._path))

    def abandon(self) -> None:
        self._waiting = []
        if self._writer is not None:
            self._writer.close()
            self._file.close()
            self._store.discard(self._name)
