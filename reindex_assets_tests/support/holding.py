"""Runs that are held where they are, so that a test can look at them or kill them however busy the machine is.

What lives here: the hold at the first statement that reads scorecards. What does not: a hold at a statement of ClickHouse
(support/faulty_shard.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets_tests.support.session_stack import connect_source


@contextlib.contextmanager
def nobody_reads(fleet: Fleet) -> Iterator[Connection]:
    """Runs get as far as their first statement that reads scorecards, and wait there until the context ends or its connection
    rolls back."""
    with contextlib.closing(connect_source(fleet)) as connection:
        connection.autocommit = False
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE director.scorecards IN ACCESS EXCLUSIVE MODE")
        yield connection
        connection.rollback()
