"""One and two Celery workers: a fleet's backfill with a real broker and separate worker processes, all on this machine.

Two cores can't show what a second machine would gain: Postgres, the shards, Dagster and the workers share them, and one worker keeps both
busy. So the backfill is measured twice: at full speed, and with a limit of rows per second on each run's connection, like a remote
Postgres that must be read gently. Then the runs mostly wait, and the figures show whether workers work in parallel. The time runs from the
creation of the first run to the end of the last one, without the daemon's polling.
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

#: Of each run's connection; it makes a run take at least three times as long.
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
        target = bench.stacks.filled(FLEET, plan, bench.size.shards)
        for name, measured, of in (
            ("free", target, "at full speed"),
            ("limited", with_rate(target, ROWS_PER_SECOND), f"each run limited to {ROWS_PER_SECOND:,} rows per second"),
        ):
            backfills: list[Backfill] = []
            for count in range(1, len(_NAMES) + 1):
                bench.say(f"a backfill over {window}, {of}: {count} of {len(_NAMES)} workers")
                backfills.append(_backfill(measured, window, count))
                data = sizes(window, prove(measured, window, f"the backfill by {count} workers"), target.shard_count)
            yield from _figures(name, of, backfills, data)


def _backfill(target: Target, window: Window, count: int) -> Backfill:
    """One backfill onto empty shards, with `count` workers of one run each."""
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


def _figures(name: str, of: str, backfills: list[Backfill], data: str) -> Iterator[Figure]:
    for count, backfill in enumerate(backfills, 1):
        times = backfill.times
        workers = f"{count} worker{'s' if count > 1 else ''}"
        yield Figure(
            f"{NAME}.{name}.{count}.seconds",
            times.running,
            "s",
            f"the backfill by {workers}, {of}",
            data,
            detail=f"{times.runs} runs, {times.run_seconds:.1f} s each on average, from their creation",
        )
        yield Figure(
            f"{NAME}.{name}.{count}.runs_per_minute",
            times.runs / times.running * 60,
            "runs/min",
            f"the same, {workers}",
            data,
        )
    alone, together = (backfill.times.running for backfill in backfills)
    yield Figure(f"{NAME}.{name}.gain", alone / together, "x", f"the speed of two workers, relative to one, {of}", data)
