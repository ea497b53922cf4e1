"""The types of columns: a value for each, with all that depends on the type of a column and on nothing else.

What lives here: how a type is written in ClickHouse and in Arrow, how its values are digested alike by both engines, which values it holds,
how people read them, and which types of ClickHouse have one (parsing.py). What does not: the columns (model.py), and what is made of their
texts (selection/row_digest.py).
"""

from reindex_assets.column_types.column_type import NULL, ColumnType
from reindex_assets.column_types.identifiers import COMMON_ID, ID
from reindex_assets.column_types.numbers import BOOLEAN, CODE, FLOAT, SMALL_INTEGER
from reindex_assets.column_types.parsing import ParsedType, parse_type
from reindex_assets.column_types.texts import NAME, TEXT
from reindex_assets.column_types.times import END_TIME, FIRST_TIME, TIME

__all__ = [
    "BOOLEAN",
    "CODE",
    "COMMON_ID",
    "END_TIME",
    "FIRST_TIME",
    "FLOAT",
    "ID",
    "NAME",
    "NULL",
    "SMALL_INTEGER",
    "TEXT",
    "TIME",
    "ColumnType",
    "ParsedType",
    "parse_type",
]
