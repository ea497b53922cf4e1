"""Where the time of a backfill goes, read afterwards from Dagster's storage.

What lives here: the phases of its runs, the number of events, and Postgres' statistics of Dagster's database. What does not: the
backfill (backfill.py).

The phases are delimited by events that every run has: created, enqueued, dequeued ("starting"), the run's process started ("start"),
the step's start, its last materialization, the step's end, the run's end. From the step's start to its last materialization the run
works and stores its events; from there to the step's end it makes its checks. Several runs work at once, so the phases add up to more
than the wall time. pg_stat_database counts the time of all statements in Dagster's database, over all connections: those for the run's
events, and those of the daemon and the webserver.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from benchmarks.figures import WrongRunError
from benchmarks.target import Target


@dataclass(frozen=True)
class StorageWork:
    """What Postgres did for Dagster's database; the seconds are those of statements on all connections, added up."""

    seconds: float
    connections: int
    transactions: int

    def since(self, before: StorageWork) -> StorageWork:
        return StorageWork(
            self.seconds - before.seconds,
            self.connections - before.connections,
            self.transactions - before.transactions,
        )


@dataclass(frozen=True)
class TableSize:
    """One table of Dagster; the bytes include its indexes and what is stored out of line."""

    rows: int
    bytes: int


@dataclass(frozen=True)
class BackfillTimes:
    """One backfill; times are in seconds.

    Attributes:
        seconds: from the request until the daemon marks it as complete.
        before_first_run: until the daemon has polled, planned and created the first run.
        running: from then until the last run has ended.
        after_last_run: until the daemon has polled again.
        phases: the phases of a run in their order, averaged over the runs.
        run_seconds: from a run's creation to its end, averaged.
    """

    partitions: int
    runs: int
    seconds: float
    before_first_run: float
    running: float
    after_last_run: float
    phases: dict[str, float]
    run_seconds: float
    events: int
    check_verdicts: int
    storage: StorageWork


_PHASES = {
    "planned_events_stored": ("created", "enqueued"),
    "in_the_queue": ("enqueued", "starting"),
    "process_start": ("starting", "started"),
    "until_step_start": ("started", "step_started"),
    "work": ("step_started", "last_materialization"),
    "checks": ("last_materialization", "step_ended"),
    "run_end": ("step_ended", "ended"),
}

_RUNS = """
SELECT
    r.run_id,
    r.status,
    extract(epoch FROM r.create_timestamp AT TIME ZONE 'UTC')::float8 AS created,
    r.end_time AS ended,
    {moments}
    count(*) AS events,
    count(*) FILTER (WHERE e.dagster_event_type = 'ASSET_CHECK_EVALUATION') AS check_verdicts
FROM runs AS r
JOIN event_logs AS e ON e.run_id = r.run_id
WHERE r.backfill_id = %s
GROUP BY r.run_id, r.status, r.create_timestamp, r.end_time
"""
_MOMENTS = {
    "enqueued": ("min", "PIPELINE_ENQUEUED"),
    "starting": ("min", "PIPELINE_STARTING"),
    "started": ("min", "PIPELINE_START"),
    "step_started": ("min", "STEP_START"),
    "last_materialization": ("max", "ASSET_MATERIALIZATION"),
    "step_ended": ("max", "STEP_SUCCESS"),
}


class DagsterStorage:
    """Dagster's database, queried directly: queries to the webserver would cost more than what is measured."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def work(self) -> StorageWork:
        """Since the server's start."""
        ((seconds, connections, transactions),) = self._ask(
            "SELECT active_time / 1000, sessions, xact_commit + xact_rollback FROM pg_stat_database "
            "WHERE datname = current_database()"
        )
        return StorageWork(seconds, connections, transactions)

    def table_sizes(self) -> dict[str, TableSize]:
        """Every table of Dagster's database, its rows counted."""
        sizes = {}
        for (name,) in self._ask(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        ):
            ((rows, size),) = self._ask(
                f'SELECT count(*), pg_total_relation_size(\'public."{name}"\') FROM public."{name}"'
            )
            sizes[str(name)] = TableSize(int(rows), int(size))
        return sizes

    def compact(self) -> None:
        """Removes dead rows from all tables. It locks each table meanwhile, so nothing else may be running."""
        with self._connection.cursor() as cursor:
            cursor.execute("VACUUM FULL")

    def status(self, backfill_id: str) -> str:
        """The status of a backfill: REQUESTED, COMPLETING, COMPLETED_SUCCESS and so on."""
        ((status,),) = self._ask("SELECT status FROM bulk_actions WHERE key = %s", backfill_id)
        return str(status)

    def times(
        self, backfill_id: str, partitions: int, requested: float, completed: float, work: StorageWork
    ) -> BackfillTimes:
        """The times of a backfill, from what is stored about its runs.

        Raises:
            WrongRunError: one of its runs did not succeed, or made no checks.
        """
        moments = "".join(
            f"extract(epoch FROM {which}(e.timestamp) FILTER (WHERE e.dagster_event_type = '{event}') "
            f"AT TIME ZONE 'UTC')::float8 AS {name},\n    "
            for name, (which, event) in _MOMENTS.items()
        )
        names = ("run_id", "status", "created", "ended", *_MOMENTS, "events", "check_verdicts")
        runs = [dict(zip(names, row, strict=True)) for row in self._ask(_RUNS.format(moments=moments), backfill_id)]
        wrong = [run["run_id"] for run in runs if run["status"] != "SUCCESS" or not run["check_verdicts"]]
        if wrong or not runs:
            raise WrongRunError(f"of the {len(runs)} runs of the backfill, these failed or made no checks: {wrong}")
        first, last = min(run["created"] for run in runs), max(run["ended"] for run in runs)
        return BackfillTimes(
            partitions,
            len(runs),
            completed - requested,
            first - requested,
            last - first,
            completed - last,
            {phase: statistics.mean(run[end] - run[begin] for run in runs) for phase, (begin, end) in _PHASES.items()},
            statistics.mean(run["ended"] - run["created"] for run in runs),
            sum(run["events"] for run in runs),
            sum(run["check_verdicts"] for run in runs),
            work,
        )

    def _ask(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return cursor.fetchall()


@contextlib.contextmanager
def dagster_storage(target: Target) -> Iterator[DagsterStorage]:
    """The database behind a target's Dagster instance."""
    environment = target.environment
    connection = psycopg2.connect(
        host=environment["DAGSTER_PG_HOST"],
        port=environment["DAGSTER_PG_PORT"],
        user=environment["DAGSTER_PG_USER"],
        password=environment["DAGSTER_PG_PASSWORD"],
        dbname=environment["DAGSTER_PG_DB"],
    )
    connection.autocommit = True
    with contextlib.closing(connection):
        yield DagsterStorage(connection)
