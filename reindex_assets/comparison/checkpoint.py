"""A checkpoint: the slices that a comparison found equal, with their row versions and parts at that time.

What lives here: the value. What does not: where it is valid (comparison/origin.py), its file (drift/checkpoint_store.py), and whether
anything has touched the slices since (drift/unchanged.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field

from reindex_assets.clickhouse.parts import PartitionPlace, Parts, of_months
from reindex_assets.comparison.counts import TableCounts
from reindex_assets.comparison.origin import Origin
from reindex_assets.comparison.parity import SliceParity, TableParity
from reindex_assets.model import Slice
from reindex_assets.postgres.row_versions import RowVersions


@dataclass(frozen=True)
class EqualSlice:
    """An equal slice, by table name: the versions of its rows in Postgres, and its counts on both sides by template.

    Attributes:
        shard_checksum: of its rows in ClickHouse when they were compared (clickhouse/checksums.py); None in a checkpoint of a version
            that did not read it.
    """

    slice: Slice
    versions: Annotated[Mapping[str, RowVersions], Field(alias="marks")]
    templates: Mapping[str, Mapping[str, TableCounts]]
    shard_checksum: int | None = None

    def parity(self, shard_count: int, snapshot: int, since: int) -> SliceParity:
        """What a comparison would find, if nothing has changed since."""
        tables = {name: TableParity.of_counts(templates, shard_count) for name, templates in self.templates.items()}
        return SliceParity(self.slice, tables, snapshot=snapshot, unchanged_since=since)


@dataclass(frozen=True)
class Checkpoint:
    """Slices that one comparison found equal.

    Attributes:
        snapshot: when Postgres was read, microseconds.
        origin: of the versions.
        table_versions: of the three whole tables in the same snapshot; empty if it was not worth reading.
        parts: the parts of each shard in the months of the slices, listed before ClickHouse was queried.
    """

    snapshot: int
    origin: Origin
    table_versions: Annotated[str, Field(alias="table_mark")]
    parts: tuple[tuple[PartitionPlace, Mapping[str, str]], ...]
    slices: tuple[EqualSlice, ...] = field(repr=False)

    @staticmethod
    def of(
        parities: Iterable[tuple[SliceParity, Mapping[str, RowVersions], int]],
        snapshot: int,
        origin: Origin,
        table_versions: str,
        parts: Parts,
    ) -> Checkpoint:
        """The checkpoint of the slices among `parities`, each with its row versions and its checksum in ClickHouse, that are equal and
        have no quarantined rows."""
        equal = tuple(
            EqualSlice(
                parity.slice,
                dict(versions),
                {name: dict(table.by_template) for name, table in parity.tables.items()},
                shard_checksum,
            )
            for parity, versions, shard_checksum in parities
            if parity.sums_agree and not parity.quarantined
        )
        near = of_months(parts, {entry.slice for entry in equal})
        placed = tuple((place, dict(names)) for place, names in near.items())
        return Checkpoint(snapshot, origin, table_versions, placed, equal)

    def without(self, slices: Collection[Slice]) -> Checkpoint:
        """The same checkpoint without some slices."""
        return replace(self, slices=tuple(entry for entry in self.slices if entry.slice not in slices))

    def holds_for(self, slices: Collection[Slice], origin: Origin) -> dict[Slice, EqualSlice]:
        """Its entries for some slices, as far as their versions can be compared with those of `origin`."""
        customers = origin.customers_of(self.origin)
        return {
            entry.slice: entry for entry in self.slices if entry.slice in slices and entry.slice.customer in customers
        }
