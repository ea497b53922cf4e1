"""The repair loop without its daemon: ticks of the real sensor in the real Dagster instance, and the runs it asks for, in this process.

What lives here: what the daemon would do with a tick's result. What does not: tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dagster import (
    AssetCheckKey,
    AssetKey,
    DagsterInstance,
    ExecuteInProcessResult,
    RunRequest,
    build_sensor_context,
)

from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.dagster_private import AssetCheckExecutionRecordStatus
from reindex_assets.defs.history.repairs import read_cursor
from reindex_assets.defs.keys.names import asset_key, job_name, op_name, repair_sensor_name
from reindex_assets.defs.keys.partitions import slices_of_range
from reindex_assets.drift.repair_policy import Ledger
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Kind, Slice, Step
from reindex_assets_tests.support.datasets import dataset_named

WRITES: AssetKey = asset_key(dataset_named(CLUSTER, PROCESS), Step.WRITE)


@dataclass(frozen=True)
class Tick:
    """What one tick said and asked for."""

    message: str
    requests: Sequence[RunRequest]


class RepairLoop:
    """The sensor of the local cluster and a kind, with its cursor."""

    def __init__(self, fleet: Fleet, instance: DagsterInstance, kind: Kind) -> None:
        self.fleet = fleet
        self.kind = kind
        self.instance = instance
        self.cursor: str | None = None
        self._definitions = build_defs(fleet)
        self._sensor = self._definitions.resolve_sensor_def(repair_sensor_name(dataset_named(CLUSTER, kind)))
        self._job = self._definitions.resolve_job_def(job_name(dataset_named(CLUSTER, kind)))

    @property
    def ledger(self) -> Ledger:
        return read_cursor(self.cursor).ledger

    def tick(self) -> Tick:
        context = build_sensor_context(
            instance=self.instance, cursor=self.cursor, repository_def=self._definitions.get_repository_def()
        )
        data = self._sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return Tick(data.skip_message or "", data.run_requests or [])

    def run(self, request: RunRequest) -> ExecuteInProcessResult:
        """Does the run that a tick has asked for."""
        return self._job.execute_in_process(
            run_config={
                "ops": {op_name(dataset_named(CLUSTER, self.kind)): {"config": {"settle_seconds": 0, "attempts": 1}}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            instance=self.instance,
            tags=dict(request.tags),
            raise_on_error=False,
        )

    def slices(self, request: RunRequest) -> set[Slice]:
        return slices_of_range(self.fleet.clusters[CLUSTER], request.tags)

    def verdict(self, check: str, item: Slice) -> bool | None:
        """The latest verdict of a check on a partition; None where there is none."""
        found = self.instance.event_log_storage.get_asset_check_partition_info(
            [AssetCheckKey(asset_key(dataset_named(CLUSTER, self.kind), Step.WRITE), check)]
        )
        judged = {AssetCheckExecutionRecordStatus.SUCCEEDED: True, AssetCheckExecutionRecordStatus.FAILED: False}
        [verdict] = [
            judged.get(one.latest_execution_status) for one in found if one.partition_key == item.partition_key
        ] or [None]
        return verdict
