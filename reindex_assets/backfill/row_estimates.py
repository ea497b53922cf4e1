"""About how many rows a backfill is going to read: what Postgres' indexes and statistics say, before anything is read.

What lives here: the question to each cluster. What does not: the statement that counts scorecards (postgres/extract.py), and exact numbers
(comparison/counts.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date

from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ReindexError
from reindex_assets.model import Kind, Slice, days_between
from reindex_assets.postgres.extract import estimate_scorecards
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.source_sql import source_sql

#: A plan can wait for a connection, but a person waits for the plan.
_WAIT_SECONDS = 15
#: What the last ANALYZE counted; -1 where there was none.
_TABLE_ROWS = "SELECT reltuples::bigint AS rows FROM pg_class WHERE oid = to_regclass($1)"
#: Without statistics: what the domain's scorecards have.
_SCORES_A_SCORECARD = 6.0


@dataclass(frozen=True)
class ClusterRows:
    """Scorecards of each slice, of whatever type; scores of each scorecard, on average; or why Postgres didn't say."""

    scorecards: Mapping[tuple[str, Slice], int]
    scores_a_scorecard: float = _SCORES_A_SCORECARD
    error: str | None = None

    def rows(self, kind: Kind, slices: Sequence[Slice]) -> tuple[int, int] | None:
        """About so many scorecards and scores of some slices; None when Postgres didn't say."""
        if self.error is not None:
            return None
        scorecards = sum(self.scorecards.get((kind.name, item), 0) for item in slices)
        return scorecards, round(scorecards * self.scores_a_scorecard)


def estimate_rows(
    fleet: Fleet, chosen: Mapping[str, Sequence[str]], kinds: Sequence[Kind], first_day: date, last_day: date
) -> dict[str, ClusterRows]:
    """Asks every cluster's Postgres, all at once: a statement for each kind, that reads an index. One out of reach is no error."""
    hasty = fleet.with_connection_wait(_WAIT_SECONDS)
    with ThreadPoolExecutor(max_workers=8) as pool:
        asked = {
            name: pool.submit(_of_cluster, hasty, name, customers, kinds, first_day, last_day)
            for name, customers in chosen.items()
        }
        return {name: answer.result() for name, answer in asked.items()}


def _of_cluster(
    fleet: Fleet, name: str, customers: Sequence[str], kinds: Sequence[Kind], first_day: date, last_day: date
) -> ClusterRows:
    cluster = fleet.clusters[name]
    who = tuple((customer, cluster.customers[customer].profiles) for customer in customers)
    days = tuple(days_between(first_day, last_day))
    any_group = SliceGroup(who, days, fleet.first_day)
    scorecards: dict[tuple[str, Slice], int] = {}
    try:
        with SourceSession(cluster.postgres, "reindex_assets plan", connect_attempts=1) as session:
            for kind in kinds:
                group = SliceGroup(who, days, fleet.first_day, kind)
                scorecards |= {(kind.name, item): count for item, count in estimate_scorecards(session, group).items()}
            totals = [
                session.rows(_TABLE_ROWS, (source_sql(relation, cluster.postgres.relations, any_group),))
                for relation in ("{scorecards}", "{scores}")
            ]
    except ReindexError as error:
        return ClusterRows({}, error=str(error))
    of_scorecards, of_scores = (rows[0]["rows"] if rows else -1 for rows in totals)
    if of_scorecards < 1 or of_scores < 0:
        return ClusterRows(scorecards)
    return ClusterRows(scorecards, of_scores / of_scorecards)
