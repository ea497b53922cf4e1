"""Dagster's event log in Postgres, which stores planned events and check results in batches for runs over many partitions, and loses no
retry of a run that has failed.

What lives here: the statements that take most of such a run's time, and the order in which a failure is stored. What does not: everything
else, which is Dagster's own.

With nine checks on each partition this was most of what Dagster adds to a partition (1.13.27, docs/performance.md):

- Storing a check result takes four statements and 2.9 ms. Dagster stores materializations in batches, but not check results.
- When the daemon plans a run it stores an event for each asset and partition, each over two new connections: 6 s for 95 partitions,
  one run after the other.
- Then it writes a row for each check and partition, and serialises the same event again for each row. The event names all
  partitions of the run, so the time grows with their square.

And Dagster stores the event of a failure before the run's status. A daemon that looks in between finds a run that has not failed, and
never looks at it again: what was killed is not retried.

The rows are the same as Dagster's own. So a deployment can remove this class from its dagster.yaml at any time: it is slower then, and
now and then a retry is lost. reindex_assets_tests/defs/test_storages_needed.py shows each of the four, and fails once Dagster itself has
solved it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as db
from dagster import AssetCheckEvaluation, DagsterEventType, EventLogEntry
from dagster_postgres import PostgresEventLogStorage
from dagster_postgres.utils import get_token_provider_from_config, pg_url_from_config

from reindex_assets.defs.dagster_private import (
    AssetCheckEvaluationPlanned,
    AssetCheckExecutionRecordStatus,
    ConfigurableClassData,
    SqlEventLogStorageTable,
)

_SUCCEEDED, _FAILED = AssetCheckExecutionRecordStatus.SUCCEEDED.value, AssetCheckExecutionRecordStatus.FAILED.value
_VERDICT = DagsterEventType.ASSET_CHECK_EVALUATION
_PLANNED_EVENTS = (DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED)

_PLANNED = db.text("""\
INSERT INTO asset_check_executions (asset_key, check_name, partition, run_id, execution_status,
                                    evaluation_event, evaluation_event_timestamp, evaluation_event_storage_id)
SELECT :asset_key, :check_name, partition, :run_id, :status, :event, :timestamp, :storage_id
FROM unnest(CAST(:partitions AS text[])) AS partition""")

#: Puts each verdict into the row that was planned for it, and returns the numbers of the verdicts that had such a row.
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
        """The same as Dagster's, which would return an instance of Dagster's class."""
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )

    def store_event(self, event: EventLogEntry) -> None:
        """Stores an event; that of a failure when the run's status says so already (Dagster then stores the status once more)."""
        happened = event.dagster_event
        if happened is not None and happened.is_run_failure and self.has_instance:
            self._instance.run_storage.handle_run_event(
                event.run_id, happened, datetime.fromtimestamp(event.timestamp, UTC)
            )
        super().store_event(event)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Stores events, planned ones and check results too, in one transaction: a batch that fails leaves nothing behind."""
        kinds = {event.dagster_event_type for event in events}
        if not kinds or not kinds <= {_VERDICT, *_PLANNED_EVENTS}:
            super().store_event_batch(events)
            return
        rows = [self._event_to_row(event) for event in events]
        insert = SqlEventLogStorageTable.insert().returning(SqlEventLogStorageTable.c.id, sort_by_parameter_order=True)
        # Dagster's own connections commit after each statement.
        with (
            self._engine.connect().execution_options(isolation_level="READ COMMITTED") as connection,
            connection.begin(),
        ):
            numbered = [
                _Numbered(event, row, int(number))
                for event, row, (number,) in zip(events, rows, connection.execute(insert, rows), strict=True)
            ]
            unplanned = self._store_verdicts(connection, [event for event in numbered if event.kind is _VERDICT])
            for entry in numbered:
                if entry.kind is DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED:
                    connection.execute(_PLANNED, _planned_rows(entry))
            # As with materializations, the asset's own row records only the latest event.
            latest = {
                entry.row["asset_key"]: entry
                for entry in numbered
                if entry.kind is DagsterEventType.ASSET_MATERIALIZATION_PLANNED
            }
            for entry in latest.values():
                assert entry.storage_id is not None
                self._store_asset_event(connection, entry.event, entry.storage_id)
        for entry in unplanned:
            self.store_asset_check_event(entry.event, entry.storage_id)

    def _store_verdicts(self, connection: db.Connection, verdicts: Sequence[_Numbered]) -> list[_Numbered]:
        """Puts verdicts into the rows that were planned for them; returns those that were not planned."""
        if not verdicts:
            return []
        judged = set(connection.execute(_JUDGED, _judged(verdicts)).scalars())
        return [entry for number, entry in enumerate(verdicts) if number not in judged]

    def _store_asset_check_evaluation_planned(self, event: EventLogEntry, event_id: int | None) -> None:
        with self.index_connection() as connection:
            connection.execute(_PLANNED, _planned_rows(_Numbered(event, self._event_to_row(event), event_id)))


@dataclass(frozen=True)
class _Numbered:
    """An event with its row in the table of events, and that row's number."""

    event: EventLogEntry
    row: Mapping[str, Any]
    storage_id: int | None

    @property
    def kind(self) -> DagsterEventType | None:
        return self.event.dagster_event_type

    @property
    def data(self) -> object:
        return self.event.dagster_event.event_specific_data if self.event.dagster_event else None


def _judged(numbered: Sequence[_Numbered]) -> dict[str, list[Any]]:
    verdicts = [entry.data for entry in numbered if isinstance(entry.data, AssetCheckEvaluation)]
    targets = [verdict.target_materialization_data for verdict in verdicts]
    return {
        "numbers": list(range(len(numbered))),
        "asset_keys": [verdict.asset_key.to_string() for verdict in verdicts],
        "check_names": [verdict.check_name for verdict in verdicts],
        "partitions": [verdict.partition for verdict in verdicts],
        "run_ids": [entry.event.run_id for entry in numbered],
        "statuses": [_SUCCEEDED if verdict.passed else _FAILED for verdict in verdicts],
        "events": [entry.row["event"] for entry in numbered],
        "times": [entry.row["timestamp"] for entry in numbered],
        "storage_ids": [entry.storage_id for entry in numbered],
        "target_ids": [target.storage_id if target else None for target in targets],
    }


def _planned_rows(entry: _Numbered) -> dict[str, Any]:
    planned = entry.data
    assert isinstance(planned, AssetCheckEvaluationPlanned)
    subset = planned.partitions_subset
    return {
        "asset_key": planned.asset_key.to_string(),
        "check_name": planned.check_name,
        "partitions": list(subset.get_partition_keys()) if subset else [None],
        "run_id": entry.event.run_id,
        "status": AssetCheckExecutionRecordStatus.PLANNED.value,
        "event": entry.row["event"],
        "timestamp": entry.row["timestamp"],
        "storage_id": entry.storage_id,
    }
