"""The engines of a cluster in the fleet file: its Postgres, its ClickHouse shards with their replicas, and the passwords' names.

What lives here: their keys and rules, and the resolution of secrets from the environment. What does not: clusters and customers
(config/fleet.py), and connections.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from reindex_assets.config.fleet_errors import misplaced
from reindex_assets.errors import ConfigurationError

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: What an address must not hold: it would be a URL, perhaps with a password in it.
_NO_HOST = re.compile(r"[\s@]|://|^$")


def _checked_host(value: str) -> str:
    if _NO_HOST.search(value):
        raise ValueError(
            "not a host name: write the name or the address alone; user, password and port have keys of their own"
        )
    return value


class Strict(BaseModel):
    """Of a fleet file: an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretRef(Strict):
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


class Relations(Strict):
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


class Postgres(Strict):
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

    def with_connection_wait(self, connection_wait_seconds: int) -> Postgres:
        """The same, with no longer a wait for a connection."""
        wait = min(self.connection_wait_seconds, connection_wait_seconds)
        return self.model_copy(update={"connection_wait_seconds": wait})


class Replica(Strict):
    """One address of a shard, by its HTTP port."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 8123

    _host = field_validator("host")(_checked_host)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Shard(Strict):
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


class ClickHouse(Strict):
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
