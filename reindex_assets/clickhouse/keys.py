"""Where rows stand: their keys, and reading them out of an answer.

What lives here: keys in Python. What does not: statements about them (clickhouse/difference.py, clickhouse/deletes.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from reindex_assets.model import Table

#: A row's address: customer, template type, day, profile, scorecard id and, for a score, its id.
Key = tuple[object, ...]


def keys_of(rows: pa.Table, table: Table) -> list[Key]:
    """The keys in the columns of an answer."""
    return key_columns(rows, table, table.key)


def key_columns(rows: pa.Table, table: Table, names: Sequence[str]) -> list[Key]:
    """The values of some columns of the key, row by row."""
    columns = []
    for name in names:
        column = rows.column(name)
        if name == "day":
            columns.append(column.cast(pa.date32()).to_pylist())
        elif name in table.id_columns:
            columns.append([_uuid_text(value) for value in column.to_pylist()])
        else:
            columns.append([_text(value) for value in column.to_pylist()])
    return list(zip(*columns, strict=True))


def _uuid_text(value: object) -> str:
    raw = value.hex() if isinstance(value, bytes) else str(value).replace("-", "")
    return f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"


def _text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value
