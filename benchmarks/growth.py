"""How the time grows with about 1x, 4x and 16x the rows, and with 1, 2, 4 and 8 shards.

Rows: windows of the replay, each copied by one CLI call onto empty shards. More rows come from more days, as in production. A call takes
some seconds before its first row, which makes any growth look better than linear; so the bar judges the cost of a further row, from 4x to
16x relative to that from 1x to 4x. Linear growth gives 1.

Shards: the same rows (the 4x window) copied onto fleets of 1, 2, 4 and 8 shards. All their engines are on this machine, so more shards add
no processors: this shows what each further shard costs, not what it would gain. The sides alternate in each round.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.figures import Figure, NotRun, Result
from benchmarks.first_load import first_loads
from benchmarks.product import reindex
from benchmarks.proof import prove, sizes
from benchmarks.stacks import MORE_SHARDS, with_shards_of

NAME = "growth"


def run(bench: Bench) -> Iterator[Result]:
    yield from _rows(bench)
    yield from _shards(bench)


def _rows(bench: Bench) -> Iterator[Result]:
    seconds: dict[int, list[float]] = defaultdict(list)
    rows: dict[int, int] = {}
    data: dict[int, str] = {}
    for load in first_loads(bench, bench.size.growth_days):
        seconds[load.days].append(load.reindexed.measured.wall_seconds)
        rows[load.days], data[load.days] = load.rows, load.data
    least, middle, most = bench.size.growth_days
    for days in bench.size.growth_days:
        of = f"a CLI call over {rows[days] / rows[least]:.1f}x the rows"
        yield Figure.median(f"{NAME}.rows.{days}_days_seconds", seconds[days], "s", of, data[days])
    costs = {}
    for name, low, high in (("first", least, middle), ("further", middle, most)):
        further = (rows[high] - rows[low]) / 1e6
        costs[name] = [(more - less) / further for more, less in zip(seconds[high], seconds[low], strict=True)]
        yield Figure.median(
            f"{NAME}.rows.{name}_seconds_per_million",
            costs[name],
            "s",
            f"a million further rows, from {rows[low] / rows[least]:.1f}x to {rows[high] / rows[least]:.1f}x",
            data[high],
        )
    if min(costs["first"]) <= 0:
        yield NotRun(
            f"{NAME}.rows.linearity", "the times of 1x and 4x the rows are too close together to show their difference"
        )
        return
    ratios = [further / first for further, first in zip(costs["further"], costs["first"], strict=True)]
    yield Figure.median(
        f"{NAME}.rows.linearity",
        ratios,
        "x",
        "a further row's cost from 4x to 16x, relative to that from 1x to 4x",
        data[most],
    )


def _shards(bench: Bench) -> Iterator[Result]:
    counts = bench.size.shard_counts
    window = bench.window(bench.size.growth_days[1])
    bench.say(f"starting {max(counts)} more shards")
    seconds: dict[int, list[float]] = defaultdict(list)
    data: dict[int, str] = {}
    replay = bench.replay
    with bench.stacks.ending():
        shards = bench.stacks.new(MORE_SHARDS, bench.plan.customers, bench.plan.first_day, max(counts))
        for number in range(bench.size.rounds):
            for count in counts:
                bench.say(f"round {number + 1} of {bench.size.rounds}: {window}, {count} shards")
                # All of them: shards that this fleet doesn't use would go on merging the rows of an earlier fleet.
                shards.reset()
                target = with_shards_of(replay, shards, count)
                target.reset()
                seconds[count].append(reindex(target, window).measured.wall_seconds)
                data[count] = sizes(window, prove(target, window, f"the run onto {count} shards"), count)
    for count in counts:
        yield Figure.median(
            f"{NAME}.shards.{count}_seconds",
            seconds[count],
            "s",
            f"a CLI call onto {count} shard{'s' * (count > 1)}",
            data[count],
        )
    ratios = [last / first for last, first in zip(seconds[counts[-1]], seconds[counts[0]], strict=True)]
    yield Figure.median(
        f"{NAME}.shards.ratio",
        ratios,
        "x",
        f"the time with {counts[-1]} shards, relative to that with {counts[0]}",
        data[counts[-1]],
    )
