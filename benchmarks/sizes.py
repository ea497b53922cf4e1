"""The sizes of the suite: tiny, small and spirit.

What lives here: their numbers. What does not: the data (data.py).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """One size of the whole suite.

    Attributes:
        days, scorecards: the replay: one customer's process scorecards over these days.
        rounds: how often each side of a ratio is measured, in turns.
        backfills: backfills of the replay by the daemon, each with a minute of waiting for it; 0 leaves them out.
        seeds_scorecards: the sample for the seeds' algorithm.
        reladiff_days: the days that reladiff compares.
        window_customers, window_days: the backfill of tiny slices; 0 customers leave it out.
        memory_days: the windows for the memory, rising.
        growth_days: the windows for the growth in rows: about 1x, 4x and 16x.
        shard_counts: the numbers of shards for the growth in shards, rising.
    """

    name: str
    days: int
    scorecards: int
    rounds: int
    backfills: int
    seeds_scorecards: int
    reladiff_days: int
    window_customers: int
    window_days: int
    memory_days: tuple[int, ...]
    growth_days: tuple[int, ...]
    shard_counts: tuple[int, ...]
    shards: int = 4


#: Shows that everything works; its figures mean nothing, because they measure the start of processes.
TINY = Size("tiny", 4, 400, 1, 1, 100, 2, 3, 2, (1, 4), (1, 2, 4), (1, 2))
SMALL = Size("small", 16, 60_000, 3, 1, 500, 4, 12, 8, (1, 4, 16), (1, 4, 16), (1, 2, 4, 8))
#: The seeds' own replay: 51 days, 1,634,498 scorecards; and 95 customers x 51 days of tiny slices.
SPIRIT = Size("spirit", 51, 1_634_498, 2, 2, 2_000, 5, 95, 51, (1, 10, 51), (3, 12, 48), (1, 2, 4, 8))

SIZES = {size.name: size for size in (TINY, SMALL, SPIRIT)}
