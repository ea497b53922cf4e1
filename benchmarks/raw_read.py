"""The raw read, the physical limit: the rows of both tables are streamed out of Postgres as Arrow over one connection, and dropped.

What lives here: the stream, which the plain copy uses too. What does not: any writing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pyarrow as pa
from adbc_driver_postgresql import dbapi as postgresql

from benchmarks.data import Window
from benchmarks.source_query import copy_query
from benchmarks.target import Target
from reindex_assets.config.default_tables import TABLES
from reindex_assets.model import Table


@dataclass(frozen=True)
class Moved:
    """The rows of both tables that a peer has moved, and the seconds that it took."""

    rows: int
    seconds: float


def raw_read(target: Target, window: Window) -> Moved:
    """Reads every row and drops it."""
    begun = time.perf_counter()
    with source_stream(target) as stream:
        rows = sum(batch.num_rows for table in TABLES for batch in stream.read(table, window))
    return Moved(rows, time.perf_counter() - begun)


class SourceStream:
    """One ADBC connection, with the driver's own settings."""

    def __init__(self, connection: postgresql.Connection) -> None:
        self._connection = connection

    def read(self, table: Table, window: Window) -> Iterator[pa.RecordBatch]:
        """A table's rows, batch by batch as they arrive."""
        with self._connection.cursor() as cursor:
            cursor.execute(copy_query(table, window))
            yield from cursor.fetch_record_batch()


@contextlib.contextmanager
def source_stream(target: Target) -> Iterator[SourceStream]:
    """A connection to Postgres for one copy."""
    postgres = target.cluster.postgres
    password = quote(postgres.password.resolve().get_secret_value(), safe="")
    uri = f"postgresql://{postgres.user}:{password}@{postgres.host}:{postgres.port}/{postgres.database}?sslmode=disable"
    with postgresql.connect(uri) as connection:
        yield SourceStream(connection)
