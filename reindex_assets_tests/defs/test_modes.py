"""The modes: what is scheduled, the job over every kind, and that all of it is seen by whoever watches runs.

What lives here: definitions and runs of both kinds. What does not: what is its own with conversations (placement/test_conversations.py).
"""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from clickhouse_connect.driver.client import Client
from dagster import AssetCheckKey, DagsterInstance, DagsterRunStatus, ExecuteInProcessResult, build_schedule_context
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.verification import verify
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.modes import Mode
from reindex_assets.config.settings import Settings
from reindex_assets.defs.assets.run_config import ReindexScope
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.checks.specs import CHECKS
from reindex_assets.defs.dagster_private import AssetCheckExecutionRecordStatus
from reindex_assets.defs.history.runs_in_flight import is_of_fleet, slices_in_flight
from reindex_assets.defs.keys.names import (
    all_job_name,
    asset_key,
    checks_job_name,
    job_name,
    op_name,
    repair_sensor_name,
)
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.local.data.made_conversations import hold_conversations
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import CONVERSATION, KINDS, PROCESS, Kind, Slice, Step
from reindex_assets_tests.support import running
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.repair_loop import RepairLoop
from reindex_assets_tests.support.session_stack import CUSTOMERS

PLAN = DataPlan(CUSTOMERS, date(2026, 1, 1), days=2, scale=0.001, seed=6, conversation_share=2.0)
DAYS = (PLAN.first_day, PLAN.last_day)
PARTITIONS = {f"{customer}|{day}" for customer in CUSTOMERS for day in PLAN.all_days}


@pytest.fixture
def made(clean: None, source: Connection, shard_clients: list[Client]) -> None:
    make_source(source, PLAN)
    hold_conversations(source, shard_clients)


def run(fleet: Fleet, instance: DagsterInstance, job: str, config: dict[str, object]) -> ExecuteInProcessResult:
    return (
        build_defs(fleet)
        .resolve_job_def(job)
        .execute_in_process(
            run_config=config,
            instance=instance,
            tags=range_tags(list(CUSTOMERS), *DAYS),
            raise_on_error=False,
        )
    )


def settled() -> dict[str, object]:
    """Run config by which both kinds are checked without a pause."""
    return {"ops": {op_name(dataset_named(CLUSTER, kind)): {"config": {"settle_seconds": 0.0}} for kind in KINDS}}


def green(instance: DagsterInstance, kind: Kind) -> set[str]:
    """The partitions whose every check is green."""
    keys = [AssetCheckKey(asset_key(dataset_named(CLUSTER, kind), Step.WRITE), check.name) for check in CHECKS]
    found = instance.event_log_storage.get_asset_check_partition_info(keys)
    passed = AssetCheckExecutionRecordStatus.SUCCEEDED
    others = {one.partition_key for one in found if one.latest_execution_status is not passed}
    return {one.partition_key for one in found if one.partition_key} - others


@pytest.mark.parametrize("value", ["", "Process", "both", "1"])
def test_an_unknown_mode_is_refused_with_the_valid_ones(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINDEX_MODE", value)
    with pytest.raises(ValueError, match="REINDEX_MODE must be one of conversation, process, all"):
        Settings()


def test_without_a_mode_conversations_are_scheduled(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REINDEX_MODE", raising=False)
    assert Settings().mode is None
    assert fleet.model_copy(update={"mode": None}).rules(CLUSTER).mode is Mode.CONVERSATION


@pytest.mark.parametrize("mode", list(Mode))
def test_the_mode_says_what_is_scheduled_and_every_job_is_there(fleet: Fleet, mode: Mode) -> None:
    definitions = build_defs(fleet, mode=mode)
    daily = f"{mode}_local_daily"
    nightly = {f"{checks_job_name(dataset_named(CLUSTER, kind))}_daily" for kind in mode.kinds}
    repository = definitions.get_repository_def()
    assert {schedule.name for schedule in repository.schedule_defs} == {daily, *nightly}
    schedule = definitions.resolve_schedule_def(daily)
    assert schedule.job_name == (
        all_job_name(CLUSTER) if mode is Mode.ALL else job_name(dataset_named(CLUSTER, mode.kinds[0]))
    )
    requests = schedule.evaluate_tick(
        build_schedule_context(scheduled_execution_time=datetime(2026, 2, 10, 1, 15, tzinfo=UTC))
    ).run_requests
    assert requests is not None
    assert [request.tags["dagster/asset_partition_range_start"] for request in requests] == ["acme|2026-02-07"]
    assert {
        all_job_name(CLUSTER),
        *(named(dataset) for dataset in fleet.datasets(CLUSTER) for named in (job_name, checks_job_name)),
    } <= {job.name for job in repository.get_all_jobs()}
    assert {repair_sensor_name(dataset_named(CLUSTER, kind)) for kind in KINDS} <= {
        sensor.name for sensor in repository.sensor_defs
    }


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("chosen", list(Mode))
def test_the_job_of_all_kinds_does_those_that_its_config_names(
    fleet: Fleet, instance: DagsterInstance, source: Connection, shard_clients: list[Client], chosen: Mode
) -> None:
    types = [kind.name for kind in chosen.kinds]
    assert run(
        fleet,
        instance,
        all_job_name(CLUSTER),
        settled() | {"resources": {"scope": {"config": {"scorecard_types": types}}}},
    ).success
    for kind in KINDS:
        written = sum(running.count_rows(shard_clients, "scorecard", f"template_type = {kind.template_type}"))
        if kind in chosen.kinds:
            oracle.assert_equal(source, shard_clients, kind=kind.name)
            assert green(instance, kind) == PARTITIONS
            assert verify(fleet, list(CUSTOMERS), *DAYS, settle_seconds=0, kind=kind).agrees
            assert written
        else:
            assert green(instance, kind) == set()
            assert not written


@pytest.mark.parametrize("types", [[], ["appeal"], ["process", "Conversation"]])
def test_unknown_scorecard_types_are_refused(types: list[str]) -> None:
    with pytest.raises(ValueError, match="name one or more of process, conversation"):
        ReindexScope(scorecard_types=types)


def test_its_runs_are_seen_as_writing_both_kinds(fleet: Fleet, instance: DagsterInstance) -> None:
    definitions = build_defs(fleet)
    graph = definitions.get_repository_def().asset_graph
    tags = range_tags(["acme"], *DAYS)
    for job, kinds in (
        (all_job_name(CLUSTER), KINDS),
        (job_name(dataset_named(CLUSTER, CONVERSATION)), (CONVERSATION,)),
        (job_name(dataset_named(CLUSTER, PROCESS)), (PROCESS,)),
        (checks_job_name(dataset_named(CLUSTER, CONVERSATION)), ()),
    ):
        one = instance.create_run_for_job(definitions.resolve_job_def(job), tags=tags, status=DagsterRunStatus.STARTED)
        assert is_of_fleet(one, fleet), job
        for kind in KINDS:
            busy = slices_in_flight(instance, graph, fleet.dataset(CLUSTER, kind))
            assert busy == ({Slice("acme", day) for day in PLAN.all_days} if kind in kinds else set()), job
        instance.delete_run(one.run_id)


@pytest.mark.usefixtures("made")
def test_drift_of_conversations_is_found_and_repaired_by_their_own_sensor(
    fleet: Fleet, instance: DagsterInstance, source: Connection, shard_clients: list[Client]
) -> None:
    assert run(fleet, instance, all_job_name(CLUSTER), settled()).success
    watched = fleet.model_copy(
        update={
            "look_back_days": (datetime.now(UTC).date() - PLAN.first_day).days + 1,
            "watch": fleet.watch.model_copy(update={"settle_seconds": 0.0, "cool_down_seconds": 0}),
        }
    )
    loop = RepairLoop(watched, instance, CONVERSATION)
    assert loop.tick().requests == []
    # Of a process scorecard the other sensor takes care.
    plant(Drift.EXTRA, shard_clients, "globex", PLAN.first_day, seed=2, kind=PROCESS)
    assert loop.tick().requests == []
    item = Slice("acme", PLAN.last_day)
    for client in shard_clients:
        client.command(
            f"DELETE FROM score WHERE template_type = 1 AND customer = 'acme' AND toDate(scorecard_time) = '{item.day}'"
        )
    [request] = loop.tick().requests
    assert loop.slices(request) == {item}
    assert loop.run(request).success
    oracle.assert_equal(source, shard_clients, kind="conversation")
    assert loop.verdict("rows_agree", item)
    assert loop.tick().requests == []
