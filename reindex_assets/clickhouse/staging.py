"""Staging: the expected rows of a group of slices, loaded beside the live tables.

What lives here: the staging tables, their names, and those that a killed run left. What does not: their difference to what is live
(clickhouse/difference.py).

The tables of one run are named after its owner number. While the run lives it holds an advisory lock of that number in Postgres,
so that the tables of a killed run can be told from the tables of one that is at work.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from reindex_assets.clickhouse.schema import column_definitions
from reindex_assets.clickhouse.shards import ShardConnection, quoted
from reindex_assets.model import Table, Tables
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.shard_sql import IN_SLICES, shard_scope

_PREFIX = "reindex_staging"

_STAGING_NAME = re.compile(rf"{_PREFIX}_(\d+)_\d+_\w+")


@dataclass(frozen=True, kw_only=True)
class StagingNames:
    """The names of one group's staging tables on each shard."""

    owner: int
    group: int

    def rows(self, table: Table) -> str:
        return f"{_PREFIX}_{self.owner}_{self.group}_{table.name}"

    def difference(self, table: Table) -> str:
        return f"{_PREFIX}_{self.owner}_{self.group}_{table.name}_difference"

    @property
    def identities(self) -> str:
        return f"{_PREFIX}_{self.owner}_{self.group}_identities"

    @property
    def appeals(self) -> str:
        return f"{_PREFIX}_{self.owner}_{self.group}_appeals"

    @property
    def appeal_places(self) -> str:
        return f"{_PREFIX}_{self.owner}_{self.group}_appeal_places"

    @property
    def canary(self) -> str:
        return f"{_PREFIX}_{self.owner}_{self.group}_canary"

    def all(self, tables: Iterable[Table]) -> list[str]:
        return [name for table in tables for name in (self.rows(table), self.difference(table))] + [self.identities]


def orphaned_staging_tables(shard: ShardConnection) -> dict[str, int]:
    """Staging tables on a shard, each with its owner number."""
    rows = shard.rows(
        "SELECT name FROM system.tables WHERE database = {database:String} AND startsWith(name, {prefix:String})",
        {"database": shard.database, "prefix": f"{_PREFIX}_"},
    )
    owners = {}
    for row in rows:
        match = _STAGING_NAME.fullmatch(str(row["name"]))
        if match:
            owners[str(row["name"])] = int(match[1])
    return owners


def drop(shard: ShardConnection, names: Iterable[str]) -> None:
    """Drops staging tables; one that is gone already is no error."""
    for name in names:
        shard.command(f"DROP TABLE IF EXISTS {quoted(name)} SYNC")


def create_rows(shard: ShardConnection, names: StagingNames, table: Table) -> None:
    """An empty staging table of a table's shape."""
    shard.command(
        f"CREATE TABLE {quoted(names.rows(table))}\n(\n{column_definitions(table)}\n)\nENGINE = MergeTree ORDER BY tuple()"
    )


def identity_definitions(tables: Tables) -> str:
    """The columns that name a scorecard wherever it stands."""
    return ", ".join(f"{column.name} {column.clickhouse}" for column in tables.parent.identity_columns)


def create_identities(shard: ShardConnection, names: StagingNames) -> None:
    """An empty table for the identities of all the group's scorecards, whatever their shard."""
    shard.command(
        f"CREATE TABLE {quoted(names.identities)} ({identity_definitions(shard.tables)}) ENGINE = MergeTree ORDER BY tuple()"
    )


def identities(rows: pa.RecordBatch, tables: Tables) -> pa.RecordBatch:
    """The columns of `create_identities` out of scorecard rows."""
    return rows.select(list(tables.parent.identity))


def is_empty(shard: ShardConnection, table: Table, group: SliceGroup) -> bool:
    """Whether a shard's live table holds nothing at all in the group's slices."""
    return not shard.rows(f"SELECT 1 AS found FROM {table.clickhouse} WHERE {IN_SLICES} LIMIT 1", shard_scope(group))
