"""The files that describe the local stack: stack.json (its own memory), fleet.yaml, env, dagster/dagster.yaml.

What lives here: what stands in them and where they are. What does not: processes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import yaml

import reindex_assets
from reindex_assets.config.cluster import Cluster, Customer
from reindex_assets.config.engines import ClickHouse, Postgres, SecretRef, Shard
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.config.local_environment import (
    FLEET_VARIABLE,
    PASSWORD_VARIABLE,
    environment_path,
    load_local_environment,
)
from reindex_assets.errors import ConfigurationError
from reindex_assets.local.stack.environment import save_local_environment
from reindex_assets.local.stack.files import LocalStackError, write_atomically
from reindex_assets.local.stack.postgres import DAGSTER_DATABASE, SOURCE_DATABASE, USER
from reindex_assets.local.stack.processes import LOOPBACK

#: The name of the cluster that the local stack is, unless it was made as a fleet.
CLUSTER = "local"
#: The engines' own, which a stack of one cluster uses.
SHARD_DATABASE = "default"
DEFAULT_CUSTOMERS: Mapping[str, Sequence[str]] = {"acme": (), "globex": (), "initech": ()}
DEFAULT_DAYS = 30

_FLEET_COMMENT = "# Written by 'reindex-assets local up', which renews the addresses and keeps the rest.\n"


@dataclass(frozen=True)
class Home:
    """Where one cluster lives in the stack.

    Attributes:
        source_database: in PostgreSQL.
        shard_database: in each engine that is one of its shards.
        engines: their numbers, in the order of its shards. Clusters may share engines, by a database each.
    """

    source_database: str
    shard_database: str
    engines: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """What the stack was made with, kept across restarts: the ports, one per engine, in their order, and where each cluster lives."""

    postgres_port: int | None
    shard_ports: tuple[int | None, ...]
    homes: Mapping[str, Home]

    @staticmethod
    def new(shards: int, homes: Mapping[str, Home] | None = None) -> Layout:
        """Without ports yet. No homes: one cluster, which has every engine for itself."""
        return Layout(None, (None,) * shards, homes or _single_home(shards))

    @staticmethod
    def load(root: Path) -> Layout | None:
        """What stack.json says; None when there is no stack.

        Raises:
            LocalStackError: the file is damaged.
        """
        path = _layout_path(root)
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            ports = tuple(document["shard_ports"])
            # A file of before there were fleets says nothing of homes.
            homes = {
                name: Home(home["source_database"], home["shard_database"], tuple(home["engines"]))
                for name, home in document.get("homes", {}).items()
            }
            return Layout(document["postgres_port"], ports, homes or _single_home(len(ports)))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise LocalStackError(
                f"{path} is damaged ({error}): write it by hand, or start anew with 'reindex-assets local reset'"
            ) from error

    def save(self, root: Path) -> None:
        write_atomically(_layout_path(root), json.dumps(asdict(self), indent=2) + "\n")

    @property
    def shard_count(self) -> int:
        return len(self.shard_ports)

    @property
    def ports(self) -> set[int]:
        return {port for port in (self.postgres_port, *self.shard_ports) if port is not None}

    def with_postgres_port(self, port: int) -> Layout:
        return replace(self, postgres_port=port)

    def with_shard_port(self, number: int, port: int) -> Layout:
        ports = list(self.shard_ports)
        ports[number] = port
        return replace(self, shard_ports=tuple(ports))


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
        ConfigurationError: there are data, but their password is gone.
    """
    if environment_path(root).exists():
        password = load_local_environment(root).get(PASSWORD_VARIABLE)
        if password:
            return password
    if has_data:
        raise ConfigurationError(
            f"{environment_path(root)} has no {PASSWORD_VARIABLE}, and Postgres was made with one: "
            "put it back, or start anew with 'reindex-assets local reset'"
        )
    password = secrets.token_urlsafe(24)
    # On disk before anything is made with it.
    save_local_environment(root, {PASSWORD_VARIABLE: password})
    return password


def write_environment(root: Path, layout: Layout, password: str) -> dict[str, str]:
    """Writes `env` and returns what stands in it."""
    environment = {
        PASSWORD_VARIABLE: password,
        FLEET_VARIABLE: str(fleet_path(root)),
        "DAGSTER_HOME": str(dagster_home(root)),
        "DAGSTER_PG_HOST": LOOPBACK,
        "DAGSTER_PG_PORT": str(layout.postgres_port),
        "DAGSTER_PG_USER": USER,
        "DAGSTER_PG_PASSWORD": password,
        "DAGSTER_PG_DB": DAGSTER_DATABASE,
        # What the demos load.
        "REINDEX_MODE": "process" if CLUSTER in layout.homes else "all",
        # A run plans an event for each of its partitions: written one by one they cost a connection each.
        "DAGSTER_EVENT_BATCH_SIZE": "100",
        # Dagster breaks off a sensor's tick after 60 s: with 16 of them on two busy cores the first look may take longer.
        "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": "180",
        # Freed memory goes back to the system: a run over a large window takes 370 MB instead of 530, in the same time.
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
    """Writes `fleet.yaml`: new addresses, and of an existing file everything that the caller doesn't replace.

    Args:
        customers: of each cluster, with their profiles; None keeps those of the file.

    Raises:
        ConfigurationError: the existing file is invalid, or a customer's name is.
    """
    path = fleet_path(root)
    existing = load_fleet(path) if path.exists() else None
    ours = {
        name: _cluster(layout, home, existing.clusters.get(name) if existing else None, (customers or {}).get(name))
        for name, home in layout.homes.items()
    }
    if first_day is None:
        first_day = existing.first_day if existing else datetime.now(UTC).date() - timedelta(days=DEFAULT_DAYS)
    clusters = {**(existing.clusters if existing else {}), **ours}
    fleet = (
        existing.model_copy(update={"clusters": clusters, "first_day": first_day})
        if existing
        else Fleet(first_day=first_day, slices=str(slices_path(root)), clusters=clusters)
    )
    # Through the file's own validation: model_copy does none.
    document = {**fleet.model_dump(mode="json"), "first_day": first_day}
    text = _FLEET_COMMENT + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomically(path, text)
    return load_fleet(path)


def _cluster(
    layout: Layout, home: Home, before: Cluster | None, customers: Mapping[str, Sequence[str]] | None
) -> Cluster:
    """A cluster with its addresses of now, and with what it had before of the rest."""
    known = before.customers if before else None
    if customers is not None or known is None:
        given = DEFAULT_CUSTOMERS if customers is None else customers
        known = {name: Customer(profiles=tuple(profiles)) for name, profiles in given.items()}
    postgres, clickhouse = _addresses(layout, home)
    if before:
        postgres = before.postgres.model_copy(
            update={name: getattr(postgres, name) for name in postgres.model_fields_set}
        )
        clickhouse = before.clickhouse.model_copy(
            update={name: getattr(clickhouse, name) for name in clickhouse.model_fields_set}
        )
    return Cluster(postgres=postgres, clickhouse=clickhouse, customers=known)


def _addresses(layout: Layout, home: Home) -> tuple[Postgres, ClickHouse]:
    """Where the servers are. Only the fields set here are the stack's own: the others are the user's to change."""
    assert layout.postgres_port is not None
    password = SecretRef(env=PASSWORD_VARIABLE)
    ports = [layout.shard_ports[number] for number in home.engines]
    return (
        Postgres(
            host=LOOPBACK,
            port=layout.postgres_port,
            database=home.source_database,
            user=USER,
            password=password,
            sslmode="disable",
        ),
        ClickHouse(
            database=home.shard_database,
            password=password,
            shards=tuple(Shard(host=LOOPBACK, port=port) for port in ports if port is not None),
        ),
    )


def copy_dagster_settings(root: Path) -> Path:
    """Copies the project's dagster.yaml to the stack's DAGSTER_HOME, where Dagster looks for it.

    Raises:
        ConfigurationError: it is neither in the current directory nor next to the package.
    """
    candidates = (Path.cwd() / "dagster.yaml", Path(reindex_assets.__file__).resolve().parent.parent / "dagster.yaml")
    source = next((path for path in candidates if path.is_file()), None)
    if source is None:
        raise ConfigurationError(
            f"there is no dagster.yaml in {candidates[0].parent} nor in {candidates[1].parent}: "
            "run the command from the root of the repository"
        )
    target = dagster_home(root) / "dagster.yaml"
    text = source.read_text(encoding="utf-8")
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        write_atomically(target, text)
    return target
