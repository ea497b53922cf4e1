"""The run config of a purge of appeals: what an operator may choose.

What lives here: the fields and what turning them does. What does not: the work (appeals.py).
"""

# Without `from __future__ import annotations`: Dagster reads the fields' types from the annotations themselves.
from datetime import date

from dagster import Config
from pydantic import Field

from reindex_assets.appeals import MOST_SCORECARDS, PurgeOptions
from reindex_assets.errors import ConfigurationError
from reindex_assets.fleet import Fleet


class PurgeConfig(Config):
    """The run config."""

    dry_run: bool = Field(
        default=True,
        description="Look for appeals and show where they stand; delete nothing. Set it to false to purge.",
    )
    customers: list[str] = Field(
        default=[], description="Look for appeals of these customers; without any, of every customer of the cluster."
    )
    first_day: str | None = Field(
        default=None, description="The first UTC day, as 2026-01-31. Without it, the fleet file's first day."
    )
    last_day: str | None = Field(default=None, description="The last UTC day, included. Without it, today.")
    max_scorecards: int = Field(
        default=PurgeOptions().max_scorecards,
        ge=1,
        le=MOST_SCORECARDS,
        description="Appeals that one run removes, by day and customer; the next run goes on with what is left. Fewer make shorter runs.",
    )
    attempts: int = Field(
        default=PurgeOptions().attempts,
        ge=1,
        le=20,
        description="Tries when Postgres or a shard does not answer, or another run holds a partition, with growing pauses of up to "
        "15 seconds.",
    )

    def days(self, fleet: Fleet, today: date) -> tuple[date, date]:
        """The first and the last day.

        Raises:
            ConfigurationError: one is no day.
        """
        try:
            first = date.fromisoformat(self.first_day) if self.first_day else fleet.first_day
            last = date.fromisoformat(self.last_day) if self.last_day else today
        except ValueError as error:
            raise ConfigurationError(f"first_day or last_day is no day: {error}. Write it as 2026-01-31") from None
        return first, last

    def options(self) -> PurgeOptions:
        """The same, for the core."""
        return PurgeOptions(self.dry_run, self.max_scorecards, self.attempts)
