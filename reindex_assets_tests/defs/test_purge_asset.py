"""The purge of appeals as people run it: the job in Dagster, the command, the check that leads to it, and its alert.

What lives here: what they show, refuse and answer. What does not: which rows go (appeals/test_appeals.py).
"""

from __future__ import annotations

import json
from datetime import date

import pytest
from clickhouse_connect.driver.client import Client
from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    AssetSelection,
    DagsterEventType,
    DagsterInstance,
    ExecuteInProcessResult,
    TableMetadataValue,
)
from psycopg2.extensions import connection as Connection
from typer.testing import CliRunner, Result

from reindex_assets.__main__ import app
from reindex_assets.alerts.message import Details, compose
from reindex_assets.alerts.problems import News, OpenState, Severity, check_problem
from reindex_assets.appeals.purge import AppealPurge, PurgeOptions, PurgeProgress
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.assets import appeals as appeals_asset
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.history.runs_in_flight import is_of_fleet, slices_in_flight
from reindex_assets.defs.keys.names import (
    asset_key,
    checks_job_name,
    op_name,
    purge_asset_key,
    purge_job_name,
    purge_op_name,
)
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import APPEALS_CHECK, PROCESS, Step
from reindex_assets.selection.groups import SliceGroup
from reindex_assets_tests.support.asset_runs import evaluation
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.planted_appeals import Appeal, add_appeal, appeals_left, at, everything

pytestmark = pytest.mark.usefixtures("clean")

KEY = purge_asset_key(CLUSTER)
RANGE = ["--from", "2026-01-04", "--to", "2026-01-08"]


def run(fleet: Fleet, instance: DagsterInstance, **config: object) -> ExecuteInProcessResult:
    days = {"first_day": "2026-01-04", "last_day": "2026-01-08"}
    return (
        build_defs(fleet)
        .resolve_job_def(purge_job_name(CLUSTER))
        .execute_in_process(
            run_config={
                "ops": {purge_op_name(CLUSTER): {"config": {**days, **config}}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            instance=instance,
            raise_on_error=False,
        )
    )


def table(metadata: object) -> list[dict[str, object]]:
    assert isinstance(metadata, TableMetadataValue)
    return [dict(record.data) for record in metadata.records]


@pytest.fixture
def planted(clean: None, source: Connection, shard_clients: list[Client]) -> list[Appeal]:
    planted = [add_appeal(source, at(5), 1), add_appeal(source, at(6), 2), add_appeal(source, at(6), 3, "globex")]
    for number, appeal in enumerate(planted):
        appeal.plant(shard_clients[number % 2], at(5))
    return planted


@pytest.mark.usefixtures("planted")
def test_the_job_looks_by_default_and_purges_when_it_is_told_to(
    fleet: Fleet, instance: DagsterInstance, source: Connection, shard_clients: list[Client]
) -> None:
    before = everything(shard_clients)
    looked = run(fleet, instance)
    assert looked.success
    assert everything(shard_clients) == before
    # A dry run has purged nothing, and does not say so.
    assert instance.fetch_materializations(KEY, limit=1).records == []
    seen = instance.fetch_observations(KEY, limit=1).records[0].asset_observation
    assert seen is not None
    assert "3 appeals (3 scorecard rows, 6 score rows) in ClickHouse; nothing was deleted" in (seen.description or "")
    assert {row["customer"]: row["clickhouse_request"] for row in table(seen.metadata["customers"])} == {
        "acme": 1,
        "globex": 0,
        "initech": 0,
    }
    assert len(table(seen.metadata["places"])) == 3

    assert run(fleet, instance, dry_run=False, customers=["acme"], max_scorecards=1).success
    assert len({row.scorecard_id for row in appeals_left(source, shard_clients)}) == 2
    assert run(fleet, instance, dry_run=False).success
    assert appeals_left(source, shard_clients) == []
    bounded, purged = (
        record.asset_materialization for record in reversed(instance.fetch_materializations(KEY, limit=2).records)
    )
    assert bounded is not None
    assert purged is not None
    assert "left: 1 appeal (1 scorecard rows, 2 score rows). Run it again" in str(bounded.metadata["verdict"].value)
    assert [row["customer"] for row in table(bounded.metadata["customers"])] == ["acme"]
    values = {name: value.value for name, value in purged.metadata.items()}
    assert (values["appeals_found"], values["scorecards_deleted"], values["scores_deleted"]) == (2, 2, 4)
    assert values["appeals_left"] == 0
    assert "ClickHouse has no appeals on any of its 2 shards" in str(values["verdict"])
    for customer in table(purged.metadata["customers"]):
        assert {"postgres_replica", "postgres_request", "postgres_resolve", "shard_0", "shard_1", "left"} <= set(
            customer
        )


def test_a_writer_that_adds_appeals_again_fails_the_run_by_name(
    fleet: Fleet,
    instance: DagsterInstance,
    shard_clients: list[Client],
    planted: list[Appeal],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def add_again(progress: PurgeProgress) -> None:
        if progress.done == progress.total:
            planted[2].plant(shard_clients[0], at(5))

    def watched(fleet: Fleet, cluster: str, group: SliceGroup, options: PurgeOptions, *_: object) -> AppealPurge:
        return AppealPurge(fleet, cluster, group, options, on_progress=add_again)

    monkeypatch.setattr(appeals_asset, "AppealPurge", watched)
    result = run(fleet, instance, dry_run=False)
    assert not result.success
    [event] = [event for event in result.all_events if event.event_type is DagsterEventType.STEP_FAILURE]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert f"globex/main {planted[2].scorecard_id} of 2026-01-05 on shard 0" in (failure.description or "")
    assert failure.metadata["appeals_left"].value == 1
    assert instance.fetch_materializations(KEY, limit=1).records == []


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"customers": ["umbrella"]}, "unknown customer 'umbrella'"),
        ({"first_day": "tomorrow"}, "Write it as 2026-01-31"),
        ({"first_day": "2026-01-09"}, "the range runs backwards"),
    ],
)
def test_a_run_config_that_makes_no_sense_fails_with_a_sentence(
    fleet: Fleet, instance: DagsterInstance, config: dict[str, object], words: str
) -> None:
    result = run(fleet, instance, **config)
    [event] = [event for event in result.all_events if event.event_type is DagsterEventType.STEP_FAILURE]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None
    assert words in (failure.description or "")


def test_its_runs_are_this_projects_and_hold_no_partition_against_repairs(
    fleet: Fleet, instance: DagsterInstance
) -> None:
    definitions = build_defs(fleet)
    job = definitions.resolve_job_def(purge_job_name(CLUSTER))
    assert job.graph.pools == {f"clickhouse_{CLUSTER}"}
    assert job.run_tags["cluster"] == CLUSTER
    made = instance.create_run_for_job(job)
    assert is_of_fleet(made, fleet)
    assert slices_in_flight(instance, definitions.resolve_asset_graph(), fleet.dataset(CLUSTER, PROCESS)) == frozenset()


@pytest.mark.usefixtures("planted")
def test_a_red_check_leads_to_the_purge_and_is_green_after_it(fleet: Fleet, instance: DagsterInstance) -> None:
    def verdict() -> AssetCheckEvaluation:
        job = build_defs(fleet).resolve_job_def(checks_job_name(dataset_named(CLUSTER, PROCESS)))
        job.execute_in_process(
            run_config={
                "ops": {op_name(dataset_named(CLUSTER, PROCESS)): {"config": {"settle_seconds": 0}}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            instance=instance,
            tags=range_tags(["globex"], date(2026, 1, 5), date(2026, 1, 5)),
        )
        return evaluation(instance, APPEALS_CHECK, "globex|2026-01-05")

    red = verdict()
    assert not red.passed
    assert red.metadata["purge"].value == KEY
    assert run(fleet, instance, dry_run=False).success
    green = verdict()
    assert green.passed
    assert "purge" not in green.metadata


def test_its_alert_says_how_to_purge() -> None:
    writes = asset_key(dataset_named(CLUSTER, PROCESS), Step.WRITE).to_user_string()
    look = Details(lambda problem: None, lambda run_id: None)
    bodies = []
    for check in (APPEALS_CHECK, "rows_agree"):
        problem = check_problem(writes, check, "acme|2026-01-05")
        bodies.append(compose(News(first=(problem,)), {problem: OpenState(0, Severity.ERROR)}, look).body)
    assert ["purge_appeals_<cluster>" in body for body in bodies] == [True, False]


def test_no_job_that_runs_by_itself_purges(fleet: Fleet) -> None:
    definitions = build_defs(fleet)
    for schedule in definitions.get_repository_def().schedule_defs:
        job = definitions.resolve_job_def(schedule.job_name)
        assert KEY not in job.asset_layer.selected_asset_keys
    assert AssetSelection.assets(KEY).resolve(definitions.resolve_asset_graph()) == {
        AssetKey([CLUSTER, "appeals_purge"])
    }


# --- the command


def command(stack: LocalStack, *arguments: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, ["appeals", *RANGE, *arguments, "--fleet", str(stack.fleet_path)], input=answer)


def test_the_command_looks_asks_purges_and_ends_with_what_is_true(
    stack: LocalStack, source: Connection, shard_clients: list[Client], planted: list[Appeal]
) -> None:
    before = everything(shard_clients)
    looked = command(stack)
    assert looked.exit_code == 1, looked.output
    assert "nothing was deleted, because this was a dry run" in looked.output
    assert planted[0].scorecard_id in looked.output
    declined = command(stack, "--purge", answer="n\n")
    assert declined.exit_code == 1
    assert "Delete them" in declined.output
    assert everything(shard_clients) == before

    bounded = command(stack, "--purge", "--max", "1", "--yes", "--json")
    assert bounded.exit_code == 1
    [report] = json.loads(bounded.stdout)
    assert (report["outcome"], report["appeals_left"]) == ("more_left", 2)
    purged = command(stack, "--purge", answer="y\n")
    assert purged.exit_code == 0, purged.output
    assert "ClickHouse has no appeals" in purged.output
    assert appeals_left(source, shard_clients) == []
    clean = command(stack, "--json")
    assert clean.exit_code == 0
    assert json.loads(clean.stdout)[0]["outcome"] == "clean"


def test_the_command_ends_with_2_when_it_cannot_tell(stack: LocalStack) -> None:
    assert command(stack, "--customer", "umbrella").exit_code == 2
    unasked = command(stack, "--purge", "--json")
    assert unasked.exit_code == 2
    assert "add --yes" in unasked.output
