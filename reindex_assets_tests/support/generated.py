"""Slices, times and rows that hypothesis chooses, and where each row belongs in exact arithmetic.

What lives here: strategies that several files share, over a fleet of one cluster. What does not: tests.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import pyarrow as pa
from hypothesis import strategies as st

from reindex_assets.config.cluster import Cluster, Customer
from reindex_assets.config.engines import ClickHouse, Postgres, SecretRef, Shard
from reindex_assets.config.fleet import Fleet
from reindex_assets.model import PROCESS, Slice

NAMES = [f"customer-{letter}" for letter in "abcdefg"]
FIRST_DAY = date(2026, 1, 1)
SECRET = SecretRef(env="UNUSED")
CLUSTER = Cluster(
    postgres=Postgres(host="db", database="app", user="reader", password=SECRET),
    clickhouse=ClickHouse(password=SECRET, shards=(Shard(host="shard"),)),
    customers={name: Customer() for name in NAMES},
)
FLEET = Fleet(first_day=FIRST_DAY, clusters={"here": CLUSTER})
DATASET = FLEET.dataset("here", PROCESS)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
days = st.integers(0, 60).map(lambda offset: FIRST_DAY + timedelta(days=offset))
slices = st.builds(Slice, st.sampled_from(NAMES), days)
times = st.datetimes(datetime(1900, 1, 1), datetime(2299, 12, 31, 23, 59, 59, 999_999), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds
shard_counts = st.integers(1, 64)


def batch_of(rows: list[tuple[str, datetime]]) -> pa.RecordBatch:
    """Rows as far as placement looks at them, each with a number of its own."""
    return pa.RecordBatch.from_arrays(
        [
            pa.array([customer for customer, _ in rows], pa.string()),
            pa.array([(time - EPOCH) // MICROSECOND for _, time in rows], pa.int64()).cast(pa.timestamp("us", "UTC")),
            pa.array(range(len(rows)), pa.int64()),
        ],
        names=["customer", "scorecard_time", "number"],
    )


def exact_shard(time: datetime, shard_count: int) -> int:
    """floor(epoch) mod N in exact arithmetic."""
    seconds = math.floor(Fraction((time - EPOCH) // MICROSECOND, 1_000_000))
    return seconds - shard_count * math.floor(Fraction(seconds, shard_count))


rows_lists = st.lists(st.tuples(st.sampled_from(NAMES), times), min_size=1, max_size=60)
