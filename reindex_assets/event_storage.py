"""Dagster's event log in Postgres, for runs over many partitions: the verdicts of checks are stored together.

What lives here: the two statements that take most of such a run's time. What does not: all the rest, which is Dagster's own.

With nine checks on each partition these two were two thirds of what Dagster adds to a partition (1.13.27, docs/performance.md):

- Storing a verdict takes four statements and 2.9 ms. Dagster stores materializations in batches, but no verdicts.
- When a run is planned, Dagster writes a row for each check and partition, and makes the text of the same event anew for each row. The
  text names all partitions of the run, so the time grows with their square: 1.6 s for 95 partitions.

The rows are the same as Dagster's own. So a deployment can leave this class out of its dagster.yaml at any time, and is only slower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as db
from dagster import AssetCheckEvaluation, DagsterEventType
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData
from dagster_postgres import PostgresEventLogStorage
from dagster_postgres.utils import get_token_provider_from_config, pg_url_from_config

_SUCCEEDED, _FAILED = AssetCheckExecutionRecordStatus.SUCCEEDED.value, AssetCheckExecutionRecordStatus.FAILED.value

_PLANNED = db.text("""\
INSERT INTO asset_check_executions (asset_key, check_name, partition, run_id, execution_status,
                                    evaluation_event, evaluation_event_timestamp, evaluation_event_storage_id)
SELECT :asset_key, :check_name, partition, :run_id, :status, :event, :timestamp, :storage_id
FROM unnest(CAST(:partitions AS text[])) AS partition""")

#: The row that was planned, for each verdict; a verdict without one is not among the numbers.
_JUDGED = db.text("""\
UPDATE asset_check_executions AS planned
SET execution_status = judged.status,
    evaluation_event = judged.event,
    evaluation_event_timestamp = judged.at,
    evaluation_event_storage_id = judged.storage_id,
    materialization_event_storage_id = judged.target_id
FROM unnest(CAST(:numbers AS int[]), CAST(:asset_keys AS text[]), CAST(:check_names AS text[]), CAST(:partitions AS text[]),
            CAST(:run_ids AS text[]), CAST(:statuses AS text[]), CAST(:events AS text[]), CAST(:times AS timestamp[]),
            CAST(:storage_ids AS bigint[]), CAST(:target_ids AS bigint[]))
  AS judged(number, asset_key, check_name, partition, run_id, status, event, at, storage_id, target_id)
WHERE planned.asset_key = judged.asset_key AND planned.check_name = judged.check_name AND planned.run_id = judged.run_id
  AND planned.partition IS NOT DISTINCT FROM judged.partition
RETURNING judged.number""")


class EventStorage(PostgresEventLogStorage):
    """Dagster's event log in Postgres; dagster.yaml names it."""

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> EventStorage:
        """As Dagster's class does, which makes one of its own."""
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Stores events together. Verdicts too, in one transaction."""
        if not events or any(
            event.dagster_event_type is not DagsterEventType.ASSET_CHECK_EVALUATION for event in events
        ):
            super().store_event_batch(events)
            return
        rows = [self._event_to_row(event) for event in events]
        insert = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        # Dagster's connections commit each statement.
        with (
            self._engine.connect().execution_options(isolation_level="READ COMMITTED") as connection,
            connection.begin(),
        ):
            ids = [int(row[0]) for row in connection.execute(insert, rows)]
            found = connection.execute(_JUDGED, self._judged(events, rows, ids)).scalars()
            unplanned = set(range(len(events))) - set(found)
        for number in sorted(unplanned):
            self.store_asset_check_event(events[number], ids[number])

    def _judged(
        self, events: Sequence[EventLogEntry], rows: Sequence[dict[str, Any]], ids: Sequence[int]
    ) -> dict[str, list[Any]]:
        verdicts = [_verdict(event) for event in events]
        targets = [verdict.target_materialization_data for verdict in verdicts]
        return {
            "numbers": list(range(len(events))),
            "asset_keys": [verdict.asset_key.to_string() for verdict in verdicts],
            "check_names": [verdict.check_name for verdict in verdicts],
            "partitions": [verdict.partition for verdict in verdicts],
            "run_ids": [event.run_id for event in events],
            "statuses": [_SUCCEEDED if verdict.passed else _FAILED for verdict in verdicts],
            "events": [row["event"] for row in rows],
            "times": [row["timestamp"] for row in rows],
            "storage_ids": list(ids),
            "target_ids": [target.storage_id if target else None for target in targets],
        }

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        planned = event.dagster_event.event_specific_data if event.dagster_event else None
        assert isinstance(planned, AssetCheckEvaluationPlanned)
        subset, row = planned.partitions_subset, self._event_to_row(event)
        values = {
            "asset_key": planned.asset_key.to_string(),
            "check_name": planned.check_name,
            "partitions": list(subset.get_partition_keys()) if subset else [None],
            "run_id": event.run_id,
            "status": AssetCheckExecutionRecordStatus.PLANNED.value,
            "event": row["event"],
            "timestamp": row["timestamp"],
            "storage_id": event_id,
        }
        with self.index_connection() as connection:
            connection.execute(_PLANNED, values)


def _verdict(event: EventLogEntry) -> AssetCheckEvaluation:
    verdict = event.dagster_event.event_specific_data if event.dagster_event else None
    assert isinstance(verdict, AssetCheckEvaluation)
    return verdict
