"""The run config: what an operator may choose for a run.

What lives here: the fields and what turning them does. What does not: the work.
"""

# Without `from __future__ import annotations`: Dagster reads the fields' types from the annotations themselves.
from dagster import Config, ConfigurableResource
from pydantic import Field, field_validator

from reindex_assets.model import KINDS
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.reindex.writer import WriteOptions


class ReindexScope(ConfigurableResource):  # type: ignore[type-arg]
    """What a run over assets of several kinds does: the resource `scope`, one for all of them."""

    scorecard_types: list[str] = Field(
        default=[kind.name for kind in KINDS],
        description=f"The kinds of scorecards to reindex: {', '.join(kind.name for kind in KINDS)}. Those of a kind that is left out are "
        "not touched, whatever assets are selected.",
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
        description="Read, compare and report what would be written, and write nothing to ClickHouse. "
        "shard_writes is not marked as materialized; the checks say how things stand.",
    )
    clean_up: bool = Field(
        default=False,
        description="Delete the slices in ClickHouse first, then rebuild them. READERS SEE A HOLE until the rebuild has ended; "
        "use it only for slices that are broken beyond a repair. Rows newer than the snapshot stay.",
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
        description="Scorecards that are read from one Postgres snapshot by one query and written together. The more, the less "
        "often the score table is read, and the longer a snapshot is held; a single day of a customer is never divided.",
    )
    attempts: int = Field(
        default=ReindexOptions().attempts,
        ge=1,
        le=20,
        description="Tries of a group of partitions when Postgres or a shard does not answer, or another run holds a partition, "
        "with growing pauses of up to 15 seconds.",
    )
    allow_reshard: bool = Field(
        default=False,
        description="The run is part of the reshard to the fleet file's shards, and may write while that is under way. "
        "`reindex-assets reshard` begins the reshard, sets this, and ends it; a run alone can't.",
    )
    everything: bool = Field(
        default=False,
        description="Read, compare and write also the partitions that nothing has touched since a run left them equal to the bit. "
        "Without it these are done at once: both engines say that no row of them has come, changed or gone.",
    )
    settle_seconds: float | None = Field(
        default=None,
        ge=0,
        le=600,
        description="A check that finds a difference looks again after this time: a row may be on its way to ClickHouse. Without it, "
        "after the `settle_seconds` that the fleet file has for the cluster's watch.",
    )

    def options(self, *, is_repair: bool) -> ReindexOptions:
        """The same, for the core. A repair was asked for because something differs: it leaves nothing out."""
        return ReindexOptions(
            write=WriteOptions(batch_rows=self.batch_rows, dry_run=self.dry_run, clean_up=self.clean_up),
            group_scorecards=self.group_scorecards,
            attempts=self.attempts,
            allow_reshard=self.allow_reshard,
            everything=self.everything or is_repair or self.allow_reshard,
        )
