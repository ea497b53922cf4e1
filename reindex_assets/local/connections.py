"""Connections to the local stack as an application has them: with the right to write. Production code never uses these.

What lives here: opening them. What does not: any statement.
"""

from __future__ import annotations

import clickhouse_connect
import psycopg2
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.fleet import Cluster


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
    clickhouse = cluster.clickhouse
    return [
        clickhouse_connect.get_client(
            host=shard.host,
            port=shard.port,
            username=clickhouse.user,
            password=clickhouse.password.resolve().get_secret_value(),
            database=clickhouse.database,
        )
        for shard in clickhouse.shards
    ]
