"""Where a measured run reads and writes: a fleet, its file, the environment of its processes and its servers.

What lives here: connections to them, and the reset between two runs. What does not: making them (stacks.py).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.config.cluster import Cluster
from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.stack.connections import connect_shards, connect_source
from reindex_assets.local.stack.files_of_stack import CLUSTER


@dataclass(frozen=True)
class Servers:
    """The processes that work for a run: the postmaster, and one for each shard."""

    postgres: psutil.Process
    shards: tuple[psutil.Process, ...]


@dataclass(frozen=True)
class Target:
    """What runs are measured on.

    Attributes:
        environment: of a run's processes: the fleet file, DAGSTER_HOME and the passwords.
    """

    fleet: Fleet
    fleet_path: Path
    environment: Mapping[str, str]
    servers: Servers

    @property
    def cluster(self) -> Cluster:
        return self.fleet.clusters[CLUSTER]

    @property
    def shard_count(self) -> int:
        return len(self.cluster.clickhouse.shards)

    @contextlib.contextmanager
    def source(self) -> Iterator[Connection]:
        """The Postgres source, with the right to write."""
        with contextlib.closing(connect_source(self.cluster)) as connection:
            yield connection

    @contextlib.contextmanager
    def shards(self) -> Iterator[list[Client]]:
        """One client per shard."""
        with contextlib.ExitStack() as closing:
            yield [closing.enter_context(client) for client in connect_shards(self.cluster)]

    def reset(self) -> None:
        """Restores the state before the first run: no row in ClickHouse, and no file in the slice store (which also holds the watch's)."""
        with self.shards() as clients:
            for client in clients:
                for table in TABLES:
                    client.command(f"TRUNCATE TABLE {table.name} SYNC")
        slices = Path(self.fleet.slices)
        if slices.exists():
            shutil.rmtree(slices)
        slices.mkdir(parents=True)


def with_limits(fleet: Fleet, **limits: int) -> Fleet:
    """The same fleet with other limits of its Postgres."""
    cluster = fleet.clusters[CLUSTER]
    postgres = cluster.postgres.model_copy(update=limits)
    return fleet.model_copy(update={"clusters": {CLUSTER: cluster.model_copy(update={"postgres": postgres})}})
