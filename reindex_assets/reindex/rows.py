"""Batches of rows, cut by slice and by shard.

What lives here: cutting and counting. What does not: choosing the shards (selection/shard_rule.py, placement/resolver.py), reading
(postgres/extract.py) and writing (reindex/writer.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reindex_assets.model import SHARD, Slice
from reindex_assets.selection.shard_rule import day_numbers, microseconds_of

_EPOCH = date(1970, 1, 1)


def with_shards(batch: pa.RecordBatch, shards: np.ndarray[Any, np.dtype[Any]]) -> pa.RecordBatch:
    """`batch` with a last column `shard` (uint16)."""
    return batch.append_column(SHARD, pa.array(shards.astype(np.uint16)))


def cut_by_slice(batch: pa.RecordBatch) -> Iterator[tuple[Slice, pa.RecordBatch]]:
    """Cuts a batch into one batch per slice."""
    days = day_numbers(microseconds_of(batch))
    customers = batch.column("customer").dictionary_encode()
    codes = customers.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    first_day = int(days.min())
    span = int(days.max()) - first_day + 1
    slice_numbers = codes * span + (days - first_day)
    order = np.argsort(slice_numbers, kind="stable")
    numbers, starts = np.unique(slice_numbers[order], return_index=True)
    for number, start, end in zip(numbers, starts, [*starts[1:], len(order)], strict=True):
        customer = customers.dictionary[int(number) // span].as_py()
        day = _EPOCH + timedelta(days=int(number) % span + first_day)
        # Copied, so that a few rows that wait for more don't keep the whole batch in memory.
        rows = batch if len(numbers) == 1 else batch.take(pa.array(order[start:end]))
        yield Slice(customer, day), rows


def cut_by_shard(batch: pa.RecordBatch, shard_count: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Cuts a `with_shards` batch into one batch per shard, and drops that column."""
    shards = batch.column(SHARD).to_numpy(zero_copy_only=False)
    order = np.argsort(shards, kind="stable")
    # One `take`, then slices without a copy: a `take` per shard costs three times as much.
    ordered = batch.drop_columns([SHARD]).take(pa.array(order))
    ends = np.cumsum(np.bincount(shards, minlength=shard_count)).tolist()
    for shard, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if end > start:
            yield shard, ordered.slice(start, end - start)


def count_by_slice_and_shard(batch: pa.RecordBatch) -> dict[tuple[Slice, int], int]:
    """Rows of a `with_shards` batch by slice and shard."""
    days = pa.array(day_numbers(microseconds_of(batch)).astype(np.int32), pa.int32()).view(pa.date32())
    counts = (
        pa.table({"customer": batch.column("customer"), "day": days, SHARD: batch.column(SHARD)})
        .group_by(["customer", "day", SHARD])
        .aggregate([([], "count_all")])
    )
    return {(Slice.of_row(row), row[SHARD]): row["count_all"] for row in counts.to_pylist()}


def non_finite(batch: pa.RecordBatch) -> int:
    """Counts NaN and infinite values: they are copied bit for bit, and reported because they spoil a dashboard's averages."""
    return sum(
        int(pc.sum(pc.invert(pc.is_finite(column.drop_null()))).as_py() or 0)
        for column in batch.columns
        if pa.types.is_floating(column.type)
    )
