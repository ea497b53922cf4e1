"""Commands that need a slot of the cluster's pool, without a daemon: slots of killed ones are free, and who waits says for whom.

What lives here: real processes of the command line. What does not: which runs count as dead (defs/test_stalled_runs.py), and the limits
themselves (defs/test_run_limits.py).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets.defs.history.dead_runs import PoolQueue
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets_tests.support.holding import nobody_reads
from reindex_assets_tests.support.session_stack import CUSTOMERS
from reindex_assets_tests.support.waiting import until

PLAN = DataPlan(CUSTOMERS, date(2026, 1, 1), 2, scale=0.003)
POOL = f"clickhouse_{CLUSTER}"

pytestmark = pytest.mark.usefixtures("clean")


def reindexing(*arguments: str, customer: str = "acme") -> subprocess.Popen[str]:
    """The command, begun."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "reindex_assets", "reindex", "--json"),
            *("--from", str(PLAN.first_day), "--to", str(PLAN.all_days[-1]), "--customer", customer, *arguments),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def slots_taken(instance: DagsterInstance) -> int:
    return instance.event_log_storage.get_concurrency_info(POOL).active_slot_count


@pytest.fixture
def held(fleet: Fleet, source: Connection) -> Iterator[Connection]:
    """Data that nobody can read before the connection rolls back: a run keeps its slot until then."""
    make_source(source, PLAN)
    with nobody_reads(fleet) as connection:
        yield connection


def test_after_as_many_kills_as_there_are_slots_the_next_command_runs_at_once(
    instance: DagsterInstance, held: Connection
) -> None:
    instance.event_log_storage.set_concurrency_slots(POOL, len(CUSTOMERS))
    killed = [reindexing(customer=customer) for customer in CUSTOMERS]
    until(lambda: slots_taken(instance) == len(killed))
    for process in killed:
        process.kill()
        process.communicate()
    held.rollback()
    assert slots_taken(instance) == instance.event_log_storage.get_concurrency_info(POOL).limit == len(killed)
    dead = {run.run_id for run in instance.get_runs()}

    _, errors = reindexing().communicate(timeout=120)
    for process in killed:
        assert f"pid {process.pid}" in errors
    assert "slot is free" in errors
    assert "waiting for" not in errors
    statuses = {run.run_id: run.status for run in instance.get_runs()}
    assert {statuses.pop(run_id) for run_id in dead} == {DagsterRunStatus.FAILURE}
    assert list(statuses.values()) == [DagsterRunStatus.SUCCESS]
    assert slots_taken(instance) == 0


def test_who_waits_says_for_whom_and_goes_on_when_that_one_is_killed(
    instance: DagsterInstance, held: Connection
) -> None:
    instance.event_log_storage.set_concurrency_slots(POOL, 1)
    first = reindexing()
    until(lambda: slots_taken(instance) == 1)
    [holder] = instance.get_runs()
    second = reindexing(customer="globex")
    assert second.stderr is not None
    until(lambda: instance.get_runs_count() == 2)
    begun = time.monotonic()
    words = second.stderr.readline()
    seconds = time.monotonic() - begun
    assert words.startswith(f"waiting for one of the 1 slots of pool {POOL}")
    assert f"run {holder.run_id}" in words
    assert f"pid {first.pid} on" in words
    # Of 2 s it is the first; the rest is a busy machine's.
    assert seconds < 10
    # It lives, so it is waited for.
    assert instance.get_run_by_id(holder.run_id).status is DagsterRunStatus.STARTED  # type: ignore[union-attr]
    first.kill()
    first.communicate()
    held.rollback()
    _, errors = second.communicate(timeout=120)
    assert f"pid {first.pid} on" in errors
    assert second.returncode == 0, errors
    assert instance.get_run_by_id(holder.run_id).status is DagsterRunStatus.FAILURE  # type: ignore[union-attr]


def test_who_waits_for_a_pool_without_slots_says_so(instance: DagsterInstance) -> None:
    storage = instance.event_log_storage
    storage.set_concurrency_slots(POOL, 0)
    storage.claim_concurrency_slot(POOL, "this run", "step")
    notes: list[str] = []
    try:
        assert PoolQueue(instance, POOL, "this run", 180, notes.append).look()
    finally:
        storage.free_concurrency_slots_for_run("this run")
    assert notes == [
        f"waiting for one of the 0 slots of pool {POOL}, of which nobody gets one until the limit is raised"
    ]


def test_a_command_that_is_refused_does_not_wait_before(
    fleet: Fleet, instance: DagsterInstance, held: Connection, tmp_path: Path
) -> None:
    instance.event_log_storage.set_concurrency_slots(POOL, 1)
    first = reindexing()
    until(lambda: slots_taken(instance) == 1)
    # The shards in another order than the rows were placed by.
    document = fleet.model_dump(mode="json", exclude_unset=True)
    document["clusters"][CLUSTER]["clickhouse"]["shards"].reverse()
    turned = tmp_path / "fleet.yaml"
    turned.write_text(yaml.safe_dump(document))
    second = reindexing("--fleet", str(turned), customer="globex")
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 2, errors
    assert "another order" in errors
    assert "waiting for" not in errors
    assert instance.get_runs_count() == 1
    held.rollback()
    _, errors = first.communicate(timeout=120)
    assert first.returncode == 0, errors
