"""Runs of the assets in this process, and what Dagster has recorded of them.

What lives here: a run over a range, and questions to the instance. What does not: tests, and runs of a daemon (dagster_processes.py).
"""

from __future__ import annotations

from datetime import date

import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetKey,
    AssetSelection,
    DagsterEventType,
    DagsterInstance,
    Definitions,
    EventRecordsFilter,
    ExecuteInProcessResult,
    define_asset_job,
)
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.assets.reindex import build_assets
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.dagster_private import AssetCheckExecutionRecordStatus
from reindex_assets.defs.keys.names import asset_key, job_name, op_name
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.model import PROCESS, Step
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.session_stack import CUSTOMERS

FIRST, LAST = date(2026, 1, 1), date(2026, 1, 4)
WRITES = asset_key(dataset_named("local", PROCESS), Step.WRITE)
PLAN = DataPlan(CUSTOMERS, FIRST, 4, scale=0.003)


@pytest.fixture(name="made")
def made_source(clean: None, source: Connection) -> None:
    """Data in Postgres, nothing in ClickHouse. It names `clean`, which would else run after it and leave nothing."""
    assert make_source(source, PLAN).process_scores > 1_000


def run(
    fleet: Fleet,
    instance: DagsterInstance,
    tags: dict[str, str] | None = None,
    selection: AssetSelection | None = None,
    **config: object,
) -> ExecuteInProcessResult:
    """Runs the assets of the local cluster over a range, as a run of a backfill does."""
    definitions = build_defs(fleet)
    job = definitions.resolve_job_def(job_name(dataset_named("local", PROCESS)))
    if selection is not None:
        narrow = define_asset_job("narrow", selection)
        job = Definitions(assets=[build_assets(fleet.dataset("local", PROCESS))], jobs=[narrow]).resolve_job_def(
            "narrow"
        )
    return job.execute_in_process(
        run_config={
            "ops": {op_name(dataset_named("local", PROCESS)): {"config": {"settle_seconds": 0, **config}}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        instance=instance,
        tags=tags or range_tags(list(CUSTOMERS), FIRST, LAST),
        raise_on_error=False,
    )


def verdicts(instance: DagsterInstance, check: str) -> dict[str, bool]:
    """The latest verdict of a check, by partition; a partition that was not judged is left out."""
    found = instance.event_log_storage.get_asset_check_partition_info([AssetCheckKey(WRITES, check)])
    judged = {AssetCheckExecutionRecordStatus.SUCCEEDED: True, AssetCheckExecutionRecordStatus.FAILED: False}
    return {
        item.partition_key: judged[item.latest_execution_status]
        for item in found
        if item.partition_key and item.latest_execution_status in judged
    }


def every_partition() -> set[str]:
    return {f"{customer}|2026-01-0{day}" for customer in CUSTOMERS for day in range(1, 5)}


def failure_of(result: ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.event_type is DagsterEventType.STEP_FAILURE]
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return data.description or ""


def numbers(instance: DagsterInstance, key: AssetKey) -> dict[str, dict[str, object]]:
    """The metadata of the latest materialization, by partition."""
    found: dict[str, dict[str, object]] = {}
    for record in instance.fetch_materializations(key, limit=1000).records:
        materialization = record.asset_materialization
        assert materialization is not None
        assert materialization.partition is not None
        found.setdefault(
            materialization.partition, {name: value.value for name, value in materialization.metadata.items()}
        )
    return found


def evaluation(instance: DagsterInstance, check: str, partition: str) -> AssetCheckEvaluation:
    """The latest verdict of a check on a partition, with all that it shows."""
    records = instance.event_log_storage.get_event_records(
        EventRecordsFilter(event_type=DagsterEventType.ASSET_CHECK_EVALUATION), limit=10_000
    )
    for record in records:
        event = record.event_log_entry.dagster_event
        assert event is not None
        verdict = event.asset_check_evaluation_data
        if (verdict.check_name, verdict.partition) == (check, partition):
            return verdict
    raise AssertionError(f"{check} has no verdict on {partition}")
