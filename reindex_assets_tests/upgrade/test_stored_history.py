"""After an upgrade the history is there: Dagster's database, the shards' tables and the locks of the version before, met by this one.

What lives here: what needs a real Postgres and real shards. What does not: files and cursors (test_stored_files.py).

Dagster's rows are put into the session's Postgres as they were recorded, so what is read here was written by the version before.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from clickhouse_connect.driver.client import Client
from dagster import AssetCheckKey, DagsterInstance
from dagster._core.definitions.selector import InstigatorSelector
from psycopg2.extensions import connection as Connection

from reindex_assets.cli.render.json import given_up_json
from reindex_assets.clickhouse.schema import check_schema
from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.dagster_private import InstanceRef
from reindex_assets.defs.history.past_runs import past_runs
from reindex_assets.defs.history.repairs import given_up_repairs
from reindex_assets.defs.history.runs_in_flight import slices_in_flight
from reindex_assets.defs.instance.event_storage import EventStorage
from reindex_assets.defs.instance.run_queue import TaggedRunQueue
from reindex_assets.defs.instance.run_storage import RunStorage
from reindex_assets.defs.keys.names import REPAIR_TAG, asset_key
from reindex_assets.defs.keys.run_tags import BACKFILL_ID_TAG, limiting_tags
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import CONVERSATION, KINDS, PROCESS, Slice, Step
from reindex_assets.placement.locks import changing_layout, writing
from reindex_assets.placement.records import read_records
from reindex_assets.postgres.session import SourceSession
from reindex_assets_tests.upgrade.record import database
from reindex_assets_tests.upgrade.recorded import FIXTURES, VERSIONS, Recorded

ROOT = Path(__file__).parents[2]
#: Numbers of version 0.1: while two versions run side by side they must hold each other off.
SLICE_LOCK, WRITERS_LOCK, LAYOUT_LOCK = -4193820774976637599, -5130340412418991401, -4136154339018411975
SLOT_LOCKS = 1919248760


@pytest.fixture(params=VERSIONS)
def recorded(request: pytest.FixtureRequest) -> Recorded:
    folder = FIXTURES / request.param
    return Recorded(folder, folder / "slices")


@pytest.fixture
def history(recorded: Recorded, instance: DagsterInstance) -> DagsterInstance:
    """The instance with all that Dagster had stored."""
    tables = recorded.dagster
    # Other tables refer to the rows of the first two.
    order = ["snapshots", "runs", *sorted(tables.keys() - {"snapshots", "runs"})]
    with database("dagster") as cursor:
        # What wiping an instance leaves.
        for table in reversed(order):
            cursor.execute(f"DELETE FROM {table}")
        for table in order:
            cursor.execute(
                f"INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(NULL::{table}, %s)",
                (json.dumps(tables[table]),),
            )
            if "id" in tables[table][0]:
                cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
    return instance


def test_every_check_shows_the_result_that_it_had(recorded: Recorded, history: DagsterInstance) -> None:
    latest: dict[tuple[str, str, str], str] = {}
    for row in sorted(recorded.dagster["asset_check_executions"], key=lambda row: row["id"]):
        latest[row["asset_key"], row["check_name"], row["partition"]] = row["execution_status"]
    known = set(build_defs(recorded.fleet).get_repository_def().asset_graph.asset_check_keys)
    found = history.event_log_storage.get_asset_check_partition_info(sorted(known))
    assert {
        (
            info.check_key.asset_key.to_string(),
            info.check_key.name,
            info.partition_key,
        ): info.latest_execution_status.value
        for info in found
    } == latest
    assert {"SUCCEEDED", "FAILED"} <= set(latest.values())


def test_a_red_check_still_says_why(recorded: Recorded, history: DagsterInstance) -> None:
    key = AssetCheckKey(asset_key(recorded.fleet.dataset("local", PROCESS), Step.WRITE), "nothing_left_failed")
    [record] = history.event_log_storage.get_asset_check_execution_history(key, 1)
    assert record.evaluation is not None
    assert "the repair was given up" in str(record.evaluation.description)
    assert (
        record.evaluation.partition == f"{recorded.said['repairs'][0]['customer']}|{recorded.said['repairs'][0]['day']}"
    )


def test_what_was_materialized_still_is(recorded: Recorded, history: DagsterInstance) -> None:
    for kind in KINDS:
        stored = {item.partition_key for item in recorded.stored_slices(kind.name)}
        for step in Step:
            assert history.get_materialized_partitions(asset_key(recorded.fleet.dataset("local", kind), step)) == stored


def test_given_up_repairs_are_listed_as_before(recorded: Recorded, history: DagsterInstance) -> None:
    found = [given_up_json(one) for one in given_up_repairs(history, recorded.fleet)]
    before = recorded.said["repairs"]
    assert before != []
    # A later version may say more of each.
    assert [{**now, **then} for now, then in zip(found, before, strict=True)] == found


def test_a_finished_backfill_and_one_that_waits_have_the_status_they_had(
    recorded: Recorded, history: DagsterInstance
) -> None:
    for name, before in recorded.said["status"].items():
        done = subprocess.run(
            [sys.executable, "-m", "reindex_assets", "status", "--name", name, "--json"],
            env={**os.environ, "REINDEX_FLEET": str(recorded.folder / "fleet.yaml")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        status = json.loads(done.stdout)
        if not before["ended"]:
            # The clock goes on.
            status["elapsed_seconds"] = before["elapsed_seconds"]
        assert status == before, done.stderr
    assert recorded.said["status"]["done"]["windows"]["done"]


def test_a_backfill_that_waits_is_seen_to_be_under_way(recorded: Recorded, history: DagsterInstance) -> None:
    graph = build_defs(recorded.fleet).get_repository_def().asset_graph
    [waiting] = recorded.said["status"]["waiting"]["customers"]
    in_flight = slices_in_flight(history, graph, recorded.fleet.dataset("local", CONVERSATION))
    assert {item.customer for item in in_flight} == {waiting["customer"]}
    assert len(in_flight) == waiting["days"] > 0


def test_the_tags_of_runs_are_those_that_they_would_get_today(recorded: Recorded, history: DagsterInstance) -> None:
    queued = [run for run in history.get_runs() if {BACKFILL_ID_TAG, REPAIR_TAG} & run.tags.keys()]
    assert {tag for run in queued for tag in run.tags} >= {BACKFILL_ID_TAG, REPAIR_TAG}
    for run in queued:
        assert limiting_tags(run.tags, run.asset_selection or ()) == {}, run.tags


def test_past_runs_say_what_work_costs(recorded: Recorded, history: DagsterInstance) -> None:
    done = [row for row in recorded.dagster["runs"] if row["status"] == "SUCCESS"]
    assert len(past_runs(history, recorded.fleet, KINDS)) == len(done) > 0


def test_sensors_find_their_state(recorded: Recorded, history: DagsterInstance) -> None:
    """It is found by the location's name in workspace.yaml, and the sensor's."""
    [location] = yaml.safe_load((ROOT / "workspace.yaml").read_text())["load_from"]
    name = location["python_module"]["location_name"]
    ids = {
        sensor: InstigatorSelector(location_name=name, repository_name="__repository__", name=sensor).get_id()
        for sensor in recorded.names["sensors"]
    }
    assert {state.selector_id for state in history.all_instigator_state()} == set(ids.values())


def test_the_dagster_yaml_of_before_opens_the_same_instance(
    recorded: Recorded, history: DagsterInstance, tmp_path: Path
) -> None:
    shutil.copy(recorded.folder / "dagster.yaml", tmp_path)
    with DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path))) as opened:
        assert isinstance(opened.event_log_storage, EventStorage)
        assert isinstance(opened.run_storage, RunStorage)
        assert isinstance(opened.run_coordinator, TaggedRunQueue)
        assert opened.get_runs_count() == len(recorded.dagster["runs"])


@pytest.fixture
def former_shards(recorded: Recorded, fleet: Fleet, shard_clients: Sequence[Client]) -> Iterator[ShardSet]:
    """Shards with the tables and the layout that the version before has left there."""
    name = "former"
    layouts = recorded.said["layout"]
    clients = shard_clients[: len(layouts)]
    for client, layout in zip(clients, layouts, strict=True):
        client.command(f"DROP DATABASE IF EXISTS {name}")
        client.command(f"CREATE DATABASE {name}")
        for statement in recorded.said["tables"]:
            client.command(statement.replace("CREATE TABLE default.", f"CREATE TABLE {name}.", 1))
        lines = "\n".join(json.dumps(row) for row in layout)
        client.raw_insert(f"{name}.reindex_layout", insert_block=lines, fmt="JSONEachRow")
    cluster = fleet.clusters[CLUSTER]
    former = cluster.clickhouse.model_copy(
        update={"database": name, "shards": cluster.clickhouse.shards[: len(clients)]}
    )
    with ShardSet(cluster.model_copy(update={"clickhouse": former})) as shards:
        yield shards
    for client in clients:
        client.command(f"DROP DATABASE {name} SYNC")


def test_the_tables_of_before_are_taken(former_shards: ShardSet) -> None:
    check_schema(former_shards)


def test_the_layout_of_before_holds(recorded: Recorded, former_shards: ShardSet) -> None:
    latest: list[dict[str, Any]] = [max(rows, key=lambda row: int(row["version"])) for rows in recorded.said["layout"]]
    found = read_records(former_shards)
    assert [
        record and (record.layout_id, record.state, record.shard, record.shards, record.version) for record in found
    ] == [(row["layout_id"], row["state"], row["shard"], row["shards"], int(row["version"])) for row in latest]
    assert all(record is not None and record.counts for record in found)


def test_locks_have_the_numbers_that_they_had(fleet: Fleet, source: Connection) -> None:
    item = Slice("acme", date(2026, 1, 5))
    dataset = fleet.dataset(CLUSTER, PROCESS)
    with (
        SourceSession(dataset.cluster.postgres) as session,
        writing(session, "local"),
        changing_layout(session, "local"),
        session.locked(dataset.lock_scope, [item]),
        source.cursor() as cursor,
    ):
        cursor.execute(
            "SELECT objsubid, (classid::bigint << 32) | objid::bigint, classid FROM pg_locks WHERE locktype = 'advisory'"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        found = cursor.fetchall()
    assert {number for keys, number, _ in found if keys == 1} == {SLICE_LOCK, WRITERS_LOCK, LAYOUT_LOCK}
    assert {number for keys, _, number in found if keys == 2} == {SLOT_LOCKS}
