"""Columns of our tables that are somebody else's: they are not compared, and a row that is written again keeps their values.

What lives here: which columns these are. What does not: whether a run may go on with them (clickhouse/schema.py), and the rows that keep
them (clickhouse/difference.py).
"""

from __future__ import annotations

from reindex_assets.clickhouse.shards import ShardConnection
from reindex_assets.model import Table


def foreign_columns(shard: ShardConnection, table: Table) -> list[str]:
    """The stored columns of a shard's table that no declaration knows, or that are declared as `ignored`."""
    rows = shard.rows(
        "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String} "
        "AND default_kind IN ('', 'DEFAULT') AND name NOT IN {known:Array(String)} ORDER BY position",
        {
            "database": shard.database,
            "table": table.clickhouse,
            "known": [*table.column_names, "day", "version"],
        },
    )
    return [str(row["name"]) for row in rows]
