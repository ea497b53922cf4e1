"""The query with which all peers read Postgres: the product's columns, joins and conditions, in the suite's own plain SQL.

What lives here: its text, for all shards or for one, and the counts that a copy must reach. What does not: who runs it.

It does not come from the product, whose way of reading may change: the physical limit must not move with what is measured against it.
Only the columns do (model.py), because they are what is copied.
"""

from __future__ import annotations

from datetime import timedelta

from benchmarks.data import Window
from reindex_assets.column_types import FLOAT
from reindex_assets.config.default_tables import SCORE, SCORECARD
from reindex_assets.model import Column, Table

_SCORECARDS = """director.scorecards AS c
JOIN director.scorecard_template_revisions AS r
    ON r.customer = c.customer AND r.profile = c.profile
    AND r.template_id = c.template_id AND r.template_revision_id = c.template_revision_id"""
_FROM = {
    SCORECARD.name: _SCORECARDS,
    SCORE.name: f"""{_SCORECARDS}
JOIN historic.scorecard_scores AS s
    ON s.customer = c.customer AND s.profile = c.profile AND s.scorecard_id = c.scorecard_id""",
}
_TIME = "c.process_interaction_at"


#: The smallest number that is not denormal.
_SMALLEST = "2.2250738585072014e-308"


def copy_query(
    table: Table, window: Window, shard: int | None = None, shard_count: int = 1, denormal_as_zero: bool = False
) -> str:
    """The rows of a ClickHouse table, in the order of its columns; with `shard`, those of one shard.

    Args:
        denormal_as_zero: for a reader that fails on numbers like 5e-324, which the made data contain.
    """
    columns = ",\n    ".join(f"{_source(column, denormal_as_zero)} AS {column.name}" for column in table.columns)
    of_shard = "" if shard is None else f"\n    AND {_shard(shard_count)} = {shard}"
    return f"SELECT\n    {columns}\nFROM {_FROM[table.name]}\nWHERE {_belongs(window)}{of_shard}"


def count_query(table: Table, window: Window, shard_count: int) -> str:
    """The number of rows that each shard must hold for each day."""
    return (
        f"SELECT ({_TIME} AT TIME ZONE 'UTC')::date, {_shard(shard_count)}, count(*)\n"
        f"FROM {_FROM[table.name]}\nWHERE {_belongs(window)}\nGROUP BY 1, 2"
    )


def _source(column: Column, denormal_as_zero: bool) -> str:
    source = column.source.format(time=_TIME)
    if denormal_as_zero and column.type is FLOAT:
        return f"CASE WHEN {source} <> 0 AND abs({source}) < {_SMALLEST} THEN 0 ELSE {source} END"
    return source


def _belongs(window: Window) -> str:
    # Made customers' names have only letters, digits and hyphens.
    customers = ", ".join(f"'{customer}'" for customer in window.customers)
    return f"""r.template_type = 2
    AND coalesce(c.scorecard_type, 0) = 0
    AND c.customer IN ({customers})
    AND {_TIME} >= '{window.first_day} 00:00:00+00'
    AND {_TIME} < '{window.last_day + timedelta(days=1)} 00:00:00+00'"""


def _shard(shard_count: int) -> str:
    # Floor, because a cast rounds. All made times are after 1970.
    return f"mod(floor(extract(epoch FROM {_TIME}))::bigint, {shard_count})::int"
