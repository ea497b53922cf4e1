"""Placement is the same wherever it is computed: Arrow (the writer), ClickHouse (the checks), exact arithmetic (the truth).

What lives here: times that hypothesis chooses, asked of a real shard and of a real Postgres in batches, and the refusal of a fleet
file with other shards. What does not: batches of rows (reindex/test_rows.py).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import PlacementError
from reindex_assets.local.oracle.compare import assert_equal
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import Slice
from reindex_assets.selection.shard_rule import shard_expression, shards_by_time, source_shard_expression
from reindex_assets_tests.support.generated import EPOCH, MICROSECOND, batch_of, exact_shard, times
from reindex_assets_tests.support.hand_made_rows import add_scorecard, reindex, succeeded, with_clickhouse

pytestmark = pytest.mark.usefixtures("four_shards")

EDGES = [
    EPOCH + timedelta(seconds=seconds) + timedelta(microseconds=microseconds)
    for seconds in (-2_208_988_800, -86_401, -86_400, -5, -1, 0, 1, 3, 4, 2**31 - 1, 2**31, 2**32, 10_413_791_999)
    for microseconds in (0, 1, 499_999, 500_000, 500_001, 999_999)
]


# One query for hundreds of times: the base example is large on purpose, and shrinking it would take minutes.
@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.large_base_example,
        HealthCheck.data_too_large,
        HealthCheck.too_slow,
    ],
)
@given(st.lists(times, min_size=300, max_size=300), st.integers(1, 64))
def test_clickhouse_and_arrow_and_postgres_place_a_time_alike(
    shard_clients: list[Client], source: Connection, chosen: list[datetime], shard_count: int
) -> None:
    moments = [*EDGES, *chosen]
    microseconds = [(time - EPOCH) // MICROSECOND for time in moments]
    exact = [exact_shard(time, shard_count) for time in moments]
    days = [time.date() for time in moments]

    rows = (
        shard_clients[0]
        .query(
            f"""
            SELECT {shard_expression(shard_count)}, toDate32(scorecard_time)
            FROM
            (
                SELECT tupleElement(pair, 1) AS number, fromUnixTimestamp64Micro(tupleElement(pair, 2), 'UTC') AS scorecard_time
                FROM (SELECT arrayJoin(arrayZip({{numbers:Array(Int64)}}, {{times:Array(Int64)}})) AS pair)
            )
            ORDER BY number
            """,
            parameters={"numbers": list(range(len(moments))), "times": microseconds},
        )
        .result_rows
    )
    assert [shard for shard, _ in rows] == exact
    assert [day for _, day in rows] == days

    assert shards_by_time(batch_of([("acme", time) for time in moments]), shard_count).tolist() == exact

    with source.cursor() as cursor:
        cursor.execute(
            """
            SELECT floor(extract(epoch FROM moment) * 1000000)::bigint, (moment AT TIME ZONE 'UTC')::date,
                {}
            FROM unnest(%s::timestamptz[]) WITH ORDINALITY AS given (moment, number)
            ORDER BY number
            """.format(source_shard_expression(shard_count).format(time="moment")),
            ([time.isoformat() for time in moments],),
        )
        assert cursor.fetchall() == list(zip(microseconds, days, exact, strict=True))


@pytest.mark.usefixtures("clean")
def test_a_fleet_file_with_other_shards_than_the_rows_have_is_refused(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    item = Slice("acme", date(2026, 1, 5))
    noon = datetime(2026, 1, 5, 12, 0, 0, 500_000, UTC)
    for seconds in range(80):
        add_scorecard(source, noon + timedelta(seconds=seconds), scores=[{}])
    succeeded(reindex(fleet, [item]))
    # Without the shards' own records (placement/layout.py) the rows tell.
    for client in shard_clients:
        client.command("TRUNCATE TABLE reindex_layout")
    shards = fleet.clusters[CLUSTER].clickhouse.shards

    for wrong, words in ((shards[:3], "a list of 4 shards would explain 100%"), (shards[::-1], "in another order")):
        with pytest.raises(PlacementError, match=words):
            reindex(with_clickhouse(fleet, shards=wrong), [item])
        assert_equal(source, shard_clients, kind="process")
