"""Readers of the shards, as dashboards are: they sample every row without a pause while runs are under way.

What lives here: the readers, and what they must never see. What does not: runs, and tests.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets_tests.support.session_stack import connect_shards

#: A scorecard where dashboards look for it: customer, profile, id, day.
Place = tuple[object, ...]

_PLACE = "customer, profile, toString(scorecard_id), toString(day)"
#: Of the key, too: while a row is replaced, one of its versions is there.
_ROWS = "SELECT arrayJoin([sipHash64(toString(tuple(* EXCEPT version))), sipHash64('key', {key})]) FROM {table} {final}"
_SCORECARDS = f"SELECT DISTINCT {_PLACE} FROM scorecard"
_SCORES = f"SELECT {_PLACE}, uniqExact(score_id) FROM score GROUP BY ALL"


def rows_of(client: Client, table: str, final: bool = False) -> frozenset[int]:
    """The digests of a table's rows, all columns but the version, and those of their keys."""
    [key] = [", ".join(each.key) for each in TABLES if each.name == table]
    found = client.query(_ROWS.format(table=table, key=key, final="FINAL" if final else "")).result_rows
    return frozenset(row[0] for row in found)


def shown_scorecards(client: Client) -> set[Place]:
    return {tuple(row) for row in client.query(_SCORECARDS).result_rows}


def bare_scorecards(client: Client, scores_of: dict[Place, int]) -> set[Place]:
    """Scorecards of a shard that show fewer scores than they have; the scores are read after the scorecards."""
    shown = shown_scorecards(client)
    scores: dict[Place, int] = {tuple(row[:-1]): row[-1] for row in client.query(_SCORES).result_rows}
    return {place for place in shown if scores.get(place, 0) < scores_of.get(place, 0)}


class Reader:
    """Samples one shard, over and over, with a client of its own.

    Attributes:
        samples: readings of every table that were begun and ended while a run was under way.
        missed: rows, and keys of rows, that were there at the beginning, and not in some sample.
        bare: scorecards that were seen without (all) their scores, before and after the look at the scores.
    """

    def __init__(self, client: Client, scores_of: dict[Place, int]) -> None:
        self._client = client
        self._scores_of = scores_of
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._failure: BaseException | None = None
        self.before = {table: rows_of(client, table) for table in ("scorecard", "score")}
        self.missed: Counter[tuple[str, int]] = Counter()
        self.bare: Counter[Place] = Counter()
        self.samples = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _read(self) -> None:
        try:
            while not self._stop.is_set():
                self._sample(final=self.samples % 2 == 1)
                self.samples += 1
        except BaseException as failure:  # noqa: BLE001 - raised again in the thread that waits
            self._failure = failure

    def _sample(self, final: bool) -> None:
        for table, before in self.before.items():
            self.missed.update((table, row) for row in before - rows_of(self._client, table, final))
        # Two tables cannot be read at one instant: a scorecard counts as seen when it is there before and after its scores.
        bare = bare_scorecards(self._client, self._scores_of)
        if bare:
            self.bare.update(bare & shown_scorecards(self._client))


def count_scores(source: Connection) -> dict[Place, int]:
    """How many scores each scorecard has in Postgres; one that has none is not there."""
    with source.cursor() as cursor:
        cursor.execute(
            """
            SELECT c.customer, c.profile, c.scorecard_id::text, (c.process_interaction_at AT TIME ZONE 'UTC')::date::text,
                count(*)
            FROM director.scorecards AS c
            JOIN historic.scorecard_scores USING (customer, profile, scorecard_id)
            GROUP BY 1, 2, 3, 4
            """
        )
        return {row[:-1]: row[-1] for row in cursor.fetchall()}


@contextmanager
def reading(fleet: Fleet, source: Connection) -> Iterator[list[Reader]]:
    """A reader on each shard, at work."""
    scores_of = count_scores(source)
    clients = connect_shards(fleet)
    readers = [Reader(client, scores_of) for client in clients]
    for reader in readers:
        reader.start()
    try:
        yield readers
    finally:
        for reader in readers:
            reader.stop()
        for client in clients:
            client.close()


def assert_no_hole(readers: list[Reader], shard_clients: list[Client]) -> int:
    """Returns how many samples were taken."""
    for shard, (reader, client) in enumerate(zip(readers, shard_clients, strict=True)):
        after = {table: rows_of(client, table) for table in reader.before}
        holes = {row: times for row, times in reader.missed.items() if row[1] in after[row[0]]}
        assert holes == {}, f"shard {shard}"
        assert reader.bare == {}, f"shard {shard}"
    return sum(reader.samples for reader in readers)
