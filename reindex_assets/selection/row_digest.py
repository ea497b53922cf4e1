"""The digest of a row: 64 bits that both engines compute alike from the text of every column.

What lives here: the expressions. What does not: the text of each column (column_types.py), summing the digests
(comparison/comparison.py) and comparing the rows behind them (comparison/differences.py).

The shared digest is the first 8 bytes of the MD5 of the columns' texts, joined by commas. The columns that a score copies from its
scorecard enter as a digest of their own, which Postgres computes once per scorecard.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from reindex_assets.model import Table
from reindex_assets.selection.source_sql import BELONGS, SCORES_OF_SCORECARDS, SOURCE_SCORECARDS

#: Sums of 64-bit digests are compared modulo this: ClickHouse wraps around, Postgres does not.
MODULUS = 2**64


def source_digest(table: Table, of_copies: str = "") -> str:
    """The digest as a Postgres expression (int8); its aliases and `{time}` are those of selection/source_sql.py.

    Args:
        of_copies: a column that holds `source_digest_of_copies`, computed once per scorecard instead of once per score.
    """
    texts = [column.source_text for column in table.columns if not column.of_scorecard]
    if len(texts) < len(table.columns):
        texts.insert(0, f"({of_copies or source_digest_of_copies(table)})::text")
    return _source_md5(texts)


def source_digest_of_copies(table: Table) -> str:
    """The digest of the columns that a score copies from its scorecard."""
    return _source_md5([column.source_text for column in table.columns if column.of_scorecard])


def _source_md5(texts: Iterable[str]) -> str:
    """The first 64 bits. A bit string that is cast to bit(n) loses what is too long on its right (PostgreSQL manual, 8.10)."""
    text = " || ',' || ".join(texts)
    return f"('x' || md5({text}))::bit(64)::int8"


def shard_digest(table: Table) -> str:
    """The digest as a ClickHouse expression (Int64)."""
    texts = [column.shard_text for column in table.columns if not column.of_scorecard]
    copies = [column.shard_text for column in table.columns if column.of_scorecard]
    return _shard_md5([f"toString({_shard_md5(copies)})", *texts] if copies else texts)


def _shard_md5(texts: Iterable[str]) -> str:
    text = ", ',', ".join(texts)
    return f"reinterpretAsInt64(reinterpretAsUInt64(reverse(substring(MD5(concat({text})), 1, 8))))"


def fast_digest(table: Table, function: str, names: Collection[str]) -> str:
    """A hash of some columns by one of ClickHouse's own functions: compares its rows with each other, not with Postgres."""
    hashed = {column.name: column.shard_hashed for column in table.columns}
    return f"{function}({', '.join(part for name in names for part in hashed.get(name, [name]))})"


def digest_of_rows(table: Table) -> str:
    """The digest of a row of `rows_to_digest`."""
    return "c.digest" if table.is_parent else source_digest(table, "c.of_copies")


def rows_to_digest(table: Table, columns: Sequence[str]) -> str:
    """The group's rows of a table, for `selection.source_sql`: scorecards as `c`, with only these columns, and scores as `s`.

    The volatile column keeps Postgres from flattening the subquery and computing the scorecard's digest once per score. OFFSET 0 would
    do the same, but not in parallel.
    """
    digest = (
        f"{source_digest(table)} AS digest" if table.is_parent else f"{source_digest_of_copies(table)} AS of_copies"
    )
    return f"""\
(
SELECT {", ".join((*columns, digest))}, clock_timestamp() AS fence
FROM {SOURCE_SCORECARDS}
WHERE {BELONGS}
) AS c
{"" if table.is_parent else SCORES_OF_SCORECARDS}"""
