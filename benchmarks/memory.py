"""The peak memory of a run over 1, 10 and 51 days: of its process, of the shards and of Postgres. A run streams, so it must not grow.

Each window is a CLI call in a new process onto empty shards, checks included; the windows alternate. The run's peak is the kernel's
high-water mark of the process, read from outside; its ru_maxrss is given beside it. The shards and Postgres run on between the calls and
keep the memory that they have taken (caches, buffers), so their peaks can only rise: the first round shows what a window of its size
takes. Does not show: the daemon, or the memory of a run that the daemon launches (the same code, in a process like this).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Result
from benchmarks.first_load import first_loads
from benchmarks.measure import Measured

NAME = "memory"


def run(bench: Bench) -> Iterator[Result]:
    runs: dict[int, list[Measured]] = defaultdict(list)
    data: dict[int, str] = {}
    for load in first_loads(bench, bench.size.memory_days):
        runs[load.days].append(load.reindexed.measured)
        data[load.days] = load.data
    for days, measured in runs.items():
        yield Figure.median(
            f"{NAME}.run.{days}_days_mb",
            [run.run.peak_bytes / 1e6 for run in measured],
            "MB",
            "peak memory of the run's process",
            data[days],
            f"ru_maxrss {max(run.max_rss_bytes for run in measured) / 1e6:,.0f} MB",
        )
        for part, peaks_mb, of in (
            ("shard", [max(shard.peak_bytes for shard in run.shards) / 1e6 for run in measured], "the largest shard"),
            ("postgres", [run.postgres.peak_bytes / 1e6 for run in measured], "Postgres, with its shared buffers once"),
        ):
            yield Figure.median(f"{NAME}.{part}.{days}_days_mb", peaks_mb, "MB", f"peak memory of {of}", data[days])
        walls = [run.wall_seconds for run in measured]
        yield Figure.median(f"{NAME}.{days}_days_seconds", walls, "s", "the CLI call", data[days])
    largest, smallest = max(runs), min(runs)
    peaks = {days: [run.run.peak_bytes / 1e6 for run in measured] for days, measured in runs.items()}
    yield Figure(
        f"{NAME}.run.peak_mb",
        max(itertools.chain.from_iterable(peaks.values())),
        "MB",
        "the largest peak of a run's process, over all windows",
        data[largest],
    )
    growth = [max(peak) / min(peak) for peak in zip(*peaks.values(), strict=True)]
    yield Figure.median(
        f"{NAME}.run.growth",
        growth,
        "x",
        f"the largest of the windows' peaks, relative to the smallest: {', '.join(map(str, runs))} days",
        f"{data[smallest]}; to {data[largest]}",
    )
