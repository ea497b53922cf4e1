"""Rows that wait for their insert, as the bytes that will be sent: an Arrow stream whose buffers are compressed.

What lives here: the block. What does not: its table and shard (reindex/writer.py), the request (clickhouse/shards.py).

Rows are compressed as they come: uncompressed, what waits for four shards is most of the memory of a run (265 bytes a score instead of
80), and slices of a batch keep the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True, kw_only=True)
class ArrowStream:
    """A whole block: its columns, and the bytes of an Arrow stream."""

    columns: list[str]
    body: pa.Buffer


class InsertBlock:
    """Rows of one table that come in batches."""

    def __init__(self) -> None:
        self.rows = 0
        self._columns: list[str] = []
        self._sink = pa.BufferOutputStream()
        self._writer: pa.RecordBatchStreamWriter | None = None

    def add(self, rows: pa.RecordBatch) -> None:
        """Adds rows; all have the same columns."""
        if self._writer is None:
            self._columns = rows.schema.names
            self._writer = pa.ipc.new_stream(self._sink, rows.schema, options=_OPTIONS)
        self._writer.write_batch(rows)
        self.rows += rows.num_rows

    def finish(self) -> ArrowStream:
        """The whole block; nothing can be added afterwards."""
        assert self._writer is not None, "a block without rows is not sent"
        self._writer.close()
        return ArrowStream(columns=self._columns, body=self._sink.getvalue())
