"""Wrong values: for each column of both ClickHouse tables, the smallest change that a comparison must find.

What lives here: one expression for each column. What does not: writing it (local/drift/plant.py), and the columns that identify the row:
another value of those makes another row (extra, wrong_shard, stale_after_move).
"""

from __future__ import annotations

from dataclasses import dataclass

from reindex_assets.model import SCORE, SCORECARD, Column, Table

_IDENTIFIES_THE_ROW = {"customer", "profile", "template_type", "scorecard_id", "score_id"}


@dataclass(frozen=True)
class Change:
    """A wrong value for one column.

    Attributes:
        expression: ClickHouse expression of the wrong value; never equal to the right one.
        words: how the value changes, for people.
    """

    table: str
    column: str
    expression: str
    words: str


def _change(table: Table, column: Column) -> Change:
    name = column.name
    expression, words = _wrong_value(name, column.clickhouse)
    return Change(table.name, name, f"CAST({expression} AS {column.clickhouse})", words)


def _wrong_value(name: str, clickhouse: str) -> tuple[str, str]:
    if "Float64" in clickhouse:
        bits = f"reinterpretAsUInt64(assumeNotNull({name}))"
        return f"if(isNull({name}), 0., reinterpretAsFloat64(bitXor({bits}, 1)))", "its lowest bit, or 0 for NULL"
    if "DateTime64" in clickhouse:
        # Flipping the lowest bit of the microseconds stays within the second, so the row keeps its day and its shard.
        flipped = f"fromUnixTimestamp64Micro(bitXor(toUnixTimestamp64Micro({name}), 1), 'UTC')"
        return (f"ifNull({flipped}, created_at)" if "Nullable" in clickhouse else flipped), "by one microsecond"
    if "String" in clickhouse and "Nullable" in clickhouse:
        return f"multiIf(isNull({name}), '', {name} = '', NULL, concat({name}, ' '))", "one more blank, or NULL for ''"
    if "String" in clickhouse:
        return f"concat({name}, ' ')", "one more blank"
    if clickhouse == "UUID":
        return f"reinterpretAsUUID(MD5(toString({name})))", "another id"
    if clickhouse == "Bool":
        return f"NOT {name}", "the opposite"
    if "Int16" in clickhouse:
        return f"ifNull(bitXor({name}, 1), 0)", "its lowest bit, or 0 for NULL"
    raise NotImplementedError(f"no wrong value is known for a column of type {clickhouse}: add one for {name}")


#: The seed of a drift chooses the first, and each further scorecard takes the next.
CHANGES: tuple[Change, ...] = tuple(
    _change(table, column)
    for table in (SCORECARD, SCORE)
    for column in table.columns
    if column.name not in _IDENTIFIES_THE_ROW
)
