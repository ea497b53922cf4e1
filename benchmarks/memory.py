"""Peak memory of a run over 1, 10 and 51 days: of its process, of the shards and of Postgres. A run streams, so it must not grow.

Each window is a CLI call in a fresh process onto empty shards, checks included; the windows alternate. The run's peak is the
kernel's own high-water mark of the process, read from outside; its ru_maxrss is given beside it. Shards and Postgres live on
between the runs and keep what they have once taken (caches, buffers), so theirs can only rise from the first run to the last: the
first round says what a window of its size takes. Does not show: the daemon, or the memory of a run that is launched by it (the
same code, in a process like this).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Result
from benchmarks.first_load import first_loads
from benchmarks.product import Reindexed

NAME = "memory"


def run(bench: Bench) -> Iterator[Result]:
    runs: dict[int, list[Reindexed]] = defaultdict(list)
    data: dict[int, str] = {}
    for load in first_loads(bench, bench.size.memory_days):
        runs[load.days].append(load.reindexed)
        data[load.days] = load.data
    for days, found in runs.items():
        measured = [one.measured for one in found]
        yield Figure.median(
            f"{NAME}.run.{days}_days_mb",
            [one.run.peak_bytes / 1e6 for one in measured],
            "MB",
            "peak memory of the run's process",
            data[days],
            f"ru_maxrss {max(one.max_rss_bytes for one in measured) / 1e6:,.0f} MB",
        )
        for part, taken in (
            ("shard", [max(shard.peak_bytes for shard in one.shards) / 1e6 for one in measured]),
            ("postgres", [one.postgres.peak_bytes / 1e6 for one in measured]),
        ):
            of = "the largest shard" if part == "shard" else "Postgres, what its processes share counted once"
            yield Figure.median(f"{NAME}.{part}.{days}_days_mb", taken, "MB", f"peak memory of {of}", data[days])
        walls = [one.measured.wall_seconds for one in found]
        yield Figure.median(f"{NAME}.{days}_days_seconds", walls, "s", "the CLI call", data[days])
    largest, smallest = max(runs), min(runs)
    peaks = {days: [one.measured.run.peak_bytes / 1e6 for one in found] for days, found in runs.items()}
    yield Figure(
        f"{NAME}.run.peak_mb",
        max(peak for found in peaks.values() for peak in found),
        "MB",
        "the largest peak of a run's process, over all windows",
        data[largest],
    )
    growth = [max(peak) / min(peak) for peak in zip(*peaks.values(), strict=True)]
    yield Figure.median(
        f"{NAME}.run.growth",
        growth,
        "x",
        f"the largest of the windows' peaks, of the smallest: {', '.join(map(str, runs))} days",
        f"{data[smallest]}; to {data[largest]}",
    )
