"""Runs of Dagster over partitions that nothing has touched: what they show, and which runs read everything all the same.

What lives here: the assets, with real runs. What does not: what touches a slice (drift/test_unchanged.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from dagster import AssetCheckKey, AssetSelection, DagsterInstance
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.verification import verify
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.checks.specs import CHECKS
from reindex_assets.defs.keys.names import REPAIR_TAG, asset_key
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.drift.checkpoint_store import CheckpointStore
from reindex_assets.local.data.made_data import make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice, Step
from reindex_assets_tests.support import application
from reindex_assets_tests.support.asset_runs import FIRST, LAST, PLAN, WRITES, every_partition, numbers, run, verdicts
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.session_stack import CUSTOMERS

ITEM = Slice("globex", FIRST)


@pytest.fixture
def written(clean: None, fleet: Fleet, source: Connection, instance: DagsterInstance) -> None:
    """Everything in place by a run of its own, and the next one has nothing to read."""
    Path(CheckpointStore(fleet.dataset(CLUSTER, PROCESS)).path).unlink(missing_ok=True)
    make_source(source, PLAN)
    assert run(fleet, instance).success


def read(instance: DagsterInstance) -> set[str]:
    """The partitions whose rows the latest run over them has read."""
    return {key for key, found in numbers(instance, WRITES).items() if "unchanged_since" not in found}


def said(instance: DagsterInstance, check: str, item: Slice) -> str:
    found = instance.event_log_storage.get_asset_check_execution_history(AssetCheckKey(WRITES, check), 100)
    return next(
        record.evaluation.description or ""
        for record in found
        if record.evaluation is not None and record.partition == item.partition_key
    )


@pytest.mark.usefixtures("written")
def test_a_run_over_unchanged_partitions_reads_nothing_and_marks_them_all_as_done(
    fleet: Fleet, instance: DagsterInstance, source: Connection, shard_clients: list[Client]
) -> None:
    assert read(instance) == every_partition()
    first = numbers(instance, WRITES)
    assert run(fleet, instance).success
    assert read(instance) == set()
    again = numbers(instance, WRITES)
    for partition, found in again.items():
        assert (found["rows_read"], found["rows_written"], found["rows_deleted"]) == (0, 0, 0)
        assert found["rows_unchanged"] == first[partition]["rows_written"]
        assert str(found["snapshot"]) > str(found["unchanged_since"]) > str(first[partition]["snapshot"])
    for step in Step:
        assert set(numbers(instance, asset_key(dataset_named(CLUSTER, PROCESS), step))) == every_partition()
    for check in CHECKS:
        assert verdicts(instance, check.name) == dict.fromkeys(every_partition(), True)
    assert "neither engine has changed a row of it since" in said(instance, "rows_agree", ITEM)
    oracle.assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("written")
def test_only_what_was_touched_is_read_and_says_so(
    fleet: Fleet, instance: DagsterInstance, source: Connection, shard_clients: list[Client]
) -> None:
    [card] = application.scorecards_of(source, ITEM)
    application.update(source, card, "score = 1234.5")
    assert run(fleet, instance).success
    assert read(instance) == {ITEM.partition_key}
    assert numbers(instance, WRITES)[ITEM.partition_key]["rows_written"]
    assert "is the same on both sides" in said(instance, "rows_agree", ITEM)
    oracle.assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("why", ["a repair", "everything", "some steps"])
def test_some_runs_read_everything(fleet: Fleet, instance: DagsterInstance, why: str) -> None:
    tags = range_tags(list(CUSTOMERS), FIRST, LAST)
    if why == "a repair":
        assert run(fleet, instance, tags={**tags, REPAIR_TAG: "1 drifted"}).success
    elif why == "everything":
        assert run(fleet, instance, everything=True).success
    else:
        steps = AssetSelection.assets(asset_key(dataset_named(CLUSTER, PROCESS), Step.ROWS), WRITES)
        assert run(fleet, instance, selection=steps).success
    assert read(instance) == every_partition()


@pytest.mark.usefixtures("written")
def test_a_check_alone_makes_the_proof_of_a_drifted_partition_void_and_proves_none(
    fleet: Fleet, instance: DagsterInstance, shard_clients: list[Client]
) -> None:
    store = CheckpointStore(fleet.dataset(CLUSTER, PROCESS))
    before = {one.slice for proof in store.load() for one in proof.slices}
    assert {item.partition_key for item in before} == every_partition()
    plant(Drift.CHANGED, shard_clients, ITEM.customer, ITEM.day, kind=PROCESS)
    checks = AssetSelection.checks_for_assets(WRITES)
    assert run(fleet, instance, selection=checks).success
    assert not verdicts(instance, "rows_agree")[ITEM.partition_key]
    assert {one.slice for proof in store.load() for one in proof.slices} == before - {ITEM}
    # Nor does a dry run, which wrote nothing: the comparison of a partition does not see its rows on another day.
    assert run(fleet, instance, dry_run=True).success
    assert {one.slice for proof in store.load() for one in proof.slices} == before - {ITEM}


@pytest.mark.usefixtures("written")
def test_a_store_that_takes_no_proofs_costs_no_verdict(
    fleet: Fleet, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: CheckpointStore, *arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CheckpointStore, "update", full)
    assert run(fleet, instance, everything=True).success
    assert verdicts(instance, "rows_agree") == dict.fromkeys(every_partition(), True)
    assert verify(fleet, list(CUSTOMERS), FIRST, LAST, kind=PROCESS, settle_seconds=0).agrees
