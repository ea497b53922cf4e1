"""What the fleet file's limits allow: connections to Postgres at once, and rows per second of a stream.

Six comparisons begin at the same moment, with a limit of two connections. Twenty times a second Postgres is asked how many sessions of
this project read, and how many there are altogether (a comparison that waits connects for a moment every few seconds to ask for a
connection). Then the extract of a few days is read with a limit and without, in turns.
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
from benchmarks.proof import prove, sizes, verify_window
from benchmarks.raw_read import Moved
from benchmarks.target import Target, with_limits
from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS
from reindex_assets.postgres.extract import read_rows
from reindex_assets.postgres.join_plan import group_snapshot
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import group_slices

NAME = "limits"

CONNECTIONS = 2
COMPARISONS = 6
_POLL_SECONDS = 0.05
#: How long the limited stream takes at least.
_STREAM_SECONDS = 5.0
_DAYS = 3

#: Sessions of this project, without Postgres' parallel workers. A session that reads has a transaction older than the question for a free
#: connection takes.
_SESSIONS = """\
SELECT count(*), count(*) FILTER (WHERE xact_start < clock_timestamp() - interval '100 ms')
FROM pg_stat_activity
WHERE backend_type = 'client backend' AND datname = current_database() AND application_name LIKE 'reindex_assets%'"""


def run(bench: Bench) -> Iterator[Result]:
    target, window = bench.replay, bench.window(min(_DAYS, bench.size.days))
    target.reset()
    bench.say("loading the rows to compare")
    reindex(target, window)
    data = sizes(window, prove(target, window, "the load to compare"), target.shard_count)

    bench.say(f"{COMPARISONS} comparisons at once, with {CONNECTIONS} connections")
    fleet = with_limits(target.fleet, max_connections=CONNECTIONS, connection_wait_seconds=600)
    with _Sessions(target) as sessions, ThreadPoolExecutor(COMPARISONS) as pool:
        begun = time.perf_counter()
        agree = list(pool.map(lambda _: verify_window(fleet, window).agrees, range(COMPARISONS)))
        seconds = time.perf_counter() - begun
    if not all(agree):
        raise WrongRunError("a comparison that waited for its connection found a difference")
    of = f"{COMPARISONS} comparisons that begin at once, max_connections {CONNECTIONS}"
    yield Figure(
        f"{NAME}.connections.reading", sessions.reading, "sessions", f"{of}: sessions that read, at most", data
    )
    yield Figure(
        f"{NAME}.connections.of_limit",
        sessions.reading / CONNECTIONS,
        "x",
        f"{of}: the same, relative to the limit",
        data,
    )
    yield Figure(
        f"{NAME}.connections.all",
        sessions.all,
        "sessions",
        f"{of}: sessions at any moment, with those that ask for a connection",
        data,
        detail=f"{sessions.samples:,} samples in {seconds:.1f} s",
    )

    free: list[Moved] = []
    limited: list[Moved] = []
    rate = 0
    for number in range(bench.size.rounds):
        bench.say(f"round {number + 1} of {bench.size.rounds}: the extract, without a limit and with one")
        free.append(_extract(target.fleet, window))
        rate = max(1, round(free[-1].rows / _STREAM_SECONDS))
        limited.append(_extract(with_limits(target.fleet, max_rows_per_second=rate), window))
    for name, streams, of in (
        ("free", free, "the extract without a limit"),
        ("limited", limited, f"the extract with max_rows_per_second {rate:,}"),
    ):
        rates = [moved.rows / moved.seconds for moved in streams]
        yield Figure.median(f"{NAME}.rate.{name}.rows_per_second", rates, "rows/s", of, data)
    shares = [moved.rows / moved.seconds / rate for moved in limited]
    yield Figure.median(f"{NAME}.rate.of_limit", shares, "x", "the limited extract's rate, relative to its limit", data)


def _extract(fleet: Fleet, window: Window) -> Moved:
    """Reads a window's rows as a run does, and drops them."""
    dataset = fleet.dataset(CLUSTER, PROCESS)
    begun, rows = time.perf_counter(), 0
    with SourceSession(dataset.cluster.postgres) as session:
        for group in group_slices(window.slices, dataset, {}, 1, max_slices=len(window.slices)):
            with group_snapshot(session, group):
                rows += sum(batch.num_rows for table in TABLES for batch in read_rows(session, table, group))
    return Moved(rows, time.perf_counter() - begun)


class _Sessions:
    """Counts this project's sessions while its context is open, and keeps the largest numbers."""

    def __init__(self, target: Target) -> None:
        self.all = self.reading = self.samples = 0
        self._target = target
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="sessions", daemon=True)

    def __enter__(self) -> _Sessions:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        with self._target.source() as connection, connection.cursor() as cursor:
            while not self._done.wait(_POLL_SECONDS):
                cursor.execute(_SESSIONS)
                [(connected, reading)] = cursor.fetchall()
                self.all, self.reading = max(self.all, connected), max(self.reading, reading)
                self.samples += 1
