"""Why this project has storages of its own: what Dagster's classes still get wrong, or do one by one, on the same Postgres.

What lives here: Dagster's own classes put to the test, counted in statements and bytes, so that a busy machine changes nothing. What does
not: that ours store the same rows (defs/test_event_storage.py).

A failure that begins with "delete" is good news: Dagster does it by itself now, and what it names has no reason left.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as db
import yaml
from dagster import (
    AssetCheckEvaluation,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    EventLogEntry,
)
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._daemon.backfill import execute_backfill_iteration

from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.checks.specs import CHECKS
from reindex_assets.defs.dagster_private import BulkActionStatus, DagsterEventBatchMetadata
from reindex_assets.defs.keys.names import asset_key, checks_job_name, job_name
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice, Step
from reindex_assets_tests.support.backfills import ask_for_backfill
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.session_stack import CUSTOMERS, FIRST_DAY

DAGSTER_YAML = Path(__file__).parents[2] / "dagster.yaml"
STOCK = {"run_storage": "PostgresRunStorage", "event_log_storage": "PostgresEventLogStorage"}
DATASET = dataset_named(CLUSTER, PROCESS)
WRITES = asset_key(DATASET, Step.WRITE)


def needless(what: str) -> str:
    return (
        f"delete {what}: Dagster {version('dagster')} does this itself now. When nothing is left of the file, dagster.yaml and "
        "deploy/celery/dagster.yaml name Dagster's own class instead"
    )


@pytest.fixture
def stock(instance: DagsterInstance, tmp_path: Path) -> Iterator[DagsterInstance]:
    """The same instance, in the same Postgres, with Dagster's own storages."""
    config = yaml.safe_load(DAGSTER_YAML.read_text())
    for storage, name in STOCK.items():
        config[storage] |= {"module": "dagster_postgres", "class": name}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config))
    with DagsterInstance.from_config(str(tmp_path)) as stock:
        assert type(stock.event_log_storage).__name__ == STOCK["event_log_storage"]
        yield stock


@dataclass
class Cost:
    """What was sent to Postgres."""

    statements: int = 0
    bytes: int = 0


@contextmanager
def counted() -> Iterator[Cost]:
    """Counts what is sent meanwhile, over whatever connection."""
    cost = Cost()

    def count(
        connection: db.Connection, cursor: object, statement: str, values: object, context: object, many: bool
    ) -> None:
        cost.statements += 1
        cost.bytes += len(repr(values))

    db.event.listen(db.Engine, "before_cursor_execute", count)
    try:
        yield cost
    finally:
        db.event.remove(db.Engine, "before_cursor_execute", count)


# --- runs over many partitions


def plan_run(instance: DagsterInstance, fleet: Fleet, job: str, days: int) -> tuple[str, Cost]:
    """Creates a run over so many days of every customer, as the daemon does: Dagster notes what the run is going to do."""
    definition = build_defs(fleet).resolve_job_def(job)
    last = FIRST_DAY + timedelta(days - 1)
    with counted() as cost:
        run = instance.create_run_for_job(definition, tags=range_tags(list(CUSTOMERS), FIRST_DAY, last))
    return run.run_id, cost


def test_dagster_stores_what_it_plans_one_by_one(
    fleet: Fleet, instance: DagsterInstance, stock: DagsterInstance
) -> None:
    days, job = 4, job_name(DATASET)
    ours, theirs = (
        [plan_run(each, fleet, job, number)[1].statements for number in (days, 2 * days)] for each in (instance, stock)
    )
    # Each partition of each asset.
    more = days * len(CUSTOMERS) * len(Step)
    assert ours[1] - ours[0] <= more / 10, ours
    assert theirs[1] - theirs[0] >= more, needless(
        "_PLANNED_EVENTS, and what store_event_batch does with them, from reindex_assets/defs/instance/event_storage.py"
    )


def test_dagster_sends_all_partitions_of_a_planned_check_with_each_of_them(
    fleet: Fleet, instance: DagsterInstance, stock: DagsterInstance
) -> None:
    days, job = 16, checks_job_name(DATASET)
    once, twice = (plan_run(instance, fleet, job, number)[1].bytes for number in (days, 2 * days))
    assert twice < 2.2 * once
    assert plan_run(stock, fleet, job, 2 * days)[1].bytes > 5 * twice, needless(
        "_store_asset_check_evaluation_planned from reindex_assets/defs/instance/event_storage.py"
    )


def store_results(instance: DagsterInstance, fleet: Fleet, days: int) -> Cost:
    """Stores a result of each check for every partition of a planned run, as a batch if Dagster makes one of them."""
    run_id, _ = plan_run(instance, fleet, checks_job_name(DATASET), days)
    results = [
        AssetCheckEvaluation(
            asset_key=WRITES,
            check_name=check.name,
            passed=True,
            metadata={},
            partition=Slice(customer, FIRST_DAY + timedelta(day)).partition_key,
        )
        for customer in CUSTOMERS
        for day in range(days)
        for check in CHECKS
    ]
    with counted() as cost:
        for number, result in enumerate(results, 1):
            in_batch = DagsterEventBatchMetadata(f"results of {run_id}", is_end=number == len(results))
            instance.handle_new_event(_entry(run_id, result), batch_metadata=in_batch)
    return cost


def _entry(run_id: str, result: AssetCheckEvaluation) -> EventLogEntry:
    kind = DagsterEventType.ASSET_CHECK_EVALUATION.value
    return EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=20,
        user_message="",
        run_id=run_id,
        timestamp=1_770_000_000.25,
        job_name="job",
        dagster_event=DagsterEvent(kind, "job", event_specific_data=result),
    )


def test_dagster_stores_results_of_checks_one_by_one(
    fleet: Fleet, instance: DagsterInstance, stock: DagsterInstance
) -> None:
    days = 2
    ours, theirs = (
        [store_results(each, fleet, number).statements for number in (days, 2 * days)] for each in (instance, stock)
    )
    more = days * len(CUSTOMERS) * len(CHECKS)
    assert ours[1] - ours[0] <= more / 10, ours
    assert theirs[1] - theirs[0] >= more, needless(
        "_VERDICT, and what store_event_batch does with it, from reindex_assets/defs/instance/event_storage.py"
    )


# --- a run that fails


def shows_a_failure_too_early(instance: DagsterInstance, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the event of a failure is there while the run's status says otherwise. A daemon that looks then never retries the run."""
    run = instance.create_run_for_job(build_defs(fleet).resolve_job_def(job_name(DATASET)))
    store_status = instance.run_storage.handle_run_event
    early = []

    def looking(run_id: str, *of_event: Any) -> None:
        records = instance.get_records_for_run(run_id, of_type=DagsterEventType.RUN_FAILURE).records
        stored = instance.get_run_by_id(run_id)
        assert stored is not None
        early.append(bool(records) and stored.status is not DagsterRunStatus.FAILURE)
        store_status(run_id, *of_event)

    monkeypatch.setattr(instance.run_storage, "handle_run_event", looking)
    instance.report_run_failed(run)
    assert early
    return any(early)


def test_dagster_stores_that_a_run_has_failed_before_its_status(
    fleet: Fleet, instance: DagsterInstance, stock: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not shows_a_failure_too_early(instance, fleet, monkeypatch)
    assert shows_a_failure_too_early(stock, fleet, monkeypatch), needless(
        "store_event from reindex_assets/defs/instance/event_storage.py"
    )


# --- backfills, when a daemon is stopped


def look_at_backfills_without_a_code_location(instance: DagsterInstance) -> None:
    """What a daemon does that is being stopped: one look more, with its code location closed already."""
    with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as workspace:
        list(execute_backfill_iteration(workspace, logging.getLogger(__name__)))


def test_dagster_fails_the_backfills_that_a_daemon_sees_while_it_is_stopped(
    fleet: Fleet, instance: DagsterInstance, stock: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What Dagster has against it: it waits for a location that fails to load. None is there to fail.
    monkeypatch.setenv("DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR", "1")
    slices = [Slice("acme", FIRST_DAY + timedelta(day)) for day in range(3)]
    asked = ask_for_backfill(instance, fleet, slices, [WRITES])

    look_at_backfills_without_a_code_location(instance)
    waiting = instance.get_backfill(asked.backfill_id)
    assert waiting is not None
    assert waiting.status is BulkActionStatus.REQUESTED

    look_at_backfills_without_a_code_location(stock)
    lost = stock.get_backfill(asked.backfill_id)
    assert lost is not None
    assert lost.status is not BulkActionStatus.REQUESTED, needless("reindex_assets/defs/instance/run_storage.py")
