"""The stacks of one run of the suite: real Postgres and real ClickHouse shards with made data.

What lives here: making, filling and removing them. What does not: starting and stopping servers (reindex_assets.local.stack.stack).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

import psutil
import yaml

from benchmarks.figures import WrongRunError
from benchmarks.machine import engine_versions
from benchmarks.target import Servers, Target, with_limits
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.config.local_environment import FLEET_VARIABLE, PASSWORD_VARIABLE
from reindex_assets.local.data.made_data import make_source
from reindex_assets.local.data.made_plan import DataPlan
from reindex_assets.local.stack.files_of_stack import CLUSTER, save_local_environment
from reindex_assets.local.stack.stack import LocalStack

#: The stacks' names, and their directories.
REPLAY, WINDOW, MORE_SHARDS, FLEET = "replay", "window", "more-shards", "fleet"
#: The output of Dagster's processes, in a stack's directory.
DAGSTER_LOG = "dagster.log"


class Stacks:
    """The stacks below one directory; `close` removes them.

    All share one password, so that one process can connect to several of them, and a fleet can combine two.

    Args:
        keep: at the end, stop the servers and leave their data.
    """

    def __init__(self, root: Path, keep: bool = False) -> None:
        self._keep = keep
        self._root = root.resolve()
        self._password_before = os.environ.get(PASSWORD_VARIABLE)
        self._password = secrets.token_urlsafe(24)
        self._stacks: list[LocalStack] = []
        #: Of the engines; empty until a stack has started.
        self.versions: dict[str, str] = {}

    def new(self, name: str, customers: Mapping[str, Sequence[str]], first_day: date, shards: int) -> Target:
        """A stack without rows."""
        stack = LocalStack(self._root / name, shards)
        self._stacks.append(stack)
        # `up` keeps the password that it finds.
        save_local_environment(stack.root, {PASSWORD_VARIABLE: self._password})
        fleet = stack.up(customers, first_day)
        target = Target(fleet, stack.fleet_path, stack.environment(), servers_of(stack))
        self.versions = self.versions or engine_versions(target)
        return target

    def filled(self, name: str, plan: DataPlan, shards: int) -> Target:
        """A stack whose Postgres holds a plan's rows as a Postgres in use does: vacuumed, and written to disk."""
        target = self.new(name, plan.customers, plan.first_day, shards)
        with target.source() as source, source.cursor() as cursor:
            make_source(source, plan)
            cursor.execute("VACUUM (ANALYZE)")
            cursor.execute("CHECKPOINT")
        return target

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Ends the stacks that were started within the context: idle servers would disturb what is measured next."""
        before = list(self._stacks)
        try:
            yield
        finally:
            self._end([stack for stack in self._stacks if stack not in before])
            self._stacks = before

    def close(self) -> None:
        """Stops every stack, and removes it unless it is to be kept."""
        self._end(self._stacks)
        self._stacks = []
        if self._password_before is None:
            os.environ.pop(PASSWORD_VARIABLE, None)
        else:
            os.environ[PASSWORD_VARIABLE] = self._password_before
        if not self._keep:
            remove_stacks(self._root)

    def without_password(self, text: str) -> str:
        """A text without the password, which a quoted statement may hold."""
        return text.replace(self._password, "***")

    def _end(self, stacks: Sequence[LocalStack]) -> None:
        for stack in stacks:
            if self._keep:
                stack.down()
            else:
                _remove(stack)


def remove_stacks(root: Path) -> None:
    """Stops and removes the stacks below a directory: those that were kept, and those that a killed run has left."""
    for name in (REPLAY, WINDOW, MORE_SHARDS, FLEET):
        _remove(LocalStack(root / name))
    if root.exists() and not any(root.iterdir()):
        root.rmdir()


def _remove(stack: LocalStack) -> None:
    # The suite's own files; the stack removes the others itself.
    for pattern in (DAGSTER_LOG, _fleet_file("*")):
        for path in stack.root.glob(pattern):
            path.unlink()
    stack.reset()


def with_shards_of(source: Target, other: Target, count: int) -> Target:
    """A target with the Postgres (and the Dagster) of `source` and the first shards of `other`."""
    name = f"{count}-shards"
    clickhouse = other.cluster.clickhouse
    clickhouse = clickhouse.model_copy(update={"shards": clickhouse.shards[:count]})
    fleet = source.fleet.model_copy(
        update={
            "slices": str(other.fleet_path.parent / "slices" / name),
            "clusters": {CLUSTER: source.cluster.model_copy(update={"clickhouse": clickhouse})},
        }
    )
    path = _write_fleet(fleet, other.fleet_path, name)
    servers = Servers(source.servers.postgres, other.servers.shards[:count])
    return Target(load_fleet(path), path, source.environment, servers)


def with_rate(target: Target, rows_per_second: int) -> Target:
    """The same target with a limit on each connection to its Postgres, in a fleet file of its own that its environment names."""
    path = _write_fleet(with_limits(target.fleet, max_rows_per_second=rows_per_second), target.fleet_path, "limited")
    return Target(load_fleet(path), path, {**target.environment, FLEET_VARIABLE: str(path)}, target.servers)


def _write_fleet(fleet: Fleet, beside: Path, name: str) -> Path:
    path = beside.with_name(_fleet_file(name))
    # The day is a YAML date, as in a fleet file that a person wrote.
    document = {**fleet.model_dump(mode="json"), "first_day": fleet.first_day}
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def _fleet_file(name: str) -> str:
    return f"fleet-{name}.yaml"


def servers_of(stack: LocalStack) -> Servers:
    """The processes of a running stack.

    Raises:
        WrongRunError: one of them has ended.
    """
    pids = [server.pid for server in stack.status()]
    if None in pids:
        raise WrongRunError(f"a server of the stack in {stack.root} ended right after its start: see its log there")
    postgres, *shards = (psutil.Process(pid) for pid in pids)
    return Servers(postgres, tuple(shards))
