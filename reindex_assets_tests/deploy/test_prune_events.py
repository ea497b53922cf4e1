"""Room in Dagster's Postgres: what deploy/prune_events.sql deletes of old runs, and what the UI still shows afterwards.

What lives here: the script, on the instance's real Postgres after real runs. What does not: how much it is (benchmarks/footprint.py).
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest
from dagster import AssetCheckKey, AssetKey, DagsterEventType, DagsterInstance
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import make_dsn

from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.keys.names import asset_key
from reindex_assets.defs.runs.launch import launch
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Step
from reindex_assets.reindex.run_report import RunReport
from reindex_assets.selection.rectangles import Rectangle
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.hand_made_rows import add_scorecard

SCRIPT = Path(__file__).parents[2] / "deploy" / "prune_events.sql"
DAYS = [date(2026, 1, 5) + timedelta(days=number) for number in range(3)]
WRITES = asset_key(dataset_named(CLUSTER, PROCESS), Step.WRITE)
CHECKS = [AssetCheckKey(WRITES, name) for name in ("counts_agree", "rows_agree", "no_duplicates")]


@pytest.fixture
def storage(instance: DagsterInstance) -> Iterator[Connection]:
    """Dagster's own database."""
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "DB"}
    connection = psycopg2.connect(
        make_dsn(**{name: os.environ[f"DAGSTER_PG_{variable}"] for name, variable in names.items()})
    )
    connection.autocommit = True
    with contextlib.closing(connection):
        yield connection


def prune(storage: Connection, days: int) -> None:
    """Runs the script statement by statement, as psql does: VACUUM stands in no transaction."""
    text = "\n".join(line for line in SCRIPT.read_text(encoding="utf-8").splitlines() if not line.startswith("--"))
    with storage.cursor() as cursor:
        for statement in text.replace(":days", str(days)).split(";"):
            if statement.strip():
                cursor.execute(statement)


@dataclass(frozen=True)
class Shown:
    """What the UI shows of the assets, by partition, and out of which run."""

    materialized: Mapping[AssetKey, set[str]]
    written_by: Mapping[str, str]
    verdicts: Mapping[tuple[str, str], tuple[str, str]]

    @staticmethod
    def by(instance: DagsterInstance) -> Shown:
        verdicts: dict[tuple[str, str], tuple[str, str]] = {}
        for check in CHECKS:
            # The latest first.
            for record in instance.event_log_storage.get_asset_check_execution_history(check, limit=1000):
                assert record.event is not None
                assert record.event.dagster_event is not None
                partition = record.event.dagster_event.asset_check_evaluation_data.partition
                verdicts.setdefault((check.name, str(partition)), (record.run_id, record.status.value))
        written = instance.fetch_materializations(WRITES, limit=1000, ascending=True).records
        keys = [asset_key(dataset_named(CLUSTER, PROCESS), step) for step in Step]
        return Shown(
            {key: instance.get_materialized_partitions(key) for key in keys},
            {str(record.partition_key): record.run_id for record in written},
            verdicts,
        )


def events(instance: DagsterInstance, run: RunReport) -> dict[DagsterEventType | None, int]:
    """How many events of each type a run has."""
    found = instance.all_logs(run.run_id)
    return dict(Counter(entry.dagster_event_type for entry in found))


def make_old(storage: Connection, run: RunReport, days: int) -> None:
    with storage.cursor() as cursor:
        cursor.execute("UPDATE runs SET end_time = end_time - %s WHERE run_id = %s", (days * 86_400, run.run_id))
        assert cursor.rowcount == 1


@pytest.mark.usefixtures("clean")
def test_old_events_go_and_the_ui_shows_what_it_showed(
    fleet: Fleet, instance: DagsterInstance, source: Connection, storage: Connection
) -> None:
    for day in DAYS:
        add_scorecard(source, datetime(day.year, day.month, day.day, 12, tzinfo=UTC), customer="globex")
    whole = Rectangle(fleet.dataset(CLUSTER, PROCESS), ("globex",), DAYS[0], DAYS[-1])
    first, second = (launch(instance, whole, {"everything": True}) for _ in range(2))
    last_day = launch(
        instance, Rectangle(fleet.dataset(CLUSTER, PROCESS), ("globex",), DAYS[-1], DAYS[-1]), {"everything": True}
    )
    assert all(run.success and not run.red_checks for run in (first, second, last_day))
    before, young = Shown.by(instance), events(instance, second)
    assert set(before.written_by.values()) == {second.run_id, last_day.run_id}
    assert len(before.verdicts) == len(CHECKS) * len(DAYS)
    make_old(storage, first, 31)

    prune(storage, 30)

    # Of the first run nothing is the latest any more; of the second everything is there, for it is young.
    assert events(instance, first) == {}
    assert events(instance, second) == young
    assert Shown.by(instance) == before

    make_old(storage, second, 31)
    prune(storage, 30)

    # Two of its three days are still the latest.
    left = events(instance, second)
    assert left == {
        DagsterEventType.ASSET_MATERIALIZATION: len(Step) * 2,
        DagsterEventType.ASSET_CHECK_EVALUATION: young[DagsterEventType.ASSET_CHECK_EVALUATION] * 2 // 3,
    }
    assert Shown.by(instance) == before
    # What is pruned is a run like any other: another one on top of it works.
    assert launch(instance, whole, {}).success
