"""The command `repairs`: what the sensors have given up, and asking for it again.

What lives here: the command on cursors that stand in Dagster's storage. What does not: when a repair is given up
(drift/test_repair_policy.py, defs/test_repair_sensor.py).
"""

from __future__ import annotations

from datetime import date

from dagster import AssetKey, DagsterInstance, RepositorySelector
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from reindex_assets.defs.dagster_private import InstigatorType, SensorInstigatorData
from reindex_assets.defs.history.repairs import ASK_AGAIN, RepairCursor
from reindex_assets.defs.keys.names import repair_sensor_name
from reindex_assets.drift.repair_policy import Ledger, Repair
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS
from reindex_assets_tests.support.command_line import command
from reindex_assets_tests.support.datasets import dataset_named


def test_repairs_lists_what_is_given_up_and_ends_with_0_when_nothing_is(instance: DagsterInstance) -> None:
    answer = command("repairs")
    assert answer.status == 0, answer.words
    assert "No repair is given up" in answer.words
    assert command("repairs", "--again", "--json").output.strip() == "[]"


def test_of_a_customer_that_the_fleet_does_not_have_nothing_is_said(instance: DagsterInstance) -> None:
    for again in ([], ["--again"]):
        answer = command("repairs", "--customer", "acmee", *again)
        assert answer.status == 2
        assert "unknown customer 'acmee'" in answer.words


def test_given_up_repairs_are_read_from_the_sensors_cursor_and_asked_for_again(instance: DagsterInstance) -> None:
    repair = Repair(
        customer="acme",
        day=date(2026, 1, 31),
        seen_at=1.0,
        differs="3 scores missing",
        evidence=(1,),
        state=1,
        failed=3,
        given_up_at=1_770_000_000.0,
    )
    cursor = RepairCursor(ledger=Ledger(repairs=(repair,))).model_dump_json()
    selector = RepositorySelector(location_name="reindex_assets.definitions", repository_name="__repository__")
    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(
            InProcessCodeLocationOrigin(
                LoadableTargetOrigin(module_name="reindex_assets.definitions"), location_name=selector.location_name
            ),
            selector.repository_name,
        ),
        repair_sensor_name(dataset_named(CLUSTER, PROCESS)),
    )
    instance.add_instigator_state(
        InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData(cursor=cursor))
    )
    listed = command("repairs")
    assert listed.status == 1, listed.words
    assert "acme" in listed.words
    assert "3 scores missing" in listed.words
    assert "reindex-assets repairs --again" in listed.words
    assert command("repairs", "--customer", "globex").status == 0

    again = command("repairs", "--again")
    assert again.status == 0, again.words
    asked = instance.fetch_observations(AssetKey([CLUSTER, "process", "shard_writes"]), limit=10).records
    assert [record.partition_key for record in asked] == ["acme|2026-01-31"]
    assert all(record.asset_observation and ASK_AGAIN in record.asset_observation.metadata for record in asked)
