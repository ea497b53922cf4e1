"""Types of numbers: integers, floats, decimals and booleans.

What lives here: those. What does not: times (times.py).
"""

from __future__ import annotations

import struct
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from reindex_assets.column_types.column_type import ArrayText, ColumnType, Numbers, eight_bytes, hexadecimal

FLOAT = ColumnType(
    clickhouse="Float64",
    arrow=pa.float64(),
    source_text=lambda value: f"encode(float8send({value}), 'hex')",
    shard_text=hexadecimal,
    shard_hashed=lambda value: f"reinterpretAsUInt64({value})",
    numbers=eight_bytes,
    shard_numbers=lambda value: [f"reinterpretAsUInt64({value})"],
    readable=lambda text: repr(struct.unpack(">d", bytes.fromhex(text))[0]),
)
BOOLEAN = ColumnType(clickhouse="Bool", arrow=pa.bool_(), in_arrays="bool")
SMALL_INTEGER = ColumnType(clickhouse="Int16", arrow=pa.int16())
#: A number out of few.
CODE = ColumnType(clickhouse="UInt8", arrow=pa.uint8(), repeats=True)

#: Of any number: what is no float becomes the nearest one.
FLOAT64 = replace(
    FLOAT,
    source_value=lambda value: f"({value})::float8",
    source_text=lambda value: FLOAT.source_text(f"({value})::float8"),
    in_arrays="float8",
)
#: Postgres refuses to make a number of single precision infinite or 0 that is not: from here on, and up to here.
_TOO_LARGE, _TOO_SMALL = "3.4028235677973366e38", "7.006492321624085e-46"
#: A float of double precision becomes the nearest one.
FLOAT32 = ColumnType(
    clickhouse="Float32",
    arrow=pa.float32(),
    source_value=lambda value: f"({value})::float4",
    holds=lambda value: (
        f"(({value})::float8 IN (0, 'NaN', 'Infinity', '-Infinity') "
        f"OR (abs(({value})::float8) > {_TOO_SMALL} AND abs(({value})::float8) < {_TOO_LARGE}))"
    ),
    limits="is too large or too small for a Float32",
    source_text=lambda value: f"encode(float4send(({value})::float4), 'hex')",
    shard_text=lambda value: f"leftPad(lower(hex(reinterpretAsUInt32({value}))), 8, '0')",
    shard_hashed=lambda value: f"reinterpretAsUInt32({value})",
    in_arrays="float4",
    readable=lambda text: repr(struct.unpack(">f", bytes.fromhex(text))[0]),
)


def integer(bits: int, *, signed: bool) -> ColumnType:
    """An integer of 8 to 256 bits, out of one of any size, or of a numeric.

    >>> integer(8, signed=False).clickhouse
    'UInt8'
    """
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    # The type of Postgres that holds each of its values.
    source = next((f"int{size}" for size in (2, 4, 8) if high < 2 ** (8 * size - 1)), "numeric")
    # Arrow has no numbers of more than 64 bits: they travel as texts.
    is_wide = bits > 64
    bound = "numeric" if source == "numeric" else "int8"

    def source_value(value: str) -> str:
        # The driver delivers a numeric as a text.
        return f"trunc(({value})::numeric)::text" if source == "numeric" else f"({value})::{source}"

    def numbers(values: pa.Array) -> list[Numbers]:
        long = values.cast(pa.int64() if signed else pa.uint64())
        return [pc.fill_null(long, 0).to_numpy(zero_copy_only=False)]

    def shard_numbers(value: str) -> list[str]:
        return [f"reinterpretAsUInt64(toInt64({value}))" if signed else f"toUInt64({value})"]

    return ColumnType(
        clickhouse=f"{'Int' if signed else 'UInt'}{bits}",
        arrow=pa.string() if is_wide else pa.type_for_alias(f"{'int' if signed else 'uint'}{bits}"),
        source_value=source_value,
        holds=lambda value: f"(({value}) BETWEEN '{low}'::{bound} AND '{high}'::{bound} AND ({value}) % 1 = 0)",
        limits=f"is no integer between {low:,} and {high:,}",
        source_text=lambda value: f"({source_value(value)})::text",
        in_arrays="" if source == "numeric" else source,
        array_text=ArrayText.OF_EACH if source == "numeric" else ArrayText.JOINED,
        numbers=(lambda values: []) if is_wide else numbers,
        shard_numbers=(lambda value: []) if is_wide else shard_numbers,
    )


def decimal(precision: int, scale: int) -> ColumnType:
    """A decimal number. One with more digits behind the point is not rounded: its column's source expression has to say how."""

    def source_value(value: str) -> str:
        return f"({value})::numeric({precision}, {scale})::text"

    # Decimals of Postgres end with zeros, those of ClickHouse don't.
    return ColumnType(
        clickhouse=f"Decimal({precision}, {scale})",
        arrow=pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale),
        source_value=source_value,
        holds=lambda value: (
            f"(abs(({value})::numeric) < '1e{precision - scale}'::numeric"
            f" AND ({value})::numeric = round(({value})::numeric, {scale}))"
        ),
        limits=f"has more than {precision - scale} digits before the point, or more than {scale} behind it (round it in the source)",
        source_text=lambda value: f"rtrim(rtrim({source_value(value)}, '0'), '.')" if scale else source_value(value),
    )
