"""Peer: ClickHouse's own INSERT INTO ... SELECT FROM postgresql(...), by which an engine reads Postgres itself.

In two ways, both inside the shards' engines, with Postgres on TCP. *One engine*: shard 0 takes all rows of both tables into plain
MergeTree tables: the peer at its best, and no sharded cluster. *To the shards*: every shard takes its own rows into the real
tables, all at once; each query reads all of Postgres' rows of the window to keep a quarter. Neither compares anything, and each
table is a snapshot of its own. The function can't read a denormal number (5e-324: "Cannot parse PostgreSQL value"), so Postgres gives it
zeros for those.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from clickhouse_connect.driver.client import Client

from benchmarks.data import Window
from benchmarks.figures import WrongRunError
from benchmarks.raw_read import Moved
from benchmarks.source_query import copy_query
from benchmarks.target import Target
from reindex_assets.clickhouse.schema import PARTITION_BY, column_definitions
from reindex_assets.model import TABLES, Table


def to_one_engine(target: Target, window: Window) -> Moved:
    """All rows into plain MergeTree tables of one engine, which are dropped afterwards."""
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
    """Each shard's rows into its real tables, all shards at once."""
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
        f"    {_text(f'{postgres.host}:{postgres.port}')}, {_text(postgres.database)}, query({_text(query)}),\n"
        f"    {_text(postgres.user)}, {_text(password)}\n)"
    )


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _count(client: Client, table: str) -> int:
    found = client.query(f"SELECT count() FROM {table}").result_rows
    if not found:
        raise WrongRunError(f"{table} could not be counted")
    return int(found[0][0])
