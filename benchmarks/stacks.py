"""The stacks of one run of the suite: real Postgres and real ClickHouse shards, filled with made data when they are first asked for.

What lives here: which stacks there are, their data, and their end. What does not: a stack's own life (reindex_assets.local.stack.stack).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path

import yaml

from benchmarks.figures import WrongRunError
from benchmarks.machine import engine_versions
from benchmarks.target import Servers, Target
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.config.local_environment import FLEET_VARIABLE, PASSWORD_VARIABLE
from reindex_assets.local.data.made_data import SourceSummary, make_source
from reindex_assets.local.data.made_plan import DataPlan
from reindex_assets.local.stack.files_of_stack import CLUSTER, save_local_environment
from reindex_assets.local.stack.processes import ProcessRecord
from reindex_assets.local.stack.stack import LocalStack

#: The stacks' names, which are their directories.
REPLAY, WINDOW, MORE_SHARDS, FLEET = "replay", "window", "more-shards", "fleet"
#: In a stack's directory: what Dagster's processes say.
DAGSTER_LOG = "dagster.log"


class Stacks:
    """The stacks below one directory; `close` removes them.

    All have one password, so that one process can speak to several of them, and a fleet can be put together from two.

    Args:
        keep: at the end stop the servers only, and leave their data.
    """

    def __init__(self, root: Path, keep: bool = False) -> None:
        self._keep = keep
        self._root = root.resolve()
        self._password_before = os.environ.get(PASSWORD_VARIABLE)
        self._password = secrets.token_urlsafe(24)
        self._stacks: list[LocalStack] = []
        #: Of the engines, as soon as a stack has been started.
        self.versions: dict[str, str] = {}

    def new(self, name: str, customers: Mapping[str, Sequence[str]], first_day: date, shards: int) -> Target:
        """A stack without rows."""
        stack = LocalStack(self._root / name, shards)
        self._stacks.append(stack)
        # `up` keeps the password that it finds.
        save_local_environment(stack.root, {PASSWORD_VARIABLE: self._password})
        fleet = stack.up(customers, first_day)
        target = Target(fleet, stack.fleet_path, stack.environment(), servers_of(stack, shards))
        self.versions = self.versions or engine_versions(target)
        return target

    def filled(self, name: str, plan: DataPlan, shards: int) -> tuple[Target, SourceSummary]:
        """A stack whose Postgres holds a plan's rows, in the state in which a Postgres at work has them: vacuumed, and on disk."""
        target = self.new(name, plan.customers, plan.first_day, shards)
        with target.source() as source:
            made = make_source(source, plan)
            with source.cursor() as cursor:
                cursor.execute("VACUUM (ANALYZE)")
                cursor.execute("CHECKPOINT")
            return target, made

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Ends the stacks that are begun within the context: idle servers would be felt by what is measured next."""
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
        """A text that may quote a statement, without the password in it."""
        return text.replace(self._password, "***")

    def _end(self, stacks: Sequence[LocalStack]) -> None:
        for stack in stacks:
            if self._keep:
                stack.down()
            else:
                _remove(stack)


def remove_stacks(root: Path) -> None:
    """Removes the stacks below a directory that were kept, or that a killed run has left there, with their servers."""
    for name in (REPLAY, WINDOW, MORE_SHARDS, FLEET):
        _remove(LocalStack(root / name))
    if root.exists() and not any(root.iterdir()):
        root.rmdir()


def _remove(stack: LocalStack) -> None:
    # What the suite itself has put there; the rest is the stack's own to remove.
    for pattern in (DAGSTER_LOG, _fleet_file("*")):
        for path in stack.root.glob(pattern):
            path.unlink()
    stack.reset()


def with_shards_of(source: Target, other: Target, count: int) -> Target:
    """The Postgres (and the Dagster) of one target with the first shards of another one, as a fleet file of its own."""
    cluster = source.cluster
    clickhouse = other.cluster.clickhouse
    clickhouse = clickhouse.model_copy(update={"shards": clickhouse.shards[:count]})
    name = f"{count}-shards"
    fleet = source.fleet.model_copy(
        update={
            "slices": str(other.fleet_path.parent / "slices" / name),
            "clusters": {CLUSTER: cluster.model_copy(update={"clickhouse": clickhouse})},
        }
    )
    path = other.fleet_path.with_name(_fleet_file(name))
    path.write_text(yaml.safe_dump(_document(fleet), sort_keys=False, allow_unicode=True), encoding="utf-8")
    return Target(
        load_fleet(path), path, source.environment, Servers(source.servers.postgres, other.servers.shards[:count])
    )


def with_rate(target: Target, rows_per_second: int) -> Target:
    """The same target with a limit on each connection to its Postgres: a fleet file of its own, which its environment names."""
    postgres = target.cluster.postgres.model_copy(update={"max_rows_per_second": rows_per_second})
    cluster = target.cluster.model_copy(update={"postgres": postgres})
    fleet = target.fleet.model_copy(update={"clusters": {CLUSTER: cluster}})
    path = target.fleet_path.with_name(_fleet_file("limited"))
    path.write_text(yaml.safe_dump(_document(fleet), sort_keys=False, allow_unicode=True), encoding="utf-8")
    environment = {**target.environment, FLEET_VARIABLE: str(path)}
    return Target(load_fleet(path), path, environment, target.servers)


def _fleet_file(name: str) -> str:
    return f"fleet-{name}.yaml"


def _document(fleet: Fleet) -> dict[str, object]:
    # The day as YAML's own type, as in a fleet file that a person wrote.
    return {**fleet.model_dump(mode="json"), "first_day": fleet.first_day}


def servers_of(stack: LocalStack, shards: int) -> Servers:
    """The processes of a running stack.

    Raises:
        WrongRunError: one of them is not alive.
    """
    postgres = stack.postgres.process()
    records = [ProcessRecord.load(stack.root / "shards" / f"shard-{number}" / "pid.json") for number in range(shards)]
    processes = [record.process() for record in records if record is not None]
    living = [process for process in processes if process is not None]
    if postgres is None or len(living) != shards:
        raise WrongRunError(
            f"a server of the stack in {stack.root} has ended right after its start: see the logs there"
        )
    return Servers(postgres, tuple(living))
