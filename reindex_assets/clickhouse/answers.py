"""Answers of a shard, read in a format that knows its own end: Arrow's file format, whose footer comes last.

What lives here: reading an answer, as a table or as rows. What does not: the shard, retries, and what an error means
(clickhouse/shards.py).

ClickHouse's Native format has no end: an answer that is cut between two blocks is a shorter one, and where a proxy ends the connection
cleanly nobody notices (180,000 of 300,000 rows). And a server that fails in mid-stream adds the text of its error to an answer that has
begun with 200. Either way the footer is missing, and reading fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pyarrow as pa
from clickhouse_connect.driver.client import Client


def read_table(client: Client, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
    """The rows of a query as an Arrow table.

    Raises:
        pyarrow.ArrowInvalid: the answer is not whole.
    """
    return client.query_arrow(sql, parameters=dict(parameters or {}))


def read_rows(client: Client, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
    """The few rows of a small query, as dictionaries. A text that is not UTF-8 is shown in hexadecimal.

    Raises:
        pyarrow.ArrowInvalid: the answer is not whole.
    """
    table = read_table(client, sql, parameters)
    names = table.column_names
    return [dict(zip(names, row, strict=True)) for row in zip(*map(_values, table.columns), strict=True)]


def _values(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_fixed_size_binary(column.type):
        return [None if value is None else UUID(bytes=value) for value in column.to_pylist()]
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [None if value is None else _text(value) for value in column.cast(pa.binary()).to_pylist()]


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()
