"""Values that only another writer can have put into ClickHouse: their texts are those of no value that differs from them.

What lives here: texts and hashes of values that Postgres never has. What does not: those that it has (test_texts_of_types.py).
"""

from __future__ import annotations

import itertools

import pytest
from clickhouse_connect.driver.client import Client

from reindex_assets.column_types import parse_type
from reindex_assets.model import Column

#: Expressions of values that differ from each other.
_DIFFERENT = {
    "FixedString(4)": [r"'a'", r"'a\0b'", r"'a\0\0b'", r"'\0'", r"'\0a'", r"'\xff'", r"'abcd'"],
    "String": [r"'a'", r"'a\0'", r"'\0'", r"''", r"'\xff'", r"'\xfe'", r"'\xc3\xa9'", r"'\\xff'"],
    "DateTime64(9)": [
        *("'1960-01-01 00:00:00.000001'", "'1960-01-01 00:00:00.000001001'", "'1960-01-01 00:00:00.000000999'"),
        *("'2020-01-01 00:00:00.1'", "'2020-01-01 00:00:00.100000001'", "'2020-01-01 00:00:00.10000001'"),
    ],
    "DateTime64(7, 'UTC')": ["'1969-12-31 23:59:59.9999999'", "'1970-01-01 00:00:00'", "'1970-01-01 00:00:00.0000001'"],
    "Float32": ["reinterpretAsFloat32(2143289344)", "reinterpretAsFloat32(2143289345)", "0", "-0.0", "inf"],
    "Float64": ["reinterpretAsFloat64(9221120237041090560)", "reinterpretAsFloat64(9221120237041090561)", "0", "-0.0"],
    "Array(Nullable(Float64))": [
        *("[nan]", "[NULL]", "[]", "[0.]", "[-0.]", "[NULL, NULL]", "[reinterpretAsFloat64(9221120237041090561)]"),
    ],
    "Array(Int32)": ["[]", "[1, 23]", "[12, 3]", "[123]", "[1, 2, 3]", "[-1, 2]", "[-12]"],
    "Array(String)": [r"[]", r"['']", r"['', '']", r"['\0']", r"['~']", r"['1:a']", r"['a', '']", r"['', 'a']"],
    "Array(Nullable(String))": [r"[NULL]", r"['~']", r"[NULL, NULL]", r"['~~']", r"['', NULL]", r"[NULL, '']"],
    "Map(String, String)": [
        *("map()", "map('a', '1')", "map('a', '1', 'a', '1')", "map('a', '1', 'a', '2')", "map('a', '2', 'b', '1')"),
        *("map('a', '1', 'b', '2')", "map('a1:1', '')", "map('', 'a1:1')", r"map('\0', '')"),
    ],
    "Map(String, Nullable(String))": ["map('a', NULL)", "map('a', '~')", "map('a', '')", "map('a~', NULL)"],
    "Enum8('a' = 1, 'b' = 2, '' = 0)": ["'a'", "'b'", "''"],
    "Bool": ["true", "false"],
    "Date": ["'1970-01-01'", "'1970-01-02'", "'2149-06-06'"],
}
#: Values that are the same to whoever reads them, though ClickHouse keeps them apart.
_EQUAL = {
    "Map(String, String)": ["map('a', '1', 'b', '2')", "map('b', '2', 'a', '1')"],
    "Map(LowCardinality(String), String)": ["map('a', '1', 'b', '2')", "map('b', '2', 'a', '1')"],
}


def _texts_and_hashes(client: Client, clickhouse: str, values: list[str]) -> tuple[list[str], list[str]]:
    parsed = parse_type(clickhouse, column="v")
    column = Column(name="v", type=parsed.type, source="c.v", nullable=parsed.nullable)
    client.command(f"CREATE OR REPLACE TABLE alone (n Int32, v {clickhouse}) ENGINE = MergeTree ORDER BY n")
    for n, value in enumerate(values):
        client.command(f"INSERT INTO alone SELECT {n}, {value}", settings={"async_insert": 0})
    hashed = ", ".join(column.shard_hashed)
    rows = client.query(f"SELECT {column.shard_text}, hex(sipHash128({hashed})) FROM alone ORDER BY n").result_rows
    assert len(rows) == len(values)
    return [text for text, _ in rows], [hashed for _, hashed in rows]


@pytest.mark.parametrize("clickhouse", _DIFFERENT)
def test_different_values_have_different_texts_and_hashes(client: Client, clickhouse: str) -> None:
    values = _DIFFERENT[clickhouse]
    texts, hashes = _texts_and_hashes(client, clickhouse, values)

    for (first, second), (text, other), (hashed, other_hash) in zip(
        itertools.combinations(values, 2),
        itertools.combinations(texts, 2),
        itertools.combinations(hashes, 2),
        strict=True,
    ):
        assert text != other, (first, second)
        assert hashed != other_hash, (first, second)


@pytest.mark.parametrize("clickhouse", _EQUAL)
def test_a_map_in_another_order_is_the_same(client: Client, clickhouse: str) -> None:
    texts, hashes = _texts_and_hashes(client, clickhouse, _EQUAL[clickhouse])

    assert len(set(texts)) == len(set(hashes)) == 1
