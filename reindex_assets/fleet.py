"""The fleet file: clusters, their Postgres and ClickHouse shards, their customers. Validated here, before anything connects.

What lives here: the shape of the file, its validation, and the resolution of secrets from the environment.
What does not: connections, and anything that reads data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from reindex_assets.errors import ConfigurationError

#: Customer names become partition keys, where Dagster gives "|", "," and "..." a meaning of their own.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _checked_name(value: str) -> str:
    if not NAME.fullmatch(value) or ".." in value:
        raise ValueError(f"{value!r} is not a valid name: use letters, digits, '_', '-' and single '.', at most 63")
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretRef(_Strict):
    """A secret by the name of the environment variable that holds it. The file itself never holds one."""

    env: str = Field(description="Name of the environment variable that holds the secret.")

    def resolve(self, environ: Mapping[str, str] | None = None) -> SecretStr:
        """The secret itself.

        Raises:
            ConfigurationError: the variable is not set.
        """
        value = (os.environ if environ is None else environ).get(self.env)
        if value is None:
            raise ConfigurationError(
                f"the environment variable {self.env} is not set, and the fleet file takes a password from it: "
                f"export {self.env}=... and start again"
            )
        return SecretStr(value)


class Relations(_Strict):
    """Names of the Postgres relations: deployments differ in some of them."""

    scorecards: str = "director.scorecards"
    templates: str = "director.scorecard_templates"
    template_revisions: str = "director.scorecard_template_revisions"
    scores: str = "historic.scorecard_scores"
    chats: str = "app.chats"

    @field_validator("*")
    @classmethod
    def _qualified(cls, value: str) -> str:
        if not all(IDENTIFIER.fullmatch(part) for part in value.split(".")) or value.count(".") > 1:
            raise ValueError(f"{value!r} is not a relation name: write schema.table")
        return value


class Postgres(_Strict):
    """Where a cluster's scorecards are read from. Only ever read, in a READ ONLY transaction."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 5432
    database: str
    user: str
    password: SecretRef
    sslmode: str = Field(default="prefer", pattern="^(disable|allow|prefer|require|verify-ca|verify-full)$")
    connect_timeout_seconds: Annotated[int, Field(ge=1, le=300)] = 10
    max_connections: Annotated[int, Field(ge=2, le=1000)] = Field(
        default=8,
        description=(
            "Connections that this project holds to this database at once: all runs, sensors and commands on all machines together. "
            "A run, a comparison and a tick need one each. Fewer spare Postgres, and let runs wait for each other."
        ),
    )
    connection_wait_seconds: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=120,
        description="How long to wait for one of the `max_connections` to come free before that is an error (runs try again).",
    )
    statement_timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=900,
        description=(
            "A statement that takes longer is cancelled, and a transaction that lies idle for longer is ended. The time that the "
            "shards or `max_rows_per_second` make it wait counts too."
        ),
    )
    max_rows_per_second: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description=(
            "Rows that one connection streams out of this database per second, on average; without it, as many as the shards take. Of "
            "each connection: so many runs at once read so many times as much. Fewer load Postgres less, and hold a snapshot longer."
        ),
    )
    max_replica_lag_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=60,
        description="A standby that may be further behind its primary is not compared. No meaning on a primary.",
    )
    relations: Relations = Relations()

    def in_haste(self, connection_wait_seconds: int) -> Postgres:
        """The same, with no longer a wait for a connection."""
        wait = min(self.connection_wait_seconds, connection_wait_seconds)
        return self.model_copy(update={"connection_wait_seconds": wait})


class Shard(_Strict):
    """One ClickHouse shard, by its HTTP port. Its place in the list is its shard number."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 8123


class ClickHouse(_Strict):
    """Where a cluster's scorecards are served from."""

    database: str = "default"
    user: str = "default"
    password: SecretRef
    secure: bool = Field(default=False, description="HTTPS instead of HTTP.")
    replicated: bool = Field(default=False, description="Create Replicated tables (paths by the server's macros).")
    connect_timeout_seconds: Annotated[int, Field(ge=1, le=300)] = 10
    query_timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = 900
    shards: Annotated[tuple[Shard, ...], Field(min_length=1)]
    retiring: tuple[Shard, ...] = Field(
        default=(),
        description=(
            "Former shards that `reindex-assets reshard` empties: it reads and deletes their rows, and nothing is written there. "
            "Without a meaning once they hold nothing more."
        ),
    )

    @field_validator("database")
    @classmethod
    def _database(cls, value: str) -> str:
        if not IDENTIFIER.fullmatch(value):
            raise ValueError(f"{value!r} is not a database name: use letters, digits and '_'")
        return value

    @model_validator(mode="after")
    def _distinct_shards(self) -> ClickHouse:
        addresses = [(shard.host, shard.port) for shard in self.shards]
        twice = sorted({f"{host}:{port}" for host, port in addresses if addresses.count((host, port)) > 1})
        if twice:
            raise ValueError(f"the same address stands for several shards: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _retiring_apart(self) -> ClickHouse:
        addresses = [(shard.host, shard.port) for shard in (*self.shards, *self.retiring)]
        twice = sorted({f"{one.host}:{one.port}" for one in self.retiring if addresses.count((one.host, one.port)) > 1})
        if twice:
            raise ValueError(f"a retiring shard stands there twice, or among the shards too: {', '.join(twice)}")
        return self


class Customer(_Strict):
    """One customer of a cluster."""

    profiles: tuple[str, ...] = Field(default=(), description="Its profiles; none listed means every profile.")

    @field_validator("profiles")
    @classmethod
    def _profiles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not name or not name.isprintable():
                raise ValueError(f"{name!r} is not a profile name: it is empty or holds a control character")
        return value


class Cluster(_Strict):
    """One Postgres, its shards, and the customers who live there."""

    postgres: Postgres
    clickhouse: ClickHouse
    customers: Annotated[dict[str, Customer], Field(min_length=1)]

    @field_validator("customers")
    @classmethod
    def _customers(cls, value: dict[str, Customer]) -> dict[str, Customer]:
        for name in value:
            _checked_name(name)
        return value


class Watch(_Strict):
    """How the look-back is watched and repaired by itself. The limits are for each tick of the sensor and each cluster."""

    interval_seconds: Annotated[int, Field(ge=5, le=3600)] = Field(default=10, description="Seconds between two looks.")
    settle_seconds: Annotated[float, Field(ge=0, le=30)] = Field(
        default=5.0, description="A difference younger than this is a row on its way, and no drift."
    )
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(
        default=3,
        description="Repairs of the same drift that may fail before the slice is given up and a person called.",
    )
    cool_down_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=15.0,
        description="Pause after a repair before the same slice is repaired again; doubled by each failed one.",
    )
    slices_a_tick: Annotated[int, Field(ge=1, le=10_000)] = Field(default=200, description="Slices to repair at once.")
    runs_a_tick: Annotated[int, Field(ge=1, le=100)] = Field(default=4, description="Repair runs to ask for at once.")
    scorecards: Annotated[int, Field(ge=1)] = Field(
        default=2_000_000, description="Scorecards whose marks are read in Postgres; more of them take turns by day."
    )
    scores: Annotated[int, Field(ge=1)] = Field(
        default=300_000, description="Scores whose marks are read in Postgres; more of them take turns by day."
    )
    compared_scores: Annotated[int, Field(ge=1)] = Field(
        default=400_000,
        description="Scores that are compared to the bit; what was touched comes first, the rest has to wait.",
    )
    silent_seconds: Annotated[int, Field(ge=30, le=86400)] = Field(
        default=180,
        description="A run that has given no sign of life for so long is failed, so that it blocks no repair.",
    )


class Fleet(_Strict):
    """The whole fleet file."""

    version: Annotated[int, Field(ge=1, le=1)] = 1
    first_day: date = Field(description="The first UTC day that is kept true; earlier days have no partition.")
    look_back_days: Annotated[int, Field(ge=1, le=366)] = Field(
        default=60, description="How many days, today included, are watched, repaired and checked by themselves."
    )
    reindex_days: Annotated[int, Field(ge=1, le=366)] = Field(
        default=3, description="How many ended days the daily schedule reindexes."
    )
    watch: Watch = Watch()
    slices: str = Field(
        default=".local/slices", description="Where the steps hand over Parquet files: a path or URL that fsspec knows."
    )
    clusters: Annotated[dict[str, Cluster], Field(min_length=1)]

    @model_validator(mode="after")
    def _names(self) -> Fleet:
        homes: dict[str, str] = {}
        for name, cluster in self.clusters.items():
            _checked_name(name)
            for customer in cluster.customers:
                if customer in homes:
                    raise ValueError(f"customer {customer!r} lives in two clusters: {homes[customer]} and {name}")
                homes[customer] = name
        return self

    def in_haste(self, connection_wait_seconds: int) -> Fleet:
        """The same fleet, for a caller that can't wait any longer than that for a connection to Postgres."""
        return self.model_copy(
            update={
                "clusters": {
                    name: cluster.model_copy(update={"postgres": cluster.postgres.in_haste(connection_wait_seconds)})
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


class _Loader(yaml.SafeLoader):
    """YAML, but a key that stands twice is an error: the first of two clusters of one name would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in keys:
                    raise yaml.constructor.ConstructorError(
                        problem="the same key a second time", problem_mark=key.start_mark
                    )
                keys.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def _yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong and where. Not the parser's own text: it repeats the line, and tags and aliases, which may be a secret."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return "it holds a character that YAML does not allow"
    problem = re.sub(r"'[^'<][^']+'", "'...'", error.problem or "it is malformed")
    return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {problem}"


def load_fleet(path: str | Path) -> Fleet:
    """Reads and validates a fleet file.

    Raises:
        ConfigurationError: the file is absent, is not YAML, or breaks a rule; the message names the file, the place and the rule.
    """
    path = Path(path)
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no fleet file at {path}: write one (README, 'Your own Postgres and ClickHouse'), "
            "name it by --fleet or REINDEX_FLEET, or start the local stack with 'reindex-assets local up'"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the fleet file {path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"the fleet file {path} is not valid YAML: {_yaml_problem(error)}") from None
    try:
        return Fleet.model_validate(document)
    except ValidationError as error:
        # pydantic's own text would print the offending input, which may be a secret written in the wrong place.
        problems = "\n".join(
            f"  {'.'.join(str(part) for part in problem['loc']) or '(the whole file)'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise ConfigurationError(f"the fleet file {path} is invalid:\n{problems}") from None
