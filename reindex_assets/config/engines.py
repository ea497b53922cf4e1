"""A cluster's engines in the fleet file: its Postgres, and its ClickHouse shards with their replicas.

What lives here: their keys and rules, and reading secrets from the environment. What does not: clusters and customers
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
#: An address that holds one of these is a URL, perhaps with a password in it.
_NO_HOST = re.compile(r"[\s@\[\]?#]|://|^$")
_IPV6 = re.compile(r"\[[0-9A-Fa-f:.]+(%\w+)?\]")


def _checked_host(value: str) -> str:
    # What libpq can't take apart it repeats as a whole, with the password.
    if _NO_HOST.search(value) and not _IPV6.fullmatch(value):
        raise ValueError(
            "not a host name: write only the name or address; user, password and port have keys of their own"
        )
    return value


class Strict(BaseModel):
    """A part of the fleet file. An unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretRef(Strict):
    """A secret, given by the name of the environment variable that holds it. The file itself never holds a secret."""

    env: str = Field(description="Name of the environment variable that holds the secret.")

    @model_validator(mode="before")
    @classmethod
    def _only_a_name(cls, value: object) -> object:
        # The message repeats nothing of the value, not even its keys: any of it may be the secret.
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
                f"the environment variable {self.env} is not set, but the fleet file reads a password from it: "
                f"export {self.env}=... and start again"
            )
        return SecretStr(value)


class Relations(Strict):
    """The names of the Postgres relations. Some of them differ between deployments."""

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
    """The database that holds a cluster's scorecards. It is only read, in READ ONLY transactions."""

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
            "The most connections that this project opens to this database at once, counting all runs, sensors and commands on all "
            "machines. A run, a comparison and a sensor tick need one each. A lower number spares Postgres and makes runs wait."
        ),
    )
    connection_wait_seconds: Annotated[int, Field(ge=0, le=3600)] = Field(
        default=120,
        description="How long to wait for one of the `max_connections` before failing. Runs then try again.",
    )
    statement_timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=900,
        description=(
            "Cancels a statement that takes longer, and ends a transaction that is idle for longer. Time spent waiting for the shards or "
            "for `max_rows_per_second` counts too."
        ),
    )
    max_rows_per_second: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description=(
            "The average rows per second that each connection reads from this database; unlimited by default. It applies to each "
            "connection, so N runs at once read N times as much. A lower rate puts less load on Postgres but holds a snapshot longer."
        ),
    )
    max_replica_lag_seconds: Annotated[int, Field(ge=1, le=86400)] = Field(
        default=60,
        description="A standby that may be further behind its primary is not compared. Has no effect on a primary.",
    )
    relations: Relations = Relations()

    _host = field_validator("host")(_checked_host)

    def with_connection_wait(self, connection_wait_seconds: int) -> Postgres:
        """This Postgres, with at most this wait for a connection."""
        wait = min(self.connection_wait_seconds, connection_wait_seconds)
        return self.model_copy(update={"connection_wait_seconds": wait})


class Replica(Strict):
    """One address of a shard, with its HTTP port."""

    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 8123

    _host = field_validator("host")(_checked_host)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Shard(Strict):
    """One ClickHouse shard: either `host` and `port`, or `replicas`. Its position in the list is its shard number."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": ["host"]}, {"required": ["replicas"]}]})

    host: str = ""
    port: Annotated[int, Field(ge=1, le=65535)] = 8123
    replicas: tuple[Replica, ...] = Field(default=(), description="Its replicas. The first one that answers is used.")

    @model_validator(mode="after")
    def _either(self) -> Shard:
        if bool(self.host) == bool(self.replicas):
            raise ValueError("write either 'host' and 'port', or 'replicas' with at least one address in it")
        if self.host:
            _checked_host(self.host)
        return self

    @property
    def addresses(self) -> tuple[Replica, ...]:
        """Its addresses, in order of preference."""
        return self.replicas or (Replica(host=self.host, port=self.port),)


class ClickHouse(Strict):
    """The shards that serve a cluster's scorecards."""

    database: str = "default"
    user: str = "default"
    password: SecretRef
    secure: bool = Field(default=False, description="Use HTTPS instead of HTTP.")
    replicated: bool = Field(
        default=False,
        description="Use Replicated tables: create them with the server's macros in their paths, read a replica only when it has caught "
        "up with the others, and don't wait for unavailable replicas when deleting.",
    )
    replica_wait_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        default=30,
        description="How long to wait for a replica to catch up before trying the next one. Has no effect unless `replicated`.",
    )
    connect_timeout_seconds: Annotated[int, Field(ge=1, le=300)] = 10
    query_timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = 900
    shards: Annotated[tuple[Shard, ...], Field(min_length=1)]
    retiring: tuple[Shard, ...] = Field(
        default=(),
        description=(
            "Former shards that `reindex-assets reshard` empties: it reads and deletes their rows, and nothing writes to them. "
            "Remove them once they are empty."
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
        users: dict[str, str] = {}
        for key, index, shard in self.numbered():
            for address in shard.addresses:
                name = str(address).lower()
                if name in users:
                    raise misplaced(
                        f"{users[name]} already uses the address {address}: every shard and replica needs its own",
                        key,
                        index,
                    )
                users[name] = f"shard {index}" if key == "shards" else "a retiring shard"
            if len(shard.addresses) > 1 and not self.replicated:
                raise misplaced(
                    "several replicas need 'replicated: true': without it, each replica's tables would hold different rows",
                    key,
                    index,
                )
        return self

    def numbered(self) -> Iterator[tuple[str, int, Shard]]:
        """Every shard, with the key of its list and its index there."""
        for key, shards in (("shards", self.shards), ("retiring", self.retiring)):
            for index, shard in enumerate(shards):
                yield key, index, shard

    @property
    def have_replicas(self) -> bool:
        """Whether any shard has more than one address."""
        return any(len(shard.addresses) > 1 for shard in (*self.shards, *self.retiring))
