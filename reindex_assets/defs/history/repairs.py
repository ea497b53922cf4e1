"""The ledger of repairs, kept in the repair sensor's cursor: Dagster stores it together with the runs that a tick requests.

What lives here: the cursor's shape, and reading it from outside the sensor. What does not: the ledger's rules (drift/repair_policy.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from dagster import (
    AssetKey,
    AssetObservation,
    AssetRecordsFilter,
    DagsterInstance,
    EventLogRecord,
    EventRecordsResult,
    RunsFilter,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reindex_assets.config.dataset import Dataset
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.dagster_private import InstigatorType, SensorInstigatorData
from reindex_assets.defs.keys.names import REPAIR_TAG, asset_key, repair_sensor_name
from reindex_assets.drift.repair_policy import GivenUp, Ledger, Repair
from reindex_assets.model import Slice, Step


class ResultsRead(BaseModel):
    """Which check results the sensor has read, by their storage ids.

    Attributes:
        until: the last one read.
        since: the last one that the tick before had read; everything after it is read again.
        red: the red ones after `since` that have been dealt with.
    """

    model_config = ConfigDict(frozen=True)

    until: int
    since: int
    red: tuple[int, ...] = ()


class RepairCursor(BaseModel):
    """What the repair sensor remembers. Without `results`, it ignores those stored before its first tick."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, serialize_by_alias=True)

    ledger: Ledger = Ledger()
    results: ResultsRead | None = Field(default=None, validation_alias="verdicts", serialization_alias="verdicts")


def read_cursor(text: str | None) -> RepairCursor:
    """The cursor; an empty one if there is none, or this version can't read it."""
    try:
        return RepairCursor.model_validate_json(text or "")
    except ValidationError:
        return RepairCursor()


def ledger_of(instance: DagsterInstance, dataset: Dataset) -> Ledger:
    """The unfinished repairs of a dataset, according to the sensor's cursor."""
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        if state.instigator_name == repair_sensor_name(dataset) and isinstance(
            state.instigator_data, SensorInstigatorData
        ):
            return read_cursor(state.instigator_data.cursor).ledger
    return Ledger()


def given_up(instance: DagsterInstance, dataset: Dataset) -> Mapping[Slice, Repair]:
    """The slices whose repair was given up."""
    return ledger_of(instance, dataset).given_up


#: The metadata key of an observation that asks for a given-up partition to be tried again.
ASK_AGAIN = "reindex/repair_again"

#: Events per query.
_EVENTS_AT_ONCE = 1_000


def given_up_repairs(instance: DagsterInstance, fleet: Fleet) -> list[GivenUp]:
    """Every given-up repair of the fleet, in the order of cluster, kind, customer and day."""
    return [
        GivenUp(dataset=dataset, repair=repair)
        for dataset in fleet.datasets()
        for _, repair in sorted(given_up(instance, dataset).items())
    ]


def ask_again(instance: DagsterInstance, repairs: Iterable[GivenUp]) -> None:
    """Asks for repairs to be tried again, from the first attempt; the sensor reads the request at its next tick."""
    for given_up_repair in repairs:
        instance.report_runless_asset_event(
            AssetObservation(
                asset_key(given_up_repair.dataset, Step.WRITE),
                partition=given_up_repair.repair.slice.partition_key,
                description="An operator asked for the repair to be tried again.",
                metadata={ASK_AGAIN: True},
            )
        )


def asked_for_again(instance: DagsterInstance, asset: AssetKey, given_up: Mapping[Slice, Repair]) -> set[Slice]:
    """The given-up slices of an asset that somebody has since asked to try again or reindexed by hand. Takes a few queries in all."""
    if not given_up:
        return set()
    since = AssetRecordsFilter(
        asset_key=asset,
        asset_partitions=[item.partition_key for item in given_up],
        after_timestamp=min(repair.heard_at for repair in given_up.values()),
    )
    asked = {
        item
        for item, record in _news(partial(instance.fetch_observations, since), given_up)
        if record.asset_observation is not None and ASK_AGAIN in record.asset_observation.metadata
    }
    materialized = [
        (item, record.run_id)
        for item, record in _news(partial(instance.fetch_materializations, since), given_up)
        if item not in asked
    ]
    runs = {run_id for _, run_id in materialized}
    by_hand = {
        run.run_id
        for run in (instance.get_runs(RunsFilter(run_ids=list(runs))) if runs else ())
        if REPAIR_TAG not in run.tags
    }
    return asked | {item for item, run_id in materialized if run_id in by_hand}


def _news(
    fetch: Callable[..., EventRecordsResult], given_up: Mapping[Slice, Repair]
) -> Iterator[tuple[Slice, EventLogRecord]]:
    """The events of each slice that are newer than its repair's `heard_at`."""
    cursor = None
    while True:
        page = fetch(limit=_EVENTS_AT_ONCE, cursor=cursor)
        for record in page.records:
            item = Slice.of(record.partition_key or "")
            if record.timestamp > given_up[item].heard_at:
                yield item, record
        if not page.has_more:
            return
        cursor = page.cursor
