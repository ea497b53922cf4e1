"""The type of a column.

What lives here: the class, and what several types need. What does not: the types themselves (the other files of this package).

The text of a value, which both engines write alike, is unambiguous whatever is in it: a text is preceded by its length in bytes, a float
is its bits, a time its microseconds since 2000, NULL is apart from every value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: The text of NULL.
NULL = "~"

#: 64-bit integers, signed or not.
Numbers = np.ndarray[Any, np.dtype[Any]]

#: Makes an expression of an expression.
Expression = Callable[[str], str]


class ArrayText(Enum):
    """How the text of an array comes about. A subquery for each array takes ten times as long as one of Postgres' own functions."""

    OF_EACH = auto()
    #: Postgres' own texts of the elements are theirs, and never hold a comma.
    JOINED = auto()
    #: The elements are texts.
    JSON = auto()


@dataclass(frozen=True, kw_only=True)
class ColumnType:
    """The type of a column, in both engines and between them. Expressions are of a value that is not NULL.

    Expressions of Postgres stand in templates (selection/source_sql.py): a brace is doubled in them.

    Attributes:
        clickhouse: the type in ClickHouse's DDL.
        arrow: of the rows on their way.
        source_value: what is read of Postgres: the value in a type that the driver delivers as it is, rounded as the type rounds.
        holds: the condition, in Postgres, that ClickHouse can hold a value; none, if it can hold each. Beyond its range ClickHouse clamps,
            wraps around or pads in silence.
        limits: what is said of a value that it can't hold, after the name of the column.
        source_text: the text of a value as a Postgres expression, out of one.
        shard_text: the same text as a ClickHouse expression.
        shard_hashed: what ClickHouse's own hash functions take, so that values are told apart by their bits.
        numbers: the values of an Arrow array as arrays of 64-bit integers, 0 for NULL; none, if that would cost too much.
        shard_numbers: the same integers, as ClickHouse expressions of UInt64.
        readable: the text as a person reads it.
        is_low_cardinality: ClickHouse keeps each value once, and the rows refer to it.
        repeats: few different values stand in many rows.
        in_arrays: the type of Postgres to whose arrays an array is cast, so that the driver delivers them as they are; none, if each
            element needs an expression.
        array_text: how the text of an array comes about.
        can_be_null: ClickHouse can hold NULL. A type that can't writes NULL as its empty value, in both texts.
    """

    clickhouse: str
    arrow: pa.DataType
    source_value: Expression = str
    holds: Expression | None = None
    limits: str = ""
    source_text: Expression = lambda value: f"({value})::text"
    shard_text: Expression = lambda value: f"toString({value})"
    shard_hashed: Expression = str
    numbers: Callable[[pa.Array], list[Numbers]] = lambda values: []
    shard_numbers: Callable[[str], list[str]] = lambda value: []
    readable: Callable[[str], str] = str
    is_low_cardinality: bool = False
    repeats: bool = False
    in_arrays: str = ""
    array_text: ArrayText = ArrayText.OF_EACH
    can_be_null: bool = True

    def definition(self, *, nullable: bool) -> str:
        """The type of a column in ClickHouse's DDL.

        >>> from reindex_assets.column_types import NAME, TIME
        >>> NAME.definition(nullable=True), TIME.definition(nullable=False)
        ('LowCardinality(Nullable(String))', "DateTime64(6, 'UTC')")
        """
        inner = f"Nullable({self.clickhouse})" if nullable else self.clickhouse
        return f"LowCardinality({inner})" if self.is_low_cardinality else inner


def hexadecimal(value: str) -> str:
    """Eight bytes as Postgres sends them, in ClickHouse."""
    return f"leftPad(lower(hex(reinterpretAsUInt64({value}))), 16, '0')"


def eight_bytes(values: pa.Array) -> list[Numbers]:
    """The bits of 8-byte values."""
    return [pc.fill_null(values.view(pa.int64()), 0).to_numpy(zero_copy_only=False)]


def measured(text: str) -> str:
    """In Postgres: a text behind its length, so that another one can follow."""
    return f"octet_length({text}) || ':' || {text}"


def shard_measured(text: str) -> str:
    """The same in ClickHouse."""
    return f"concat(toString(length({text})), ':', {text})"


def shortened(value: str) -> str:
    """A text as a person reads it."""
    return repr(value if len(value) <= 60 else f"{value[:40]}...{value[-15:]}")
