"""Keys of rows as one value per row, so that Arrow can look them up.

What lives here: joining the columns of a key. What does not: the keys of tables (model.py), and rows as tuples (clickhouse/keys.py).
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def joined_keys(rows: pa.RecordBatch | pa.Table, names: tuple[str, ...]) -> pa.Array:
    """One binary value per row, equal for two rows only if all of these columns (text or bytes) are.

    The lengths go before the values: a text may hold any separator.

    >>> rows = pa.table({"profile": ["a:", "a"], "id": ["b", ":b"]})
    >>> joined_keys(rows, ("profile", "id")).to_pylist()
    [b'2:a:b', b'1:a:b']
    """
    parts = [rows.column(name).cast(pa.binary()) for name in names]
    lengths = [pc.binary_length(part).cast(pa.string()).cast(pa.binary()) for part in parts[:-1]]
    values: Any = pc.binary_join_element_wise(*parts, b"")
    joined = pc.binary_join_element_wise(*lengths, values, b":")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined
