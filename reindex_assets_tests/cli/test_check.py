"""The command `check`: it compares both engines, records what it finds for every partition, and writes to neither.

What lives here: the command with real engines, and what `problems` makes of its results. What does not: the checks' rules
(defs/test_asset_checks.py).
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
import yaml
from clickhouse_connect.driver.client import Client
from dagster import AssetCheckKey, AssetKey, DagsterInstance, DagsterRunStatus
from psycopg2.extensions import connection as Connection

from reindex_assets.defs.checks.specs import CHECKS
from reindex_assets.defs.dagster_private import AssetCheckExecutionRecordStatus
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import PROCESS, Slice
from reindex_assets_tests.support.command_line import command
from reindex_assets_tests.support.hand_made_rows import silent_port
from reindex_assets_tests.support.session_stack import CUSTOMERS

PLAN = DataPlan(CUSTOMERS, date(2026, 1, 31), days=2, scale=0.0004, seed=4)
RANGE = ["--from", "2026-01-31", "--to", "2026-02-01", "--customer", "acme,globex"]
WRITES = AssetKey([CLUSTER, "process", "shard_writes"])
SLICES = [Slice(customer, day) for customer in ("acme", "globex") for day in PLAN.all_days]


def recorded(instance: DagsterInstance, check: str) -> dict[str, str]:
    """The latest status of a check, by partition."""
    infos = instance.event_log_storage.get_asset_check_partition_info([AssetCheckKey(WRITES, check)])
    return {info.partition_key or "": info.latest_execution_status.value for info in infos}


def rows(clients: list[Client]) -> list[object]:
    tables = ("scorecard", "score")
    return [client.query(f"SELECT count(), max(version) FROM {t}").result_rows for client in clients for t in tables]


@pytest.mark.usefixtures("clean")
def test_it_records_red_and_green_results_of_every_partition_and_writes_nothing(
    instance: DagsterInstance, source: Connection, shard_clients: list[Client]
) -> None:
    make_source(source, PLAN)
    assert command("reindex", *RANGE).status == 0
    for planted in plant(Drift.MISSING, shard_clients, "acme", PLAN.all_days[0], count=2, seed=1, kind=PROCESS):
        assert planted.customer == "acme"
    before = rows(shard_clients)

    found = command("check", *RANGE, "--json")

    assert found.status == 1, found.words
    [report] = found.json
    assert report["success"] is True
    assert report["results"] == len(CHECKS) * len(SLICES)
    assert any(line.startswith(f"rows_agree: {SLICES[0]}: ") for line in report["red_checks"])
    run = instance.get_run_by_id(report["run_id"])
    assert run is not None
    assert (run.status, run.job_name) == (DagsterRunStatus.SUCCESS, "process_local_checks")
    red, green = (AssetCheckExecutionRecordStatus[name].value for name in ("FAILED", "SUCCEEDED"))
    expected = {item.partition_key: red if item == SLICES[0] else green for item in SLICES}
    assert recorded(instance, "rows_agree") == expected
    assert rows(shard_clients) == before

    listed = command("problems", "--json")
    assert listed.status == 1
    problems = listed.verification["problems"]
    assert {(one["customer"], one["day"]) for one in problems} == {("acme", "2026-01-31")}
    assert {one["run_id"] for one in problems} == {report["run_id"]}
    assert "rows_agree" in {one["check"] for one in problems}

    assert command("reindex", *RANGE).status == 0
    again = command("check", *RANGE)
    assert again.status == 0, again.words
    assert f"{len(CHECKS) * len(SLICES)} results of checks on 4 customer-days, all green" in again.words
    # No daemon looks, so that nothing is known beyond the results.
    assert (command("problems").status, command("problems", "--json").verification["problems"]) == (2, [])


def test_it_claims_nothing_when_a_shard_does_not_answer(
    instance: DagsterInstance, stack: LocalStack, tmp_path: Path
) -> None:
    port = silent_port()
    document = yaml.safe_load(stack.fleet_path.read_text(encoding="utf-8"))
    document["clusters"][CLUSTER]["clickhouse"]["shards"][1].update(port=port)
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    answer = command("check", *RANGE, "--fleet", str(path))
    assert answer.status == 2, answer.words
    assert f"shard 1 (127.0.0.1:{port})" in answer.words
    assert "green" not in answer.words
