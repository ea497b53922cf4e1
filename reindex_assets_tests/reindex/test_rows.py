"""The score rows of a batch: each with its shard, cut by slice and by shard, none lost and none doubled.

What lives here: hypothesis against exact arithmetic. What does not: engines (placement/test_placement.py asks them).
"""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from reindex_assets.model import SHARD, Slice
from reindex_assets.reindex.rows import count_by_slice_and_shard, cut_by_shard, cut_by_slice, non_finite, with_shards
from reindex_assets.selection.shard_rule import shards_by_time
from reindex_assets_tests.support.generated import (
    batch_of,
    exact_shard,
    rows_lists,
    shard_counts,
)


def by_time(batch: pa.RecordBatch, shard_count: int) -> pa.RecordBatch:
    """The batch with the shards of its times."""
    return with_shards(batch, shards_by_time(batch, shard_count))


@given(rows_lists, shard_counts)
def test_each_row_gets_the_shard_of_its_floored_second(rows: list[tuple[str, datetime]], shard_count: int) -> None:
    placed = by_time(batch_of(rows), shard_count)
    assert placed.column(SHARD).to_pylist() == [exact_shard(time, shard_count) for _, time in rows]
    assert placed.schema.field(SHARD).type == pa.uint16()


@given(rows_lists)
def test_cutting_by_slice_loses_nothing_doubles_nothing_and_names_the_right_day(
    rows: list[tuple[str, datetime]],
) -> None:
    parts = list(cut_by_slice(batch_of(rows)))

    assert len({item for item, _ in parts}) == len(parts)
    found = {number: item for item, part in parts for number in part.column("number").to_pylist()}
    assert sum(part.num_rows for _, part in parts) == len(rows)
    assert found == {number: Slice(customer, time.date()) for number, (customer, time) in enumerate(rows)}


@given(rows_lists, shard_counts)
def test_cutting_by_shard_loses_nothing_and_doubles_nothing(rows: list[tuple[str, datetime]], shard_count: int) -> None:
    batch = batch_of(rows)
    found: dict[int, int] = {}
    total = 0
    for shard, part in cut_by_shard(by_time(batch, shard_count), shard_count):
        assert part.schema == batch.schema
        assert part.num_rows
        total += part.num_rows
        found |= dict.fromkeys(part.column("number").to_pylist(), shard)
    assert total == len(rows)
    assert found == {number: exact_shard(time, shard_count) for number, (_, time) in enumerate(rows)}


@given(rows_lists, shard_counts)
def test_counts_by_slice_and_shard_are_those_of_the_rows(rows: list[tuple[str, datetime]], shard_count: int) -> None:
    assert count_by_slice_and_shard(by_time(batch_of(rows), shard_count)) == Counter(
        (Slice(customer, time.date()), exact_shard(time, shard_count)) for customer, time in rows
    )


@given(st.lists(st.tuples(*[st.one_of(st.none(), st.floats())] * 2), max_size=30))
def test_values_that_are_no_number_are_counted(values: list[tuple[float | None, float | None]]) -> None:
    columns = [pa.array([row[position] for row in values], pa.float64()) for position in range(2)]
    batch = pa.RecordBatch.from_arrays([*columns, pa.array(range(len(values)))], names=["one", "two", "number"])
    assert non_finite(batch) == sum(value is not None and not math.isfinite(value) for row in values for value in row)
