"""What the comparison costs over the replay at the depths counts, fingerprint and rows, in seconds per million scores.

It calls the library's `verify`, as 'reindex-assets verify' does, on equal data, at each depth in turn, in a running process. The depth
`rows` reads single rows only where sums differ, so it is measured once more with one wrong scorecard planted on every day: then each day's
rows are compared one by one, and the comparison must find exactly the planted rows. It runs without the pause in which a real call lets
rows in flight arrive.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.data import Window
from benchmarks.figures import Figure, Result, WrongRunError
from benchmarks.product import reindex
from benchmarks.proof import prove, rows_in_clickhouse, sizes, total, verify_window
from benchmarks.target import Target
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.verification import Depth, Verification
from reindex_assets.config.default_tables import SCORE
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS

NAME = "verify"


def run(bench: Bench) -> Iterator[Result]:
    target, window = bench.replay, bench.window()
    bench.say("loading the rows to compare")
    target.reset()
    reindex(target, window)
    rows = prove(target, window, "the load to compare")
    millions = total(rows, SCORE.name) / 1e6
    data = sizes(window, rows, target.shard_count)
    seconds: dict[str, list[float]] = defaultdict(list)
    for number in range(bench.size.rounds):
        for depth in Depth:
            bench.say(f"round {number + 1} of {bench.size.rounds}: verify --depth {depth.value}")
            verification, taken = _timed(target, window, depth)
            if not verification.agrees:
                raise WrongRunError(
                    f"verify --depth {depth.value} finds differences where there are none: {verification.sentence}"
                )
            seconds[depth.value if depth is not Depth.ROWS else "rows_equal"].append(taken)
        bench.say(f"round {number + 1} of {bench.size.rounds}: the sums alone")
        begun = time.perf_counter()
        with Comparison(target.fleet.dataset(CLUSTER, PROCESS)) as comparison:
            parities = comparison.sums(window.slices)
        seconds["sums"].append(time.perf_counter() - begun)
        if not all(parity.sums_agree for parity in parities):
            raise WrongRunError("the sums differ where the rows are equal")

    bench.say("planting a wrong scorecard on every day")
    before = total(rows_in_clickhouse(target, final=False))
    with target.shards() as clients:
        for customer in window.customers:
            for day in window.days:
                plant(Drift.EXTRA, clients, customer, day, count=1, seed=1, kind=PROCESS)
    planted = total(rows_in_clickhouse(target, final=False)) - before
    for number in range(bench.size.rounds):
        bench.say(f"round {number + 1} of {bench.size.rounds}: every row of every day")
        verification, taken = _timed(target, window, Depth.ROWS)
        differing = sum(day.differing_rows for day in verification.days)
        if len(verification.different) != len(window.slices) or differing != planted:
            raise WrongRunError(
                f"verify --depth rows finds {differing:,} rows on {len(verification.different)} days, and {planted:,} were planted "
                f"on {len(window.slices)}"
            )
        seconds["rows"].append(taken)
    for name, of in (
        ("counts", "verify --depth counts"),
        ("sums", "the sums of digests alone, as the checks of a run compare them"),
        ("fingerprint", "verify --depth fingerprint"),
        ("rows_equal", "verify --depth rows, where nothing differs"),
        (
            "rows",
            "verify --depth rows, with one wrong scorecard on every day, so that all rows are compared one by one",
        ),
    ):
        yield Figure.median(f"{NAME}.{name}.seconds", seconds[name], "s", of, data)
        yield Figure.median(
            f"{NAME}.{name}.seconds_per_million_scores",
            [taken / millions for taken in seconds[name]],
            "s",
            f"{of}: a million scores with their scorecards",
            data,
        )


def _timed(target: Target, window: Window, depth: Depth) -> tuple[Verification, float]:
    begun = time.perf_counter()
    verification = verify_window(target.fleet, window, depth)
    return verification, time.perf_counter() - begun
