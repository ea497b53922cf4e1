"""The run config: what an operator may choose for a run.

What lives here: the fields and what changing them does. What does not: the work.
"""

# Without `from __future__ import annotations`: Dagster reads the fields' types from the annotations themselves.
from dagster import Config, ConfigurableResource
from pydantic import Field, field_validator

from reindex_assets.model import KINDS
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.reindex.writer import WriteOptions


class ReindexScope(ConfigurableResource):  # type: ignore[type-arg]
    """The resource `scope`, shared by the assets of every kind: which kinds a run reindexes."""

    scorecard_types: list[str] = Field(
        default=[kind.name for kind in KINDS],
        description=f"The kinds of scorecards to reindex: {', '.join(kind.name for kind in KINDS)}. A kind that is left out is not "
        "touched, whichever assets are selected.",
    )

    @field_validator("scorecard_types")
    @classmethod
    def _known_types(cls, value: list[str]) -> list[str]:
        names = [kind.name for kind in KINDS]
        if not value or not set(value) <= set(names):
            raise ValueError(f"name one or more of {', '.join(names)}")
        return value


class ReindexConfig(Config):
    """The run config."""

    dry_run: bool = Field(
        default=False,
        description="Read, compare and report what would be written, but write nothing to ClickHouse. "
        "shard_writes is not marked as materialized; the checks say how things are.",
    )
    clean_up: bool = Field(
        default=False,
        description="Delete the partitions' rows in ClickHouse first, then rebuild them. READERS SEE A HOLE until the rebuild has ended; "
        "use it only for partitions that a repair can't fix. Rows newer than the snapshot stay.",
    )
    batch_rows: int = Field(
        default=WriteOptions().batch_rows,
        ge=1,
        le=900_000,
        description="Rows in one insert on one shard. Fewer need less memory, more make fewer parts in ClickHouse.",
    )
    group_scorecards: int = Field(
        default=ReindexOptions().group_scorecards,
        ge=1,
        description="Scorecards that are read from one Postgres snapshot by one query and written together. More of them mean that the "
        "score table is read less often, and that a snapshot is held longer. One day of a customer is never divided.",
    )
    attempts: int = Field(
        default=ReindexOptions().attempts,
        ge=1,
        le=20,
        description="How often to try a group of partitions when Postgres or a shard does not answer, or another run holds a partition, "
        "with growing pauses of up to 15 seconds.",
    )
    allow_reshard: bool = Field(
        default=False,
        description="The run is part of the reshard to the fleet file's shards, and may write while that is under way. "
        "`reindex-assets reshard` sets it; without a reshard under way it changes nothing.",
    )
    allow_deletes: bool = Field(
        default=False,
        description="Delete the rows that Postgres doesn't have, however many they are. Without it, a run stops before a mass deletion "
        "(key `deletions` of the fleet file). Set it once you know that Postgres is right.",
    )
    everything: bool = Field(
        default=False,
        description="Also read, compare and write the partitions that nothing has touched since a run left them equal to the bit. "
        "Without it they are skipped, because in both engines no row of them was added, changed or removed.",
    )
    settle_seconds: float | None = Field(
        default=None,
        ge=0,
        le=600,
        description="A check that finds a difference looks again after this time, because a row may be in flight to ClickHouse. By "
        "default, the `settle_seconds` of the cluster's watch in the fleet file.",
    )

    def options(self, *, is_repair: bool) -> ReindexOptions:
        """The same as options of `Reindex`. A repair skips nothing, because it was requested for a difference."""
        return ReindexOptions(
            write=WriteOptions(batch_rows=self.batch_rows, dry_run=self.dry_run, clean_up=self.clean_up),
            group_scorecards=self.group_scorecards,
            attempts=self.attempts,
            allow_reshard=self.allow_reshard,
            allow_deletes=self.allow_deletes or self.allow_reshard,
            everything=self.everything or is_repair or self.allow_reshard,
        )
