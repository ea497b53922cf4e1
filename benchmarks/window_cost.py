"""What a nearly empty customer-day costs: 95 customers x 51 days, 4,845 partitions, in one backfill.

Each slice holds one to three scorecards, so nearly all of the time is overhead: the daemon's polling, the queue, the start of
processes, Dagster's events and their storage, a group's statements on both engines, the checks. The backfill is launched as the
UI launches it, onto empty shards; the time runs from the request until Dagster marks it as complete. The phases of a run are read from
its events (backfill_times.py). The fleet has only these customers, and begins on the backfill's first day: a fleet with years of
partitions was not measured.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.backfill import Backfill, dagster_on
from benchmarks.bench import Bench
from benchmarks.data import Window, tiny_slices_plan
from benchmarks.figures import Figure, NotRun, Result
from benchmarks.proof import prove, sizes
from benchmarks.stacks import WINDOW

NAME = "window_cost"


def run(bench: Bench) -> Iterator[Result]:
    if not bench.size.window_customers:
        yield NotRun(NAME, f"left out at the size {bench.size.name}")
        return
    plan = tiny_slices_plan(bench.size)
    window = Window.of(plan)
    bench.say(f"making the data of {len(window.slices):,} tiny slices")
    with bench.stacks.ending():
        target = bench.stacks.filled(WINDOW, plan, bench.size.shards)
        with dagster_on(target) as dagster:
            bench.say(f"a backfill over {len(window.slices):,} partitions")
            backfill = dagster.backfill(window)
        data = sizes(window, prove(target, window, "the backfill of tiny slices"), target.shard_count)
    yield from _figures(backfill, data)


def _figures(backfill: Backfill, data: str) -> Iterator[Figure]:
    times, measured = backfill.times, backfill.measured
    partitions = times.partitions
    yield Figure(
        f"{NAME}.seconds",
        times.seconds,
        "s",
        f"the backfill of {partitions:,} partitions, from the request until Dagster marks it as complete",
        data,
        detail=f"{times.runs} runs",
    )
    yield Figure(f"{NAME}.per_partition_ms", times.seconds / partitions * 1e3, "ms", "the same, of a partition", data)
    for name, seconds, of in (
        ("before_first_run", times.before_first_run, "until the daemon has polled and created the first run"),
        ("running", times.running, "from the creation of the first run to the end of the last one"),
        ("after_last_run", times.after_last_run, "until the daemon has polled again and marked it as complete"),
    ):
        yield Figure(f"{NAME}.{name}_seconds", seconds, "s", of, data)
    for phase, seconds in times.phases.items():
        yield Figure(
            f"{NAME}.phase.{phase}",
            seconds,
            "s",
            f"of a run's {times.run_seconds:.1f} s, on average: {phase.replace('_', ' ')}",
            data,
            detail=f"{partitions / times.runs:.0f} partitions a run, {times.runs} runs, some of them in parallel",
        )
    yield Figure(
        f"{NAME}.events_per_partition",
        times.events / partitions,
        "events",
        "Dagster events stored for a partition",
        data,
        detail=f"{times.events:,} in all, {times.check_verdicts:,} of them verdicts of checks",
    )
    yield Figure(
        f"{NAME}.storage_ms_per_partition",
        times.storage.seconds / partitions * 1e3,
        "ms",
        "Postgres' time for the statements of Dagster's storage, for a partition (all connections, added up)",
        data,
        detail=f"{times.storage.seconds:.1f} s, {times.storage.transactions:,} transactions, {times.storage.connections:,} connections",
    )
    for part, used in (
        ("dagster", measured.run.cpu_seconds),
        ("postgres", measured.postgres.cpu_seconds),
        ("shards", sum(shard.cpu_seconds for shard in measured.shards)),
    ):
        yield Figure(
            f"{NAME}.cpu_ms_per_partition.{part}",
            used / partitions * 1e3,
            "ms",
            f"processor time of {part}, for a partition",
            data,
        )
    yield Figure(
        f"{NAME}.peak_mb.dagster", measured.run.peak_bytes / 1e6, "MB", "peak memory of Dagster's largest process", data
    )
