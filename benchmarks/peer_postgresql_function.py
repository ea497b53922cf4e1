"""Peer: ClickHouse's INSERT INTO ... SELECT FROM postgresql(...), with which an engine reads Postgres itself, over TCP.

It runs in two ways. *One engine*: shard 0 copies all rows of both tables into plain MergeTree tables; the peer is at its best, without a
sharded cluster. *To the shards*: all shards at once copy their own rows into the real tables; each query reads all rows of the window from
Postgres to keep a quarter. Neither way compares anything, and each table is read in its own snapshot. The function can't read a denormal
number (5e-324: "Cannot parse PostgreSQL value"), so Postgres sends zeros for those.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from clickhouse_connect.driver.binding import format_str
from clickhouse_connect.driver.client import Client

from benchmarks.data import Window
from benchmarks.raw_read import Moved
from benchmarks.source_query import copy_query
from benchmarks.target import Target
from reindex_assets.clickhouse.schema import PARTITION_BY, column_definitions
from reindex_assets.config.default_tables import TABLES
from reindex_assets.model import Table


def to_one_engine(target: Target, window: Window) -> Moved:
    """Copies all rows into plain MergeTree tables of one engine, and drops these afterwards."""
    with target.shards() as clients:
        client = clients[0]
        for table in TABLES:
            client.command(f"DROP TABLE IF EXISTS {_plain_name(table)} SYNC")
            client.command(
                f"CREATE TABLE {_plain_name(table)} ({column_definitions(table)})\n"
                f"ENGINE = MergeTree PARTITION BY {PARTITION_BY} ORDER BY ({', '.join(table.key)})"
            )
        begun = time.perf_counter()
        for table in TABLES:
            client.command(_insert(_plain_name(table), table, target, copy_query(table, window, denormal_as_zero=True)))
        seconds = time.perf_counter() - begun
        rows = sum(_count(client, _plain_name(table)) for table in TABLES)
        for table in TABLES:
            client.command(f"DROP TABLE {_plain_name(table)} SYNC")
    return Moved(rows, seconds)


def to_the_shards(target: Target, window: Window) -> Moved:
    """Copies each shard's rows into its real tables, all shards at once."""
    count = target.shard_count
    with target.shards() as clients, ThreadPoolExecutor(count) as workers:

        def fill(shard: int) -> None:
            for table in TABLES:
                query = copy_query(table, window, shard, count, denormal_as_zero=True)
                clients[shard].command(_insert(table.name, table, target, query))

        begun = time.perf_counter()
        list(workers.map(fill, range(count)))
        seconds = time.perf_counter() - begun
        rows = sum(_count(client, table.name) for client in clients for table in TABLES)
    return Moved(rows, seconds)


def _plain_name(table: Table) -> str:
    return f"benchmark_{table.name}"


def _insert(name: str, table: Table, target: Target, query: str) -> str:
    postgres = target.cluster.postgres
    password = postgres.password.resolve().get_secret_value()
    columns = ", ".join(table.column_names)
    return (
        f"INSERT INTO {name} ({columns})\nSELECT {columns} FROM postgresql(\n"
        f"    {format_str(f'{postgres.host}:{postgres.port}')}, {format_str(postgres.database)}, query({format_str(query)}),\n"
        f"    {format_str(postgres.user)}, {format_str(password)}\n)"
    )


def _count(client: Client, table: str) -> int:
    [(rows,)] = client.query(f"SELECT count() FROM {table}").result_rows
    return int(rows)
