"""The storage of Dagster's events: what it writes together is what Dagster's own class writes one by one.

What lives here: the rows of both, side by side, in the instance's Postgres. What does not: runs (defs/test_assets.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest
import sqlalchemy as db
from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    EventLogEntry,
)
from dagster._core.definitions.partitions.subset import DefaultPartitionsSubset
from dagster._core.events import AssetMaterializationPlannedData
from dagster_postgres import PostgresEventLogStorage

from reindex_assets.defs.dagster_private import (
    AssetCheckEvaluationPlanned,
    AssetCheckEvaluationTargetMaterializationData,
)
from reindex_assets.defs.instance.event_storage import EventStorage
from reindex_assets.model import Slice

ASSET = AssetKey(["local", "process", "shard_writes"])
UPSTREAM = AssetKey(["local", "process", "score_rows"])
CHECKS = ("counts_agree", "rows_agree")
SLICES = [Slice("acme", date(2026, 1, day)) for day in range(1, 5)] + [
    Slice('it\'s "quoted", {all}\\', date(2026, 1, 1))
]
PARTITIONS = [item.partition_key for item in SLICES]


KINDS = {
    AssetCheckEvaluation: DagsterEventType.ASSET_CHECK_EVALUATION,
    AssetCheckEvaluationPlanned: DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
    AssetMaterializationPlannedData: DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
}
Data = AssetCheckEvaluation | AssetCheckEvaluationPlanned | AssetMaterializationPlannedData


def entry(run_id: str, data: Data, at: float = 1_770_000_000.25) -> EventLogEntry:
    return EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None,
        level=10,
        user_message="",
        run_id=run_id,
        timestamp=at,
        step_key="reindex",
        job_name="job",
        dagster_event=DagsterEvent(KINDS[type(data)].value, "job", step_key="reindex", event_specific_data=data),
    )


def verdicts(run_id: str, partitions: Sequence[str | None]) -> list[EventLogEntry]:
    """Red and green, with and without the materialization that they are about."""
    return [
        entry(
            run_id,
            AssetCheckEvaluation(
                asset_key=ASSET,
                check_name=check,
                passed=number % 3 > 0,
                metadata={"rows": number},
                severity=AssetCheckSeverity.WARN,
                description=f"100 % of '{partition}' :name",
                partition=partition,
                target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
                    storage_id=number, run_id=run_id, timestamp=1.0
                )
                if number % 2
                else None,
            ),
            1_770_000_000.25 + number,
        )
        for number, (check, partition) in enumerate((check, partition) for partition in partitions for check in CHECKS)
    ]


def planned(run_id: str, partitions: Sequence[str] | None) -> list[EventLogEntry]:
    """What Dagster notes when it plans a run: each partition of each asset, and each check."""
    subset = DefaultPartitionsSubset(set(partitions)) if partitions is not None else None
    return [
        *(
            entry(run_id, AssetMaterializationPlannedData(asset, partition), 1_770_000_000.25 + number)
            for asset in (ASSET, UPSTREAM)
            for number, partition in enumerate(partitions or [None])
        ),
        *(
            entry(run_id, AssetCheckEvaluationPlanned(asset_key=ASSET, check_name=check, partitions_subset=subset))
            for check in CHECKS
        ),
    ]


def plan(storage: PostgresEventLogStorage, run_id: str, partitions: Sequence[str] | None) -> None:
    """As each class does it: ours together, Dagster's one by one."""
    if isinstance(storage, EventStorage):
        storage.store_event_batch(planned(run_id, partitions))
        return
    for event in planned(run_id, partitions):
        storage.store_event(event)


def rows(storage: EventStorage, run_id: str) -> dict[str, list[dict[str, Any]]]:
    """Everything that the storage holds of a run, without the numbers that are given anew to each row."""
    found = {}
    with storage.index_connection() as connection:
        for table in ("asset_check_executions", "event_logs"):
            answer = connection.execute(db.text(f"SELECT * FROM {table} WHERE run_id = :run_id"), {"run_id": run_id})
            lines = [
                {name: value for name, value in row.items() if name not in {"id", "run_id", "create_timestamp"}}
                for row in answer.mappings()
            ]
            for line in lines:
                for name in ("event", "evaluation_event"):
                    line[name] = (line.get(name) or "").replace(run_id, "RUN")
            found[table] = sorted(lines, key=lambda line: str({**line, "evaluation_event_storage_id": 0}))
        answer = connection.execute(db.text("SELECT * FROM asset_keys WHERE last_run_id = :run_id"), {"run_id": run_id})
        lines = [
            {name: value for name, value in row.items() if "time" in name or "key" in name} for row in answer.mappings()
        ]
        found["asset_keys"] = sorted(({**line, "create_timestamp": 0} for line in lines), key=str)
    return found


@pytest.fixture
def storage(instance: DagsterInstance) -> EventStorage:
    storage = instance.event_log_storage
    assert isinstance(storage, EventStorage), "dagster.yaml names it"
    return storage


@pytest.fixture
def original(storage: EventStorage) -> PostgresEventLogStorage:
    return PostgresEventLogStorage(storage.postgres_url)


def same(one: dict[str, list[dict[str, Any]]], other: dict[str, list[dict[str, Any]]]) -> None:
    assert one["event_logs"] == other["event_logs"]
    numbered = "evaluation_event_storage_id"
    for mine, theirs in zip(one["asset_check_executions"], other["asset_check_executions"], strict=True):
        assert {**mine, numbered: 0} == {**theirs, numbered: 0}
        assert (mine[numbered] is None) == (theirs[numbered] is None)


@pytest.mark.parametrize("partitions", [PARTITIONS, None])
def test_what_is_planned_together_is_the_rows_of_dagsters_own_class(
    storage: EventStorage, original: PostgresEventLogStorage, partitions: list[str] | None
) -> None:
    plan(storage, "ours", partitions)
    ours = rows(storage, "ours")
    assert len(ours["asset_check_executions"]) == len(CHECKS) * len(partitions or [""])
    assert len(ours["event_logs"]) == 2 * len(partitions or [""]) + len(CHECKS)
    assert len(ours["asset_keys"]) == 2
    # One by one, with a batch of a single event as well.
    storage.store_event(
        entry("ours too", AssetCheckEvaluationPlanned(asset_key=ASSET, check_name="rows_agree", partitions_subset=None))
    )
    plan(original, "theirs", partitions)
    same(ours, rows(storage, "theirs"))
    assert ours["asset_keys"] == rows(storage, "theirs")["asset_keys"]
    [one] = rows(storage, "ours too")["asset_check_executions"]
    assert (one["check_name"], one["partition"], one["execution_status"]) == ("rows_agree", None, "PLANNED")


@pytest.mark.parametrize("partitions", [PARTITIONS, PARTITIONS[:2], None])
def test_verdicts_stored_together_are_the_rows_of_verdicts_stored_one_by_one(
    storage: EventStorage, original: PostgresEventLogStorage, partitions: list[str] | None
) -> None:
    """Some of them not planned, too: a run on the command line has other checks than its job."""
    for run_id, each in (("ours", storage), ("theirs", original)):
        if partitions is not None:
            plan(each, run_id, partitions)
    storage.store_event_batch(verdicts("ours", [*PARTITIONS, None]))
    for event in verdicts("theirs", [*PARTITIONS, None]):
        original.store_event(event)
    same(rows(storage, "ours"), rows(storage, "theirs"))
    # Each check row points to the event of the same verdict.
    with storage.index_connection() as connection:
        pairs = connection.execute(
            db.text(
                "SELECT e.event = c.evaluation_event FROM asset_check_executions AS c "
                "JOIN event_logs AS e ON e.id = c.evaluation_event_storage_id WHERE c.run_id = 'ours'"
            )
        ).scalars()
        found = list(pairs)
    assert found == [True] * (len(PARTITIONS) + 1) * len(CHECKS)


def test_verdicts_of_another_run_or_partition_are_left_alone(
    storage: EventStorage, original: PostgresEventLogStorage
) -> None:
    plan(original, "other", PARTITIONS)
    # An asset's own row names the run that was planned last.
    plan(storage, "ours", PARTITIONS)
    before = rows(storage, "other")
    storage.store_event_batch(verdicts("ours", PARTITIONS[:1]))
    assert rows(storage, "other") == before
    statuses = [row["execution_status"] for row in rows(storage, "ours")["asset_check_executions"]]
    assert statuses.count("PLANNED") == len(CHECKS) * (len(PARTITIONS) - 1)


def test_a_batch_that_breaks_leaves_no_event_behind(storage: EventStorage) -> None:
    """Dagster then stores its events one by one, and would store them twice."""
    plan(storage, "ours", PARTITIONS)
    with storage.index_connection() as connection:
        connection.execute(
            db.text(
                "ALTER TABLE asset_check_executions "
                "ADD CONSTRAINT broken CHECK (execution_status = 'PLANNED') NOT VALID"
            )
        )
    try:
        with pytest.raises(db.exc.IntegrityError):
            storage.store_event_batch(verdicts("ours", PARTITIONS))
    finally:
        with storage.index_connection() as connection:
            connection.execute(db.text("ALTER TABLE asset_check_executions DROP CONSTRAINT broken"))
    assert len(rows(storage, "ours")["event_logs"]) == len(planned("ours", PARTITIONS))
