"""The digest of a row: 64 bits that both engines compute alike, from the text of every column.

What lives here: the text of each column in either engine, and the expressions made of it. What does not: who sums them
(comparison/comparison.py) and who looks at the rows behind them (comparison/differences.py).

The shared digest is the first 8 bytes of the MD5 of the columns' texts, joined by commas. A value's text is unambiguous whatever is in
it: a text is preceded by its length in bytes, a float is its bits, a time its microseconds since 2000, NULL is apart from every
value. The columns that a score copies from its scorecard enter as their own digest, which Postgres computes once a scorecard.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from reindex_assets.model import SCORE, Column, Table
from reindex_assets.selection.source_sql import BELONGS, SCORES_OF_SCORECARDS, SOURCE_SCORECARDS

#: Sums of 64-bit digests are compared modulo this: ClickHouse wraps around, Postgres sums without end.
MODULUS = 2**64
NULL = "~"

#: Postgres counts microseconds from here.
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECONDS_TO_2000 = 946_684_800_000_000


def source_digest(table: Table, of_copies: str = "") -> str:
    """The digest as a Postgres expression (int8); its aliases and `{time}` are those of selection/source_sql.py.

    Args:
        of_copies: a column that holds `source_digest_of_copies`, computed once a scorecard instead of once a score.
    """
    texts = [source_text(column) for column in table.columns if not column.of_scorecard]
    if len(texts) < len(table.columns):
        texts.insert(0, f"({of_copies or source_digest_of_copies(table)})::text")
    return _source_md5(texts)


def source_digest_of_copies(table: Table) -> str:
    """The digest of what the rows of a scorecard have in common: the columns copied from it."""
    return _source_md5([source_text(column) for column in table.columns if column.of_scorecard])


def _source_md5(texts: Iterable[str]) -> str:
    text = " || ',' || ".join(texts)
    return f"('x' || substr(md5({text}), 1, 16))::bit(64)::int8"


def shard_digest(table: Table) -> str:
    """The digest as a ClickHouse expression (Int64)."""
    texts = [shard_text(column) for column in table.columns if not column.of_scorecard]
    copies = [shard_text(column) for column in table.columns if column.of_scorecard]
    return _shard_md5([f"toString({_shard_md5(copies)})", *texts] if copies else texts)


def _shard_md5(texts: Iterable[str]) -> str:
    text = ", ',', ".join(texts)
    return f"reinterpretAsInt64(reinterpretAsUInt64(reverse(substring(MD5(concat({text})), 1, 8))))"


def source_text(column: Column) -> str:
    """A column's text as a Postgres expression."""
    value = column.source
    if "DateTime64" in column.clickhouse:
        # What Postgres stores; extract(epoch ...) would make a number of arbitrary precision, which takes five times as long.
        text = f"encode(timestamptz_send({value}), 'hex')"
    elif "Float64" in column.clickhouse:
        text = f"encode(float8send({value}), 'hex')"
    elif "String" in column.clickhouse:
        text = f"octet_length({value}) || ':' || {value}"
    else:
        text = f"({value})::text"
    return f"coalesce({text}, '{NULL}')" if column.nullable else f"({text})"


def shard_text(column: Column) -> str:
    """The same text as a ClickHouse expression."""
    value = column.name
    if "DateTime64" in column.clickhouse:
        text = _hexadecimal(f"toUnixTimestamp64Micro({value}) - {_MICROSECONDS_TO_2000}")
    elif "Float64" in column.clickhouse:
        text = _hexadecimal(value)
    elif "String" in column.clickhouse:
        text = f"concat(toString(length({value})), ':', {value})"
    else:
        text = f"toString({value})"
    return f"ifNull({text}, '{NULL}')" if column.nullable else text


def _hexadecimal(value: str) -> str:
    """Eight bytes as Postgres sends them, in ClickHouse."""
    return f"leftPad(lower(hex(reinterpretAsUInt64({value}))), 16, '0')"


def fast_digest(table: Table, function: str, names: Collection[str]) -> str:
    """A hash by one of ClickHouse's own functions over some columns: for comparing its rows with each other, not with Postgres.

    Floats count by their bits, and NULL apart from every value (a hash of NULL would be NULL).
    """
    columns = {column.name: column for column in table.columns}
    parts = []
    for name in names:
        kind = columns[name].clickhouse if name in columns else ""
        value = name
        if "Nullable(" in kind:
            parts.append(f"isNull({name})")
            value = f"ifNull({name}, defaultValueOfTypeName('{_inner_type(kind)}'))"
        parts.append(f"reinterpretAsUInt64({value})" if "Float64" in kind else value)
    return f"{function}({', '.join(parts)})"


def _inner_type(clickhouse: str) -> str:
    """The type inside LowCardinality and Nullable, as a string literal's text.

    >>> _inner_type("LowCardinality(Nullable(String))")
    'String'
    """
    inner = clickhouse
    for wrapper in ("LowCardinality(", "Nullable("):
        if inner.startswith(wrapper):
            inner = inner[len(wrapper) : -1]
    return inner.replace("'", "\\'")


def readable(column: Column, text: str) -> str:
    """A column's text as a person reads it.

    >>> from reindex_assets.model import SCORECARD
    >>> columns = {column.name: column for column in SCORECARD.columns}
    >>> readable(columns["score"], "3ff8000000000000"), readable(columns["score"], "~")
    ('1.5', 'NULL')
    >>> readable(columns["agent_user_id"], "2:it"), readable(columns["submitted_at"], f"{1_500_000:016x}")
    ("'it'", '2000-01-01 00:00:01.500000')
    """
    if text == NULL and column.nullable:
        return "NULL"
    if "DateTime64" in column.clickhouse:
        microseconds = int.from_bytes(bytes.fromhex(text), "big", signed=True)
        return (_EPOCH + timedelta(microseconds=microseconds)).replace(tzinfo=None).isoformat(" ", "microseconds")
    if "Float64" in column.clickhouse:
        return repr(struct.unpack(">d", bytes.fromhex(text))[0])
    if "String" in column.clickhouse:
        value = text.partition(":")[2]
        return repr(value if len(value) <= 60 else f"{value[:40]}...{value[-15:]}")
    return text


def digest_of_rows(table: Table) -> str:
    """The digest of a row out of `rows_to_digest`."""
    return source_digest(SCORE, "c.of_copies") if table is SCORE else "c.digest"


def rows_to_digest(table: Table, columns: Sequence[str]) -> str:
    """The group's rows of a table, for `selection.source_sql`: scorecards as `c`, of them these columns and no others, and scores as `s`.

    A volatile column keeps Postgres from dissolving the subquery, and so from computing what scores have in common once a score. OFFSET 0
    would do so too, but not in parallel.
    """
    digest = f"{source_digest_of_copies(SCORE)} AS of_copies" if table is SCORE else f"{source_digest(table)} AS digest"
    return f"""\
(
SELECT {", ".join((*columns, digest))}, clock_timestamp() AS fence
FROM {SOURCE_SCORECARDS}
WHERE {BELONGS}
) AS c
{SCORES_OF_SCORECARDS if table is SCORE else ""}"""
