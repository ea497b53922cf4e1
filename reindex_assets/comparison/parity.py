"""The result of comparing a slice: counts, placement and digests of both sides, the rows that differ, and an explanation.

What lives here: these values and their explanation. What does not: reading them from the engines (comparison/comparison.py,
comparison/differences.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reindex_assets.comparison.counts import PLURALS, TableCounts
from reindex_assets.comparison.differences import Difference
from reindex_assets.comparison.samples import RowSample, version_text
from reindex_assets.model import CHILD, PARENT, TABLE_NAMES, Slice, Table
from reindex_assets.postgres.extract import QuarantinedRow


@dataclass(frozen=True, kw_only=True)
class TableParity:
    """One table of one slice on both engines.

    Attributes:
        clickhouse_rows: physical rows on all shards, including those that a merge would remove.
        by_shard: the same, for each shard.
        distinct_rows: different keys, summed over the shards.
        misplaced_rows: rows on another shard than their time says.
        digests_agree: the sums of the 64-bit row digests over every column are equal, and so are the counts.
        by_template: the counts of each template, by its id.
    """

    postgres_rows: int = 0
    clickhouse_rows: int = 0
    by_shard: tuple[int, ...] = ()
    distinct_rows: int = 0
    misplaced_rows: int = 0
    digests_agree: bool = True
    by_template: Mapping[str, TableCounts] = field(default_factory=dict)

    @staticmethod
    def of_counts(
        by_template: Mapping[str, TableCounts],
        shard_count: int,
        distinct_rows: int | None = None,
        *,
        digests_agree: bool = True,
    ) -> TableParity:
        """The sums over templates. Without `distinct_rows`, no row is repeated."""
        tables = by_template.values()
        by_shard = tuple(sum(counts.clickhouse_by_shard[shard] for counts in tables) for shard in range(shard_count))
        postgres_rows = sum(counts.postgres_rows for counts in tables)
        return TableParity(
            postgres_rows=postgres_rows,
            clickhouse_rows=sum(by_shard),
            by_shard=by_shard,
            distinct_rows=sum(by_shard) if distinct_rows is None else distinct_rows,
            misplaced_rows=sum(counts.misplaced_rows for counts in tables),
            digests_agree=sum(by_shard) == postgres_rows and digests_agree,
            by_template=by_template,
        )

    @property
    def counts_agree(self) -> bool:
        return self.postgres_rows == self.clickhouse_rows

    @property
    def repeated_rows(self) -> int:
        """Further rows with the same key on the same shard: duplicates, and versions that are not merged yet."""
        return self.clickhouse_rows - self.distinct_rows


@dataclass(frozen=True)
class SliceDifferences:
    """The rows of a slice that differ, and keep differing.

    Attributes:
        rows: exact numbers by table name and difference, of the rows that are drift.
        harmless: the same for the rows that are not: `UNMERGED` and `NEWER`.
        in_flight: rows that differed at first but not in the same way the second time.
        evidence: a number for each drifted row that a repair can mend now (differences.FOUND): the same numbers later are the same rows
            in the same state.
        samples: some of the rows, capped for each table and difference.
        first_ahead: when the first of the rows ahead of the clock can be repaired, microseconds; None if there are none.
    """

    rows: Mapping[tuple[str, Difference], int]
    harmless: Mapping[tuple[str, Difference], int]
    in_flight: int = 0
    evidence: np.ndarray[Any, np.dtype[np.uint64]] = field(
        default_factory=lambda: np.empty(0, dtype=np.uint64), compare=False
    )
    samples: tuple[RowSample, ...] = ()
    first_ahead: int | None = None

    @property
    def total(self) -> int:
        return sum(self.rows.values())

    def of(self, difference: Difference, table: Table | None = None) -> int:
        """Drifted rows of one class, of one table or of both."""
        names = TABLE_NAMES if table is None else (table.name,)
        return sum(self.rows.get((name, difference), 0) for name in names)


@dataclass(frozen=True)
class SliceParity:
    """One slice on both engines.

    Attributes:
        snapshot: when Postgres was read, microseconds.
        differences: the rows behind unequal sums; None if the sums are equal, or rows were not compared.
        unchanged_since: when the slice was proved equal, microseconds, if nothing has touched it since and its rows were not read
            again; 0 if they were.
    """

    slice: Slice
    tables: Mapping[str, TableParity]
    quarantined: tuple[QuarantinedRow, ...] = ()
    snapshot: int = 0
    differences: SliceDifferences | None = None
    unchanged_since: int = 0

    @property
    def scorecards(self) -> TableParity:
        return self.tables[PARENT]

    @property
    def scores(self) -> TableParity:
        return self.tables[CHILD]

    @property
    def sums_agree(self) -> bool:
        """Whether counts, placement and digests are equal: with and without FINAL, to the bit."""
        return all(
            table.digests_agree and table.counts_agree and not table.misplaced_rows and not table.repeated_rows
            for table in self.tables.values()
        )

    @property
    def is_equal(self) -> bool:
        return self.sums_agree or (self.differences is not None and self.differences.total == 0)


def explain(parity: SliceParity) -> str | None:
    """What differs in a slice, in a few words to go beside the numbers of both sides; None if nothing does."""
    if parity.differences is not None:
        ahead = parity.differences.first_ahead
        wait = "" if ahead is None else f" (no repair is possible before {version_text(ahead)})"
        return explain_rows(parity.differences.rows) + wait or None
    parts = []
    for name, plural in PLURALS.items():
        table = parity.tables[name]
        if not table.counts_agree:
            parts.append(f"{table.clickhouse_rows - table.postgres_rows:+,} {plural}")
        if table.misplaced_rows:
            parts.append(f"{table.misplaced_rows:,} {plural} on a wrong shard")
        if table.repeated_rows:
            parts.append(f"{table.repeated_rows:,} {plural} appear more than once")
        if table.counts_agree and not table.digests_agree:
            parts.append(f"as many {plural}, but not the same values")
    return "; ".join(parts) or None


def but(left_out: str) -> str:
    """What a verdict adds about what it did not look at.

    >>> but("column note of qa_cards"), but("")
    (' (but for column note of qa_cards)', '')
    """
    return f" (but for {left_out})" if left_out else ""


def explain_rows(rows: Mapping[tuple[str, Difference], int]) -> str:
    """The numbers of differing rows, in words.

    >>> explain_rows({("scorecard", Difference.MISSING): 2, ("score", Difference.ORPHAN_SCORE): 1})
    '2 scorecards missing; 1 score orphaned'
    """
    return "; ".join(
        f"{number:,} {name}{'s' * (number != 1)} {_WORDS.get(difference, difference.value)}"
        for name in PLURALS
        for difference in Difference
        if (number := rows.get((name, difference), 0))
    )


_WORDS = {
    Difference.WRONG_SHARD: "on a wrong shard",
    Difference.MOVED_DAY: "left on a day that is no longer theirs",
    Difference.ORPHAN_SCORE: "orphaned",
    Difference.APPEAL: "of appeals",
    Difference.AHEAD: "with a version ahead of the clock",
    Difference.UNMERGED: "waiting for a merge",
    Difference.NEWER: "newer than the standby shows",
}
