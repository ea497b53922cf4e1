"""The plan of a backfill over the fleet, without any engine: windows, Dagster's backfills for them, tags, and time.

What lives here: what can be computed. What does not: real runs (end_to_end/test_fleet_backfill.py, defs/test_run_limits.py).
"""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from dagster import AssetKey
from dagster._core.definitions.automation_tick_evaluation_context import build_run_requests_with_backfill_policies
from dagster._core.definitions.events import AssetKeyPartitionKey
from hypothesis import given, settings
from hypothesis import strategies as st

from reindex_assets.backfill.forecast import Limits, PastRun, PlannedRun, expected_seconds, speed_of
from reindex_assets.backfill.plan import (
    batches,
    chosen_customers,
    days_of_window,
    plan_windows,
)
from reindex_assets.config.cluster import Cluster, Customer
from reindex_assets.config.engines import ClickHouse, Postgres, SecretRef, Shard
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.keys.names import asset_key
from reindex_assets.defs.keys.partitions import RANGE_END_TAG, RANGE_START_TAG
from reindex_assets.defs.keys.run_tags import limiting_tags
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import PROCESS, Slice, Step, days_between
from reindex_assets.selection.days import check_days, cut_range

FIRST = date(2026, 1, 1)
SECRET = SecretRef(env="UNUSED")


def made_cluster(database: str, *customers: str) -> Cluster:
    return Cluster(
        postgres=Postgres(host="postgres", database="app", user="reader", password=SECRET),
        clickhouse=ClickHouse(database=database, password=SECRET, shards=(Shard(host="shard"),)),
        customers={name: Customer() for name in customers},
    )


FLEET = Fleet(
    first_day=FIRST,
    clusters={
        "east": made_cluster("east", *(f"c{number}" for number in range(12))),
        "west": made_cluster("west", "hooli", "umbrella"),
    },
)
EAST, WEST = (FLEET.dataset(name, PROCESS) for name in FLEET.clusters)


def test_customers_are_named_in_one_way() -> None:
    assert chosen_customers(FLEET, [PROCESS], ["umbrella", "c3"], [], everyone=False) == {
        EAST: ["c3"],
        WEST: ["umbrella"],
    }
    assert chosen_customers(FLEET, [PROCESS], [], ["west"], everyone=False) == {WEST: ["hooli", "umbrella"]}
    assert [len(found) for found in chosen_customers(FLEET, [PROCESS], [], [], everyone=True).values()] == [12, 2]
    with pytest.raises(ConfigurationError, match="exactly one of"):
        chosen_customers(FLEET, [PROCESS], [], [], everyone=False)
    with pytest.raises(ConfigurationError, match="exactly one of"):
        chosen_customers(FLEET, [PROCESS], ["c1"], ["east"], everyone=False)
    with pytest.raises(ConfigurationError, match=r"unknown cluster 'north'.*east, west"):
        chosen_customers(FLEET, [PROCESS], [], ["north"], everyone=False)
    with pytest.raises(ConfigurationError, match="unknown customer 'c99'"):
        chosen_customers(FLEET, [PROCESS], ["c99"], [], everyone=False)


@pytest.mark.parametrize("text", ["0d", "", "10 days", "-1d", "1w"])
def test_a_window_is_a_number_of_days(text: str) -> None:
    with pytest.raises(ConfigurationError, match="10d"):
        days_of_window(text)


def test_days_without_a_partition_are_refused() -> None:
    today = date(2026, 2, 1)
    check_days(FLEET, FIRST, today, today)
    with pytest.raises(ConfigurationError, match="backwards"):
        check_days(FLEET, today, FIRST, today)
    with pytest.raises(ConfigurationError, match="first_day"):
        check_days(FLEET, FIRST - timedelta(days=1), today, today)
    with pytest.raises(ConfigurationError, match="today"):
        check_days(FLEET, FIRST, today + timedelta(days=1), today)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from(list(FLEET.clusters["east"].customers)), min_size=1, unique=True),
    st.integers(1, 12),
    st.integers(1, 10),
    st.sets(st.integers(0, 143)),
)
def test_dagster_makes_runs_of_one_customer_that_cover_what_is_left_exactly(
    customers: list[str], days: int, window_days: int, done: set[int]
) -> None:
    last = FIRST + timedelta(days=days - 1)
    everything = [Slice(customer, day) for customer in customers for day in days_between(FIRST, last)]
    left = {item for number, item in enumerate(everything) if number not in done}
    windows = plan_windows({EAST: customers}, cut_range(FIRST, last, window_days), lambda dataset, item: item in left)
    assert all((window.last_day - window.first_day).days < window_days for window in windows)
    found: list[Slice] = []
    graph = build_defs(FLEET).get_repository_def().asset_graph
    key = asset_key(EAST, Step.WRITE)
    for batch in batches(windows):
        # Dagster's own cutting of a backfill into runs.
        wanted = {AssetKeyPartitionKey(key, item.partition_key) for item in batch.slices}
        for request in build_run_requests_with_backfill_policies(wanted, graph, None):  # type: ignore[arg-type]
            start, end = Slice.of(request.tags[RANGE_START_TAG]), Slice.of(request.tags[RANGE_END_TAG])
            assert start.customer == end.customer
            found += [Slice(start.customer, day) for day in days_between(start.day, end.day)]
    assert sorted(found) == sorted(left)


def test_a_hundred_customers_take_few_of_dagsters_backfills() -> None:
    days = days_between(FIRST, FIRST + timedelta(days=59))
    windows = plan_windows(
        {EAST: [f"c{number}" for number in range(95)]}, cut_range(days[0], days[-1], 10), lambda *_: True
    )
    assert len(windows) == 95 * 6
    assert len(batches(windows)) == 11 * 6
    # The oldest days first, of every customer.
    assert [window.first_day for window in windows] == sorted(window.first_day for window in windows)


def test_speed_is_found_again_in_the_runs_that_it_made() -> None:
    past = [
        PastRun(slices, rows, 3.0 + 0.05 * slices + rows / 50_000)
        for slices, rows in ((1, 0), (10, 5_000), (10, 900_000), (51, 4_000_000), (95, 40_000))
    ]
    speed = speed_of(past)
    assert speed is not None
    assert speed.seconds(20, 100_000) == pytest.approx(3.0 + 1.0 + 2.0, rel=0.01)
    # One run says something too, and no cost is negative.
    [alone] = [speed_of(past[:1])]
    assert alone is not None
    assert min(alone.seconds_a_run, alone.seconds_a_slice, alone.seconds_a_row) >= 0
    assert alone.seconds(1, 0) == pytest.approx(3.05, rel=0.01)
    assert speed_of([]) is None


def test_the_expected_time_keeps_to_every_limit() -> None:
    work = [PlannedRun(cluster, f"{cluster}{number}", 10.0) for cluster in ("east", "west") for number in range(4)]
    assert expected_seconds(work, Limits()) == 10.0
    assert expected_seconds(work, Limits(runs=4)) == 20.0
    assert expected_seconds(work, Limits(runs=4, backfill_runs=2)) == 40.0
    assert expected_seconds(work, Limits(of_cluster=1)) == 40.0
    assert expected_seconds([PlannedRun("east", "c1", 10.0)] * 3, Limits(of_customer=1)) == 30.0
    assert expected_seconds(work, Limits(runs=0)) == float("inf")
    # A long one that begins late.
    assert expected_seconds([*work[:2], PlannedRun("east", "c9", 30.0)], Limits(runs=2)) == 40.0


WRITES = AssetKey(["east", PROCESS.name, Step.WRITE.value])
RANGE = {RANGE_START_TAG: "c1|2026-01-01", RANGE_END_TAG: "c1|2026-01-10"}


@pytest.mark.parametrize(
    ("tags", "assets", "found"),
    [
        (RANGE, [WRITES], {"cluster": "east", "kind": "process", "customer": "c1"}),
        (
            {**RANGE, "dagster/backfill": "abc"},
            [WRITES],
            {
                "cluster": "east",
                "kind": "process",
                "customer": "c1",
                "backfill_cluster": "east",
                "backfill_customer": "c1",
            },
        ),
        # Of several customers, and of several kinds.
        ({**RANGE, RANGE_END_TAG: "c2|2026-01-10"}, [WRITES], {"cluster": "east", "kind": "process"}),
        (
            RANGE,
            [WRITES, AssetKey(["east", "conversation", "shard_writes"])],
            {"cluster": "east", "kind": "all", "customer": "c1"},
        ),
        # Of a job, which says it itself.
        ({**RANGE, "cluster": "east", "kind": "process"}, [], {"customer": "c1"}),
        # Of several clusters, and of somebody else's assets.
        (RANGE, [WRITES, AssetKey(["west", "process", "shard_writes"])], {}),
        (RANGE, [AssetKey(["east", "marketing", "leads"])], {}),
    ],
)
def test_a_run_gets_the_tags_that_limits_are_about(
    tags: dict[str, str], assets: list[AssetKey], found: dict[str, str]
) -> None:
    assert limiting_tags(tags, assets) == found


def test_kinds_have_windows_of_their_own() -> None:
    datasets = {dataset: ["hooli"] for dataset in FLEET.datasets("west")}
    windows = plan_windows(datasets, cut_range(FIRST, FIRST, 10), lambda *_: True)
    assert [batch.dataset.kind.name for batch in batches(windows)] == ["process", "conversation"]
