"""One and two Celery workers: a fleet's backfill by a real broker and workers that are processes of their own, all on this machine.

Two cores can't show what two machines are worth: Postgres, the shards, Dagster and the workers share them, and one worker alone keeps
both busy. So the backfill is measured twice: as fast as it goes, and with a limit of rows per second on each run's connection, as a
Postgres elsewhere that is read with care. Then runs wait, and what is left is whether workers work side by side. The time runs from the
creation of the first run to the end of the last one, without the daemon's looks.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.backfill import Backfill, dagster_on
from benchmarks.bench import Bench
from benchmarks.data import Window, fleet_plan
from benchmarks.figures import Figure, NotRun, Result
from benchmarks.proof import prove, sizes
from benchmarks.stacks import DAGSTER_LOG, FLEET, with_rate
from benchmarks.target import Target

NAME = "workers"

#: Of each run's connection: with it a run takes three times as long as without, or more.
ROWS_PER_SECOND = 2_000
_NAMES = ("one", "two")


def run(bench: Bench) -> Iterator[Result]:
    try:
        from reindex_assets_tests.support.celery_processes import redis_is_missing
    except ImportError as error:
        yield NotRun(NAME, f"{error}: install the extra [celery]")
        return
    if missing := redis_is_missing():
        yield NotRun(NAME, missing)
        return
    plan = fleet_plan(bench.size)
    window = Window.of(plan)
    bench.say(f"making the data of {window}")
    with bench.stacks.ending():
        target, _ = bench.stacks.filled(FLEET, plan, bench.size.shards)
        for name, measured, of in (
            ("free", target, "as fast as it goes"),
            ("limited", with_rate(target, ROWS_PER_SECOND), f"each run limited to {ROWS_PER_SECOND:,} rows per second"),
        ):
            found: list[Backfill] = []
            for count in range(1, len(_NAMES) + 1):
                bench.say(f"a backfill over {window}, {of}: {count} of {len(_NAMES)} workers")
                found.append(_backfill(measured, window, count))
                data = sizes(window, prove(measured, window, f"the backfill by {count} workers"), target.shard_count)
            yield from _figures(name, of, found, data)


def _backfill(target: Target, window: Window, count: int) -> Backfill:
    """One backfill over empty shards, by so many workers of one run each."""
    from reindex_assets_tests.support.celery_processes import celery_home, running_redis, running_workers

    target.reset()
    home = Path(tempfile.mkdtemp(prefix="celery-"))
    try:
        with running_redis(home) as url:
            environment = {**target.environment, **celery_home(home / "home", url)}
            log = target.fleet_path.with_name(DAGSTER_LOG)
            with (
                running_workers(url, home / log.name, environment, _NAMES[:count]) as workers,
                dagster_on(replace(target, environment=environment)) as dagster,
            ):
                workers.wait()
                return dagster.backfill(window)
    finally:
        shutil.rmtree(home)


def _figures(name: str, of: str, found: list[Backfill], data: str) -> Iterator[Figure]:
    for count, backfill in enumerate(found, 1):
        times = backfill.times
        workers = f"{count} worker{'s' if count > 1 else ''}"
        yield Figure(
            f"{NAME}.{name}.{count}.seconds",
            times.running,
            "s",
            f"the backfill by {workers}, {of}",
            data,
            detail=f"{times.runs} runs, {times.run_seconds:.1f} s each on average, from their creation on",
        )
        yield Figure(
            f"{NAME}.{name}.{count}.runs_per_minute",
            times.runs / times.running * 60,
            "runs/min",
            f"the same, {workers}",
            data,
        )
    one, two = (backfill.times.running for backfill in found)
    yield Figure(f"{NAME}.{name}.gain", one / two, "x", f"two workers, of one, {of}", data)
