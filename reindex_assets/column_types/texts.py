"""Types of texts: of any length, of a fixed one, out of a list; and bytes.

What lives here: those. What does not: UUIDs and addresses (identifiers.py).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pyarrow as pa

from reindex_assets.column_types.column_type import ArrayText, ColumnType, measured, shard_measured, shortened

TEXT = ColumnType(
    clickhouse="String",
    arrow=pa.string(),
    source_text=measured,
    shard_text=shard_measured,
    readable=lambda text: shortened(text.partition(":")[2]),
)
#: A text out of few.
NAME = replace(TEXT, is_low_cardinality=True, repeats=True)

#: Of anything, in Postgres' own text of it: the canonical one of a jsonb, a character(n) without its padding.
STRING = replace(
    TEXT,
    source_value=lambda value: f"({value})::text",
    source_text=lambda value: measured(f"({value})::text"),
    in_arrays="text",
    array_text=ArrayText.JSON,
)


def _readable_bytes(text: str) -> str:
    return shortened(bytes.fromhex(text).rstrip(b"\0").decode(errors="backslashreplace"))


#: Of a bytea: a String of ClickHouse may hold any bytes.
BYTES = ColumnType(
    clickhouse="String",
    arrow=pa.binary(),
    source_text=lambda value: f"encode({value}, 'hex')",
    shard_text=lambda value: f"lower(hex({value}))",
    readable=_readable_bytes,
)


def fixed_string(length: int) -> ColumnType:
    """A text of up to so many bytes. ClickHouse fills it with zeros, and so does its text: a zero of Postgres' own can't be among them."""
    return ColumnType(
        clickhouse=f"FixedString({length})",
        arrow=pa.string(),
        source_value=lambda value: f"({value})::text",
        holds=lambda value: f"octet_length(({value})::text) <= {length}",
        limits=f"has more than {length} bytes",
        source_text=lambda value: f"rpad(encode(convert_to(({value})::text, 'UTF8'), 'hex'), {2 * length}, '0')",
        shard_text=lambda value: f"lower(hex({value}))",
        readable=_readable_bytes,
    )


def fixed_bytes(length: int) -> ColumnType:
    """Exactly so many bytes, of a bytea."""
    return replace(
        BYTES,
        clickhouse=f"FixedString({length})",
        holds=lambda value: f"octet_length({value}) = {length}",
        limits=f"has not exactly {length} bytes",
    )


def enum(clickhouse: str, labels: Collection[str]) -> ColumnType:
    """A text out of a list, of a text or of an enum of Postgres."""
    # No text of Postgres has a zero byte. A brace is doubled as in every expression of a template.
    escaped = [label.replace("'", "''").replace("{", "{{").replace("}", "}}") for label in labels if "\0" not in label]
    quoted = ", ".join(f"'{label}'" for label in escaped)
    return ColumnType(
        clickhouse=clickhouse,
        arrow=pa.string(),
        source_value=lambda value: f"({value})::text",
        holds=lambda value: f"({value})::text IN ({quoted})",
        limits="is none of the labels of its Enum in ClickHouse",
        source_text=lambda value: measured(f"({value})::text"),
        shard_text=lambda value: shard_measured(f"toString({value})"),
        readable=TEXT.readable,
        repeats=True,
        in_arrays="text",
        array_text=ArrayText.JSON,
    )
