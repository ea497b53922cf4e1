"""What the repair sensor hears of given-up partitions: an operator's word, and what somebody has reindexed by hand.

What lives here: events in a real Dagster instance, and who is heard. What does not: what a tick makes of it
(defs/test_repair_sensor.py), and the command (cli/test_repairs.py).
"""

from __future__ import annotations

import time
from datetime import date

import pytest
from dagster import AssetMaterialization, AssetObservation, DagsterEvent, DagsterEventType, DagsterInstance
from dagster._core.events import StepMaterializationData

from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.history.repairs import ask_again, asked_for_again
from reindex_assets.defs.keys.names import REPAIR_TAG, asset_key, job_name
from reindex_assets.drift.repair_policy import GivenUp, Repair
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice, Step
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.repair_loop import WRITES

SLICES = [Slice("acme", date(2026, 1, 1 + number)) for number in range(6)]


def given_up(*slices: Slice) -> dict[Slice, Repair]:
    """Repairs that are given up by now."""
    now = time.time()
    return {
        item: Repair(
            customer=item.customer, day=item.day, seen_at=1.0, differs="", evidence=(), state=1, given_up_at=now
        )
        for item in slices
    }


def materialize(instance: DagsterInstance, fleet: Fleet, item: Slice, tags: dict[str, str]) -> None:
    """As a run tells it."""
    run = instance.create_run_for_job(
        build_defs(fleet).resolve_job_def(job_name(dataset_named(CLUSTER, PROCESS))), tags=tags
    )
    event = DagsterEvent(
        event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value,
        job_name=run.job_name,
        event_specific_data=StepMaterializationData(AssetMaterialization(WRITES, partition=item.partition_key)),
    )
    instance.report_dagster_event(event, run.run_id)


@pytest.mark.parametrize("events_at_once", [1, 1_000])
def test_who_is_asked_for_or_reindexed_by_hand_is_heard_and_nobody_else(
    fleet: Fleet, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch, events_at_once: int
) -> None:
    monkeypatch.setattr("reindex_assets.defs.history.repairs._EVENTS_AT_ONCE", events_at_once)
    asked, by_hand, repaired, before, observed, other = SLICES
    early = given_up(asked)
    materialize(instance, fleet, before, {})
    ask_again(
        instance,
        [GivenUp(dataset=dataset_named(CLUSTER, PROCESS), repair=repair) for repair in given_up(before).values()],
    )
    ledger = {**early, **given_up(by_hand, repaired, before, observed)}
    assert asked_for_again(instance, WRITES, ledger) == set()

    ask_again(instance, [GivenUp(dataset=dataset_named(CLUSTER, PROCESS), repair=ledger[asked])] * 2)
    # Not given up, and another kind's asset of the same partition.
    ask_again(
        instance,
        [GivenUp(dataset=dataset_named(CLUSTER, PROCESS), repair=repair) for repair in given_up(other).values()],
    )
    elsewhere = asset_key(dataset_named(CLUSTER, PROCESS), Step.EXTRACT)
    for key in (elsewhere, WRITES):
        instance.report_runless_asset_event(AssetObservation(key, partition=observed.partition_key))
    materialize(instance, fleet, by_hand, {})
    materialize(instance, fleet, repaired, {REPAIR_TAG: "1 drifted"})
    assert asked_for_again(instance, WRITES, ledger) == {asked, by_hand}
    assert asked_for_again(instance, WRITES, {}) == set()
    # What was heard is not heard again.
    assert asked_for_again(instance, WRITES, given_up(*SLICES)) == set()
