"""A small fleet and a Dagster instance in which things are wrong, as the lists of open problems read them.

What lives here: the fleet file, the instance, the repair sensor with its ledger, and runs over a day. What does not: results of checks
(support/alerting.py), and tests.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus
from dagster._core.test_utils import create_run_for_test, instance_for_test

from reindex_assets.defs.dagster_private import SensorInstigatorData
from reindex_assets.defs.history.repairs import RepairCursor
from reindex_assets.defs.keys.names import job_name, repair_sensor_name
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.drift.repair_policy import Ledger, Repair
from reindex_assets.model import PROCESS
from reindex_assets_tests.support.alerting import Automated
from reindex_assets_tests.support.datasets import dataset_named

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
BEFORE = YESTERDAY - timedelta(days=1)
SENSOR = repair_sensor_name(dataset_named("local", PROCESS))
#: Of two customers on one cluster, without engines.
FLEET = f"""\
first_day: {YESTERDAY - timedelta(days=100)}
look_back_days: 5
clusters:
  local:
    postgres: {{host: nowhere.invalid, database: app, user: reader, password: {{env: NOWHERE}}}}
    clickhouse: {{password: {{env: NOWHERE}}, shards: [{{host: nowhere.invalid}}]}}
    customers: {{acme: {{}}, globex: {{}}}}
"""


@contextlib.contextmanager
def instance_in(directory: Path) -> Iterator[DagsterInstance]:
    """An instance with one file for all events, as the alerts read them in order; runs start no process for their output."""
    events = {
        "module": "dagster._core.storage.event_log",
        "class": "ConsolidatedSqliteEventLogStorage",
        "config": {"base_dir": str(directory)},
    }
    logs = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
    with instance_for_test(overrides={"event_log_storage": events, "compute_logs": logs}) as instance:
        yield instance


def key(customer: str, day: date) -> str:
    return f"{customer}|{day}"


def remember(instance: DagsterInstance, *repairs: Repair) -> Automated:
    """The repair sensor, switched on, with these unfinished repairs."""
    sensor = Automated(instance, SENSOR)
    cursor = RepairCursor(ledger=Ledger(repairs=repairs)).model_dump_json()
    instance.update_instigator_state(sensor.state.with_data(SensorInstigatorData(cursor=cursor)))
    return sensor


def run_over(instance: DagsterInstance, day: date, status: DagsterRunStatus, **tags: str) -> DagsterRun:
    """A run of acme's process scorecards of a day."""
    run: DagsterRun = create_run_for_test(
        instance,
        job_name=job_name(dataset_named("local", PROCESS)),
        status=status,
        tags={**range_tags(["acme"], day, day), **tags},
    )
    return run
