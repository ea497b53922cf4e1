"""Wrong values: for each column of both ClickHouse tables, the smallest change that a comparison must find.

What lives here: one expression for each column. What does not: writing it (local/drift/plant.py), and the columns that identify the row:
another value of those makes another row (extra, wrong_shard, stale_after_move).
"""

from __future__ import annotations

from dataclasses import dataclass

from reindex_assets import column_types
from reindex_assets.config.default_tables import SCORE, SCORECARD
from reindex_assets.model import Column

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


def _wrong_value(column: Column) -> tuple[str, str]:
    """The expression and the words of its change."""
    name = column.name
    match column.type:
        case column_types.FLOAT:
            bits = f"reinterpretAsUInt64(assumeNotNull({name}))"
            return f"if(isNull({name}), 0., reinterpretAsFloat64(bitXor({bits}, 1)))", "its lowest bit, or 0 for NULL"
        case column_types.TIME:
            # Flipping the lowest bit of the microseconds stays within the second, so the row keeps its day and its shard.
            flipped = f"fromUnixTimestamp64Micro(bitXor(toUnixTimestamp64Micro({name}), 1), 'UTC')"
            return (f"ifNull({flipped}, created_at)" if column.nullable else flipped), "by one microsecond"
        case column_types.TEXT | column_types.NAME if column.nullable:
            return (
                f"multiIf(isNull({name}), '', {name} = '', NULL, concat({name}, ' '))",
                "one more blank, or NULL for ''",
            )
        case column_types.TEXT | column_types.NAME:
            return f"concat({name}, ' ')", "one more blank"
        case column_types.ID | column_types.COMMON_ID:
            return f"reinterpretAsUUID(MD5(toString({name})))", "another id"
        case column_types.BOOLEAN:
            return f"NOT {name}", "the opposite"
        case column_types.SMALL_INTEGER:
            return f"ifNull(bitXor({name}, 1), 0)", "its lowest bit, or 0 for NULL"
    raise NotImplementedError(f"no wrong value is known for a column of type {column.clickhouse}: add one for {name}")


#: The seed of a drift chooses the first, and each further scorecard takes the next.
CHANGES: tuple[Change, ...] = tuple(
    Change(table.name, column.name, f"CAST({expression} AS {column.clickhouse})", words)
    for table in (SCORECARD, SCORE)
    for column in table.columns
    if column.name not in _IDENTIFIES_THE_ROW
    for expression, words in (_wrong_value(column),)
)
