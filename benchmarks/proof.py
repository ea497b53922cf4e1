"""Was a measured run right? Its rows counted in both engines by plain SQL, and the product's own comparison, which must be green.

What lives here: the two proofs, each of which refuses a run's time by an error. What does not: any measuring; a proof is never timed.

The counts are taken apart from all code of the product: per table, shard and day, with and without FINAL. They can't see a wrong
value; the comparison can, down to the bit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date

from benchmarks.data import Window
from benchmarks.figures import WrongRunError
from benchmarks.source_query import count_query
from benchmarks.target import Target
from reindex_assets.comparison.verification import Depth, verify
from reindex_assets.model import PROCESS, SCORE, SCORECARD, TABLES

Rows = Counter[tuple[str, int, date]]
"""Rows by table, shard and day."""


def prove(target: Target, window: Window, what: str) -> Rows:
    """Makes sure that ClickHouse holds just what Postgres holds of the window, and nothing else; returns the rows.

    Raises:
        WrongRunError: it does not.
    """
    expected = prove_counts(target, window, what)
    found = verify(
        target.fleet,
        window.customers,
        window.first_day,
        window.last_day,
        kind=PROCESS,
        depth=Depth.FINGERPRINT,
        settle_seconds=0,
    )
    if not found.agrees:
        first = found.different[0]
        raise WrongRunError(f"{what}: {found.sentence} {first.slice}: {first.difference}")
    return expected


def prove_beginning(target: Target, window: Window, scorecards: int, what: str) -> None:
    """Makes sure that ClickHouse holds the window's first scorecards with their scores, each as Postgres has it, and nothing else.

    Raises:
        WrongRunError: it does not.
    """
    in_postgres, in_clickhouse = rows_in_postgres(target, window), rows_in_clickhouse(target, final=False)
    last_day = max((day for _, _, day in in_clickhouse), default=window.first_day)
    part = replace(window, last_day=last_day)
    expected = sum(number for (_, _, day), number in in_postgres.items() if day <= last_day)
    found = verify(
        target.fleet,
        part.customers,
        part.first_day,
        part.last_day,
        kind=PROCESS,
        depth=Depth.FINGERPRINT,
        settle_seconds=0,
    )
    differing: Counter[str] = Counter()
    for day in found.days:
        if day.parity is not None and day.parity.differences is not None:
            for (_, difference), number in day.parity.differences.rows.items():
                differing[difference.value] += number
    missing = differing.pop("missing", 0)
    if differing or total(in_clickhouse, SCORECARD.name) != scorecards or total(in_clickhouse) != expected - missing:
        raise WrongRunError(
            f"{what}: {total(in_clickhouse, SCORECARD.name):,} scorecards of {scorecards:,} and {total(in_clickhouse):,} rows in all "
            f"have arrived, {missing:,} of the {expected:,} of these days are missing, and these differ: {dict(differing)}"
        )


def prove_counts(target: Target, window: Window, what: str) -> Rows:
    """The same by the numbers of rows alone."""
    expected = rows_in_postgres(target, window)
    for final in (False, True):
        found = rows_in_clickhouse(target, final)
        if found != expected:
            place = min(found.keys() | expected.keys(), key=lambda key: (found[key] == expected[key], key))
            table, shard, day = place
            raise WrongRunError(
                f"{what}: {table} on shard {shard} has {found[place]:,} rows of {day}{' with FINAL' if final else ''}, "
                f"and Postgres {expected[place]:,}"
            )
    return expected


def rows_in_postgres(target: Target, window: Window) -> Rows:
    """What the shards must hold."""
    found: Rows = Counter()
    with target.source() as source, source.cursor() as cursor:
        for table in TABLES:
            cursor.execute(count_query(table, window, target.shard_count))
            for day, shard, rows in cursor.fetchall():
                found[table.name, shard, day] = rows
    return found


def rows_in_clickhouse(target: Target, final: bool) -> Rows:
    """What the shards hold, of whatever customer and day."""
    found: Rows = Counter()
    with target.shards() as clients:
        for shard, client in enumerate(clients):
            for table in TABLES:
                sql = f"SELECT day, count() FROM {table.name} {'FINAL' if final else ''} GROUP BY day"
                for day, rows in client.query(sql).result_rows:
                    found[table.name, shard, day] = rows
    return found


def total(rows: Rows, table: str | None = None) -> int:
    """Rows of one table, or of both."""
    return sum(number for (name, _, _), number in rows.items() if table in (None, name))


def sizes(window: Window, rows: Rows, shards: int) -> str:
    """The sizes in words, as figures name them."""
    return f"{window}, {total(rows, SCORECARD.name):,} scorecards, {total(rows, SCORE.name):,} scores, {shards} shard{'s' * (shards > 1)}"
