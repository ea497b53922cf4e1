"""A cluster's block of the fleet file, and the rules of a cluster.

What lives here: the shape of both. What does not: the engines' keys (config/engines.py), and what a cluster inherits from the fleet
(config/fleet.py).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_serializer, field_validator

from reindex_assets.config.cron import checked_cron, checked_timezone
from reindex_assets.config.engines import ClickHouse, Postgres, Strict
from reindex_assets.config.modes import Mode
from reindex_assets.config.tables import DeclaredTables
from reindex_assets.model import Tables


class Customer(Strict):
    """One customer of a cluster."""

    profiles: tuple[str, ...] = Field(default=(), description="The profiles to keep true. Default: all of them.")

    @field_validator("profiles")
    @classmethod
    def _profiles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not name or not name.isprintable():
                raise ValueError("not a profile name: it is empty or contains a control character")
        return value


class Watch(Strict):
    """How the repair sensor watches and repairs the look-back. The limits apply to each tick of the sensor and each cluster."""

    interval_seconds: Annotated[int, Field(ge=5, le=3600)] = Field(default=10, description="Seconds between two ticks.")
    settle_seconds: Annotated[float, Field(ge=0, le=30)] = Field(
        default=5.0, description="A difference is drift only after this time; until then the row may be in flight."
    )
    attempts: Annotated[int, Field(ge=1, le=20)] = Field(
        default=3,
        description="How many repairs of the same drift may fail before the sensor gives the partition up and alerts a person.",
    )
    cool_down_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        default=15.0,
        description="Pause before the same partition is repaired again. Each failed repair doubles it.",
    )
    slices_a_tick: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=200, description="Partitions to repair a tick."
    )
    runs_a_tick: Annotated[int, Field(ge=1, le=100)] = Field(default=4, description="Repair runs to request a tick.")
    scorecards: Annotated[int, Field(ge=1)] = Field(
        default=2_000_000,
        description="Scorecards whose row versions a tick reads in Postgres. When there are more, the days take turns.",
    )
    scores: Annotated[int, Field(ge=1)] = Field(
        default=300_000,
        description="Scores whose row versions a tick reads in Postgres. When there are more, the days take turns.",
    )
    compared_scores: Annotated[int, Field(ge=1)] = Field(
        default=400_000,
        description="Scores that a tick compares bit by bit. Changed partitions come first; the others wait for later ticks.",
    )
    prove_every_hours: Annotated[float, Field(gt=0, le=8760)] = Field(
        default=24,
        description="Every partition is compared bit by bit at least this often, whatever its row versions and parts say.",
    )
    silent_seconds: Annotated[int, Field(ge=30, le=86400)] = Field(
        default=180,
        description="Mark a run as failed when it has shown no sign of life for this long, so that it does not block repairs.",
    )


class Schedule(Strict):
    """When the schedules run. Each is off until somebody turns it on."""

    reindex: str = Field(default="15 1 * * *", description="When to reindex every day: a cron line of five fields.")
    checks: str = Field(
        default="30 2 * * *", description="When to check the whole look-back: a cron line of five fields."
    )
    timezone: str = Field(default="UTC", description="The time zone of both lines. Days are UTC days anyway.")

    _cron = field_validator("reindex", "checks")(checked_cron)
    _timezone = field_validator("timezone")(checked_timezone)


class Deletions(Strict):
    """Which deletions a run may not decide by itself. Deleted means: ClickHouse has the row, and Postgres doesn't have it at all."""

    share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.2,
        description="A run stops before it deletes more than this share of what ClickHouse holds of a partition's scorecards or scores, "
        "or of those of all its partitions.",
    )
    rows: Annotated[int, Field(ge=1)] = Field(
        default=1_000, description="Fewer rows than this are no reason to stop, however large their share."
    )
    emptied_rows: Annotated[int, Field(ge=1)] = Field(
        default=100,
        description="A run stops before it empties a partition that holds at least so many scorecards, or so many scores.",
    )
    allowed: bool = Field(
        default=False, description="Delete whatever Postgres doesn't have, without a question. Repairs do so, too."
    )


class ClusterRules(Strict):
    """The rules of one cluster: its own where it has them, else the fleet's."""

    mode: Mode
    schedule: Schedule
    look_back_days: int
    reindex_days: int
    watch: Watch
    deletions: Deletions


Days = Annotated[int, Field(ge=1, le=366)]


class Cluster(Strict):
    """One Postgres, its ClickHouse shards, and the customers who live there."""

    postgres: Postgres
    clickhouse: ClickHouse
    tables: DeclaredTables = Field(default_factory=DeclaredTables)
    customers: Annotated[dict[str, Customer], Field(min_length=1)]
    mode: Mode | None = Field(default=None, description="Overrides the fleet's.")
    schedule: Schedule | None = Field(default=None, description="Keys given here override the fleet's.")
    look_back_days: Days | None = Field(default=None, description="Overrides the fleet's.")
    reindex_days: Days | None = Field(default=None, description="Overrides the fleet's.")
    watch: Watch | None = Field(default=None, description="Keys given here override the fleet's.")
    deletions: Deletions | None = Field(default=None, description="Keys given here override the fleet's.")

    @property
    def clickhouse_tables(self) -> Tables:
        """The tables of its scorecards and scores in ClickHouse."""
        return self.tables.declared

    @field_serializer("schedule", "watch", "deletions")
    def _given(self, value: Schedule | Watch | Deletions | None) -> dict[str, object] | None:
        # Keys that are not given stay out: written down as defaults, they would override the fleet's.
        return None if value is None else value.model_dump(mode="json", exclude_unset=True)
