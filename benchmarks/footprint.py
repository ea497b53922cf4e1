"""What runs leave behind: rows and bytes in Dagster's Postgres, parts in ClickHouse, bytes in the slice store.

Dagster's tables are measured after a backfill as wide as a fleet (one run for each day, over all customers): what Dagster stores for
a partition does not depend on its rows. Parts and slices are measured after one customer's replay. docs/scaling.md draws the conclusions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.backfill import dagster_on
from benchmarks.backfill_times import TableSize, dagster_storage
from benchmarks.bench import Bench
from benchmarks.data import Window, tiny_slices_plan
from benchmarks.figures import Figure, NotRun, Result
from benchmarks.product import reindex
from benchmarks.proof import prove, sizes
from benchmarks.sizes import TINY
from benchmarks.stacks import FLEET
from benchmarks.target import Target
from reindex_assets.config.default_tables import TABLES

NAME = "footprint"

#: As many customers as the seeds' fleet has (the tiny size has fewer), and one run for each day.
_CUSTOMERS, _DAYS = 95, 4


def run(bench: Bench) -> Iterator[Result]:
    if bench.size.window_customers:
        yield from _dagster(bench)
    else:
        yield NotRun(f"{NAME}.dagster", f"left out at the size {bench.size.name}")
    yield from _engines(bench)


def _dagster(bench: Bench) -> Iterator[Figure]:
    customers = bench.size.window_customers if bench.size is TINY else _CUSTOMERS
    days = min(_DAYS, bench.size.window_days)
    plan = tiny_slices_plan(replace(bench.size, window_customers=customers, window_days=days))
    window = Window.of(plan)
    with bench.stacks.ending():
        target = bench.stacks.filled(FLEET, plan, bench.size.shards)
        with dagster_on(target) as dagster, dagster_storage(target) as storage:
            before = storage.table_sizes()
            bench.say(f"a backfill over {window}")
            times = dagster.backfill(window).times
            after = storage.table_sizes()
        data = sizes(window, prove(target, window, "the backfill"), target.shard_count)
        with dagster_storage(target) as storage:
            storage.compact()
            packed = storage.table_sizes()
    each = f"of a partition, {times.partitions / times.runs:.0f} a run"
    for table in ("event_logs", "asset_check_executions"):
        rows = after[table].rows - before[table].rows
        yield Figure(f"{NAME}.dagster.{table}.rows", rows / times.partitions, "rows", f"rows of {table} {each}", data)
    for name, sizes_now, of in (
        ("at_once", after, "right after it, with dead rows"),
        ("packed", packed, "after VACUUM FULL, without dead rows"),
    ):
        grown = _grown(before, sizes_now)
        yield Figure(
            f"{NAME}.dagster.{name}.kb",
            sum(grown.values()) / 1e3 / times.partitions,
            "kB",
            f"bytes of all tables of Dagster {each}, {of}",
            data,
            detail=", ".join(
                f"{table} {size / 1e3 / times.partitions:.1f}" for table, size in grown.items() if size > 1e5
            ),
        )


def _grown(before: Mapping[str, TableSize], after: Mapping[str, TableSize]) -> dict[str, int]:
    grown = {table: size.bytes - before[table].bytes for table, size in after.items()}
    return dict(sorted(grown.items(), key=lambda item: -item[1]))


@dataclass(frozen=True)
class Parts:
    """Parts of the live tables on all shards: how many inserts have made, and how many are active now."""

    made: int
    active: int


def _engines(bench: Bench) -> Iterator[Figure]:
    target, window = bench.replay, bench.window()
    target.reset()
    bench.say(f"the replay: {window}")
    before = _parts(target)
    reindex(target, window)
    after = _parts(target)
    data = sizes(window, prove(target, window, "the replay"), target.shard_count)
    made = after.made - before.made
    yield Figure(
        f"{NAME}.clickhouse.parts",
        made / target.shard_count / len(list(TABLES)),
        "parts",
        "parts that inserts of one run made, of a table on a shard",
        data,
        detail=f"{made} in all; afterwards {after.active} parts are active, including merged ones",
    )
    files = [path.stat().st_size for path in Path(target.fleet.slices).rglob("*.parquet")]
    yield Figure(
        f"{NAME}.slices.bytes",
        sum(files) / bench.size.scorecards,
        "bytes",
        "bytes in the slice store, of a scorecard with its scores",
        data,
        detail=f"{len(files)} files, {sum(files) / 1e6:,.1f} MB",
    )


def _parts(target: Target) -> Parts:
    made, active = 0, 0
    names = ", ".join(f"'{table.name}'" for table in TABLES)
    with target.shards() as clients:
        for client in clients:
            client.command("SYSTEM FLUSH LOGS")
            where = f"database = currentDatabase() AND table IN ({names})"
            [(new,)] = client.query(
                f"SELECT count() FROM system.part_log WHERE {where} AND event_type = 'NewPart'"
            ).result_rows
            [(now,)] = client.query(f"SELECT count() FROM system.parts WHERE {where} AND active").result_rows
            made, active = made + int(new), active + int(now)
    return Parts(made, active)
