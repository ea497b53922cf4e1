"""From the text of a ClickHouse type to its ColumnType.

What lives here: which types have one, and the refusal of the others. What does not: the types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from reindex_assets.column_types.column_type import ColumnType
from reindex_assets.column_types.containers import array, text_map
from reindex_assets.column_types.identifiers import IPV4, IPV6, UUID
from reindex_assets.column_types.numbers import BOOLEAN, FLOAT32, FLOAT64, decimal, integer
from reindex_assets.column_types.texts import BYTES, STRING, enum, fixed_bytes, fixed_string
from reindex_assets.column_types.times import DATE, DATE_32, date_time, date_time_64
from reindex_assets.errors import ConfigurationError

_INTEGERS = {
    found.clickhouse: found
    for bits in (8, 16, 32, 64, 128, 256)
    for found in (integer(bits, signed=True), integer(bits, signed=False))
}
_NAMED: Mapping[str, ColumnType] = {
    **_INTEGERS,
    **{found.clickhouse: found for found in (FLOAT32, FLOAT64, BOOLEAN, DATE, DATE_32, STRING, UUID, IPV4, IPV6)},
}
#: Of the others ClickHouse has no LowCardinality; and in that of a float, -0 becomes 0 in silence.
_MAY_BE_LOW_CARDINALITY = re.compile(
    r"U?Int(8|16|32|64)|Bool|Date|Date32|DateTime(\(.*\))?|String|FixedString\(.*\)|UUID|IPv\d"
)

_LABEL = r"'((?:[^'\\]|\\.)*)' = -?\d+"
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}


def _enum(match: re.Match[str]) -> ColumnType:
    labels = [
        _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), text)
        for text in re.findall(_LABEL, match[0], re.DOTALL)
    ]
    return enum(match[0], labels)


_TEXT = r"(?:String|LowCardinality\(String\))"
_NULLABLE_TEXT = r"(?:Nullable\(String\)|LowCardinality\(Nullable\(String\)\))"
#: Types with arguments.
_PATTERNS: tuple[tuple[str, Callable[[re.Match[str]], ColumnType]], ...] = (
    (r"FixedString\((\d+)\)", lambda match: fixed_string(int(match[1]))),
    (r"Decimal\((\d+), (\d+)\)", lambda match: decimal(int(match[1]), int(match[2]))),
    (r"DateTime(?:\('([^'\\]+)'\))?", lambda match: date_time(match[1])),
    (r"DateTime64\((\d)(?:, '([^'\\]+)')?\)", lambda match: date_time_64(int(match[1]), match[2])),
    (rf"Enum(?:8|16)\({_LABEL}(?:, {_LABEL})*\)", _enum),
    (rf"Map\({_TEXT}, {_TEXT}\)", lambda match: text_map(match[0], nullable=False)),
    (rf"Map\({_TEXT}, {_NULLABLE_TEXT}\)", lambda match: text_map(match[0], nullable=True)),
)
#: The same of a bytea.
_PATTERNS_OF_BYTES: tuple[tuple[str, Callable[[re.Match[str]], ColumnType]], ...] = (
    (r"String", lambda match: BYTES),
    (r"FixedString\((\d+)\)", lambda match: fixed_bytes(int(match[1]))),
)
_WRAPPED = re.compile(r"(Nullable|LowCardinality|Array)\((.*)\)", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class ParsedType:
    """The type of a column, and whether it may be NULL."""

    type: ColumnType
    nullable: bool = False


def parse_type(clickhouse: str, *, column: str, source: str = "") -> ParsedType:
    """The type of a column.

    Args:
        clickhouse: its type as system.columns writes it.
        column: its name, for the operator.
        source: its type in Postgres as format_type() writes it. Only `bytea` and its arrays are different from all others.

    Raises:
        ConfigurationError: it is not proven that both engines write the same text for every value of this type.

    >>> parse_type("LowCardinality(Nullable(String))", column="tag").type.definition(nullable=True)
    'LowCardinality(Nullable(String))'
    >>> parse_type("Array(DateTime64(3, 'UTC'))", column="at").type.clickhouse
    "Array(DateTime64(3, 'UTC'))"
    """
    found = _parsed(clickhouse.strip(), source)
    if found is None:
        raise ConfigurationError(
            f"column {column} has the type {clickhouse} in ClickHouse. It is not proven that both engines write the same text for every "
            f"value of this type, so it can't be compared: add {column} to the columns to `ignore` in the fleet file"
        )
    return found


def _parsed(text: str, source: str) -> ParsedType | None:
    match = _WRAPPED.fullmatch(text)
    if match is None:
        found = _simple(text, source == "bytea")
        return ParsedType(type=found) if found else None
    is_array = match[1] == "Array"
    inside = _parsed(match[2], source.removesuffix("[]") if is_array else source)
    # An array or a map is in nothing else: arrays of Postgres are rectangles, none is an array of arrays.
    if inside is None or not inside.type.can_be_null:
        return None
    if is_array:
        return ParsedType(type=array(inside.type, nullable=inside.nullable))
    if inside.type.is_low_cardinality:
        return None
    if match[1] == "LowCardinality":
        few = replace(inside.type, is_low_cardinality=True, repeats=True)
        return replace(inside, type=few) if _MAY_BE_LOW_CARDINALITY.fullmatch(inside.type.clickhouse) else None
    return None if inside.nullable else replace(inside, nullable=True)


def _simple(text: str, is_bytes: bool) -> ColumnType | None:
    """A type that holds no other one."""
    for pattern, made in _PATTERNS_OF_BYTES if is_bytes else _PATTERNS:
        match = re.fullmatch(pattern, text, re.DOTALL)
        if match:
            return made(match)
    return None if is_bytes else _NAMED.get(text)
