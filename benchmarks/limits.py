"""What the fleet file's limits allow: connections to Postgres at once, and rows per second of a stream.

Six comparisons begin at the same moment, and may have two connections. Postgres is asked twenty times a second who is connected:
how many sessions of this project read, and how many there are altogether (who waits for a connection looks in for a moment every few
seconds to ask). Then the extract of a few days is read with a limit and without, in turns.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from benchmarks.bench import Bench
from benchmarks.data import Window
from benchmarks.figures import Figure, Result, WrongRunError
from benchmarks.product import reindex
from benchmarks.proof import prove, sizes
from benchmarks.raw_read import Moved
from benchmarks.target import Target
from reindex_assets.comparison.verification import Depth, verify
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, TABLES
from reindex_assets.postgres.extract import read_rows
from reindex_assets.postgres.join_plan import group_snapshot
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import group_slices

NAME = "limits"

CONNECTIONS = 2
COMPARISONS = 6
_SECONDS_BETWEEN_LOOKS = 0.05
#: Seconds that the limited stream is made to take, at least.
_STREAM_SECONDS = 5.0
_DAYS = 3

#: Sessions of this project, without Postgres' own parallel workers. Those that read are in a transaction that is older than a question for
#: a free connection takes.
_SESSIONS = """\
SELECT count(*), count(*) FILTER (WHERE xact_start < clock_timestamp() - interval '100 ms')
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND datname = current_database() AND application_name LIKE 'reindex_assets%'"""


def run(bench: Bench) -> Iterator[Result]:
    target, window = bench.replay, bench.window(min(_DAYS, bench.size.days))
    target.reset()
    bench.say("loading what is to be compared")
    reindex(target, window)
    data = sizes(window, prove(target, window, "what is to be compared"), target.shard_count)

    bench.say(f"{COMPARISONS} comparisons at once, with {CONNECTIONS} connections")
    fleet = _limited(target.fleet, max_connections=CONNECTIONS, connection_wait_seconds=600)
    with _Sessions(target) as sessions, ThreadPoolExecutor(COMPARISONS) as pool:
        begun = time.perf_counter()
        found = list(pool.map(lambda _: _agrees(fleet, window), range(COMPARISONS)))
        seconds = time.perf_counter() - begun
    if not all(found):
        raise WrongRunError("a comparison that had to wait for its connection found other rows than the one before it")
    of = f"{COMPARISONS} comparisons that begin at once, max_connections {CONNECTIONS}"
    yield Figure(
        f"{NAME}.connections.reading", sessions.reading, "sessions", f"{of}: sessions that read, at most", data
    )
    yield Figure(
        f"{NAME}.connections.of_limit", sessions.reading / CONNECTIONS, "x", f"{of}: the same, of the limit", data
    )
    yield Figure(
        f"{NAME}.connections.all",
        sessions.all,
        "sessions",
        f"{of}: sessions at any moment, those that ask for a connection too",
        data,
        detail=f"{sessions.looks:,} looks in {seconds:.1f} s",
    )

    free: list[Moved] = []
    limited: list[Moved] = []
    rate = 0
    for number in range(bench.size.rounds):
        bench.say(f"round {number + 1} of {bench.size.rounds}: the extract, without a limit and with one")
        free.append(_extract(target.fleet, window))
        rate = max(1, round(free[-1].rows / _STREAM_SECONDS))
        limited.append(_extract(_limited(target.fleet, max_rows_per_second=rate), window))
    for name, streams, of in (
        ("free", free, "the extract without a limit"),
        ("limited", limited, f"the extract with max_rows_per_second {rate:,}"),
    ):
        rates = [moved.rows / moved.seconds for moved in streams]
        yield Figure.median(f"{NAME}.rate.{name}.rows_per_second", rates, "rows/s", of, data)
    shares = [moved.rows / moved.seconds / rate for moved in limited]
    yield Figure.median(f"{NAME}.rate.of_limit", shares, "x", "the limited extract's rate, of its limit", data)


def _limited(fleet: Fleet, **fields: object) -> Fleet:
    cluster = fleet.clusters[CLUSTER]
    postgres = cluster.postgres.model_copy(update=fields)
    return fleet.model_copy(update={"clusters": {CLUSTER: cluster.model_copy(update={"postgres": postgres})}})


def _agrees(fleet: Fleet, window: Window) -> bool:
    return verify(
        fleet,
        window.customers,
        window.first_day,
        window.last_day,
        kind=PROCESS,
        depth=Depth.FINGERPRINT,
        settle_seconds=0,
    ).agrees


def _extract(fleet: Fleet, window: Window) -> Moved:
    """Reads a window's rows as a run reads them, and keeps none."""
    dataset = fleet.dataset(CLUSTER, PROCESS)
    begun, rows = time.perf_counter(), 0
    with SourceSession(dataset.cluster.postgres) as session:
        for group in group_slices(window.slices, dataset, {}, 1, max_slices=len(window.slices)):
            with group_snapshot(session, group):
                rows += sum(batch.num_rows for table in TABLES for batch in read_rows(session, table, group))
    return Moved(rows, time.perf_counter() - begun)


class _Sessions:
    """Counts this project's sessions while its context is open: the most at one look."""

    def __init__(self, target: Target) -> None:
        self.all = self.reading = self.looks = 0
        self._target = target
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="sessions", daemon=True)

    def __enter__(self) -> _Sessions:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        with self._target.source() as connection, connection.cursor() as cursor:
            while not self._done.wait(_SECONDS_BETWEEN_LOOKS):
                cursor.execute(_SESSIONS)
                [(there, reading)] = cursor.fetchall()
                self.all, self.reading, self.looks = max(self.all, there), max(self.reading, reading), self.looks + 1
