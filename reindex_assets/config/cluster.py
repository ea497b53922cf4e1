"""A cluster's block of the fleet file, and the rules that hold for a cluster.

What lives here: the shape of both. What does not: the engines' keys (config/engines.py), and what a cluster has from the fleet
(config/fleet.py).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_serializer, field_validator

from reindex_assets.config.cron import checked_cron, checked_timezone
from reindex_assets.config.engines import ClickHouse, Postgres, Strict
from reindex_assets.config.modes import Mode


class Customer(Strict):
    """One customer of a cluster."""

    profiles: tuple[str, ...] = Field(default=(), description="Its profiles; none listed means every profile.")

    @field_validator("profiles")
    @classmethod
    def _profiles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not name or not name.isprintable():
                raise ValueError("not a profile name: it is empty or holds a control character")
        return value


class Watch(Strict):
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


class Schedule(Strict):
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


class ClusterRules(Strict):
    """What holds for one cluster: its own word, else the fleet's."""

    mode: Mode
    schedule: Schedule
    look_back_days: int
    reindex_days: int
    watch: Watch


Days = Annotated[int, Field(ge=1, le=366)]


class Cluster(Strict):
    """One Postgres, its shards, and the customers who live there."""

    postgres: Postgres
    clickhouse: ClickHouse
    customers: Annotated[dict[str, Customer], Field(min_length=1)]
    mode: Mode | None = Field(default=None, description="Instead of the fleet's.")
    schedule: Schedule | None = Field(default=None, description="Keys given here stand instead of the fleet's.")
    look_back_days: Days | None = Field(default=None, description="Instead of the fleet's.")
    reindex_days: Days | None = Field(default=None, description="Instead of the fleet's.")
    watch: Watch | None = Field(default=None, description="Keys given here stand instead of the fleet's.")

    @field_serializer("schedule", "watch")
    def _given(self, value: Schedule | Watch | None) -> dict[str, object] | None:
        # A key that is not given is the fleet's: written out, it would no longer be.
        return None if value is None else value.model_dump(mode="json", exclude_unset=True)
