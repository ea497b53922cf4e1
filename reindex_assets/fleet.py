"""The fleet file: clusters, their Postgres and ClickHouse shards, their customers. Validated here, before anything connects.

What lives here: the shape of the file, its rules, and the resolution of secrets from the environment.
What does not: the sentences about a broken rule (fleet_errors.py), YAML (fleet_yaml.py), connections, and anything that reads data.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from reindex_assets.cron import checked_cron, checked_timezone
from reindex_assets.errors import ConfigurationError
from reindex_assets.fleet_defaults import ADDRESSES, BLOCKS, with_defaults
from reindex_assets.fleet_errors import describe, misplaced
from reindex_assets.fleet_yaml import parse_yaml, yaml_problem
from reindex_assets.modes import Mode

R = TypeVar("R", bound=BaseModel)

#: Customer names become partition keys, where Dagster gives "|", "," and "..." a meaning of their own.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What an address must not hold: it would be a URL, perhaps with a password in it.
_NO_HOST = re.compile(r"[\s@]|://|^$")


def _refuse_bad_name(value: str, *place: str) -> None:
    if not NAME.fullmatch(value) or ".." in value:
        raise misplaced(
            f"{value!r} is not a valid name: use letters, digits, '_', '-' and single '.', at most 63", *place, value
        )


def _checked_host(value: str) -> str:
    if _NO_HOST.search(value):
        raise ValueError(
            "not a host name: write the name or the address alone; user, password and port have keys of their own"
        )
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretRef(_Strict):
    """A secret by the name of the environment variable that holds it. The file itself never holds one."""

    env: str = Field(description="Name of the environment variable that holds the secret.")

    @model_validator(mode="before")
    @classmethod
    def _only_a_name(cls, value: object) -> object:
        # One sentence for whatever else stands there, keys included: any of it may be the secret.
        if not isinstance(value, SecretRef) and (
            not isinstance(value, Mapping)
            or set(value) != {"env"}
            or not isinstance(value["env"], str)
            or not IDENTIFIER.fullmatch(value["env"])
        ):
            raise misplaced(
                "name an environment variable, as 'password: {env: NAME}'; the file itself never holds a secret"
            )
        return value

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
            raise ValueError("not a relation name: write schema.table")
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

    _host = field_validator("host")(_checked_host)

    def in_haste(self, connection_wait_seconds: int) -> Postgres:
        """The same, with no longer a wait for a connection."""
        wait = min(self.connection_wait_seconds, connection_wait_seconds)
        return self.model_copy(update={"connection_wait_seconds": wait})


class Replica(_Strict):
    """One address of a shard, by its HTTP port."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 8123

    _host = field_validator("host")(_checked_host)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Shard(_Strict):
    """One ClickHouse shard: `host` and `port`, or `replicas`. Its place in the list is its shard number."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["host"]}, {"required": ["replicas"]}]})

    host: str = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 8123
    replicas: tuple[Replica, ...] = Field(
        default=(), description="Its replicas; any of them may be used, the first one that answers."
    )

    @model_validator(mode="after")
    def _either(self) -> Shard:
        if bool(self.host) == bool(self.replicas):
            raise ValueError("write either 'host' and 'port', or 'replicas' with at least one of these in it")
        if self.host:
            _checked_host(self.host)
        return self

    @property
    def addresses(self) -> tuple[Replica, ...]:
        """Where it may be reached, in the order of preference."""
        return self.replicas or (Replica(host=self.host, port=self.port),)


class ClickHouse(_Strict):
    """Where a cluster's scorecards are served from."""

    database: str = "default"
    user: str = "default"
    password: SecretRef
    secure: bool = Field(default=False, description="HTTPS instead of HTTP.")
    replicated: bool = Field(
        default=False,
        description="The tables are Replicated: they are created so (paths by the server's macros), a replica is read only when it has "
        "caught up with the others, and a delete does not wait for replicas that are away.",
    )
    replica_wait_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=30,
        description="How long a replica may take to catch up before it is left for the next one. No meaning unless `replicated`.",
    )
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
            raise ValueError("not a database name: use letters, digits and '_'")
        return value

    @model_validator(mode="after")
    def _distinct_addresses(self) -> ClickHouse:
        known: dict[str, str] = {}
        for place, number, shard in self.numbered():
            for address in shard.addresses:
                name = str(address).lower()
                if name in known:
                    raise misplaced(
                        f"the address {address} stands for {known[name]} already: every shard and replica has one of its own",
                        place,
                        number,
                    )
                known[name] = f"shard {number}" if place == "shards" else "a retiring shard"
            if len(shard.addresses) > 1 and not self.replicated:
                raise misplaced(
                    "several replicas need 'replicated: true': tables that don't replicate would hold other rows on each",
                    place,
                    number,
                )
        return self

    def numbered(self) -> Iterator[tuple[str, int, Shard]]:
        """Every shard with the list in which it stands, and its place there."""
        for place, shards in (("shards", self.shards), ("retiring", self.retiring)):
            for number, shard in enumerate(shards):
                yield place, number, shard

    @property
    def have_replicas(self) -> bool:
        """Whether any shard has more than one address."""
        return any(len(shard.addresses) > 1 for shard in (*self.shards, *self.retiring))


class Customer(_Strict):
    """One customer of a cluster."""

    profiles: tuple[str, ...] = Field(default=(), description="Its profiles; none listed means every profile.")

    @field_validator("profiles")
    @classmethod
    def _profiles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not name or not name.isprintable():
                raise ValueError("not a profile name: it is empty or holds a control character")
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


class Schedule(_Strict):
    """When the schedules run. Each is off until it is switched on."""

    reindex: str = Field(default="15 1 * * *", description="Of the daily reindex: a cron line of five fields.")
    checks: str = Field(
        default="30 2 * * *", description="Of the checks of the whole look-back: a cron line of five fields."
    )
    timezone: str = Field(
        default="UTC", description="The time zone of both lines. The days themselves are always UTC days."
    )

    _cron = field_validator("reindex", "checks")(checked_cron)
    _timezone = field_validator("timezone")(checked_timezone)


class ClusterRules(_Strict):
    """What holds for one cluster: its own word, else the fleet's."""

    mode: Mode
    schedule: Schedule
    look_back_days: int
    reindex_days: int
    watch: Watch


_Days = Annotated[int, Field(ge=1, le=366)]


class Cluster(_Strict):
    """One Postgres, its shards, and the customers who live there."""

    postgres: Postgres
    clickhouse: ClickHouse
    customers: Annotated[dict[str, Customer], Field(min_length=1)]
    mode: Mode | None = Field(default=None, description="Instead of the fleet's.")
    schedule: Schedule | None = Field(default=None, description="Keys given here stand instead of the fleet's.")
    look_back_days: _Days | None = Field(default=None, description="Instead of the fleet's.")
    reindex_days: _Days | None = Field(default=None, description="Instead of the fleet's.")
    watch: Watch | None = Field(default=None, description="Keys given here stand instead of the fleet's.")

    @field_serializer("schedule", "watch")
    def _given(self, value: Schedule | Watch | None) -> dict[str, object] | None:
        # A key that is not given is the fleet's: written out, it would no longer be.
        return None if value is None else value.model_dump(mode="json", exclude_unset=True)


class Defaults(_Strict):
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


class Fleet(_Strict):
    """The whole fleet file."""

    version: Annotated[int, Field(ge=1, le=1)] = 1
    first_day: date = Field(description="The first UTC day that is kept true; earlier days have no partition.")
    mode: Mode | None = Field(
        default=None,
        description="Which scorecards the schedules reindex and check: conversation (where nothing says otherwise), process or all.",
    )
    schedule: Schedule = Schedule()
    look_back_days: _Days = Field(
        default=60, description="How many days, today included, are watched, repaired and checked by themselves."
    )
    reindex_days: _Days = Field(default=3, description="How many ended days the daily schedule reindexes.")
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
            f"there is no fleet file at {path}: write one (README, 'Your own Postgres and ClickHouse'), "
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
