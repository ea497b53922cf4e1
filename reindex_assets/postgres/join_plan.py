"""A snapshot for reading a group of slices, and how Postgres joins the group's scores.

What lives here: the choice between looking up the scores of each scorecard and reading the score table once, and the memory for it. What
does not: the statements (selection/source_sql.py), the session (postgres/session.py).

The planner chooses badly: it assumes that the conditions of a join are independent, so it expects far too few scorecards and looks up
the scores of each. For a window of 1.6 M scorecards that took 26 s; reading the table once took 5 s. But it estimates well how many
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
#: For a statement's hash table. With the default of 4 MB, it makes 32 passes over the scores of 1.6 M scorecards.
_WORK_MEMORY = "64MB"


@contextmanager
def group_snapshot(session: SourceSession, group: SliceGroup) -> Iterator[Snapshot]:
    """`session.snapshot` for the statements of selection/source_sql.py on a group, with the join that suits the group's size."""
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
    """Whether the group is so large that reading the score table once is cheaper. Call it inside the group's snapshot."""
    relations = session.postgres.relations
    scorecards = source_sql(f"SELECT 1 FROM {SOURCE_TIMES} WHERE {TIMES_IN_SLICES}", relations, group)
    scores = source_sql("SELECT 1 FROM {scores}", relations, group)
    return _estimated_rows(session, scorecards) * _ROWS_A_LOOK_UP >= _estimated_rows(session, scores)


def _estimated_rows(session: SourceSession, sql: str) -> float:
    (plan,) = json.loads(session.explained(sql))
    return float(plan["Plan"]["Plan Rows"])
