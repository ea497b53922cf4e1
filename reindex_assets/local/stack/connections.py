"""Connections to the local stack as an application has them: with the right to write. Production code never uses these.

What lives here: opening them, and making the databases that they are to. What does not: any other statement.
"""

from __future__ import annotations

import clickhouse_connect
import psycopg2
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse.shards import quoted
from reindex_assets.config.cluster import Cluster
from reindex_assets.local.stack.files_of_stack import SHARD_DATABASE


def connect_source(cluster: Cluster) -> Connection:
    """The source database, autocommit."""
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
    """One client per shard, in the shards' order."""
    return [_connect(cluster, number, cluster.clickhouse.database) for number in range(len(cluster.clickhouse.shards))]


def create_databases(cluster: Cluster) -> None:
    """The cluster's database on each of its shards; what is there already is left in peace."""
    for number in range(len(cluster.clickhouse.shards)):
        with _connect(cluster, number, SHARD_DATABASE) as client:
            client.command(f"CREATE DATABASE IF NOT EXISTS {quoted(cluster.clickhouse.database)}")


def _connect(cluster: Cluster, number: int, database: str) -> Client:
    clickhouse = cluster.clickhouse
    shard = clickhouse.shards[number]
    return clickhouse_connect.get_client(
        host=shard.host,
        port=shard.port,
        username=clickhouse.user,
        password=clickhouse.password.resolve().get_secret_value(),
        database=database,
    )
