"""The life of the local stack: one PostgreSQL and N ClickHouse shards in one directory, up, down, asked, reset.

The shards are those of one cluster; or of all clusters of a fleet, which share them by a database each (local/demo/fleet_plan.py).

What lives here: the order of things, and the choice of ports. What does not: how one server is run (local/stack/postgres.py,
local/stack/shards.py), what the files say (local/stack/files_of_stack.py), and rows.

    <root>/env  fleet.yaml  stack.json  lock  dagster/  postgres/  shards/shard-0/ ...  slices/
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Literal

import psutil

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
from reindex_assets.local.stack.files import exclusive_lock
from reindex_assets.local.stack.files_of_stack import CLUSTER, Layout
from reindex_assets.local.stack.postgres import LocalPostgres
from reindex_assets.local.stack.processes import PortTakenError, choose_port
from reindex_assets.local.stack.shards import LocalShard, stop_shards

DEFAULT_SHARDS = 4
START_ATTEMPTS = 3
LOCK_SECONDS = 180.0
#: How long `up` lets a living server be silent before it replaces it: one under full load is slow, not broken.
HANG_SECONDS = 20

State = Literal["running", "unresponsive", "crashed", "stopped"]


@dataclass(frozen=True)
class ServiceStatus:
    """One server of the stack, as found now.

    Attributes:
        state: `unresponsive` lives but doesn't answer; `crashed` died without having been stopped.
        rss_bytes: resident memory of its processes, with what they share counted once.
    """

    name: str
    state: State
    port: int | None = None
    pid: int | None = None
    rss_bytes: int | None = None
    uptime_seconds: float | None = None


class LocalStack:
    """The local stack in `root`. Nothing happens before a method is called."""

    def __init__(self, root: Path = DEFAULT_ROOT, shards: int | None = None, plan: FleetPlan | None = None) -> None:
        """
        Args:
            root: the stack's own directory.
            shards: how many shards; None means as many as the stack was made with, or 4.
            plan: a fleet to make instead of one cluster; not together with `shards`.
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
        """Starts what does not run, and returns the fleet. What runs already keeps running.

        The password goes into this process's environment, so that the returned fleet can be used at once.

        Args:
            customers: the customers and their profiles; None keeps those of the fleet file. A fleet has those of its plan.
            first_day: None keeps that of the fleet file.
        """
        with self._locked():
            layout = self._layout()
            password = files.ensure_password(self.root, has_data=self.postgres.is_initialised())
            files.copy_dagster_settings(self.root)
            # The shards start while Postgres does.
            layout, starting = self._spawn_shards(layout, password)
            layout = self._start_postgres(layout, password)
            sources = [home.source_database for home in layout.homes.values()]
            self.postgres.prepare_databases(_known(layout.postgres_port), password, sources)
            for shard in starting:
                layout = self._await_shard(layout, shard, password)
            files.slices_path(self.root).mkdir(exist_ok=True)
            files.write_environment(self.root, layout, password)
            fleet = files.write_fleet(self.root, layout, self._customers(layout, customers), first_day)
            os.environ[PASSWORD_VARIABLE] = password
            for name in layout.homes:
                _apply_schema(fleet.clusters[name])
            return fleet

    def down(self) -> None:
        """Stops everything, also what a crashed start left. The data stay."""
        if not self.root.exists():
            return
        with self._locked():
            self._stop()

    def reset(self) -> None:
        """Stops everything and removes what the stack made in its directory, and only that."""
        if not self.root.exists():
            return
        with self._locked():
            self._stop()
            self.postgres.remove()
            for directory in ("shards", "slices", "dagster"):
                if (self.root / directory).exists():
                    shutil.rmtree(self.root / directory)
            for path in (self.fleet_path, environment_path(self.root), self.root / "stack.json", self._lock_path):
                path.unlink(missing_ok=True)
            # Somebody else's files in there stay, and with them the directory.
            with contextlib.suppress(OSError):
                self.root.rmdir()

    def status(self) -> list[ServiceStatus]:
        """Every server of the stack, Postgres first."""
        layout = Layout.load(self.root) or Layout.new(self._shards_wanted or DEFAULT_SHARDS)
        port = layout.postgres_port
        process = self.postgres.process()
        password = load_local_environment(self.root).get(PASSWORD_VARIABLE, "") if process is not None else ""
        answers = process is not None and port is not None and self.postgres.answers(port, password)
        found = [_status("postgres", process, port, answers, self.postgres.has_crashed())]
        for shard, port in zip(self._shards(layout), layout.shard_ports, strict=True):
            process = shard.process()
            answers = process is not None and port is not None and shard.answers(port)
            found.append(_status(shard.name, process, port, answers, shard.has_crashed()))
        return found

    def kill_shard(self, number: int) -> None:
        """SIGKILL to one shard."""
        self._shard(number).kill()

    def kill_postgres(self) -> None:
        """SIGKILL to Postgres."""
        self.postgres.kill()

    def start_shard(self, number: int) -> None:
        """Starts one shard on the port that the fleet file names."""
        with self._locked():
            layout = self._layout()
            password = files.ensure_password(self.root, has_data=True)
            shard = self._shard(number)
            if shard.process() is None:
                shard.spawn(_known(layout.shard_ports[number]), password)
            shard.wait_until_ready(_known(layout.shard_ports[number]))

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return exclusive_lock(self._lock_path, LOCK_SECONDS)

    @property
    def _lock_path(self) -> Path:
        return self.root / "lock"

    def _shard(self, number: int) -> LocalShard:
        return LocalShard(number, self.root / "shards" / f"shard-{number}")

    def _shards(self, layout: Layout) -> Iterator[LocalShard]:
        return (self._shard(number) for number in range(layout.shard_count))

    def _layout(self) -> Layout:
        """How the stack was made, or is to be made.

        Raises:
            ConfigurationError: it was made with another number of shards than is wanted now.
        """
        layout = Layout.load(self.root)
        homes = self._plan.homes if self._plan is not None else None
        if layout is None:
            return Layout.new(self._shards_wanted or DEFAULT_SHARDS, homes)
        if homes is not None and homes != layout.homes:
            raise ConfigurationError(
                f"the stack in {self.root} was made with other clusters ({', '.join(layout.homes)}) or places of their shards: it can't "
                "become another fleet. Leave the number of clusters out, or start anew with 'reindex-assets local reset'"
            )
        if self._shards_wanted not in (None, layout.shard_count):
            raise ConfigurationError(
                f"the stack in {self.root} was made with {layout.shard_count} shards, and its rows lie accordingly: "
                f"it cannot go on with {self._shards_wanted}. Leave the number out, or start anew with "
                "'reindex-assets local reset'"
            )
        return layout

    def _customers(
        self, layout: Layout, customers: Mapping[str, Sequence[str]] | None
    ) -> dict[str, Mapping[str, Sequence[str]]] | None:
        """The customers of each cluster; None keeps those of the fleet file.

        Raises:
            ConfigurationError: customers were given to a fleet, or nobody knows those of the fleet.
        """
        if customers is not None and CLUSTER not in layout.homes:
            raise ConfigurationError(
                f"the stack in {self.root} is a fleet, whose customers are those of its plan: name none"
            )
        if customers is not None:
            return {CLUSTER: customers}
        if self._plan is None and CLUSTER not in layout.homes and not self.fleet_path.exists():
            raise ConfigurationError(
                f"{self.fleet_path} is gone, and with it the customers of the fleet: "
                f"'reindex-assets local up --clusters {len(layout.homes)}' writes it again"
            )
        return None if self._plan is None else {one.name: one.customers for one in self._plan.clusters}

    def _spawn_shards(self, layout: Layout, password: str) -> tuple[Layout, list[LocalShard]]:
        """Starts the shards that don't run, without waiting for them; returns them and the ports."""
        starting = []
        for shard in self._shards(layout):
            port = layout.shard_ports[shard.number]
            if shard.process() is not None:
                if port is not None and shard.answers(port, HANG_SECONDS):
                    continue
                stop_shards([shard])  # it hangs
            layout = self._spawn(layout, shard, password, port)
            starting.append(shard)
        return layout, starting

    def _spawn(self, layout: Layout, shard: LocalShard, password: str, preferred: int | None) -> Layout:
        port = choose_port(preferred, taken=layout.ports - {preferred})
        layout = layout.with_shard_port(shard.number, port)
        layout.save(self.root)
        shard.spawn(port, password)
        return layout

    def _await_shard(self, layout: Layout, shard: LocalShard, password: str) -> Layout:
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                shard.wait_until_ready(_known(layout.shard_ports[shard.number]))
                break
            except PortTakenError:
                if attempt == START_ATTEMPTS:
                    raise
                layout = self._spawn(layout, shard, password, preferred=None)
        return layout

    def _start_postgres(self, layout: Layout, password: str) -> Layout:
        if not self.postgres.is_initialised():
            self.postgres.initialise(password)
        if self.postgres.process() is not None and layout.postgres_port is not None:
            if self.postgres.answers(layout.postgres_port, password, HANG_SECONDS):
                return layout
            self.postgres.stop()  # it hangs, or an earlier start died half-way
        preferred = layout.postgres_port
        for attempt in range(1, START_ATTEMPTS + 1):
            port = choose_port(preferred, taken=layout.ports - {preferred})
            layout = layout.with_postgres_port(port)
            layout.save(self.root)
            try:
                self.postgres.start(port)
                break
            except PortTakenError:
                if attempt == START_ATTEMPTS:
                    raise
                preferred = None
        return layout

    def _stop(self) -> None:
        # By the directories, not by stack.json: it may be lost, and its processes must still end.
        names = sorted(path.name.removeprefix("shard-") for path in (self.root / "shards").glob("shard-*"))
        stop_shards([self._shard(int(name)) for name in names if name.isdecimal()])
        if self.postgres.is_initialised():
            self.postgres.stop()


def _known(port: int | None) -> int:
    if port is None:
        raise ConfigurationError("this server has no port yet: start the stack with 'reindex-assets local up'")
    return port


def _apply_schema(cluster: Cluster) -> None:
    # Here, not at the top: asking for a stack's status needs no ClickHouse client.
    from reindex_assets.clickhouse.schema import apply_schema
    from reindex_assets.local.stack.connections import connect_shards, create_databases

    create_databases(cluster)
    apply_schema(cluster)
    conversation = (
        resources.files("reindex_assets.local.stack").joinpath("conversation.sql").read_text(encoding="utf-8")
    )
    for client in connect_shards(cluster):
        with client:
            client.command(conversation)


def _status(name: str, process: psutil.Process | None, port: int | None, answers: bool, crashed: bool) -> ServiceStatus:
    if process is None:
        return ServiceStatus(name, "crashed" if crashed else "stopped", port)
    state: State = "running" if answers else "unresponsive"
    try:
        memory = process.memory_info().rss + sum(_own_memory(child) for child in process.children(recursive=True))
        uptime_seconds = time.time() - process.create_time()
    except psutil.NoSuchProcess:
        return ServiceStatus(name, "crashed", port)
    return ServiceStatus(name, state, port, process.pid, memory, uptime_seconds)


def _own_memory(process: psutil.Process) -> int:
    try:
        memory = process.memory_info()
    except psutil.NoSuchProcess:
        return 0
    # Only Linux tells what is shared.
    return int(memory.rss - getattr(memory, "shared", 0))
