"""The fleet file: clusters, with their Postgres, ClickHouse shards and customers. It is validated here, before anything connects.

What lives here: the shape of the file and its rules. What does not: a cluster's own block (config/cluster.py), the messages about a broken
rule (config/fleet_errors.py), YAML (config/fleet_yaml.py), connections, and anything that reads data.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from reindex_assets.config.cluster import Cluster, ClusterRules, Days, Deletions, Schedule, Watch
from reindex_assets.config.dataset import Dataset
from reindex_assets.config.engines import Strict
from reindex_assets.config.fleet_errors import describe, misplaced
from reindex_assets.config.fleet_yaml import ADDRESSES, BLOCKS, parse_yaml, with_defaults, yaml_problem
from reindex_assets.config.modes import Mode
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import KINDS, Kind

R = TypeVar("R", bound=BaseModel)

#: Customer names become partition keys, in which Dagster gives "|", "," and "..." a special meaning.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def _refuse_bad_name(value: str, *place: str) -> None:
    if not NAME.fullmatch(value) or ".." in value:
        raise misplaced(
            f"{value!r} is not a valid name: use at most 63 letters, digits, '_', '-' and single '.'", *place, value
        )


class Defaults(Strict):
    """Defaults for every cluster's blocks: any of their keys except addresses."""

    postgres: dict[str, Any] = Field(default={}, description="Defaults for every cluster's `postgres`.")
    clickhouse: dict[str, Any] = Field(default={}, description="Defaults for every cluster's `clickhouse`.")
    tables: dict[str, Any] = Field(default={}, description="Defaults for every cluster's `tables`.")

    @model_validator(mode="after")
    def _no_address(self) -> Defaults:
        for block in BLOCKS:
            for key in ADDRESSES:
                if key in getattr(self, block):
                    raise misplaced("an address belongs to one cluster: write it there", block, key)
        return self


class Fleet(Strict):
    """The whole fleet file."""

    version: Annotated[int, Field(ge=1, le=1)] = 1
    first_day: date = Field(description="The first UTC day to keep true. Earlier days have no partition.")
    mode: Mode | None = Field(
        default=None,
        description="Which scorecards the schedules reindex and check: conversation (the default), process or all.",
    )
    schedule: Schedule = Schedule()
    look_back_days: Days = Field(
        default=60, description="How many days, including today, to watch, repair and check automatically."
    )
    reindex_days: Days = Field(default=3, description="How many past days the daily schedule reindexes.")
    watch: Watch = Watch()
    deletions: Deletions = Deletions()
    slices: str = Field(
        default=".local/slices",
        description="Where the steps hand over Parquet files: a path or a URL that fsspec supports.",
    )
    defaults: Defaults = Defaults()
    clusters: Annotated[dict[str, Cluster], Field(min_length=1)]

    @field_validator("slices")
    @classmethod
    def _without_password(cls, value: str) -> str:
        if re.search(r"://[^/@]*:[^/@]*@", value):
            raise ValueError("a URL with a password in it: set the storage's credentials in its environment variables")
        return value

    _filled = model_validator(mode="before")(with_defaults)

    @model_validator(mode="after")
    def _names(self) -> Fleet:
        homes: dict[str, str] = {}
        for name, cluster in self.clusters.items():
            _refuse_bad_name(name, "clusters")
            for customer in cluster.customers:
                _refuse_bad_name(customer, "clusters", name, "customers")
                if customer in homes:
                    raise misplaced(
                        f"customer {customer!r} lives in two clusters: {homes[customer]} and {name}",
                        *("clusters", name, "customers", customer),
                    )
                homes[customer] = name
        return self

    @model_validator(mode="after")
    def _distinct_databases(self) -> Fleet:
        """Two clusters in one database would delete each other's rows."""
        owners: dict[tuple[str, str], str] = {}
        for name, cluster in self.clusters.items():
            for key, index, shard in cluster.clickhouse.numbered():
                for address in shard.addresses:
                    database = (str(address).lower(), cluster.clickhouse.database)
                    if owners.setdefault(database, name) != name:
                        raise misplaced(
                            f"{address} with database {cluster.clickhouse.database} is already a shard of cluster {owners[database]}: each "
                            "cluster would delete the other's rows. Correct the address, or give this cluster its own database",
                            *("clusters", name, "clickhouse", key, index),
                        )
        return self

    def rules(self, cluster_name: str, mode: Mode | None = None) -> ClusterRules:
        """The rules of a cluster.

        Args:
            mode: the operator's (REINDEX_MODE), which overrides the file's.
        """
        cluster = self.clusters[cluster_name]
        return ClusterRules(
            mode=mode or cluster.mode or self.mode or Mode.CONVERSATION,
            schedule=_overridden(self.schedule, cluster.schedule),
            look_back_days=cluster.look_back_days or self.look_back_days,
            reindex_days=cluster.reindex_days or self.reindex_days,
            watch=_overridden(self.watch, cluster.watch),
            deletions=_overridden(self.deletions, cluster.deletions),
        )

    def dataset(self, cluster_name: str, kind: Kind) -> Dataset:
        """The scorecards of one kind in one cluster."""
        return Dataset(
            cluster_name=cluster_name,
            kind=kind,
            cluster=self.clusters[cluster_name],
            first_day=self.first_day,
            slices_root=self.slices,
            rules=self.rules(cluster_name),
        )

    def datasets(self, *cluster_names: str) -> list[Dataset]:
        """The datasets of every kind in some clusters, or in all clusters if none is named."""
        return [self.dataset(name, kind) for name in cluster_names or self.clusters for kind in KINDS]

    def cluster_of(self, customer: str) -> str:
        """The name of the cluster where `customer` lives.

        Raises:
            ConfigurationError: the fleet file does not have this customer.
        """
        for name, cluster in self.clusters.items():
            if customer in cluster.customers:
                return name
        customers = ", ".join(sorted(c for cluster in self.clusters.values() for c in cluster.customers))
        raise ConfigurationError(f"unknown customer {customer!r}: the fleet file has {customers}")


def _overridden(fleetwide: R, own: R | None) -> R:
    """The fleet's rules, overridden by those that a cluster gives itself."""
    return fleetwide.model_copy(update=own.model_dump(exclude_unset=True)) if own else fleetwide


def load_fleet(path: str | Path) -> Fleet:
    """Reads and validates a fleet file.

    Raises:
        ConfigurationError: the file is missing, is not YAML, or breaks a rule. The message names the file, the line and the rule.
    """
    path = Path(path)
    try:
        root, document = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no fleet file at {path}: write one (docs/install.md), "
            "name it by --fleet or REINDEX_FLEET, or start the local stack with 'reindex-assets local up'"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the fleet file {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"the fleet file {path} is not valid YAML: {yaml_problem(error)}") from None
    try:
        return Fleet.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        description = describe(path, root, problems, Fleet.model_json_schema())
        raise ConfigurationError(f"the fleet file {path} is invalid:\n{description}") from None
