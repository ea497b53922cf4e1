"""One snapshot of a group of slices in Postgres, and how Postgres is to join the group's scores.

What lives here: the choice between looking up the scores of each scorecard and reading the score table once, and the memory for it. What
does not: the statements (selection/source_sql.py), the session (postgres/session.py).

The planner can't choose well: it takes the conditions of a join for independent, so it expects far too few scorecards and looks up
the scores of each. For a window of 1.6 M scorecards that took 26 s, and reading the table once 5 s. What it estimates well is how many
scorecards a window holds, because those conditions are plain ranges of one index.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from reindex_assets.postgres.session import Snapshot, SourceSession
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.source_sql import SOURCE_TIMES, TIMES_IN_SLICES, source_scope, source_sql

#: Looking up the scores of a scorecard costs as much as reading this many rows of the score table (6 us against 0.6 us, in memory;
#: on disk the table's advantage is larger).
_ROWS_A_LOOK_UP = 10
#: Of a statement's hash table; the default of 4 MB makes 32 passes over the scores of 1.6 M scorecards.
_WORK_MEMORY = "64MB"


@contextmanager
def group_snapshot(session: SourceSession, group: SliceGroup) -> Iterator[Snapshot]:
    """`session.snapshot` for the statements of selection/source_sql.py on a group, that join as suits the group's size."""
    with session.snapshot(source_scope(group)) as snapshot:
        settings = {"work_mem": _WORK_MEMORY}
        if reads_the_table(session, group):
            settings |= {"enable_nestloop": "off", "enable_mergejoin": "off"}
        session.rows(
            "SELECT "
            + ", ".join(f"set_config('{name}', '{value}', true) AS {name}" for name, value in settings.items())
        )
        yield snapshot


def reads_the_table(session: SourceSession, group: SliceGroup) -> bool:
    """Whether the group whose snapshot is open is so large that its scores are found by reading the score table once."""
    relations = session.postgres.relations
    scorecards = source_sql(f"SELECT 1 FROM {SOURCE_TIMES} WHERE {TIMES_IN_SLICES}", relations, group)
    scores = source_sql("SELECT 1 FROM {scores}", relations, group)
    return _estimated_rows(session, scorecards) * _ROWS_A_LOOK_UP >= _estimated_rows(session, scores)


def _estimated_rows(session: SourceSession, sql: str) -> float:
    (plan,) = json.loads(session.explained(sql))
    return float(plan["Plan"]["Plan Rows"])
