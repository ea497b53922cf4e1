"""Proves that a measured run was right: by plain counts in both engines, and by the product's own comparison, which must be green.

What lives here: the proofs, which reject a wrong run by an error. What does not: any measuring; a proof is never timed.

The counts share no code with the product: per table, shard and day, with and without FINAL. They can't detect a wrong value; the
comparison can, down to the bit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date

from benchmarks.data import Window
from benchmarks.figures import WrongRunError
from benchmarks.source_query import count_query
from benchmarks.target import Target
from reindex_assets.comparison.verification import Depth, Verification, verify
from reindex_assets.config.default_tables import SCORE, SCORECARD, TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.model import PROCESS

Rows = Counter[tuple[str, int, date]]
"""Rows by table, shard and day."""


def prove(target: Target, window: Window, what: str) -> Rows:
    """Proves that ClickHouse holds exactly Postgres' rows of the window; returns their numbers.

    Raises:
        WrongRunError: it does not.
    """
    expected = prove_counts(target, window, what)
    verification = verify_window(target.fleet, window)
    if not verification.agrees:
        first = verification.different[0]
        raise WrongRunError(f"{what}: {verification.sentence} {first.slice}: {first.difference}")
    return expected


def prove_beginning(target: Target, window: Window, scorecards: int, what: str) -> None:
    """Proves that ClickHouse holds exactly the window's first scorecards with their scores, each as in Postgres.

    Raises:
        WrongRunError: it does not.
    """
    in_postgres, in_clickhouse = rows_in_postgres(target, window), rows_in_clickhouse(target, final=False)
    last_day = max((day for _, _, day in in_clickhouse), default=window.first_day)
    expected = sum(number for (_, _, day), number in in_postgres.items() if day <= last_day)
    differing: Counter[str] = Counter()
    for day in verify_window(target.fleet, replace(window, last_day=last_day)).days:
        if day.parity is not None and day.parity.differences is not None:
            for (_, difference), number in day.parity.differences.rows.items():
                differing[difference.value] += number
    missing = differing.pop("missing", 0)
    if differing or total(in_clickhouse, SCORECARD.name) != scorecards or total(in_clickhouse) != expected - missing:
        raise WrongRunError(
            f"{what}: {total(in_clickhouse, SCORECARD.name):,} of {scorecards:,} scorecards and {total(in_clickhouse):,} rows in all "
            f"have arrived; of the {expected:,} rows of these days {missing:,} are missing, and these differ: {dict(differing)}"
        )


def prove_counts(target: Target, window: Window, what: str) -> Rows:
    """Like `prove`, by the numbers of rows alone."""
    expected = rows_in_postgres(target, window)
    for final in (False, True):
        actual = rows_in_clickhouse(target, final)
        if actual != expected:
            place = min(actual.keys() | expected.keys(), key=lambda key: (actual[key] == expected[key], key))
            table, shard, day = place
            raise WrongRunError(
                f"{what}: {table} on shard {shard} has {actual[place]:,} rows of {day}{' with FINAL' if final else ''}, "
                f"and Postgres {expected[place]:,}"
            )
    return expected


def verify_window(fleet: Fleet, window: Window, depth: Depth = Depth.FINGERPRINT) -> Verification:
    """The product's own comparison of a window."""
    return verify(
        fleet, window.customers, window.first_day, window.last_day, kind=PROCESS, depth=depth, settle_seconds=0
    )


def rows_in_postgres(target: Target, window: Window) -> Rows:
    """The rows that the shards must hold."""
    rows: Rows = Counter()
    with target.source() as source, source.cursor() as cursor:
        for table in TABLES:
            cursor.execute(count_query(table, window, target.shard_count))
            for day, shard, number in cursor.fetchall():
                rows[table.name, shard, day] = number
    return rows


def rows_in_clickhouse(target: Target, final: bool) -> Rows:
    """The rows that the shards hold, of all customers and days."""
    rows: Rows = Counter()
    with target.shards() as clients:
        for shard, client in enumerate(clients):
            for table in TABLES:
                sql = f"SELECT day, count() FROM {table.name} {'FINAL' if final else ''} GROUP BY day"
                for day, number in client.query(sql).result_rows:
                    rows[table.name, shard, day] = number
    return rows


def total(rows: Rows, table: str | None = None) -> int:
    """The number of rows of one table, or of both."""
    return sum(number for (name, _, _), number in rows.items() if table in (None, name))


def sizes(window: Window, rows: Rows, shards: int) -> str:
    """The size of the data, as figures describe it."""
    return f"{window}, {total(rows, SCORECARD.name):,} scorecards, {total(rows, SCORE.name):,} scores, {shards} shard{'s' * (shards > 1)}"
