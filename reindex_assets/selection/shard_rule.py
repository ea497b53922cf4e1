"""Placement: on which shard a row stands, written once in each of the three languages, and the guard against a wrong fleet file.

What lives here: the rule, floor(epoch of the slice's time) mod the number of shards, as the real-time writer places it
(`time.Unix() % shard_count`), and the refusal to write where the live rows contradict it. What does not: cutting rows by shard
(reindex/rows.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from reindex_assets.model import MICROSECONDS

_Numbers = np.ndarray[Any, np.dtype[np.int64]]


def shard_numbers(microseconds: _Numbers, shard_count: int) -> _Numbers:
    """The shards of some times. numpy's `//` and `%` floor like Python's, so a time before 1970 has a shard in 0..N-1 too.

    >>> shard_numbers(np.array([-1, 0, 5_999_999]), 4).tolist()
    [3, 0, 1]
    """
    found: _Numbers = microseconds // MICROSECONDS % shard_count
    return found


def shard_expression(shard_count: int) -> str:
    """The shard of a live row in ClickHouse: integer arithmetic, as a float loses microseconds after 2038."""
    microseconds = "toUnixTimestamp64Micro(scorecard_time)"
    seconds = f"intDiv({microseconds} - positiveModulo({microseconds}, 1000000), 1000000)"
    return f"positiveModulo({seconds}, {shard_count})"


def source_shard_expression(shard_count: int) -> str:
    """The shard of a row in Postgres (`{time}` as in selection/source_sql.py): a cast would round, and `mod` of a negative number is
    negative."""
    seconds = "floor(extract(epoch FROM {time}))::bigint"
    return f"mod(mod({seconds}, {shard_count}) + {shard_count}, {shard_count})::int"


_MICROSECONDS_A_DAY = 86_400 * MICROSECONDS


def shards_by_time(batch: pa.RecordBatch, shard_count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The shards of rows by the rule of selection/shard_rule.py."""
    return shard_numbers(_microseconds(batch), shard_count)


def day_numbers(microseconds: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The UTC days of some times, as days since 1970."""
    days: np.ndarray[Any, np.dtype[np.int64]] = microseconds // _MICROSECONDS_A_DAY
    return days


def _microseconds(batch: pa.RecordBatch) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    times: np.ndarray[tuple[int], np.dtype[np.int64]] = (
        batch.column("scorecard_time").cast(pa.int64()).to_numpy(zero_copy_only=False)
    )
    return times
