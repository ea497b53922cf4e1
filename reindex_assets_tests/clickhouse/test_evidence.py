"""The sums that are made of rows on their way, and by a shard of what it shows: alike for every value, and apart for every other one.

What lives here: the sums. What does not: what a run does without evidence (reindex/test_evidence.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reindex_assets.clickhouse import evidence, staging
from reindex_assets.clickhouse.evidence import Evidence, evidence_of, expect
from reindex_assets.clickhouse.insert_block import InsertBlock
from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.clickhouse.staging import StagingNames
from reindex_assets.column_types import FLOAT, TIME
from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import UnconfirmedWriteError
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import Column, Table
from reindex_assets.retry import EVIDENCE
from reindex_assets_tests.support.generated import times

NAMES = StagingNames(owner=7, group=7)
DEFAULTS: dict[pa.DataType, Any] = {pa.string(): "a", pa.bool_(): True, pa.int16(): 1, pa.uint8(): 2}


def values(column: Column) -> st.SearchStrategy[Any]:
    kinds = {pa.binary(16): st.binary(min_size=16, max_size=16), TIME.arrow: times, FLOAT.arrow: st.floats()}
    found = kinds.get(column.type.arrow, st.just(DEFAULTS.get(column.type.arrow)))
    return st.none() | found if column.nullable else found


@st.composite
def batches(draw: st.DrawFn) -> tuple[Table, pa.RecordBatch]:
    table = draw(st.sampled_from(list(TABLES)))
    rows = draw(st.integers(1, 5))
    arrays = [
        pa.array(draw(st.lists(values(column), min_size=rows, max_size=rows)), column.type.arrow)
        for column in table.columns
    ]
    batch = pa.RecordBatch.from_arrays(arrays, schema=table.arrow_schema)
    # A run sends slices of batches, too.
    return table, batch.slice(draw(st.integers(0, rows - 1)))


@pytest.fixture
def shards(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShardSet]:
    monkeypatch.setattr(evidence, "EVIDENCE", replace(EVIDENCE, attempts=1))
    with ShardSet(fleet.clusters[CLUSTER]) as shards:
        yield shards


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=batches())
def test_what_was_sent_is_what_the_shard_shows_and_nothing_else_is(
    shards: ShardSet, made: tuple[Table, pa.RecordBatch]
) -> None:
    table, batch = made
    shard = shards.connections[0]
    name = NAMES.rows(table)
    sent = evidence_of(batch, table.columns)
    staging.create_rows(shard, NAMES, table)
    try:
        block = InsertBlock()
        block.add(batch)
        shard.insert(name, block.finish())

        expect(shard, "rows", name, table.columns, sent)

        for wrong in (Evidence(), sent + sent, replace(sent, checksum=sent.checksum ^ 1)):
            with pytest.raises(UnconfirmedWriteError, match="has acknowledged"):
                expect(shard, "rows", name, table.columns, wrong)
    finally:
        staging.drop(shard, [name])


@pytest.mark.parametrize("table", list(TABLES), ids=lambda table: table.name)
def test_every_value_that_is_summed_up_counts_in_its_own_column(table: Table) -> None:
    numbered = [column for column in table.columns if column.type.shard_numbers(column.name)]
    assert len(numbered) >= 7
    arrays = {column.name: pa.array([DEFAULTS.get(column.type.arrow)], column.type.arrow) for column in table.columns}
    zero = {pa.binary(16): bytes(16), TIME.arrow: 0, FLOAT.arrow: 0.0}
    one = {pa.binary(16): bytes(15) + b"\1", TIME.arrow: 1, FLOAT.arrow: 5e-324}
    arrays |= {column.name: pa.array([zero[column.type.arrow]], column.type.arrow) for column in numbered}

    def checksum(**changed: pa.Array) -> int:
        return evidence_of(pa.record_batch({**arrays, **changed}), table.columns).checksum

    changed = [checksum(**{column.name: pa.array([one[column.type.arrow]], column.type.arrow)}) for column in numbered]
    assert checksum() == 0
    assert len({0, *changed}) == len(numbered) + 1
