"""Peer: a plain copy, ADBC to insert_arrow. It is the shortest program that fills the shards, and it guarantees nothing.

It takes no snapshot over both tables, compares nothing with the rows that are there, keeps no order between scores and scorecards, and
checks nothing. A second run doubles the rows until a merge, and rows deleted in Postgres stay. Each shard has a thread, which inserts one
batch at a time.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from clickhouse_connect.driver.client import Client

from benchmarks.data import Window
from benchmarks.raw_read import Moved, source_stream
from benchmarks.target import Target
from reindex_assets.config.default_tables import TABLES
from reindex_assets.model import MICROSECONDS, Table

_SETTINGS = {"async_insert": 0}


def plain_copy(target: Target, window: Window) -> Moved:
    """Copies every row to its shard."""
    begun = time.perf_counter()
    rows = 0
    count = target.shard_count
    with target.shards() as clients, source_stream(target) as stream:
        workers = [ThreadPoolExecutor(1) for _ in clients]
        inserts: list[Future[object] | None] = [None] * count
        for table in TABLES:
            for batch in stream.read(table, window):
                rows += batch.num_rows
                for shard, part in enumerate(_by_shard(_plain(batch, table), count)):
                    _wait(inserts[shard])
                    inserts[shard] = workers[shard].submit(_insert, clients[shard], table, part)
        for future in inserts:
            _wait(future)
        for worker in workers:
            worker.shutdown()
    return Moved(rows, time.perf_counter() - begun)


def _insert(client: Client, table: Table, rows: pa.Table) -> None:
    if rows.num_rows:
        client.insert_arrow(table.name, rows, settings=_SETTINGS)


def _wait(future: Future[object] | None) -> None:
    if future is not None:
        future.result()


def _plain(batch: pa.RecordBatch, table: Table) -> pa.Table:
    columns = [column.storage if isinstance(column, pa.ExtensionArray) else column for column in batch.columns]
    schema = table.arrow_schema
    return pa.table(
        [column.cast(field.type) for column, field in zip(columns, schema, strict=True)], names=schema.names
    )


def _by_shard(rows: pa.Table, count: int) -> list[pa.Table]:
    times = rows.column("scorecard_time").cast(pa.int64()).to_numpy()
    shards = times // MICROSECONDS % count
    return [rows.take(pa.array(np.flatnonzero(shards == shard))) for shard in range(count)]
