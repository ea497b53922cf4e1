"""What this project relies on in Dagster though Dagster promises nothing: that it is there, and is as we use it. Needs no engine.

What lives here: the names of `dagster_private.py`, and undocumented methods, fields, members and columns. What does not: how
they are looked up (support/dagster_inside.py), and whether our storages are still needed (defs/test_storages_needed.py).

Run this first after an upgrade of Dagster. It imports nothing of `reindex_assets`, which may not load then: each failure names one thing
that Dagster has changed, and the files of ours that use it.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import pytest

from reindex_assets_tests.support.dagster_inside import (
    ALIASES,
    aliases,
    assert_mentioned,
    attributes_of,
    call_problem,
    private_imports,
    product,
    thing,
    told,
    users_of,
)

_EVENT_LOG, _INSTANCE = "dagster_postgres.PostgresEventLogStorage", "dagster.DagsterInstance"
_SCHEDULER = "dagster._core.scheduler.instigation"


@dataclass(frozen=True, kw_only=True)
class Pin:
    """Something of Dagster that we rely on.

    Attributes:
        of: its dotted name, or the name of an alias.
        takes: of a function, the parameters that we pass, in their order; those passed by name end in "=".
        has: of a class, the attributes that we read; of an enum, the members.
        by: the files that use it, where they don't name it.
    """

    of: str
    takes: str | None = None
    has: str = ""
    by: tuple[str, ...] = ()


PINS = [
    # Events, written by runs
    Pin(of="dagster.DagsterEvent", takes="event_type_value= job_name= event_specific_data= message="),
    Pin(
        of="dagster.DagsterEvent.from_step", takes="event_type step_context event_specific_data message batch_metadata"
    ),
    Pin(of="dagster.DagsterEvent.asset_materialization", takes="step_context materialization batch_metadata"),
    Pin(of="dagster.DagsterEvent.asset_observation", takes="step_context observation batch_metadata"),
    Pin(of="DagsterEventBatchMetadata", takes="id is_end="),
    Pin(of="dagster.AssetExecutionContext.get_step_execution_context", takes=""),
    Pin(of="AssetCheckEvaluationTargetMaterializationData", has="storage_id run_id timestamp"),
    Pin(of="AssetCheckEvaluationPlanned", has="asset_key check_name partitions_subset"),
    Pin(of=f"{_INSTANCE}.report_dagster_event", takes="dagster_event run_id="),
    Pin(of=f"{_INSTANCE}.report_run_canceled", takes="dagster_run message"),
    Pin(of=f"{_INSTANCE}.report_run_failed", takes="dagster_run message"),
    # The instance, opened and read
    Pin(of="InstanceRef", has="run_launcher"),
    Pin(of="InstanceRef.from_dir", takes="base_dir overrides="),
    Pin(of=f"{_INSTANCE}.from_ref", takes="instance_ref"),
    Pin(of=f"{_INSTANCE}.optimize_for_webserver", takes="statement_timeout= pool_recycle= max_overflow="),
    Pin(of=f"{_INSTANCE}.add_run_tags", takes="run_id new_tags"),
    Pin(of=f"{_INSTANCE}.has_run", takes="run_id"),
    Pin(of=f"{_INSTANCE}.get_runs", takes="filters limit="),
    Pin(of=f"{_INSTANCE}.get_run_stats", takes="run_id"),
    Pin(of=f"{_INSTANCE}.get_records_for_run", takes="run_id cursor of_type limit= ascending="),
    Pin(of=f"{_INSTANCE}.get_concurrency_config", takes=""),
    Pin(of=f"{_INSTANCE}.get_daemon_heartbeats", takes=""),
    Pin(of=f"{_EVENT_LOG}.get_maximum_record_id", takes=""),
    Pin(of=f"{_EVENT_LOG}.get_event_records", takes="event_records_filter limit= ascending="),
    Pin(of=f"{_EVENT_LOG}.get_asset_check_partition_info", takes="keys"),
    Pin(of=f"{_EVENT_LOG}.get_asset_check_execution_history", takes="check_key limit status= partition_filter="),
    Pin(of=f"{_EVENT_LOG}.get_latest_storage_id_by_partition", takes="asset_key event_type partitions after_cursor="),
    Pin(of="PartitionKeyFilter", has="key"),
    Pin(of="AssetCheckExecutionRecordStatus", has="SUCCEEDED FAILED PLANNED"),
    Pin(of="SerializableErrorInfo", has="message cls_name cause context"),
    Pin(of="AssetGraph", has="asset_check_keys", by=("reindex_assets/defs/automation/problems.py",)),
    # Sensors and schedules: their state and their ticks
    Pin(of=f"{_INSTANCE}.all_instigator_state", takes="instigator_type="),
    Pin(of=f"{_INSTANCE}.get_ticks", takes="origin_id selector_id limit= statuses="),
    Pin(of="InstigatorType", has="SENSOR"),
    Pin(of="TickStatus", has="SUCCESS SKIPPED FAILURE"),
    Pin(of="SensorInstigatorData", has="cursor"),
    Pin(
        of=f"{_SCHEDULER}.InstigatorState",
        has="instigator_name instigator_type is_running origin instigator_origin_id selector_id",
        by=("reindex_assets/defs/automation/problems.py",),
    ),
    Pin(
        of=f"{_SCHEDULER}.InstigatorState",
        has="instigator_name instigator_data",
        by=("reindex_assets/defs/history/repairs.py",),
    ),
    Pin(
        of=f"{_SCHEDULER}.InstigatorTick",
        has="status error timestamp",
        by=("reindex_assets/defs/automation/problems.py",),
    ),
    # Backfills
    Pin(of=f"{_INSTANCE}.add_backfill", takes="partition_backfill"),
    Pin(of=f"{_INSTANCE}.get_backfills", takes="filters= limit="),
    Pin(of="BulkActionsFilter", has="statuses tags"),
    Pin(of="BulkActionStatus", has="REQUESTED CANCELING FAILING"),
    Pin(
        of="PartitionBackfill.from_asset_partitions",
        takes="backfill_id= asset_graph= partition_names= asset_selection= backfill_timestamp= tags= dynamic_partitions_store= "
        "all_partitions= title= description= run_config=",
    ),
    Pin(of="PartitionBackfill.get_asset_backfill_data", takes="asset_graph"),
    Pin(of="PartitionBackfill", has="backfill_id backfill_timestamp tags status error asset_backfill_data"),
    Pin(
        of="PartitionBackfill",
        has="asset_selection is_asset_backfill",
        by=("reindex_assets/defs/history/runs_in_flight.py",),
    ),
    Pin(
        of="dagster._core.execution.asset_backfill.AssetBackfillData",
        has="target_subset materialized_subset failed_and_downstream_subset",
        by=("reindex_assets/defs/history/runs_in_flight.py", "reindex_assets/defs/runs/backfill_progress.py"),
    ),
    Pin(
        of="dagster._core.definitions.assets.graph.asset_graph_subset.AssetGraphSubset",
        has="partitions_subsets_by_asset_key",
        by=("reindex_assets/defs/history/runs_in_flight.py", "reindex_assets/defs/runs/backfill_progress.py"),
    ),
    Pin(
        of="dagster._core.definitions.partitions.subset.PartitionsSubset",
        has="get_partition_keys",
        by=(
            "reindex_assets/defs/history/runs_in_flight.py",
            "reindex_assets/defs/instance/event_storage.py",
            "reindex_assets/defs/runs/backfill_progress.py",
        ),
    ),
    # What the classes of dagster.yaml override and call
    Pin(of="dagster.QueuedRunCoordinator.submit_run", takes="context"),
    Pin(of="dagster.QueuedRunCoordinator", has="_instance"),
    Pin(of="dagster.SubmitRunContext", has="dagster_run"),
    Pin(
        of="dagster_postgres.PostgresRunStorage",
        takes="inst_data= postgres_url= should_autocreate_tables= token_provider=",
    ),
    Pin(of="dagster_postgres.PostgresRunStorage.update_backfill", takes="partition_backfill"),
    Pin(of=_EVENT_LOG, takes="inst_data= postgres_url= should_autocreate_tables= token_provider="),
    Pin(of=_EVENT_LOG, has="_engine index_connection"),
    Pin(of=f"{_EVENT_LOG}.store_event_batch", takes="events"),
    Pin(of=f"{_EVENT_LOG}.store_asset_check_event", takes="event event_id"),
    Pin(of=f"{_EVENT_LOG}._event_to_row", takes="event"),
    Pin(of=f"{_EVENT_LOG}._store_asset_check_evaluation_planned", takes="event event_id"),
    Pin(of=f"{_EVENT_LOG}._store_asset_event", takes="conn event event_id"),
    Pin(of="dagster_postgres.utils.pg_url_from_config", takes="config_value"),
    Pin(of="dagster_postgres.utils.get_token_provider_from_config", takes="config_value"),
]

#: Columns of Dagster's tables that statements of ours name, by table and file.
COLUMNS = {
    ("runs", "deploy/prune_events.sql"): "run_id status end_time",
    ("event_logs", "deploy/prune_events.sql"): "id run_id dagster_event_type asset_key partition",
    ("event_logs", "reindex_assets/defs/instance/event_storage.py"): "id event timestamp",
    ("asset_check_executions", "deploy/prune_events.sql"): (
        "id run_id execution_status asset_key check_name partition evaluation_event_storage_id"
    ),
    ("asset_check_executions", "reindex_assets/defs/instance/event_storage.py"): (
        "asset_key check_name partition run_id execution_status evaluation_event evaluation_event_timestamp "
        "evaluation_event_storage_id materialization_event_storage_id"
    ),
}


# --- the wall


def test_only_one_file_imports_private_modules_of_dagster() -> None:
    found = [
        f"{path} imports {name} from {module}: put it into {ALIASES}, or use what Dagster exports"
        for path in product()
        if path.endswith(".py") and path != ALIASES
        for module, name in private_imports(path)
    ]
    assert not found, "\n".join(found)


def test_each_alias_is_private_and_used() -> None:
    needless = [name for name in aliases() if hasattr(importlib.import_module("dagster"), name)]
    assert not needless, f"Dagster exports these now, so {ALIASES} needn't have them: {', '.join(needless)}"
    unused = [name for name in aliases() if not users_of(name)]
    assert not unused, f"nothing uses these of {ALIASES} any more: {', '.join(unused)}"


# --- what is behind it


@pytest.mark.parametrize("name", sorted(aliases()))
def test_dagster_still_has_the_name(name: str) -> None:
    thing(name, users_of(name))


@pytest.mark.parametrize("pin", PINS, ids=lambda pin: pin.of.removeprefix("dagster."))
def test_dagster_still_has_it_as_we_use_it(pin: Pin) -> None:
    users = pin.by or users_of(pin.of.rpartition(".")[2])
    assert users, f"nothing uses {pin.of} any more: delete its pin"
    found = thing(pin.of, users)
    if pin.takes is not None:
        assert callable(found)
        problem = call_problem(found, pin.takes.split())
        assert problem is None, told(f"{pin.of} {problem}", users)
    missing = [name for name in pin.has.split() if name not in attributes_of(found)]
    assert not missing, told(f"{pin.of} has no {', '.join(missing)}", users)
    assert_mentioned(pin.has.split(), users)


@pytest.mark.parametrize(("table", "user"), COLUMNS)
def test_dagster_still_has_the_columns(table: str, user: str) -> None:
    tables = {
        **thing("dagster._core.storage.event_log.schema.SqlEventLogStorageMetadata", (user,)).tables,  # type: ignore[attr-defined]
        **thing("dagster._core.storage.runs.schema.RunStorageSqlMetadata", (user,)).tables,  # type: ignore[attr-defined]
    }
    assert table in tables, told(f"there is no table {table}", (user,))
    columns = COLUMNS[table, user].split()
    missing = [column for column in columns if column not in tables[table].columns]
    assert not missing, told(f"the table {table} has no {', '.join(missing)}", (user,))
    assert_mentioned(columns, (user,))


def test_dagster_still_calls_things_by_these_names() -> None:
    user = "reindex_assets/defs/instance/daemon.py"
    daemon = thing("dagster._daemon.daemon.BackfillDaemon", (user,)).daemon_type()  # type: ignore[attr-defined]
    assert f'_DAEMON = "{daemon}"' in product()[user], told(f"the backfill daemon is called {daemon}", (user,))
    user = "reindex_assets/defs/instance/opening.py"
    module = "dagster._core.storage.noop_compute_log_manager"
    assert f'"{module}"' in product()[user]
    thing(f"{module}.NoOpComputeLogManager", (user,))
    ends = thing("BULK_ACTION_TERMINAL_STATUSES", ("reindex_assets/defs/runs/backfill_progress.py",))
    assert isinstance(ends, (list, tuple))
    assert ends
