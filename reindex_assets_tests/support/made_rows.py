"""What the tests of the data maker share: one plan, and questions to the source.

What lives here: queries. What does not: tests.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from psycopg2.extensions import connection as Connection

from reindex_assets.local.data.made_data import (
    DEFAULT_CUSTOMERS,
    DataPlan,
)

PLAN = DataPlan(DEFAULT_CUSTOMERS, first_day=date(2026, 2, 27), days=4, scale=0.003, seed=11)

SCORECARDS = """
SELECT c.*, r.template_type, (c.process_interaction_at AT TIME ZONE 'UTC')::date AS day
FROM director.scorecards AS c
JOIN director.scorecard_template_revisions AS r USING (customer, profile, template_id, template_revision_id)
"""
PROCESS = f"SELECT * FROM ({SCORECARDS}) AS c WHERE template_type = 2 AND coalesce(scorecard_type, 0) = 0"


def rows_of(source: Connection, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    with source.cursor() as cursor:
        cursor.execute(query, parameters or None)
        return cursor.fetchall()


def one(source: Connection, query: str, *parameters: object) -> Any:
    [[value]] = rows_of(source, query, *parameters)
    return value
