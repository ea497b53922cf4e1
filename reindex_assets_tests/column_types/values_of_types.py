"""Values of every type that both engines write alike, as Postgres reads them; and the ends of what ClickHouse can hold.

What lives here: the types with their values. What does not: tests.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from ipaddress import IPv4Address, IPv6Address

from hypothesis import strategies as st

Texts = st.SearchStrategy[str]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A type in both engines.

    Attributes:
        values: chosen by hypothesis, of which ClickHouse may not hold each.
        inside: the last values that ClickHouse holds.
        outside: the first that it does not.
    """

    clickhouse: str
    postgres: str
    values: Texts
    inside: Sequence[str] = ()
    outside: Sequence[str] = ()

    @property
    def name(self) -> str:
        return f"{self.clickhouse} of {self.postgres}"


_LETTERS = ":,~'\"\\[](){}0123456789 ab\n\t\r\u0001\u00e9\u0301日\U0001f469"
texts: Texts = st.text(st.sampled_from(_LETTERS), max_size=8) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=12
)
#: Every control character, and others that some writers of JSON escape.
_ESCAPED = "".join(map(chr, range(1, 32))) + "\x7f\x80\u2028\u2029/<>&'\"\\"
_STRANGE_TEXTS = (_ESCAPED, "", "~", "1:a", "1:a,~", "2:", "\\N", "NULL", "\\000", "a ", " a")
_STRANGE_NUMERICS = ("NaN", "Infinity", "-Infinity", "0.5", "1e30", "-1e30", "1.00", "-0.0")


def _integers(bits: int, signed: bool) -> tuple[int, int]:
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def _integer_case(bits: int, signed: bool, postgres: str, wrapper: str = "{}") -> Case:
    low, high = _integers(bits, signed)
    name = wrapper.format(f"{'Int' if signed else 'UInt'}{bits}")
    if postgres == "numeric":
        numbers = st.integers(low - 3, high + 3).map(str) | st.sampled_from(_STRANGE_NUMERICS)
        outside = (str(low - 1), str(high + 1), "0.5", "NaN", "Infinity", "-Infinity")
        return Case(
            clickhouse=name,
            postgres=postgres,
            values=numbers,
            inside=(str(low), f"{high}.000"),
            outside=outside,
        )
    first, last = _integers(8 * int(postgres[-1]), True)
    near = st.integers(max(low - 3, first), min(high + 3, last))
    return Case(
        clickhouse=name,
        postgres=postgres,
        values=(near | st.integers(-3, 3)).map(str),
        inside=tuple(str(number) for number in (low, high) if first <= number <= last),
        outside=tuple(str(number) for number in (low - 1, high + 1) if first <= number <= last),
    )


def array_text(elements: Sequence[str | None]) -> str:
    """As Postgres reads an array."""

    def quoted(element: str | None) -> str:
        if element is None:
            return "NULL"
        return '"' + element.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "{" + ",".join(quoted(element) for element in elements) + "}"


def _array_case(case: Case) -> Case:
    """Arrays of a type's values, some of them NULL: held where the elements may be NULL, and refused elsewhere."""
    inside = [array_text([]), array_text(case.inside), *(array_text([value, value]) for value in case.inside)]
    outside = [array_text([*case.inside, value]) for value in case.outside]
    with_null = array_text([*case.inside, None])
    (inside if "Nullable" in case.clickhouse else outside).extend((with_null, array_text([None, None])))
    if case.inside:
        row = array_text(case.inside[:1])
        outside.append("{" + row + "," + row + "}")
    return Case(
        clickhouse=f"Array({case.clickhouse})",
        postgres=f"{case.postgres}[]",
        values=st.lists(st.none() | case.values, max_size=4).map(array_text),
        inside=inside,
        outside=outside,
    )


_floats = st.floats(width=64).map(repr)
_near_float32 = st.sampled_from(
    ("3.4028235677973366e38", "3.4028234e38", "1e39", "7.006492321624085e-46", "1e-46", "1e-45", "16777217", "0.1")
)
_times = st.datetimes(datetime(1900, 1, 1), datetime(2299, 12, 31, 23, 59, 59, 999_999)).map(  # noqa: DTZ001 - of UTC, as the session
    lambda time: f"{time.isoformat()}+00"
)
_recent = st.datetimes(datetime(1969, 12, 31), datetime(2107, 1, 1)).map(lambda time: f"{time.isoformat()}+00")  # noqa: DTZ001
_around_a_second = st.integers(0, 2_000_000).map(
    lambda number: f"{1969 if number % 2 else 2030}-12-31 23:59:{58 + number // 1_000_001}.{number % 1_000_000:06}+00"
)
_strange_times = st.sampled_from(("infinity", "-infinity", "4713-01-01 BC", "0001-01-01", "294276-12-31"))
times = _times | _recent | _around_a_second | _strange_times
_days = st.dates(date(1899, 12, 1), date(2300, 2, 1)).map(str) | st.sampled_from(
    ("infinity", "-infinity", "4713-01-01 BC", "5874897-12-31")
)


def _time_case(clickhouse: str, postgres: str, first: str, last: str, after: str) -> Case:
    before = (datetime.fromisoformat(first) - datetime.resolution).isoformat()
    return Case(
        clickhouse=clickhouse,
        postgres=postgres,
        values=times,
        inside=(first, last),
        outside=(before, after, "infinity", "-infinity"),
    )


def _time_64(clickhouse: str, postgres: str = "timestamptz") -> Case:
    return _time_case(clickhouse, postgres, "1900-01-01", "2299-12-31 23:59:59.999999", "2300-01-01")


def _seconds(clickhouse: str, postgres: str = "timestamptz") -> Case:
    return _time_case(clickhouse, postgres, "1970-01-01", "2106-02-07 06:28:15.999999", "2106-02-07 06:28:16")


def _day_case(clickhouse: str, first: str, last: str, outside: tuple[str, str]) -> Case:
    return Case(
        clickhouse=clickhouse,
        postgres="date",
        values=_days,
        inside=(first, last),
        outside=(*outside, "infinity", "-infinity"),
    )


def _decimal_case(precision: int, scale: int) -> Case:
    largest = "9" * (precision - scale) + ("." + "9" * scale if scale else "")
    digits = st.integers(-(10 ** (precision + 1)), 10 ** (precision + 1))
    numbers = st.builds(lambda number, point: f"{number}e-{point}", digits, st.integers(0, scale + 1))
    return Case(
        clickhouse=f"Decimal({precision}, {scale})",
        postgres="numeric",
        values=numbers | st.integers(-20, 20).map(str) | st.sampled_from(_STRANGE_NUMERICS),
        inside=(largest or "0", f"-{largest or '0'}", "0", "0.000", "-0.0"),
        outside=(f"1e{precision - scale}", f"-1e{precision - scale}", f"1e-{scale + 1}", "NaN", "Infinity"),
    )


def _text_case(clickhouse: str, postgres: str = "text") -> Case:
    return Case(clickhouse=clickhouse, postgres=postgres, values=texts, inside=_STRANGE_TEXTS)


def _fixed_case(length: int, wrapper: str = "{}") -> Case:
    return Case(
        clickhouse=wrapper.format(f"FixedString({length})"),
        postgres="text",
        values=texts,
        inside=("", "a", "a" * length, " " * length, "0"),
        outside=("a" * (length + 1), "\u00e9" * length),
    )


LABELS = ("", "a", "it's", "back\\slash", "{brace}", "tab\t", "日本", "b, 'c' = 3)")
_ENUM = ", ".join(
    "'" + label.replace("\\", "\\\\").replace("'", "\\'").replace("\t", "\\t") + f"' = {number - 3}"
    for number, label in enumerate(LABELS)
)


def _enum_case(clickhouse: str) -> Case:
    return Case(
        clickhouse=clickhouse,
        postgres="text",
        values=st.sampled_from((*LABELS, "unknown")),
        inside=LABELS,
        outside=("unknown", "A", "a "),
    )


_hosts_4 = st.integers(0, 2**32 - 1).map(lambda number: str(IPv4Address(number)))
_hosts_6 = st.one_of(
    st.integers(0, 2**128 - 1),
    st.integers(0, 2**33),
    # Groups of zeros, which are shortened.
    st.lists(st.sampled_from((0, 0, 1, 0xFFFF)), min_size=8, max_size=8).map(
        lambda groups: int("".join(f"{group:04x}" for group in groups), 16)
    ),
    st.just(0xFFFF01020304),
).map(lambda number: str(IPv6Address(number)))
_networks = st.sampled_from(("10.0.0.0/8", "1.2.3.4/31", "2001:db8::/32", "::/0"))

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
_documents = _json.map(lambda value: json.dumps(value, ensure_ascii=False))
_objects = st.dictionaries(texts, texts | _json, max_size=4).map(lambda value: json.dumps(value, ensure_ascii=False))
_NOT_CANONICAL = ('{ "b" : 1.50, "a":1e2,"b":2 }', "[1 ,2]", ' "\\u00e9\\n" ', "1.0", "-0", "1E400", "{}", "[]", "null")


def _map_case(clickhouse: str, postgres: str = "jsonb") -> Case:
    with_null = '{"a": null, "b": "~"}'
    holds_null = "Nullable" in clickhouse
    return Case(
        clickhouse=clickhouse,
        postgres=postgres,
        values=_objects,
        inside=(
            "{}",
            '{"b": "1", "a": "2"}',
            '{"": ""}',
            # A jsonb sorts its keys by their length first.
            '{"aa": "1", "b": "2"}',
            '{"a": ["x"]}',
            '{"a": {"x": "y"}}',
            json.dumps({_ESCAPED: _ESCAPED}),
            '{"a": 1.50, "B": [1, {"x": null}]}',
            *([with_null] if holds_null else []),
        ),
        outside=("[]", "null", '"a"', "1", *([] if holds_null else [with_null])),
    )


_uuids = st.uuids().map(str) | st.sampled_from(
    ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff")
)
_bytes = st.binary(max_size=6).map(lambda value: f"\\x{value.hex()}")


def _null(clickhouse: str) -> str:
    return f"Nullable({clickhouse})"


def _few(clickhouse: str) -> str:
    return f"LowCardinality({clickhouse})"


def _scalars() -> list[Case]:
    """Those that arrays may be of."""
    float_ends = ("0", "-0", "NaN", "Infinity", "-Infinity")
    return [
        _integer_case(8, True, "int2"),
        _integer_case(16, True, "int4"),
        _integer_case(32, True, "int8"),
        _integer_case(64, True, "int8"),
        _integer_case(8, False, "int2"),
        _integer_case(16, False, "int4"),
        _integer_case(32, False, "int8"),
        _integer_case(64, False, "numeric"),
        _decimal_case(9, 2),
        Case(clickhouse="Float64", postgres="float8", values=_floats, inside=(*float_ends, "5e-324", "1e308")),
        Case(
            clickhouse="Float32",
            postgres="float8",
            values=_floats | _near_float32,
            inside=(*float_ends, "1e-45", "3.4028235677973362e38", "7.00649232162408691e-46"),
            outside=("3.4028235677973366e38", "-1e300", "7.006492321624085e-46", "-5e-324"),
        ),
        Case(clickhouse="Bool", postgres="bool", values=st.sampled_from(("true", "false")), inside=("true", "false")),
        _day_case("Date", "1970-01-01", "2149-06-06", ("1969-12-31", "2149-06-07")),
        _day_case("Date32", "1900-01-01", "2299-12-31", ("1899-12-31", "2300-01-01")),
        _seconds("DateTime"),
        _time_64("DateTime64(3, 'UTC')"),
        _time_64("DateTime64(8)"),
        _text_case("String"),
        _text_case(_few("String")),
        _fixed_case(4),
        _enum_case(f"Enum8({_ENUM})"),
        Case(clickhouse="UUID", postgres="uuid", values=_uuids),
        Case(
            clickhouse="IPv4",
            postgres="inet",
            values=_hosts_4 | _hosts_6 | _networks,
            inside=("0.0.0.0", "0.0.0.1", "255.255.255.255"),
            outside=("::1", "10.0.0.0/8"),
        ),
        Case(
            clickhouse="IPv6",
            postgres="inet",
            values=_hosts_4 | _hosts_6 | _networks,
            inside=("1.2.3.4", "::", "::1", "::ffff:1.2.3.5", "1:0:0:2::3"),
            outside=("10.0.0.0/8", "2001:db8::/32"),
        ),
    ]


def _all() -> list[Case]:
    scalars = _scalars()
    nullable = [
        replace(case, clickhouse=_null(case.clickhouse)) for case in scalars if "LowCardinality" not in case.clickhouse
    ]
    return [
        *scalars,
        *nullable,
        *(_array_case(case) for case in scalars),
        *(_array_case(case) for case in nullable),
        *(
            _integer_case(bits, signed, "numeric")
            for bits in (8, 16, 32, 64, 128, 256)
            for signed in (True, False)
            if bits != 64 or signed
        ),
        _integer_case(64, False, "int8"),
        *(_decimal_case(*size) for size in ((18, 0), (18, 18), (38, 10), (39, 5), (76, 30))),
        Case(clickhouse="Float64", postgres="float4", values=st.floats(width=32).map(repr)),
        Case(
            clickhouse="Float64",
            postgres="numeric",
            values=st.sampled_from(("NaN", "0.1", "1e-400", "33.33333333333333333")),
        ),
        replace(_array_case(_integer_case(256, True, "numeric")), inside=()),
        Case(
            clickhouse="Date",
            postgres="timestamptz",
            values=times,
            inside=("1970-01-01", "2149-06-06 23:59:59.999999"),
            outside=("1969-12-31 23:59:59.999999", "2149-06-07", "infinity", "-infinity"),
        ),
        Case(clickhouse="Float32", postgres="float4", values=st.floats(width=32).map(repr)),
        *(_time_64(f"DateTime64({precision})") for precision in (0, 1, 2, 4, 5, 6, 7)),
        _time_64("DateTime64(3, 'America/New_York')"),
        _time_64("DateTime64(6, 'Europe/Berlin')", "timestamp"),
        _time_64("DateTime64(2)", "timestamp"),
        _time_case(
            "DateTime64(9, 'Asia/Kolkata')",
            "timestamptz",
            "1900-01-01",
            "2262-04-11 23:47:16.854775",
            "2262-04-11 23:47:16.854776",
        ),
        _seconds("DateTime('Europe/Berlin')"),
        _seconds("DateTime", "timestamp"),
        _text_case("String", "character(9)"),
        Case(clickhouse="String", postgres="jsonb", values=_documents, inside=_NOT_CANONICAL),
        Case(clickhouse="String", postgres="json", values=_documents, inside=_NOT_CANONICAL),
        Case(clickhouse="String", postgres="uuid", values=_uuids),
        Case(clickhouse="String", postgres="bytea", values=_bytes, inside=("\\x", "\\x00", "\\xff002c00")),
        Case(
            clickhouse="FixedString(3)",
            postgres="bytea",
            values=_bytes,
            inside=("\\x000000", "\\xff002c"),
            outside=("\\x", "\\x0102", "\\x01020300"),
        ),
        _array_case(Case(clickhouse="String", postgres="bytea", values=_bytes, inside=("\\x", "\\x00"))),
        _array_case(Case(clickhouse=_null("String"), postgres="bytea", values=_bytes, inside=("\\x", "\\x00"))),
        Case(clickhouse="UUID", postgres="text", values=_uuids.map(str.upper)),
        _fixed_case(300),
        _enum_case(_null(f"Enum16({_ENUM})")),
        *(replace(case, clickhouse=_few(case.clickhouse)) for case in scalars if case.clickhouse in _SUSPICIOUS),
        *(replace(case, clickhouse=_few(_null(case.clickhouse))) for case in scalars if case.clickhouse in _SUSPICIOUS),
        _text_case(_few(_null("String"))),
        _array_case(_text_case(_few(_null("String")))),
        *(
            _map_case(f"Map({name}, {value})")
            for name in ("String", _few("String"))
            for value in ("String", _few("String"), _null("String"), _few(_null("String")))
        ),
        _map_case("Map(String, String)", "json"),
    ]


#: Of which ClickHouse has a LowCardinality, but not without a setting.
_SUSPICIOUS = (
    *("Int8", "Int64", "UInt32", "UInt64", "Bool", "Date", "Date32", "DateTime"),
    *("FixedString(4)", "UUID", "IPv4", "IPv6"),
)

CASES = _all()
