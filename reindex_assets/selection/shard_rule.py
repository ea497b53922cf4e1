"""The shard of a row, by its time: the same rule in Python, in ClickHouse's SQL and in Postgres'.

What lives here: the rule, floor(epoch of the slice's time) mod the number of shards, as in the real-time writer
(`time.Unix() % shard_count`). What does not: the refusal to write where live rows contradict it (placement/guard.py), and cutting rows
by shard (reindex/rows.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from reindex_assets.model import MICROSECONDS

_Numbers = np.ndarray[Any, np.dtype[np.int64]]

_MICROSECONDS_A_DAY = 86_400 * MICROSECONDS


def shard_numbers(microseconds: _Numbers, shard_count: int) -> _Numbers:
    """The shard of each time. numpy's `//` and `%` floor like Python's, so times before 1970 map to 0..N-1 too.

    >>> shard_numbers(np.array([-1, 0, 5_999_999]), 4).tolist()
    [3, 0, 1]
    """
    shards: _Numbers = microseconds // MICROSECONDS % shard_count
    return shards


def shard_expression(shard_count: int) -> str:
    """The shard of a live row in ClickHouse. Integer arithmetic: a float loses microseconds after 2038."""
    microseconds = "toUnixTimestamp64Micro(scorecard_time)"
    seconds = f"intDiv({microseconds} - positiveModulo({microseconds}, 1000000), 1000000)"
    return f"positiveModulo({seconds}, {shard_count})"


def source_shard_expression(shard_count: int) -> str:
    """The shard of a row in Postgres (`{time}` as in selection/source_sql.py). A cast would round; `mod` keeps a negative sign."""
    seconds = "floor(extract(epoch FROM {time}))::bigint"
    return f"mod(mod({seconds}, {shard_count}) + {shard_count}, {shard_count})::int"


def shards_by_time(batch: pa.RecordBatch, shard_count: int) -> _Numbers:
    """The shard of each row, by its time."""
    return shard_numbers(microseconds_of(batch), shard_count)


def day_numbers(microseconds: _Numbers) -> _Numbers:
    """The UTC day of each time, as days since 1970."""
    days: _Numbers = microseconds // _MICROSECONDS_A_DAY
    return days


def microseconds_of(batch: pa.RecordBatch) -> _Numbers:
    """The time of each row, in microseconds since 1970."""
    times: _Numbers = batch.column("scorecard_time").cast(pa.int64()).to_numpy(zero_copy_only=False)
    return times
