"""The seeds' replay, from Postgres to verified shards, by one CLI call and by a Dagster asset backfill, compared with a raw read.

One customer's 51 days (1,634,498 process scorecards with 3 scores each, among appeals and conversations that don't belong in ClickHouse)
are copied to four empty shards by the real assets in a real Dagster instance, checks included. The time of the CLI call runs from the
start of its process to its end. That of the backfill runs from the request until Dagster marks it as complete, and includes two polls of
the daemon, each up to 30 s (a constant of Dagster's).

The raw read streams the same rows with the same query over one connection and drops them: no copy out of this Postgres over one
connection can be faster. It alternates with the call. Does not show: a network between the engines, slower disks, or cold caches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.backfill import Backfill, dagster_on
from benchmarks.bench import Bench
from benchmarks.figures import Figure, NotRun, Result, WrongRunError
from benchmarks.measure import Measured
from benchmarks.product import reindex
from benchmarks.proof import Rows, prove, sizes, total
from benchmarks.raw_read import raw_read

NAME = "spirit_replay"


def run(bench: Bench) -> Iterator[Result]:
    target, window = bench.replay, bench.window()
    calls, reads, shares = [], [], []
    rows: Rows = Rows()
    for number in range(bench.size.rounds):
        bench.say(f"round {number + 1} of {bench.size.rounds}: raw read")
        read = raw_read(target, window)
        target.reset()
        bench.say(f"round {number + 1} of {bench.size.rounds}: CLI call")
        call = reindex(target, window)
        rows = prove(target, window, "the replay by the CLI")
        if read.rows != total(rows):
            raise WrongRunError(f"the raw read has read {read.rows:,} of {total(rows):,} rows")
        calls.append(call)
        reads.append(read.rows / read.seconds)
        shares.append(total(rows) / call.measured.wall_seconds / reads[-1])
    data = sizes(window, rows, target.shard_count)

    walls = [call.measured.wall_seconds for call in calls]
    yield Figure.median(f"{NAME}.cli.seconds", walls, "s", "one CLI call, checks included", data)
    yield Figure.median(
        f"{NAME}.cli.run_seconds",
        [call.run_seconds for call in calls],
        "s",
        "the run within the call, without the start of Python and Dagster",
        data,
    )
    yield Figure.median(
        f"{NAME}.cli.rows_per_second", [total(rows) / wall for wall in walls], "rows/s", "the whole CLI call", data
    )
    yield from _taken(f"{NAME}.cli", [call.measured for call in calls], data)
    yield Figure.median(
        f"{NAME}.raw_read.rows_per_second", reads, "rows/s", "the raw read of the same rows, over one connection", data
    )
    yield Figure.median(
        f"{NAME}.share_of_raw_read", shares, "x", "the CLI call's rate, relative to the raw read's", data
    )

    if not bench.size.backfills:
        yield NotRun(f"{NAME}.backfill", f"left out at the size {bench.size.name}")
        return
    with dagster_on(target) as dagster:
        backfills = []
        for number in range(bench.size.backfills):
            bench.say(f"backfill {number + 1} of {bench.size.backfills}")
            target.reset()
            backfills.append(dagster.backfill(window))
            prove(target, window, "the replay by a backfill")
    yield from _backfill_figures(backfills, data)


def _backfill_figures(backfills: Sequence[Backfill], data: str) -> Iterator[Figure]:
    times = [backfill.times for backfill in backfills]
    parts = ", ".join(f"{phase.replace('_', ' ')} {seconds:.1f} s" for phase, seconds in times[-1].phases.items())
    yield Figure.median(
        f"{NAME}.backfill.seconds",
        [backfill.seconds for backfill in times],
        "s",
        "a backfill, from the request until Dagster marks it as complete",
        data,
        f"the last one: {times[-1].before_first_run:.1f} s until the daemon had polled and created a run, "
        f"{times[-1].after_last_run:.1f} s until it polled again; a run: {parts}",
    )
    yield Figure.median(
        f"{NAME}.backfill.running_seconds",
        [backfill.running for backfill in times],
        "s",
        f"its {times[-1].runs} run(s), from the creation of the first to the end of the last",
        data,
    )
    yield from _taken(f"{NAME}.backfill", [backfill.measured for backfill in backfills], data)


def _taken(name: str, runs: Sequence[Measured], data: str) -> Iterator[Figure]:
    """The processor time and memory of runs."""
    of_run = "the run's process" if name.endswith("cli") else "Dagster's processes (peak: of the largest)"
    for part, of, used in (
        ("run", of_run, [run.run for run in runs]),
        ("postgres", "Postgres: the source, and Dagster's storage", [run.postgres for run in runs]),
    ):
        cpu = [process.cpu_seconds for process in used]
        yield Figure.median(f"{name}.cpu_seconds.{part}", cpu, "s", f"processor time of {of}", data)
        peaks = [process.peak_bytes / 1e6 for process in used]
        yield Figure.median(f"{name}.peak_mb.{part}", peaks, "MB", f"peak memory of {of}", data)
    cpu = [sum(shard.cpu_seconds for shard in run.shards) for run in runs]
    yield Figure.median(f"{name}.cpu_seconds.shards", cpu, "s", "processor time of all shards", data)
    peaks = [max(shard.peak_bytes for shard in run.shards) / 1e6 for run in runs]
    yield Figure.median(f"{name}.peak_mb.shards", peaks, "MB", "peak memory of the largest shard", data)
