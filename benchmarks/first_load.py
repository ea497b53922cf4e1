"""First loads of empty shards over several windows in turn, for memory and growth.

What lives here: the rounds, and the proof of each load. What does not: the figures (memory.py, growth.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.product import Reindexed, reindex
from benchmarks.proof import prove, sizes, total


@dataclass(frozen=True)
class FirstLoad:
    """One proven load over the replay's first `days`; `data` describes its size."""

    days: int
    reindexed: Reindexed
    rows: int
    data: str


def first_loads(bench: Bench, windows: Sequence[int]) -> Iterator[FirstLoad]:
    """In each round, a load over each window (in days)."""
    target = bench.replay
    for number in range(bench.size.rounds):
        for days in windows:
            window = bench.window(days)
            bench.say(f"round {number + 1} of {bench.size.rounds}: {window}")
            target.reset()
            reindexed = reindex(target, window)
            rows = prove(target, window, f"the run over {window}")
            yield FirstLoad(days, reindexed, total(rows), sizes(window, rows, target.shard_count))
