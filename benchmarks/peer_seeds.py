"""Peer: the seeds' algorithm, in batches of 50 scorecards, with one query for the scores of each and two inserts per batch and shard.

It copies the first scorecards of the window, where it is fastest; the figure is its rate, because a whole replay (1.6 M scorecards) would
take hours. It is kinder than the seeds' system: batches follow each other by key and not by a growing offset, both engines are on this
machine, and nothing is deleted.
"""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg2.extras
from psycopg2.extensions import cursor as Cursor

from benchmarks.data import Window
from benchmarks.raw_read import Moved
from benchmarks.source_query import copy_query
from benchmarks.target import Target
from reindex_assets.config.default_tables import SCORE, SCORECARD, TABLES

BATCH = 50

_SETTINGS = {"async_insert": 0}
_SHARED = [column.name for column in SCORE.columns if column.of_scorecard]
_OWN = [column for column in SCORE.columns if not column.of_scorecard]
_SCORES = f"""
SELECT {", ".join(column.source for column in _OWN)}
FROM historic.scorecard_scores AS s
WHERE s.customer = %s AND s.profile = %s AND s.scorecard_id = %s
"""
#: The columns of the rows that are built below, in their order.
_COLUMNS = {
    SCORECARD.name: list(SCORECARD.column_names),
    SCORE.name: [*_SHARED, *(column.name for column in _OWN)],
}


def seeds_algorithm(target: Target, window: Window, scorecards: int) -> Moved:
    """Copies the first scorecards of the window with their scores."""
    psycopg2.extras.register_uuid()  # type: ignore[no-untyped-call]
    moved = 0
    with target.source() as source, source.cursor() as cursor, target.shards() as clients:
        begun = time.perf_counter()
        done = 0
        after: tuple[datetime, UUID] | None = None
        while done < scorecards and (batch := _batch(cursor, window, after, min(BATCH, scorecards - done))):
            rows: dict[tuple[str, int], list[list[Any]]] = defaultdict(list)
            for scorecard in batch:
                shard = int(scorecard["scorecard_time"].timestamp() // 1) % len(clients)
                rows[SCORECARD.name, shard].append(list(scorecard.values()))
                cursor.execute(_SCORES, (scorecard["customer"], scorecard["profile"], scorecard["scorecard_id"]))
                copied = [scorecard[name] for name in _SHARED]
                rows[SCORE.name, shard] += [[*copied, *score] for score in cursor.fetchall()]
            for table in TABLES:
                for shard, client in enumerate(clients):
                    if batch_rows := rows[table.name, shard]:
                        moved += len(batch_rows)
                        client.insert(table.name, batch_rows, _COLUMNS[table.name], settings=_SETTINGS)
            done += len(batch)
            after = batch[-1]["scorecard_time"], batch[-1]["scorecard_id"]
        seconds = time.perf_counter() - begun
    return Moved(moved, seconds)


def _batch(cursor: Cursor, window: Window, after: tuple[datetime, UUID] | None, size: int) -> list[dict[str, Any]]:
    # The driver binds the values, so a `%` in the query would have to be doubled; it has none.
    condition = "" if after is None else "AND (c.process_interaction_at, c.scorecard_id) > (%s, %s)\n"
    cursor.execute(
        f"{copy_query(SCORECARD, window)}\n{condition}ORDER BY c.process_interaction_at, c.scorecard_id LIMIT {size}",
        after,
    )
    return [dict(zip(SCORECARD.column_names, row, strict=True)) for row in cursor.fetchall()]
