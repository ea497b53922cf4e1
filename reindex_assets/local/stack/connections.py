"""Connections to the local stack that may write, like an application's. Production code never uses them.

What lives here: opening them, and creating their databases. What does not: any other statement.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import clickhouse_connect
import psycopg2
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse.shards import quoted
from reindex_assets.config.cluster import Cluster
from reindex_assets.config.engines import Shard
from reindex_assets.local.stack.files_of_stack import SHARD_DATABASE


def connect_source(cluster: Cluster) -> Connection:
    """A connection to the source database, in autocommit."""
    postgres = cluster.postgres
    connection: Connection = psycopg2.connect(
        host=postgres.host,
        port=postgres.port,
        dbname=postgres.database,
        user=postgres.user,
        password=postgres.password.resolve().get_secret_value(),
    )
    connection.autocommit = True
    return connection


def connect_shards(cluster: Cluster) -> list[Client]:
    """A client for each shard, in their order."""
    return [_connect(cluster, shard, cluster.clickhouse.database) for shard in cluster.clickhouse.shards]


@contextlib.contextmanager
def open_engines(cluster: Cluster) -> Iterator[tuple[Connection, list[Client]]]:
    """The source and every shard, closed at the end."""
    with contextlib.closing(connect_source(cluster)) as source, contextlib.ExitStack() as stack:
        yield source, [stack.enter_context(client) for client in connect_shards(cluster)]


def create_databases(cluster: Cluster) -> None:
    """Creates the cluster's database on each of its shards where it is missing."""
    for shard in cluster.clickhouse.shards:
        with _connect(cluster, shard, SHARD_DATABASE) as client:
            client.command(f"CREATE DATABASE IF NOT EXISTS {quoted(cluster.clickhouse.database)}")


def _connect(cluster: Cluster, shard: Shard, database: str) -> Client:
    clickhouse = cluster.clickhouse
    return clickhouse_connect.get_client(
        host=shard.host,
        port=shard.port,
        username=clickhouse.user,
        password=clickhouse.password.resolve().get_secret_value(),
        database=database,
    )
