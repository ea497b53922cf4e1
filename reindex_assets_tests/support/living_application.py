"""An application that lives on: it adds, edits, moves and deletes scorecards without pause, and loses some of its writes to ClickHouse.

What lives here: the application, and what it has lost when. What does not: single edits (support/application.py), and any judgement of both
engines (oracle.py).

Each thing is done to a scorecard that nothing else is done to, so that what ClickHouse must show of it in the end is known.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from datetime import time as midnight
from uuid import UUID, uuid4

from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets.model import Slice
from reindex_assets_tests.support.application import Scorecard, read_as_application
from reindex_assets_tests.support.session_stack import connect_shards, connect_source

#: What the application does, and how often.
ACTIONS = {"add": 70, "edit": 15, "delete": 8, "move": 7}


_WRITERS = 6


@dataclass
class Lost:
    """A change of Postgres that the application never wrote to ClickHouse.

    Attributes:
        at: when Postgres had committed it, seconds since the epoch.
        slices: where ClickHouse is wrong until somebody repairs it.
        day: where ClickHouse must show the scorecard; None: nowhere.
        score: what it must show.
        wrong_at: when ClickHouse was last seen not to show that.
        is_right: whether it was seen to show that.
    """

    action: str
    scorecard: Scorecard
    at: float
    slices: frozenset[Slice]
    day: date | None
    score: float
    wrong_at: float = 0.0
    is_right: bool = False


@dataclass
class LivingApplication:
    """Works in a thread of its own from `start` to `stop`.

    Attributes:
        loses: share of the writes to ClickHouse that are lost.
        delay: seconds between the commit in Postgres and the write to ClickHouse, at most.
        pause: seconds between two things.
        actions: what it does, and how often.
        latest: the longest time from a commit to the end of its write to ClickHouse, of those that were not lost, seconds.
    """

    fleet: Fleet
    days: Sequence[date]
    loses: float = 0.0
    delay: float = 0.5
    pause: float = 0.1
    seed: int = 1
    actions: Mapping[str, int] = field(default_factory=lambda: ACTIONS)
    done: int = 0
    latest: float = 0.0
    lost: list[Lost] = field(default_factory=list)
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._live, name="application", daemon=True)
        self._used: set[str] = set()

    @contextlib.contextmanager
    def living(self) -> Iterator[LivingApplication]:
        """The application at work, until the context ends; every write that is not lost has arrived then."""
        self._thread.start()
        try:
            yield self
        finally:
            self._stopped.set()
            self._thread.join()
        if self.error is not None:
            raise self.error

    def _live(self) -> None:
        [cluster] = self.fleet.clusters.values()
        try:
            with contextlib.ExitStack() as stack:
                source = stack.enter_context(contextlib.closing(connect_source(self.fleet)))
                writers: queue.Queue[_Writer] = queue.Queue()
                for _ in range(_WRITERS):
                    writers.put(stack.enter_context(_Writer(self.fleet)))
                pool = stack.enter_context(ThreadPoolExecutor(_WRITERS))
                writes = []
                while not self._stopped.is_set():
                    # Only as fast as its writes get through: a backlog would make rows late without end.
                    writer = writers.get()
                    change = self._change(source, self._random.choice(list(cluster.customers)))
                    if change is None:
                        writers.put(writer)
                    else:
                        at = time.time()
                        write = pool.submit(writer.write, at, at + self._random.uniform(0, self.delay), *change)
                        write.add_done_callback(lambda _, writer=writer: writers.put(writer))  # type: ignore[misc]
                        writes.append(write)
                    self._stopped.wait(self.pause)
                for write in writes:
                    self.latest = max(self.latest, write.result())
        except BaseException as error:  # noqa: BLE001 - raised again where the test waits
            self.error = error

    def _change(self, source: Connection, customer: str) -> tuple[str, Scorecard, Scorecard | None] | None:
        """Does one thing in Postgres; returns what has to be written to ClickHouse, None when that gets lost."""
        action = self._random.choices(list(self.actions), list(self.actions.values()))[0]
        day = self._random.choice(self.days)
        found = self._pick(source, customer, day)
        if found is None:
            return None
        scorecard = found
        before: Scorecard | None = scorecard
        score = round(self._random.uniform(0, 100), 6)
        if action == "add":
            scorecard, before = _add(source, found, score, self._random.uniform(1, 86_000)), None
        elif action == "edit":
            _set(source, scorecard, "score = %s, updated_at = now()", score)
        elif action == "delete":
            _delete(source, scorecard)
        else:
            new_day = self._random.choice([other for other in self.days if other != day])
            _set(
                source,
                scorecard,
                "process_interaction_at = process_interaction_at + %s, score = %s, updated_at = now()",
                timedelta(days=(new_day - day).days),
                score,
            )
            scorecard = Scorecard(scorecard.customer, scorecard.profile, scorecard.scorecard_id, new_day)
        self._used.add(scorecard.scorecard_id)
        self.done += 1
        if self._random.random() >= self.loses:
            return action, scorecard, before
        slices = {one.slice for one in (scorecard, before) if one is not None}
        self.lost.append(
            Lost(
                action, scorecard, time.time(), frozenset(slices), None if action == "delete" else scorecard.day, score
            )
        )
        return None

    def _pick(self, source: Connection, customer: str, day: date) -> Scorecard | None:
        """A process scorecard of a day that nothing has been done to."""
        with source.cursor() as cursor:
            cursor.execute(
                """
                SELECT c.customer, c.profile, c.scorecard_id::text
                FROM director.scorecards AS c
                JOIN director.scorecard_template_revisions AS r USING (customer, profile, template_id, template_revision_id)
                WHERE r.template_type = 2 AND coalesce(c.scorecard_type, 0) = 0 AND c.customer = %s
                    AND c.process_interaction_at >= %s AND c.process_interaction_at < %s
                    AND NOT c.scorecard_id = ANY (%s::uuid[])
                ORDER BY random() LIMIT 1
                """,
                (customer, f"{day} 00:00Z", f"{day + timedelta(days=1)} 00:00Z", list(self._used)),
            )
            row = cursor.fetchone()
        return None if row is None else Scorecard(row[0], row[1], row[2], day)

    def is_all_right(self, clients: Sequence[Client]) -> bool:
        """Notes which of the lost changes ClickHouse shows by now; whether it shows all of them."""
        waiting = {one.scorecard.key: one for one in self.lost if not one.is_right}
        if not waiting:
            return True
        begun = time.time()
        shown: dict[tuple[str, str, str], set[tuple[date, float | None]]] = {key: set() for key in waiting}
        for client in clients:
            rows = client.query(
                "SELECT customer, profile, toString(scorecard_id), day, score FROM scorecard FINAL"
                " WHERE scorecard_id IN {ids:Array(UUID)}",
                parameters={"ids": [key[2] for key in waiting]},
            ).result_rows
            for customer, profile, scorecard_id, day, score in rows:
                if (customer, profile, scorecard_id) in shown:
                    shown[customer, profile, scorecard_id].add((day, score))
        for key, one in waiting.items():
            one.is_right = shown[key] == (set() if one.day is None else {(one.day, one.score)})
            if not one.is_right:
                one.wrong_at = begun
        return all(one.is_right for one in waiting.values())


_ONE = "(customer, profile, scorecard_id) = (%s, %s, %s::uuid)"


def _add(source: Connection, like: Scorecard, score: float, seconds: float) -> Scorecard:
    """Adds a scorecard like another one, with as many scores, at another time of the same day; both in one transaction."""
    new = str(uuid4())
    moment = datetime.combine(like.day, midnight()) + timedelta(seconds=seconds)
    with source.cursor() as cursor:
        cursor.execute(
            f"""
            WITH added AS (
                INSERT INTO director.scorecards
                SELECT (jsonb_populate_record(c, jsonb_build_object('scorecard_id', %s, 'score', %s::float8,
                    'process_interaction_at', %s::timestamp AT TIME ZONE 'UTC', 'created_at', now(), 'updated_at', now()))).*
                FROM director.scorecards AS c WHERE {_ONE}
            )
            INSERT INTO historic.scorecard_scores
            SELECT (jsonb_populate_record(s, jsonb_build_object('scorecard_id', %s, 'score_id', gen_random_uuid()))).*
            FROM historic.scorecard_scores AS s WHERE {_ONE}
            """,
            (new, score, moment, *like.key, new, *like.key),
        )
    return Scorecard(like.customer, like.profile, new, like.day)


def _set(source: Connection, scorecard: Scorecard, edit: str, *values: object) -> None:
    with source.cursor() as cursor:
        cursor.execute(f"UPDATE director.scorecards SET {edit} WHERE {_ONE}", (*values, *scorecard.key))


def _delete(source: Connection, scorecard: Scorecard) -> None:
    with source.cursor() as cursor:
        cursor.execute(
            f"WITH gone AS (DELETE FROM historic.scorecard_scores WHERE {_ONE}) DELETE FROM director.scorecards WHERE {_ONE}",
            (*scorecard.key, *scorecard.key),
        )


class _Writer:
    """The real-time writer, with connections of its own. Use as a context."""

    def __init__(self, fleet: Fleet) -> None:
        self._source = connect_source(fleet)
        self._clients = connect_shards(fleet)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._source.close()
        for client in self._clients:
            client.close()

    def write(
        self, committed_at: float, due_at: float, action: str, scorecard: Scorecard, before: Scorecard | None
    ) -> float:
        """Writes the new rows, and then empties the old place; returns how long after the commit that was done."""
        time.sleep(max(0.0, due_at - time.time()))
        if action != "delete":
            read_as_application(self._source, scorecard, len(self._clients)).write(self._clients)
        if before is not None and action in ("delete", "move"):
            for client in self._clients:
                for table in ("scorecard", "score"):
                    _empty(client, table, before)
        return time.time() - committed_at


def _empty(client: Client, table: str, place: Scorecard) -> None:
    parameters = {
        "customer": place.customer,
        "profile": place.profile,
        "id": UUID(place.scorecard_id),
        "day": place.day,
    }
    if client.query(f"SELECT count() FROM {table} WHERE {_IN_PLACE}", parameters=parameters).result_rows[0][0]:
        client.command(
            f"DELETE FROM {table} WHERE {_IN_PLACE}", parameters=parameters, settings={"lightweight_deletes_sync": 2}
        )


_IN_PLACE = (
    "customer = {customer:String} AND profile = {profile:String} AND scorecard_id = {id:UUID} AND day = {day:Date32}"
)
