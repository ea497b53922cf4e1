"""The local stack: one PostgreSQL and N ClickHouse shards in one directory, started, stopped and removed together.

The shards belong to one cluster, or to all clusters of a fleet, which share them by a database each (local/demo/fleet_plan.py).

What lives here: the order of the steps, and the choice of ports. What does not: how one server is run (local/stack/postgres.py,
local/stack/shards.py), the contents of the files (local/stack/files_of_stack.py), and rows.

    <root>/env  fleet.yaml  stack.json  lock  dagster/  postgres/  shards/shard-0/ ...  slices/
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from importlib import resources
from pathlib import Path

from reindex_assets.config.cluster import Cluster
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.local_environment import (
    DEFAULT_ROOT,
    PASSWORD_VARIABLE,
    environment_path,
    load_local_environment,
)
from reindex_assets.errors import ConfigurationError
from reindex_assets.local.demo.fleet_plan import FleetPlan
from reindex_assets.local.stack import files_of_stack as files
from reindex_assets.local.stack.dagster_lock import dagster_lock_path, refuse_beside_dagster
from reindex_assets.local.stack.files import exclusive_lock
from reindex_assets.local.stack.files_of_stack import CLUSTER, Layout
from reindex_assets.local.stack.postgres import LocalPostgres
from reindex_assets.local.stack.server import ServerStatus
from reindex_assets.local.stack.shards import LocalShard, stop_shards
from reindex_assets.retry import SERVER

DEFAULT_SHARDS = 4
LOCK_SECONDS = 180.0
#: How long `up` waits for a living server to answer before it replaces it: one under full load is slow, not broken.
HANG_SECONDS = 20


class LocalStack:
    """The local stack in `root`. Nothing happens before a method is called."""

    def __init__(self, root: Path = DEFAULT_ROOT, shards: int | None = None, plan: FleetPlan | None = None) -> None:
        """
        Args:
            root: the stack's own directory.
            shards: the number of shards; None means as many as the stack was made with, or 4.
            plan: a fleet to make instead of one cluster; it overrides `shards`.
        """
        if shards is not None and shards < 1:
            raise ConfigurationError(f"a stack needs at least one shard, not {shards}")
        self.root = root.expanduser().resolve()
        self._shards_wanted = shards if plan is None else plan.engines
        self._plan = plan
        self.postgres = LocalPostgres(self.root / "postgres")

    @property
    def fleet_path(self) -> Path:
        return files.fleet_path(self.root)

    def environment(self) -> dict[str, str]:
        """The variables that point a process at this stack.

        Raises:
            ConfigurationError: the stack was never started.
        """
        return load_local_environment(self.root)

    def up(self, customers: Mapping[str, Sequence[str]] | None = None, first_day: date | None = None) -> Fleet:
        """Starts the servers that don't run, and returns the fleet.

        Puts the password into this process's environment, so that the returned fleet can be used at once.

        Args:
            customers: the customers and their profiles; None keeps those of the fleet file. Not for a fleet, whose plan names them.
            first_day: None keeps that of the fleet file.
        """
        with self._locked():
            layout = self._layout()
            password = files.ensure_password(self.root, has_data=self.postgres.is_initialised())
            files.copy_dagster_settings(self.root)
            # Another try goes on with the ports of the one before.
            layout = SERVER.call(lambda: self._start_servers(Layout.load(self.root) or layout, password))
            files.slices_path(self.root).mkdir(exist_ok=True)
            files.write_environment(self.root, layout, password)
            fleet = files.write_fleet(self.root, layout, self._customers(layout, customers), first_day)
            os.environ[PASSWORD_VARIABLE] = password
            for name in layout.homes:
                _apply_schema(fleet.clusters[name])
            return fleet

    def down(self) -> None:
        """Stops every server, including any that a crashed start left. The data stay."""
        if not self.root.exists():
            return
        with self._locked():
            self._stop()

    def reset(self) -> None:
        """Stops every server and removes what the stack has made in its directory, and nothing else.

        Raises:
            ConfigurationError: Dagster runs on it.
        """
        if not self.root.exists():
            return
        refuse_beside_dagster(self.root)
        with self._locked():
            self._stop()
            for name in ("postgres", "shards", "slices", "dagster"):
                if (self.root / name).exists():
                    shutil.rmtree(self.root / name)
            for path in (
                *(self.fleet_path, environment_path(self.root), self.root / "stack.json"),
                *(dagster_lock_path(self.root), self._lock_path),
            ):
                path.unlink(missing_ok=True)
            # Other files in the directory stay, and the directory with them.
            with contextlib.suppress(OSError):
                self.root.rmdir()

    def status(self) -> list[ServerStatus]:
        """Every server of the stack, Postgres first."""
        layout = Layout.load(self.root) or Layout.new(self._shards_wanted or DEFAULT_SHARDS)
        # Without a running stack the file may be missing, and nobody asks for the password.
        password = load_local_environment(self.root).get(PASSWORD_VARIABLE, "") if self.postgres.process() else ""
        return [
            self.postgres.status(layout.postgres_port, lambda port: self.postgres.answers(port, password)),
            *(shard.status(port, shard.answers) for shard, port in self._shards(layout)),
        ]

    def start_shard(self, number: int) -> None:
        """Starts one shard on the port that the fleet file names."""
        with self._locked():
            layout = self._layout()
            password = files.ensure_password(self.root, has_data=True)
            shard, port = self.shard(number), _assigned(layout.shard_ports[number])
            if shard.process() is None:
                shard.spawn(port, password)
            shard.wait_until_ready(port)

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return exclusive_lock(self._lock_path, LOCK_SECONDS)

    @property
    def _lock_path(self) -> Path:
        return self.root / "lock"

    def shard(self, number: int) -> LocalShard:
        return LocalShard(self.root / "shards" / f"shard-{number}")

    def _shards(self, layout: Layout) -> list[tuple[LocalShard, int | None]]:
        """The shards in their order, each with its port."""
        return [(self.shard(number), port) for number, port in enumerate(layout.shard_ports)]

    def _layout(self) -> Layout:
        """The layout that the stack was made with, or is to be made with.

        Raises:
            ConfigurationError: it was made with other shards or clusters than are wanted now.
        """
        layout = Layout.load(self.root)
        homes = self._plan.homes if self._plan is not None else None
        if layout is None:
            return Layout.new(self._shards_wanted or DEFAULT_SHARDS, homes)
        if homes is not None and homes != layout.homes:
            raise ConfigurationError(
                f"the stack in {self.root} was made with other clusters ({', '.join(layout.homes)}), or with their shards elsewhere: it "
                "can't become another fleet. Leave out the number of clusters, or start over with 'reindex-assets local reset'"
            )
        if self._shards_wanted not in (None, layout.shard_count):
            raise ConfigurationError(
                f"the stack in {self.root} was made with {layout.shard_count} shards, and its rows are placed on them: "
                f"it can't go on with {self._shards_wanted}. Leave out the number, or start over with "
                "'reindex-assets local reset'"
            )
        return layout

    def _customers(
        self, layout: Layout, customers: Mapping[str, Sequence[str]] | None
    ) -> dict[str, Mapping[str, Sequence[str]]] | None:
        """The customers of each cluster; None keeps those of the fleet file.

        Raises:
            ConfigurationError: customers were given for a fleet, or neither a plan nor a file names those of the fleet.
        """
        if customers is not None and CLUSTER not in layout.homes:
            raise ConfigurationError(
                f"the stack in {self.root} is a fleet, and its plan names the customers: leave them out"
            )
        if customers is not None:
            return {CLUSTER: customers}
        if self._plan is None and CLUSTER not in layout.homes and not self.fleet_path.exists():
            raise ConfigurationError(
                f"{self.fleet_path} is gone, and the customers of the fleet with it: "
                f"'reindex-assets local up --clusters {len(layout.homes)}' writes it again"
            )
        return None if self._plan is None else {cluster.name: cluster.customers for cluster in self._plan.clusters}

    def _start_servers(self, layout: Layout, password: str) -> Layout:
        """Starts the servers that don't run, on their ports of before if those are free, and creates the databases of Postgres.

        Raises:
            PortTakenError: another program took a port in the meantime.
        """
        starting = []
        for number, (shard, old_port) in enumerate(self._shards(layout)):
            if shard.process() is not None:
                if old_port is not None and shard.answers(old_port, HANG_SECONDS):
                    continue
                stop_shards([shard])  # it hangs
            port = layout.free_port(old_port)
            layout = layout.with_shard_port(number, port)
            layout.save(self.root)
            shard.spawn(port, password)
            starting.append((shard, port))
        # The shards start while Postgres does.
        layout = self._start_postgres(layout, password)
        sources = [home.source_database for home in layout.homes.values()]
        self.postgres.prepare_databases(_assigned(layout.postgres_port), password, sources)
        for shard, port in starting:
            shard.wait_until_ready(port)
        return layout

    def _start_postgres(self, layout: Layout, password: str) -> Layout:
        port = layout.postgres_port
        if not self.postgres.is_initialised():
            self.postgres.initialise(password)
        if self.postgres.process() is not None:
            if port is not None and self.postgres.answers(port, password, HANG_SECONDS):
                return layout
            self.postgres.stop()  # it hangs, or an earlier start died half-way
        port = layout.free_port(port)
        layout = replace(layout, postgres_port=port)
        layout.save(self.root)
        self.postgres.start(port)
        return layout

    def _stop(self) -> None:
        # Found by their directories: stack.json may be lost, and the processes must end nevertheless.
        stop_shards([LocalShard(directory) for directory in (self.root / "shards").glob("shard-*")])
        if self.postgres.is_initialised():
            self.postgres.stop()


def _assigned(port: int | None) -> int:
    if port is None:
        raise ConfigurationError("this server has no port yet: start the stack with 'reindex-assets local up'")
    return port


def _apply_schema(cluster: Cluster) -> None:
    # Imported here: the status of a stack needs no ClickHouse client.
    from reindex_assets.clickhouse.schema import apply_schema
    from reindex_assets.local.stack.connections import connect_shards, create_databases

    create_databases(cluster)
    apply_schema(cluster)
    conversation = (resources.files(__package__) / "conversation.sql").read_text(encoding="utf-8")
    for client in connect_shards(cluster):
        with client:
            client.command(conversation)
