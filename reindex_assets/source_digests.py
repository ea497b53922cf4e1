"""The FROM of every statement that digests rows in Postgres.

What lives here: that what a scorecard's scores have in common is digested once a scorecard. What does not: the digest itself (digest.py),
and the statements that sum or list digests (comparison.py, row_sides.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from reindex_assets.digest import source_digest, source_digest_of_copies
from reindex_assets.model import SCORE, Table
from reindex_assets.selection import BELONGS, SCORES_OF_SCORECARDS, SOURCE_SCORECARDS


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
