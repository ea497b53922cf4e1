"""What this project uses of Dagster's private modules: no other file imports from them.

What lives here: names that Dagster does not export publicly (1.13.27). What does not: anything of ours.

Dagster may change these in any release. reindex_assets_tests/defs/test_dagster_private.py then says which, and which of our files use it.
"""

from __future__ import annotations

from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.events import DagsterEventBatchMetadata
from dagster._core.execution.backfill import (
    BULK_ACTION_TERMINAL_STATUSES,
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.instance.ref import InstanceRef
from dagster._core.scheduler.instigation import InstigatorType, SensorInstigatorData, TickStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._serdes import ConfigurableClassData
from dagster_shared.error import SerializableErrorInfo

__all__ = [
    "BULK_ACTION_TERMINAL_STATUSES",
    "AssetCheckEvaluationPlanned",
    "AssetCheckEvaluationTargetMaterializationData",
    "AssetCheckExecutionRecordStatus",
    "AssetGraph",
    "BulkActionStatus",
    "BulkActionsFilter",
    "ConfigurableClassData",
    "DagsterEventBatchMetadata",
    "InstanceRef",
    "InstigatorType",
    "PartitionBackfill",
    "PartitionKeyFilter",
    "SensorInstigatorData",
    "SerializableErrorInfo",
    "SqlEventLogStorageTable",
    "TickStatus",
    "UnresolvedAssetJobDefinition",
]
