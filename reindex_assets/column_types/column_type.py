"""The types of columns: a value for each, with all that depends on the type of a column and on nothing else.

What lives here: how a type is written in ClickHouse and in Arrow, how its values are digested alike by both engines, and how people read
them. What does not: the columns (model.py), and what is made of their texts (selection/row_digest.py).

The text of a value, which both engines write alike, is unambiguous whatever is in it: a text is preceded by its length in bytes, a float
is its bits, a time its microseconds since 2000, NULL is apart from every value.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

#: The text of NULL.
NULL = "~"

#: Postgres counts microseconds from here.
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECONDS_TO_2000 = 946_684_800_000_000

#: 64-bit integers, signed or not.
Numbers = np.ndarray[Any, np.dtype[Any]]

#: Makes an expression of an expression.
Expression = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class ColumnType:
    """The type of a column, in both engines and between them. Expressions are of a value that is not NULL.

    Attributes:
        clickhouse: the type in ClickHouse's DDL.
        arrow: of the rows on their way.
        source_text: the text of a value as a Postgres expression, out of one.
        shard_text: the same text as a ClickHouse expression.
        shard_hashed: what ClickHouse's own hash functions take, so that values are told apart by their bits.
        numbers: the values of an Arrow array as arrays of 64-bit integers, 0 for NULL; none, if that would cost too much.
        shard_numbers: the same integers, as ClickHouse expressions of UInt64.
        readable: the text as a person reads it.
        is_low_cardinality: ClickHouse keeps each value once, and the rows refer to it.
        repeats: few different values stand in many rows.
    """

    clickhouse: str
    arrow: pa.DataType
    source_text: Expression = lambda value: f"({value})::text"
    shard_text: Expression = lambda value: f"toString({value})"
    shard_hashed: Expression = str
    numbers: Callable[[pa.Array], list[Numbers]] = lambda values: []
    shard_numbers: Callable[[str], list[str]] = lambda value: []
    readable: Callable[[str], str] = str
    is_low_cardinality: bool = False
    repeats: bool = False

    def definition(self, *, nullable: bool) -> str:
        """The type of a column in ClickHouse's DDL.

        >>> NAME.definition(nullable=True), TIME.definition(nullable=False)
        ('LowCardinality(Nullable(String))', "DateTime64(6, 'UTC')")
        """
        inner = f"Nullable({self.clickhouse})" if nullable else self.clickhouse
        return f"LowCardinality({inner})" if self.is_low_cardinality else inner


def _hexadecimal(value: str) -> str:
    """Eight bytes as Postgres sends them, in ClickHouse."""
    return f"leftPad(lower(hex(reinterpretAsUInt64({value}))), 16, '0')"


def _readable_text(text: str) -> str:
    value = text.partition(":")[2]
    return repr(value if len(value) <= 60 else f"{value[:40]}...{value[-15:]}")


def _readable_time(text: str) -> str:
    microseconds = int.from_bytes(bytes.fromhex(text), "big", signed=True)
    return (_EPOCH + timedelta(microseconds=microseconds)).replace(tzinfo=None).isoformat(" ", "microseconds")


def _halves(values: pa.Array) -> list[Numbers]:
    """Both halves of 16-byte values, as big-endian numbers."""
    data = np.frombuffer(values.buffers()[1], ">u8", 2 * len(values), 16 * values.offset)
    return [data[0::2], data[1::2]]


def _eight_bytes(values: pa.Array) -> list[Numbers]:
    """The bits of 8-byte values."""
    return [pc.fill_null(values.view(pa.int64()), 0).to_numpy(zero_copy_only=False)]


ID = ColumnType(
    clickhouse="UUID",
    arrow=pa.binary(16),
    numbers=_halves,
    shard_numbers=lambda value: [
        f"toUInt64(bitShiftRight(toUInt128({value}), 64))",
        f"toUInt64(bitAnd(toUInt128({value}), toUInt128(18446744073709551615)))",
    ],
)
#: An id that many rows share.
COMMON_ID = replace(ID, repeats=True)
TEXT = ColumnType(
    clickhouse="String",
    arrow=pa.string(),
    source_text=lambda value: f"octet_length({value}) || ':' || {value}",
    shard_text=lambda value: f"concat(toString(length({value})), ':', {value})",
    readable=_readable_text,
)
#: A text out of few.
NAME = replace(TEXT, is_low_cardinality=True, repeats=True)
TIME = ColumnType(
    clickhouse="DateTime64(6, 'UTC')",
    arrow=pa.timestamp("us", "UTC"),
    # What Postgres stores; extract(epoch ...) would make a number of arbitrary precision, which takes five times as long.
    source_text=lambda value: f"encode(timestamptz_send({value}), 'hex')",
    shard_text=lambda value: _hexadecimal(f"toUnixTimestamp64Micro({value}) - {_MICROSECONDS_TO_2000}"),
    readable=_readable_time,
    numbers=_eight_bytes,
    shard_numbers=lambda value: [f"reinterpretAsUInt64(toUnixTimestamp64Micro({value}))"],
)
FLOAT = ColumnType(
    clickhouse="Float64",
    arrow=pa.float64(),
    source_text=lambda value: f"encode(float8send({value}), 'hex')",
    shard_text=_hexadecimal,
    shard_hashed=lambda value: f"reinterpretAsUInt64({value})",
    numbers=_eight_bytes,
    shard_numbers=lambda value: [f"reinterpretAsUInt64({value})"],
    readable=lambda text: repr(struct.unpack(">d", bytes.fromhex(text))[0]),
)
BOOLEAN = ColumnType(clickhouse="Bool", arrow=pa.bool_())
SMALL_INTEGER = ColumnType(clickhouse="Int16", arrow=pa.int16())
#: A number out of few.
CODE = ColumnType(clickhouse="UInt8", arrow=pa.uint8(), repeats=True)
