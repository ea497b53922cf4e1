"""Types of what names a thing: UUIDs and addresses of the internet.

What lives here: those. What does not: ids that are texts (texts.py).
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import numpy as np
import pyarrow as pa

from reindex_assets.column_types.column_type import ArrayText, ColumnType, Numbers


def _halves(values: pa.Array) -> list[Numbers]:
    """Both halves of 16-byte values, as big-endian numbers."""
    data = np.frombuffer(values.buffers()[1], ">u8", 2 * len(values), 16 * values.offset)
    return [data[0::2], data[1::2]]


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

#: Of a uuid, or of a text that is one. Its halves are no numbers to sum: where it is NULL, Arrow leaves them as they were.
UUID = ColumnType(
    clickhouse="UUID",
    arrow=pa.binary(16),
    source_value=lambda value: f"({value})::uuid",
    source_text=lambda value: f"({value})::uuid::text",
    in_arrays="uuid",
    array_text=ArrayText.JOINED,
)


def _address_digits(value: str) -> str:
    """In Postgres: what is sent of an address, behind its family, the length of its mask, whether it is a network, and its own length."""
    return f"substr(encode(inet_send(({value})::inet), 'hex'), 9)"


def _is_host(value: str) -> str:
    return f"masklen(({value})::inet) = CASE family(({value})::inet) WHEN 4 THEN 32 ELSE 128 END"


#: Both engines have their own ways to shorten an address of version 6, so the texts are of its digits.
IPV4 = ColumnType(
    clickhouse="IPv4",
    arrow=pa.string(),
    source_value=lambda value: f"host(({value})::inet)",
    holds=lambda value: f"(family(({value})::inet) = 4 AND {_is_host(value)})",
    limits="is a network or no address of version 4",
    source_text=_address_digits,
    shard_text=lambda value: f"leftPad(lower(hex(toUInt32({value}))), 8, '0')",
    readable=lambda text: str(ip_address(bytes.fromhex(text))),
)
IPV6 = ColumnType(
    clickhouse="IPv6",
    arrow=pa.string(),
    source_value=lambda value: f"host(({value})::inet)",
    holds=_is_host,
    limits="is a network",
    # ClickHouse keeps an address of version 4 as that of version 6 which stands for it.
    source_text=lambda value: (
        f"CASE family(({value})::inet) WHEN 4 THEN '{'0' * 20}ffff' ELSE '' END || {_address_digits(value)}"
    ),
    shard_text=lambda value: f"lower(hex({value}))",
    readable=lambda text: str(ip_address(bytes.fromhex(text))),
)
