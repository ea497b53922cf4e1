"""Estimates how many rows a backfill is going to read, from Postgres' indexes and statistics.

What lives here: asking each dataset's Postgres. What does not: the statement that counts scorecards (postgres/extract.py), and exact
counts (comparison/counts.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date

from reindex_assets.config.dataset import Dataset
from reindex_assets.errors import ReindexError
from reindex_assets.model import Slice, days_between
from reindex_assets.postgres.extract import estimate_scorecards
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup, slice_group
from reindex_assets.selection.source_sql import source_sql

#: How long to wait for a connection, while a person waits for the plan.
_WAIT_SECONDS = 15
#: The number of rows as of the last ANALYZE; -1 if there was none.
_TABLE_ROWS = "SELECT reltuples::bigint AS rows FROM pg_class WHERE oid = to_regclass($1)"
#: Assumed where Postgres has no statistics: a scorecard usually has 3 to 9.
_SCORES_A_SCORECARD = 6.0


@dataclass(frozen=True)
class RowEstimate:
    """How many scorecards each slice has, and how many scores a scorecard has on average; or why Postgres could not be asked."""

    scorecards: Mapping[Slice, int]
    scores_a_scorecard: float = _SCORES_A_SCORECARD
    error: str | None = None

    def rows(self, slices: Sequence[Slice]) -> tuple[int, int] | None:
        """About how many scorecards and scores some slices have; None when Postgres could not be asked."""
        if self.error is not None:
            return None
        scorecards = sum(self.scorecards.get(item, 0) for item in slices)
        return scorecards, round(scorecards * self.scores_a_scorecard)


def estimate_rows(
    chosen: Mapping[Dataset, Sequence[str]], first_day: date, last_day: date
) -> dict[Dataset, RowEstimate]:
    """Asks every dataset's Postgres, all at the same time. The statement only reads an index. An unreachable Postgres is not an error.

    Args:
        chosen: customers by dataset.
    """
    days = days_between(first_day, last_day)
    with ThreadPoolExecutor(max_workers=8) as pool:
        groups = [slice_group(dataset, customers, days) for dataset, customers in chosen.items()]
        return dict(zip(chosen, pool.map(_estimate, chosen, groups), strict=True))


def _estimate(dataset: Dataset, group: SliceGroup) -> RowEstimate:
    postgres = dataset.cluster.postgres.with_connection_wait(_WAIT_SECONDS)
    try:
        with SourceSession(postgres, "reindex_assets plan", connect_attempts=1) as session:
            scorecards = estimate_scorecards(session, group)
            totals = [
                session.rows(_TABLE_ROWS, (source_sql(relation, postgres.relations, group),))
                for relation in ("{scorecards}", "{scores}")
            ]
    except ReindexError as error:
        return RowEstimate({}, error=str(error))
    of_scorecards, of_scores = (rows[0]["rows"] if rows else -1 for rows in totals)
    if of_scorecards < 1 or of_scores < 0:
        return RowEstimate(scorecards)
    return RowEstimate(scorecards, of_scores / of_scorecards)
