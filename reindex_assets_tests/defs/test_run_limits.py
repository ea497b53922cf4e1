"""The limits of dagster.yaml: each meets the runs that it is meant for, and holds when a real daemon has more to do than it allows.

What lives here: tags, pools, and runs that wait in the queue. What does not: connections to Postgres
(postgres/test_connection_slots.py), and what runs do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from clickhouse_connect.driver.client import Client
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter, build_schedule_context
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse.schema import apply_schema
from reindex_assets.config.cluster import Customer
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.keys.names import job_name
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.defs.keys.run_tags import (
    BACKFILL_CLUSTER_TAG,
    BACKFILL_CUSTOMER_TAG,
    BACKFILL_ID_TAG,
    CLUSTER_TAG,
    CUSTOMER_TAG,
)
from reindex_assets.defs.runs.backfill_launch import BackfillRequest, launch_backfill, plan_backfill
from reindex_assets.defs.runs.launch import launch
from reindex_assets.local.stack.dagster_processes import DagsterProcesses, running_dagster
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets.selection.rectangles import Rectangle
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.hand_made_rows import add_scorecard, with_clickhouse
from reindex_assets_tests.support.holding import nobody_reads
from reindex_assets_tests.support.repair_loop import RepairLoop
from reindex_assets_tests.support.waiting import until

OTHER = "voice-prod"
_DATABASE = "voice_prod"
POOL = f"clickhouse_{CLUSTER}"
DAYS = [date(2026, 1, 5) + timedelta(days=number) for number in range(9)]
_LAUNCH = """mutation($runs: [ExecutionParams!]!) { launchMultipleRuns(executionParamsList: $runs) {
    ... on LaunchMultipleRunsResult { launchMultipleRunsResult { __typename } } } }"""


@pytest.fixture
def two_clusters(fleet: Fleet, shard_clients: list[Client]) -> Iterator[Fleet]:
    """A fleet with a second cluster, of other customers in a database of its own on the same engines."""
    other = with_clickhouse(fleet, database=_DATABASE).clusters[CLUSTER]
    other = other.model_copy(update={"customers": {"hooli": Customer(), "umbrella": Customer()}})
    for client in shard_clients:
        client.command(f"DROP DATABASE IF EXISTS {_DATABASE} SYNC")
        client.command(f"CREATE DATABASE {_DATABASE}")
    apply_schema(other)
    yield fleet.model_copy(update={"clusters": {**fleet.clusters, OTHER: other}})
    for client in shard_clients:
        client.command(f"DROP DATABASE {_DATABASE} SYNC")


#: Tags of which each value has a limit of its own.
EACH = (CLUSTER_TAG, CUSTOMER_TAG, BACKFILL_CLUSTER_TAG, BACKFILL_CUSTOMER_TAG)


def limits_by_tag() -> dict[str, int]:
    """What dagster.yaml says."""
    document = yaml.safe_load((Path(__file__).parents[2] / "dagster.yaml").read_text(encoding="utf-8"))
    return {limit["key"]: limit["limit"] for limit in document["concurrency"]["runs"]["tag_concurrency_limits"]}


# --- each limit meets its runs


def test_dagster_heeds_the_limits_that_the_file_says(instance: DagsterInstance) -> None:
    queue = instance.get_concurrency_config().run_queue_config
    assert queue is not None
    assert {limit["key"]: limit["limit"] for limit in queue.tag_concurrency_limits} == limits_by_tag()
    # A limit by a tag that no run has is no limit: whoever adds one shows below which runs it meets.
    assert set(limits_by_tag()) == {*EACH, BACKFILL_ID_TAG}
    # Of each cluster and customer, and of all backfills together.
    assert {limit["key"]: limit.get("value") for limit in queue.tag_concurrency_limits} == {
        **{tag: {"applyLimitPerUniqueValue": True} for tag in EACH},
        BACKFILL_ID_TAG: None,
    }
    # None takes every slot, and backfills leave one of each cluster and customer to schedules and repairs.
    limits = limits_by_tag()
    assert max(limits.values()) < queue.max_concurrent_runs
    assert limits[BACKFILL_CLUSTER_TAG] < limits[CLUSTER_TAG]
    assert limits[BACKFILL_CUSTOMER_TAG] < limits[CUSTOMER_TAG]
    # What the queue lets go of a cluster finds a slot of its pool.
    assert instance.get_concurrency_config().pool_config.default_pool_limit == limits[CLUSTER_TAG]


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
    # The reindex of each kind, and the checks of a night.
    assert {name: len(schedules) for name, schedules in scheduled.items()} == {CLUSTER: 3, OTHER: 3}
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
    [request] = RepairLoop(fleet.model_copy(update={"watch": hasty}), instance, kind=PROCESS).tick().requests
    assert request.tags[CLUSTER_TAG] == CLUSTER


@pytest.mark.usefixtures("clean")
def test_runs_of_the_command_line_carry_their_cluster(fleet: Fleet, instance: DagsterInstance) -> None:
    report = launch(
        instance, Rectangle(fleet.dataset(CLUSTER, PROCESS), ("globex",), DAYS[0], DAYS[0]), {"dry_run": True}
    )
    run = instance.get_run_by_id(report.run_id)
    assert run is not None
    assert (run.tags[CLUSTER_TAG], run.tags[CUSTOMER_TAG]) == (CLUSTER, "globex")


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
    two_clusters: Fleet, instance: DagsterInstance, source: Connection, tmp_path: Path
) -> None:
    fleet, limits = two_clusters, limits_by_tag()
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump(fleet.model_dump(mode="json")))
    for day in DAYS:
        for customer in ("acme", "globex", "hooli", "umbrella"):
            add_scorecard(source, datetime(day.year, day.month, day.day, 12, tzinfo=UTC), customer=customer)
    # Before the daemon is up, which looks for backfills but every 30 s. Of acme two windows, of the others one.
    _launch_backfill(instance, fleet, {CLUSTER: ["acme"]}, 4)
    _launch_backfill(instance, fleet, {CLUSTER: ["globex"], OTHER: ["hooli", "umbrella"]}, 7)
    of_backfills = 5
    queue = instance.get_concurrency_config().run_queue_config
    assert queue is not None
    max_runs = queue.max_concurrent_runs

    in_progress = RunsFilter(statuses=[DagsterRunStatus.STARTING, DagsterRunStatus.STARTED])
    with (
        ThreadPoolExecutor(1) as thread,
        running_dagster(tmp_path / "dagster.log", {"REINDEX_FLEET": str(path)}) as dagster,
    ):
        with nobody_reads(fleet):
            until(lambda: instance.get_runs_count() == of_backfills)
            until(lambda: slots_taken(instance) == limits[BACKFILL_CLUSTER_TAG])
            # Of one customer, as many as it may have at once: one has to wait, as a window of it is at work.
            _launch(dagster, [Slice("acme", day) for day in DAYS[-limits[CUSTOMER_TAG] :]])
            until(lambda: slots_taken(instance) == limits[CLUSTER_TAG])
            until(lambda: instance.get_runs_count(in_progress) == max_runs)
            # No queue holds this one back: the pool does, inside.
            alone = Rectangle(fleet.dataset(CLUSTER, PROCESS), ("globex",), DAYS[-1], DAYS[-1])
            by_hand = thread.submit(launch, instance, alone, {})
            until(lambda: instance.event_log_storage.get_concurrency_info(POOL).pending_step_count == 1)
            # More of each are waiting.
            waiting = [run.tags for run in instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.QUEUED]))]
            held_back = {(tags[CUSTOMER_TAG], BACKFILL_ID_TAG in tags) for tags in waiting}
            # Of the other cluster's two windows, which are equal, the limit of all backfills lets one through.
            assert len(held_back & {("hooli", True), ("umbrella", True)}) == 1
            assert held_back - {("hooli", True), ("umbrella", True)} == {("acme", True), ("acme", False)}
        report = by_hand.result(120)
        until(lambda: all(run.is_finished for run in instance.get_runs()))
    assert {run.status for run in instance.get_runs()} == {DagsterRunStatus.SUCCESS}

    stays = {run.run_id: _stay(instance, run) for run in instance.get_runs()}
    queued = [stay for run_id, stay in stays.items() if run_id != report.run_id]
    assert len(queued) == of_backfills + limits[CUSTOMER_TAG]
    # Each limit was reached, though more were waiting, and never passed.
    for tag in EACH:
        values = {stay.tags[tag] for stay in queued if tag in stay.tags}
        most = {value: most_at_once([stay for stay in queued if stay.tags.get(tag) == value]) for value in values}
        assert max(most.values()) == limits[tag], (tag, most)
    assert most_at_once([stay for stay in queued if BACKFILL_ID_TAG in stay.tags]) == limits[BACKFILL_ID_TAG]
    assert most_at_once(queued) == max_runs
    # All that a limit is about was set on the runs that it is about.
    assert all(tag in stay.tags for stay in queued for tag in (CLUSTER_TAG, CUSTOMER_TAG))
    assert {tag for stay in queued for tag in stay.tags} >= set(limits)
    for stay in queued:
        if BACKFILL_ID_TAG in stay.tags:
            assert stay.tags[BACKFILL_CLUSTER_TAG] == stay.tags[CLUSTER_TAG]
            assert stay.tags[BACKFILL_CUSTOMER_TAG] == stay.tags[CUSTOMER_TAG]
        else:
            assert BACKFILL_CLUSTER_TAG not in stay.tags

    # Of the shards: one run more than the pool has slots was there, and one of them had to wait.
    pools = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    assert pools[POOL] == instance.get_concurrency_config().pool_config.default_pool_limit
    ours = {run_id: stay for run_id, stay in stays.items() if stay.tags[CLUSTER_TAG] == CLUSTER}
    steps = [_step(instance, run_id) for run_id in ours]
    assert most_at_once(list(ours.values())) > pools[POOL]
    assert most_at_once(steps) == pools[POOL]


def slots_taken(instance: DagsterInstance) -> int:
    """Runs that work on the shards of the cluster."""
    return instance.event_log_storage.get_concurrency_info(POOL).active_slot_count


def _launch_backfill(instance: DagsterInstance, fleet: Fleet, chosen: Mapping[str, Sequence[str]], days: int) -> None:
    """A backfill over the fleet's first days in windows."""
    datasets = {fleet.dataset(name, PROCESS): customers for name, customers in chosen.items()}
    request = BackfillRequest(chosen=datasets, first_day=DAYS[0], last_day=DAYS[6], window_days=days)
    launch_backfill(instance, fleet, plan_backfill(instance, request))


def _stay(instance: DagsterInstance, run: DagsterRun) -> Stay:
    times = instance.get_run_stats(run.run_id)
    # A run of the command line is in no queue.
    begin = times.launch_time or times.start_time
    assert begin is not None
    assert times.end_time is not None
    return Stay(run.tags, begin, times.end_time)


def _step(instance: DagsterInstance, run_id: str) -> Stay:
    """When a run held a slot of its pool."""
    [step] = instance.get_run_step_stats(run_id)
    assert step.start_time is not None
    assert step.end_time is not None
    return Stay({}, step.start_time, step.end_time)


def _launch(dagster: DagsterProcesses, slices: Sequence[Slice]) -> None:
    """Queues a run of the cluster's job for each slice, as its page in the UI does; before the backfills' runs, like a repair."""

    def tags(item: Slice) -> dict[str, str]:
        return {**range_tags([item.customer], item.day, item.day), "dagster/priority": "10"}

    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "reindex_assets.definitions",
        "jobName": job_name(dataset_named(CLUSTER, PROCESS)),
    }
    runs = [
        {
            "selector": selector,
            "runConfigData": {},
            "executionMetadata": {
                "tags": [{"key": key, "value": value} for key, value in tags(item).items()],
            },
        }
        for item in slices
    ]
    answer = dagster.ask(_LAUNCH, {"runs": runs})
    launched = answer["launchMultipleRuns"]["launchMultipleRunsResult"]
    assert [one["__typename"] for one in launched] == ["LaunchRunSuccess"] * len(slices)
