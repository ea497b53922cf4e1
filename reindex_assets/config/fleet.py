"""The fleet file: clusters, their Postgres and ClickHouse shards, their customers. Validated here, before anything connects.

What lives here: the shape of the file and its rules. What does not: a cluster's own block (config/cluster.py), the sentences about a broken
rule (config/fleet_errors.py), YAML (config/fleet_yaml.py), connections, and anything that reads data.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from reindex_assets.config.cluster import Cluster, ClusterRules, Days, Schedule, Watch
from reindex_assets.config.engines import Strict
from reindex_assets.config.fleet_errors import describe, misplaced
from reindex_assets.config.fleet_yaml import ADDRESSES, BLOCKS, parse_yaml, with_defaults, yaml_problem
from reindex_assets.config.modes import Mode
from reindex_assets.errors import ConfigurationError

R = TypeVar("R", bound=BaseModel)

#: Customer names become partition keys, where Dagster gives "|", "," and "..." a meaning of their own.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def _refuse_bad_name(value: str, *place: str) -> None:
    if not NAME.fullmatch(value) or ".." in value:
        raise misplaced(
            f"{value!r} is not a valid name: use letters, digits, '_', '-' and single '.', at most 63", *place, value
        )


class Defaults(Strict):
    """What every cluster's block has that does not say otherwise: any of its keys but addresses."""

    postgres: dict[str, Any] = Field(default={}, description="Keys of every cluster's `postgres`.")
    clickhouse: dict[str, Any] = Field(default={}, description="Keys of every cluster's `clickhouse`.")

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
    first_day: date = Field(description="The first UTC day that is kept true; earlier days have no partition.")
    mode: Mode | None = Field(
        default=None,
        description="Which scorecards the schedules reindex and check: conversation (where nothing says otherwise), process or all.",
    )
    schedule: Schedule = Schedule()
    look_back_days: Days = Field(
        default=60, description="How many days, today included, are watched, repaired and checked by themselves."
    )
    reindex_days: Days = Field(default=3, description="How many ended days the daily schedule reindexes.")
    watch: Watch = Watch()
    slices: str = Field(
        default=".local/slices", description="Where the steps hand over Parquet files: a path or URL that fsspec knows."
    )
    defaults: Defaults = Defaults()
    clusters: Annotated[dict[str, Cluster], Field(min_length=1)]

    @field_validator("slices")
    @classmethod
    def _without_password(cls, value: str) -> str:
        if re.search(r"://[^/@]*:[^/@]*@", value):
            raise ValueError(
                "a URL with a password in it: give the storage its credentials by its own environment variables"
            )
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
        known: dict[tuple[str, str], str] = {}
        for name, cluster in self.clusters.items():
            for key, number, shard in cluster.clickhouse.numbered():
                for address in shard.addresses:
                    place = (str(address).lower(), cluster.clickhouse.database)
                    if known.setdefault(place, name) != name:
                        raise misplaced(
                            f"{address} with database {cluster.clickhouse.database} is a shard of cluster {known[place]} already: each of "
                            "them would take the other's rows for wrong. Correct the address, or give this cluster a database of its own",
                            *("clusters", name, "clickhouse", key, number),
                        )
        return self

    def rules(self, cluster_name: str, mode: Mode | None = None) -> ClusterRules:
        """What holds for a cluster.

        Args:
            mode: the operator's word (REINDEX_MODE), which stands above the file's.
        """
        cluster = self.clusters[cluster_name]
        return ClusterRules(
            mode=mode or cluster.mode or self.mode or Mode.CONVERSATION,
            schedule=_overridden(self.schedule, cluster.schedule),
            look_back_days=cluster.look_back_days or self.look_back_days,
            reindex_days=cluster.reindex_days or self.reindex_days,
            watch=_overridden(self.watch, cluster.watch),
        )

    def with_connection_wait(self, connection_wait_seconds: int) -> Fleet:
        """The same fleet, for a caller that can't wait any longer than that for a connection to Postgres."""
        return self.model_copy(
            update={
                "clusters": {
                    name: cluster.model_copy(
                        update={"postgres": cluster.postgres.with_connection_wait(connection_wait_seconds)}
                    )
                    for name, cluster in self.clusters.items()
                }
            }
        )

    def cluster_of(self, customer: str) -> str:
        """The name of the cluster where `customer` lives.

        Raises:
            ConfigurationError: no cluster of the fleet file has this customer.
        """
        for name, cluster in self.clusters.items():
            if customer in cluster.customers:
                return name
        known = ", ".join(sorted(c for cluster in self.clusters.values() for c in cluster.customers))
        raise ConfigurationError(f"unknown customer {customer!r}: the fleet file has {known}")


def _overridden(fleetwide: R, own: R | None) -> R:
    """The fleet's rules with those that a cluster gives itself."""
    return (
        fleetwide.model_copy(update={name: getattr(own, name) for name in own.model_fields_set}) if own else fleetwide
    )


def load_fleet(path: str | Path) -> Fleet:
    """Reads and validates a fleet file.

    Raises:
        ConfigurationError: the file is absent, is not YAML, or breaks a rule; the message names the file, the place and the rule.
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
        described = describe(path, root, problems, Fleet.model_json_schema())
        raise ConfigurationError(f"the fleet file {path} is invalid:\n{described}") from None
