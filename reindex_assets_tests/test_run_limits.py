"""The limits of dagster.yaml: each meets the runs that it is meant for, and holds when a real daemon has more to do than it allows.

What lives here: tags, pools, and runs that wait in the queue. What does not: connections to Postgres (test_connection_slots.py), and what
runs do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter, build_schedule_context
from psycopg2.extensions import connection as Connection

from reindex_assets.asset_names import asset_key, job_name, op_name
from reindex_assets.definitions import build_defs
from reindex_assets.fleet import Customer, Fleet
from reindex_assets.launch import launch
from reindex_assets.local.layout import CLUSTER
from reindex_assets.model import Slice
from reindex_assets.partitions import range_tags
from reindex_assets.pipeline import Step
from reindex_assets.rectangles import Rectangle
from reindex_assets_tests.backfills import ask_for_backfill
from reindex_assets_tests.dagster_processes import DagsterProcesses, running_dagster
from reindex_assets_tests.hand_made_rows import add_scorecard
from reindex_assets_tests.repair_loop import RepairLoop

CLUSTER_TAG, BACKFILL_TAG = "cluster", "dagster/backfill"
OTHER = "voice-prod"
DAYS = [date(2026, 1, 5) + timedelta(days=number) for number in range(9)]
#: A run that finds a difference looks again after so long, and costs nothing meanwhile.
LOOK_AGAIN_SECONDS = 5
DRY_RUN = {"ops": {op_name(CLUSTER): {"config": {"dry_run": True, "settle_seconds": LOOK_AGAIN_SECONDS}}}}

_LAUNCH = """mutation($runs: [ExecutionParams!]!) { launchMultipleRuns(executionParamsList: $runs) {
    ... on LaunchMultipleRunsResult { launchMultipleRunsResult { __typename } } } }"""


@pytest.fixture
def two_clusters(fleet: Fleet) -> Fleet:
    """A fleet with a second cluster. Nothing connects to it."""
    other = fleet.clusters[CLUSTER].model_copy(update={"customers": {"umbrella": Customer()}})
    return fleet.model_copy(update={"clusters": {**fleet.clusters, OTHER: other}})


def limits_by_tag() -> dict[str, int]:
    """What dagster.yaml says."""
    document = yaml.safe_load((Path(__file__).parents[1] / "dagster.yaml").read_text(encoding="utf-8"))
    return {limit["key"]: limit["limit"] for limit in document["concurrency"]["runs"]["tag_concurrency_limits"]}


def until(done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.3)


# --- each limit meets its runs


def test_dagster_heeds_the_limits_that_the_file_says(instance: DagsterInstance) -> None:
    queue = instance.get_concurrency_config().run_queue_config
    assert queue is not None
    assert {limit["key"]: limit["limit"] for limit in queue.tag_concurrency_limits} == limits_by_tag()
    # A limit by a tag that no run has is no limit: whoever adds one shows here which runs it meets.
    assert set(limits_by_tag()) == {CLUSTER_TAG, BACKFILL_TAG}
    # Of each cluster, and of all backfills together.
    assert {limit["key"]: limit.get("value") for limit in queue.tag_concurrency_limits} == {
        CLUSTER_TAG: {"applyLimitPerUniqueValue": True},
        BACKFILL_TAG: None,
    }
    # Neither takes every slot.
    assert max(limits_by_tag().values()) < queue.max_concurrent_runs


def test_every_pool_of_the_assets_has_a_limit(instance: DagsterInstance, two_clusters: Fleet) -> None:
    # Dagster's own job of all assets among them: runs of a backfill, and of the button "Materialize", are runs of it.
    jobs = build_defs(two_clusters).get_repository_def().get_all_jobs()
    assert {pool for job in jobs for pool in job.graph.pools} == {f"clickhouse_{CLUSTER}", f"clickhouse_{OTHER}"}
    assert all(job.graph.pools for job in jobs)
    pools = instance.get_concurrency_config().pool_config
    assert pools.default_pool_limit is not None
    assert pools.default_pool_limit > 0


def test_runs_of_jobs_and_schedules_carry_their_cluster(instance: DagsterInstance, two_clusters: Fleet) -> None:
    definitions = build_defs(two_clusters)
    scheduled: dict[str, set[str]] = {CLUSTER: set(), OTHER: set()}
    for schedule in definitions.get_repository_def().schedule_defs:
        job = definitions.resolve_job_def(schedule.job_name)
        context = build_schedule_context(instance, scheduled_execution_time=datetime(2026, 3, 1, 2, 30, tzinfo=UTC))
        requests = schedule.evaluate_tick(context).run_requests
        assert requests
        for request in requests:
            # As the daemon puts them together.
            tags = {**job.run_tags, **request.tags}
            scheduled[tags[CLUSTER_TAG]].add(schedule.name)
    assert {name: len(schedules) for name, schedules in scheduled.items()} == {CLUSTER: 2, OTHER: 2}
    for job in definitions.get_repository_def().get_all_jobs():
        if not job.name.startswith("__"):
            assert job.run_tags[CLUSTER_TAG] in scheduled


@pytest.mark.usefixtures("clean")
def test_runs_that_the_repair_sensor_asks_for_carry_their_cluster(
    fleet: Fleet, instance: DagsterInstance, source: Connection
) -> None:
    now = datetime.now(UTC)
    add_scorecard(source, now - timedelta(days=1))
    hasty = fleet.watch.model_copy(update={"settle_seconds": 0.1})
    [request] = RepairLoop(fleet.model_copy(update={"watch": hasty}), instance).tick().requests
    assert request.tags[CLUSTER_TAG] == CLUSTER


@pytest.mark.usefixtures("clean")
def test_runs_of_the_command_line_carry_their_cluster(fleet: Fleet, instance: DagsterInstance) -> None:
    report = launch(fleet, instance, Rectangle(CLUSTER, ("globex",), DAYS[0], DAYS[0]), {"dry_run": True})
    run = instance.get_run_by_id(report.run_id)
    assert run is not None
    assert run.tags[CLUSTER_TAG] == CLUSTER


# --- each limit holds


@dataclass(frozen=True)
class Stay:
    """When a run was in progress, in epoch seconds: from when the queue let it go."""

    tags: Mapping[str, str]
    begin: float
    end: float


def most_at_once(stays: Sequence[Stay]) -> int:
    """
    >>> most_at_once([Stay({}, 0, 2), Stay({}, 1, 3), Stay({}, 2, 4)])
    2
    """
    return max(sum(one.begin <= moment.begin < one.end for one in stays) for moment in stays)


@pytest.mark.usefixtures("clean")
def test_a_daemon_with_more_to_do_keeps_to_every_limit(
    fleet: Fleet, instance: DagsterInstance, source: Connection, tmp_path: Path
) -> None:
    limits = limits_by_tag()
    queue = instance.get_concurrency_config().run_queue_config
    assert queue is not None
    for day in DAYS:
        for customer in ("acme", "globex"):
            add_scorecard(source, datetime(day.year, day.month, day.day, 12, tzinfo=UTC), customer=customer)
    # Before the daemon is up, which looks for backfills but every 30 s. Two runs each: one a customer.
    for days in (DAYS[:3], DAYS[3:6]):
        ask_for_backfill(
            instance,
            fleet,
            [Slice(customer, day) for customer in ("acme", "globex") for day in days],
            [asset_key(CLUSTER, step) for step in Step],
            DRY_RUN,
        )

    with running_dagster(tmp_path / "dagster.log", {}) as dagster:
        begun = RunsFilter(statuses=[DagsterRunStatus.STARTING, DagsterRunStatus.STARTED])
        until(lambda: instance.get_runs_count(begun) == limits[BACKFILL_TAG], 60)
        _launch(dagster, [Slice("acme", day) for day in DAYS[6:]])
        until(lambda: all(run.is_finished for run in instance.get_runs()), 120)

    stays = []
    for run in instance.get_runs():
        times = instance.get_run_stats(run.run_id)
        assert times.launch_time is not None
        assert times.end_time is not None
        stays.append(Stay(run.tags, times.launch_time, times.end_time))
    of_cluster = [stay for stay in stays if stay.tags.get(CLUSTER_TAG) == CLUSTER]
    of_backfills = [stay for stay in stays if BACKFILL_TAG in stay.tags]
    assert (len(of_cluster), len(of_backfills)) == (limits[CLUSTER_TAG] + 1, limits[BACKFILL_TAG] + 1)
    assert not [stay for stay in of_backfills if CLUSTER_TAG in stay.tags], "dagster.yaml says that they have none"
    assert most_at_once(of_cluster) == limits[CLUSTER_TAG]
    assert most_at_once(of_backfills) == limits[BACKFILL_TAG]
    assert most_at_once(stays) <= queue.max_concurrent_runs
    # Their pool was there as soon as they were, with the default limit.
    pools = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    assert pools[f"clickhouse_{CLUSTER}"] == instance.get_concurrency_config().pool_config.default_pool_limit


def _launch(dagster: DagsterProcesses, slices: Sequence[Slice]) -> None:
    """Queues a run of the cluster's job for each slice, as its page in the UI does; before the backfills' runs, like a repair."""

    def tags(item: Slice) -> dict[str, str]:
        return {**range_tags([item.customer], item.day, item.day), "dagster/priority": "10"}

    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "reindex_assets.definitions",
        "jobName": job_name(CLUSTER),
    }
    runs = [
        {
            "selector": selector,
            "runConfigData": DRY_RUN,
            "executionMetadata": {
                "tags": [{"key": key, "value": value} for key, value in tags(item).items()],
            },
        }
        for item in slices
    ]
    answer = dagster.ask(_LAUNCH, {"runs": runs})
    launched = answer["launchMultipleRuns"]["launchMultipleRunsResult"]
    assert [one["__typename"] for one in launched] == ["LaunchRunSuccess"] * len(slices)
