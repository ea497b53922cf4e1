"""The files that describe the local stack: stack.json (its layout), fleet.yaml, env and dagster/dagster.yaml.

What lives here: their contents and their paths. What does not: processes.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

import reindex_assets
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.config.local_environment import (
    FLEET_VARIABLE,
    PASSWORD_VARIABLE,
    environment_path,
    load_local_environment,
)
from reindex_assets.config.modes import Mode
from reindex_assets.errors import ConfigurationError
from reindex_assets.local.data.made_plan import DEFAULT_CUSTOMERS
from reindex_assets.local.stack.files import LocalStackError, write_atomically
from reindex_assets.local.stack.postgres import DAGSTER_DATABASE, SOURCE_DATABASE, USER
from reindex_assets.local.stack.processes import LOOPBACK, choose_port

#: The only cluster of a local stack that is not a fleet.
CLUSTER = "local"
#: The database that every engine has; a stack of one cluster uses it.
SHARD_DATABASE = "default"
DEFAULT_DAYS = 30

_FLEET_COMMENT = "# Written by 'reindex-assets local up', which renews the addresses and keeps the rest.\n"


@dataclass(frozen=True)
class Home:
    """Where one cluster is in the stack.

    Attributes:
        source_database: its database in PostgreSQL.
        shard_database: its database in each of its engines.
        engines: the numbers of the engines that are its shards, in their order. Clusters may share engines, by a database each.
    """

    source_database: str
    shard_database: str
    engines: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """What the stack was made with, kept across restarts: the ports (one for each engine, in order), and where each cluster is."""

    postgres_port: int | None
    shard_ports: tuple[int | None, ...]
    homes: Mapping[str, Home] = field(default_factory=dict)

    @staticmethod
    def new(shards: int, homes: Mapping[str, Home] | None = None) -> Layout:
        """A layout without ports yet. Without `homes` it is one cluster with an engine for each shard."""
        return Layout(None, (None,) * shards, homes or _single_home(shards))

    @staticmethod
    def load(root: Path) -> Layout | None:
        """The layout in stack.json; None if there is no stack.

        Raises:
            LocalStackError: the file is damaged.
        """
        path = _layout_path(root)
        try:
            layout = _LAYOUT.validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            problem = error.errors()[0]
            why = ": ".join(map(str, (*problem["loc"], problem["msg"])))
            raise LocalStackError(
                f"{path} is damaged ({why}): mend it by hand, or start over with 'reindex-assets local reset'"
            ) from None
        # A file from before there were fleets has no homes.
        return layout if layout.homes else replace(layout, homes=_single_home(layout.shard_count))

    def save(self, root: Path) -> None:
        write_atomically(_layout_path(root), _LAYOUT.dump_json(self, indent=2).decode() + "\n")

    @property
    def shard_count(self) -> int:
        return len(self.shard_ports)

    def free_port(self, preferred: int | None) -> int:
        """The preferred port if it is free, else a port that no server of the stack has."""
        return choose_port(preferred, taken=(self.postgres_port, *self.shard_ports))

    def with_shard_port(self, number: int, port: int) -> Layout:
        ports = list(self.shard_ports)
        ports[number] = port
        return replace(self, shard_ports=tuple(ports))


_LAYOUT = TypeAdapter(Layout)


def _single_home(shards: int) -> dict[str, Home]:
    return {CLUSTER: Home(SOURCE_DATABASE, SHARD_DATABASE, tuple(range(shards)))}


def _layout_path(root: Path) -> Path:
    return root / "stack.json"


def fleet_path(root: Path) -> Path:
    return root / "fleet.yaml"


def slices_path(root: Path) -> Path:
    return root / "slices"


def dagster_home(root: Path) -> Path:
    return root / "dagster"


def ensure_password(root: Path, has_data: bool) -> str:
    """The stack's password; a new stack gets a new one.

    Raises:
        ConfigurationError: there are data, but their password is lost.
    """
    if environment_path(root).exists():
        password = load_local_environment(root).get(PASSWORD_VARIABLE)
        if password:
            return password
    if has_data:
        raise ConfigurationError(
            f"{environment_path(root)} has no {PASSWORD_VARIABLE}, and Postgres was made with one: "
            "put it back, or start over with 'reindex-assets local reset'"
        )
    password = secrets.token_urlsafe(24)
    # Saved before anything is made with it.
    save_local_environment(root, {PASSWORD_VARIABLE: password})
    return password


def save_local_environment(root: Path, environment: Mapping[str, str]) -> None:
    """Writes the file `env` for a shell to `source`. Only its owner can read it, because it holds the password."""
    lines = (
        "# Written by 'reindex-assets local up'. To use it in a shell: set -a; . this-file; set +a",
        *(f"{name}={shlex.quote(value)}" for name, value in environment.items()),
    )
    write_atomically(environment_path(root), "\n".join(lines) + "\n", mode=0o600)


def write_environment(root: Path, layout: Layout, password: str) -> dict[str, str]:
    """Writes the file `env` and returns its variables."""
    environment = {
        PASSWORD_VARIABLE: password,
        FLEET_VARIABLE: str(fleet_path(root)),
        "DAGSTER_HOME": str(dagster_home(root)),
        "DAGSTER_PG_HOST": LOOPBACK,
        "DAGSTER_PG_PORT": str(layout.postgres_port),
        "DAGSTER_PG_USER": USER,
        "DAGSTER_PG_PASSWORD": password,
        "DAGSTER_PG_DB": DAGSTER_DATABASE,
        # The kinds that the demos load.
        "REINDEX_MODE": "process" if CLUSTER in layout.homes else "all",
        # A run plans an event for each of its partitions; writing each one alone costs a connection.
        "DAGSTER_EVENT_BATCH_SIZE": "100",
        # Dagster's limit for a sensor's tick is 60 s; with 16 sensors on two busy cores the first may take longer.
        "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "180",
        # Returns freed memory to the system: a run over a large window takes 370 MB instead of 530, in the same time.
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "MALLOC_ARENA_MAX": "2",
        "MALLOC_MMAP_THRESHOLD_": "131072",
        "MALLOC_TRIM_THRESHOLD_": "131072",
    }
    save_local_environment(root, environment)
    return environment


def write_fleet(
    root: Path,
    layout: Layout,
    customers: Mapping[str, Mapping[str, Sequence[str]]] | None,
    first_day: date | None,
) -> Fleet:
    """Writes `fleet.yaml` with the addresses of the servers, and keeps what the caller doesn't replace of an existing file.

    Args:
        customers: of each cluster, with their profiles; None keeps those of the file.

    Raises:
        ConfigurationError: the existing file, or a customer's name, is invalid.
    """
    path = fleet_path(root)
    if path.exists():
        document = load_fleet(path).model_dump(mode="json")
    else:
        days = timedelta(days=DEFAULT_DAYS)
        document = {
            "first_day": datetime.now(UTC).date() - days,
            # The data have both kinds.
            "mode": Mode.ALL.value,
            "slices": str(slices_path(root)),
            "clusters": {},
        }
    if first_day is not None:
        document["first_day"] = first_day
    for name, home in layout.homes.items():
        cluster = document["clusters"].setdefault(name, {"customers": {customer: {} for customer in DEFAULT_CUSTOMERS}})
        if customers is not None:
            cluster["customers"] = {customer: {"profiles": profiles} for customer, profiles in customers[name].items()}
        for engine, address in _addresses(layout, home).items():
            cluster[engine] = {**cluster.get(engine, {}), **address}
    try:
        fleet = Fleet.model_validate(document)
    except ValidationError as error:
        raise ConfigurationError("; ".join(problem["msg"] for problem in error.errors())) from None
    # The day is a YAML date, as in a fleet file that a person wrote.
    document = {**fleet.model_dump(mode="json"), "first_day": fleet.first_day}
    _write_if_changed(path, _FLEET_COMMENT + yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
    return load_fleet(path)


def _addresses(layout: Layout, home: Home) -> dict[str, dict[str, object]]:
    """Where a cluster's engines are: the keys of its blocks that the stack renews. The others are the user's to change."""
    password = {"env": PASSWORD_VARIABLE}
    return {
        "postgres": {
            "host": LOOPBACK,
            "port": layout.postgres_port,
            "database": home.source_database,
            "user": USER,
            "password": password,
            "sslmode": "disable",
        },
        "clickhouse": {
            "database": home.shard_database,
            "password": password,
            "shards": [{"host": LOOPBACK, "port": layout.shard_ports[number]} for number in home.engines],
        },
    }


def copy_dagster_settings(root: Path) -> None:
    """Copies the project's dagster.yaml to the stack's DAGSTER_HOME, where Dagster looks for it.

    Raises:
        ConfigurationError: it is neither in the current directory nor beside the package.
    """
    directories = (Path.cwd(), Path(reindex_assets.__file__).resolve().parent.parent)
    source = next((path for directory in directories if (path := directory / "dagster.yaml").is_file()), None)
    if source is None:
        raise ConfigurationError(
            f"there is no dagster.yaml in {directories[0]} nor in {directories[1]}: "
            "run the command from the root of the repository"
        )
    _write_if_changed(dagster_home(root) / "dagster.yaml", source.read_text(encoding="utf-8"))


def _write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)
