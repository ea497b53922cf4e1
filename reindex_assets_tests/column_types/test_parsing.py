"""Which types of ClickHouse have a ColumnType, and how the others are refused.

What lives here: texts of types alone. What does not: their values (the other files here).
"""

from __future__ import annotations

import re
from contextlib import suppress

import pytest

from reindex_assets.column_types import parse_type
from reindex_assets.errors import ConfigurationError
from reindex_assets_tests.column_types.values_of_types import CASES, Case
from reindex_assets_tests.support.pages import rows_of_tables, section


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_type_is_written_as_clickhouse_writes_it(case: Case) -> None:
    parsed = parse_type(case.clickhouse, column="v")
    assert parsed.type.definition(nullable=parsed.nullable) == case.clickhouse


@pytest.mark.parametrize(
    "clickhouse",
    [
        *("JSON", "JSON(max_dynamic_paths=8)", "Object('json')", "Dynamic", "Variant(String, UInt8)", "Tuple(String)"),
        *("Int24", "UInt512", "BFloat16", "Time", "Time64(3)", "IntervalDay", "Point", "Nothing", "String2", ""),
        *("AggregateFunction(sum, UInt64)", "SimpleAggregateFunction(max, UInt64)", "Nested(a String)"),
        *("Array(Array(String))", "Array(Map(String, String))", "Nullable(Array(String))", "Array(JSON)"),
        *("Map(String, UInt64)", "Map(UInt64, String)", "Map(String, Array(String))", "Nullable(Map(String, String))"),
        *("LowCardinality(Float64)", "LowCardinality(Nullable(Float32))", "Array(LowCardinality(Float32))"),
        *("LowCardinality(DateTime64(3))", "LowCardinality(Decimal(9, 2))", "LowCardinality(LowCardinality(String))"),
        *("LowCardinality(Int128)", "LowCardinality(UInt256)"),
        *("Nullable(Nullable(String))", "Nullable(LowCardinality(String))", "LowCardinality(Enum8('a' = 1))"),
        *("Decimal(9)", "Decimal(a, b)", "FixedString(-1)", "FixedString(2, 3)", "DateTime64", "DateTime64('UTC')"),
        *("DateTime(3)", "Enum8(1)", "Enum8('a')", "String)", "Array(String", "Nullable()", "int32"),
    ],
)
def test_a_type_without_a_proof_is_refused_by_name_with_the_remedy(clickhouse: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse_type(clickhouse, column="agent_tags")

    assert f"column agent_tags has the type {clickhouse} in ClickHouse" in str(refusal.value)
    assert "add agent_tags to the columns to `ignore`" in str(refusal.value)


@pytest.mark.parametrize("clickhouse", ["UUID", "Int8", "Enum8('a' = 1)", "IPv4", "Map(String, String)", "Date"])
def test_bytes_are_no_text(clickhouse: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_type(clickhouse, column="v", source="bytea")


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_type_says_of_a_value_that_it_cannot_hold_why(case: Case) -> None:
    found = parse_type(case.clickhouse, column="v", source=case.postgres).type
    assert bool(found.limits) == (found.holds is not None)
    assert found.limits.strip() == found.limits
    assert not found.limits.endswith(("that", "or"))
    if case.outside:
        assert found.limits


def test_values_read_as_people_write_them() -> None:
    def readable(clickhouse: str, text: str, source: str = "") -> str:
        return parse_type(clickhouse, column="v", source=source).type.readable(text)

    assert readable("DateTime64(3)", f"{1_500_000:016x}") == "2000-01-01 00:00:01.500000"
    assert readable("DateTime64(9)", f"{1_500_000:016x}007") == "2000-01-01 00:00:01.500000007"
    assert readable("DateTime", f"{-1_000_000 % 2**64:016x}") == "1999-12-31 23:59:59.000000"
    assert readable("FixedString(4)", "61000000") == "'a'"
    assert readable("String", "00ff", "bytea") == r"'\x00\\xff'"
    assert readable("Enum8('a' = 1)", "1:a") == "'a'"
    assert readable("Float32", "3fc00000") == "1.5"
    assert readable("IPv4", "01020304") == "1.2.3.4"
    assert readable("IPv6", f"{1:032x}") == "::1"
    assert readable("Decimal(9, 2)", "1.5") == "1.5"
    assert readable("Array(String)", '["a"]') == "'[\"a\"]'"


def test_the_documentation_lists_the_types_that_are_proved() -> None:
    table = rows_of_tables(section("docs/your-tables.md", "Types"))[1:]
    documented = {name for row in table for name in re.findall(r"`(\w+)`", row[0])}
    proved = {name for case in CASES for name in re.findall(r"[A-Z]\w+", case.clickhouse.partition("'")[0])}
    assert documented | {"Array"} == proved

    few = section("docs/your-tables.md", "Types").rpartition("whose elements may be `Nullable`.")[2]
    may_be_few = {name for name in documented if _is_proved(f"LowCardinality({name})", f"LowCardinality({name}(3))")}
    listed = {name for name in documented if f"`{name}`" in few}
    assert {name for name in may_be_few if "Int" not in name} == listed - {"LowCardinality"}


def _is_proved(*clickhouse: str) -> bool:
    for name in clickhouse:
        with suppress(ConfigurationError):
            return bool(parse_type(name, column="v"))
    return False
