"""The query that all peers read Postgres by: the same columns, joins and conditions as the product's, in plain SQL of the suite's own.

What lives here: its text, for all shards or for one, and the counts that a copy must come to. What does not: who runs it.

It is not taken from the product, whose way of reading may change: the physical limit must not move with what is measured against it.
Only the columns are (model.py), because what is copied is theirs.
"""

from __future__ import annotations

from datetime import timedelta

from benchmarks.data import Window
from reindex_assets.model import SCORE, SCORECARD, Column, Table

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
    """The rows of one of ClickHouse's tables, in the order of its columns; of one shard, if one is named.

    Args:
        denormal_as_zero: for a reader that fails on numbers like 5e-324, of which the made data have some.
    """
    columns = ",\n    ".join(f"{_source(column, denormal_as_zero)} AS {column.name}" for column in table.columns)
    of_shard = "" if shard is None else f"\n    AND {_shard(shard_count)} = {shard}"
    return f"SELECT\n    {columns}\nFROM {_FROM[table.name]}\nWHERE {_belongs(window)}{of_shard}"


def count_query(table: Table, window: Window, shard_count: int) -> str:
    """How many rows each shard must hold of each day."""
    return (
        f"SELECT ({_TIME} AT TIME ZONE 'UTC')::date, {_shard(shard_count)}, count(*)\n"
        f"FROM {_FROM[table.name]}\nWHERE {_belongs(window)}\nGROUP BY 1, 2"
    )


def _source(column: Column, denormal_as_zero: bool) -> str:
    source = column.source.format(time=_TIME)
    if denormal_as_zero and "Float64" in column.clickhouse:
        return f"CASE WHEN {source} <> 0 AND abs({source}) < {_SMALLEST} THEN 0 ELSE {source} END"
    return source


def _belongs(window: Window) -> str:
    # Names of made customers: letters, digits and a hyphen.
    customers = ", ".join(f"'{customer}'" for customer in window.customers)
    return f"""r.template_type = 2
    AND coalesce(c.scorecard_type, 0) = 0
    AND c.customer IN ({customers})
    AND {_TIME} >= '{window.first_day} 00:00:00+00'
    AND {_TIME} < '{window.last_day + timedelta(days=1)} 00:00:00+00'"""


def _shard(shard_count: int) -> str:
    # Floor, not a cast, which rounds. The made times are all after 1970.
    return f"mod(floor(extract(epoch FROM {_TIME}))::bigint, {shard_count})::int"
