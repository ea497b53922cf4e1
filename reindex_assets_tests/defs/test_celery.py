"""More than one machine: Celery's run launcher, a real broker, and workers that are processes of their own, one of which dies at work.

What lives here: the launcher's dagster.yaml, the worker, and a fleet's backfill over two workers. What does not: what a run does when it
is killed (end_to_end/test_crashes.py), and the files of other deployments (deploy/test_deploy.py).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from clickhouse_connect.driver.client import Client
from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from psycopg2.extensions import connection as Connection
from typer.testing import CliRunner

from reindex_assets.__main__ import app
from reindex_assets.config.fleet import load_fleet
from reindex_assets.defs.automation.stalled_runs import JANITOR
from reindex_assets.defs.instance.celery_worker import worker_app
from reindex_assets.defs.keys.names import asset_key, op_name
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.oracle.compare import assert_equal
from reindex_assets.local.stack.dagster_processes import running_dagster
from reindex_assets.local.stack.files import tail
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import PROCESS, Slice, Step
from reindex_assets_tests.support.backfills import ask_for_backfill
from reindex_assets_tests.support.celery_processes import (
    DAGSTER_YAML,
    celery_home,
    redis_is_missing,
    running_redis,
    running_workers,
)
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.faulty_shard import Fault, faulty_shard
from reindex_assets_tests.support.running import slices_of
from reindex_assets_tests.support.session_stack import FIRST_DAY
from reindex_assets_tests.support.waiting import until

CUSTOMERS = dict.fromkeys(("acme", "globex", "hooli", "initech"), ("main",))
#: More days than customers: Dagster makes a run of each customer.
PLAN = DataPlan(CUSTOMERS, FIRST_DAY + timedelta(days=3), days=5, scale=0.001, seed=4)
WRITES = asset_key(dataset_named(CLUSTER, PROCESS), Step.WRITE)
#: Each day of a run is done by itself: so there is a middle in which it can die.
RUN_CONFIG = {"ops": {op_name(dataset_named(CLUSTER, PROCESS)): {"config": {"group_scorecards": 1}}}}
SILENT_SECONDS = 30


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    missing = redis_is_missing()
    if missing and os.environ.get("REINDEX_TESTS_NEED_REDIS"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    with running_redis(tmp_path) as url:
        yield url


#: A statement of a run's third day, by the names of its staging tables.
OF_THIRD_DAY = "_2_identities"


@pytest.fixture
def third_days() -> threading.Event:
    """Set once runs may go on with their third day."""
    return threading.Event()


@pytest.fixture
def held_fleet_file(stack: LocalStack, third_days: threading.Event, tmp_path: Path) -> Iterator[Path]:
    """The fleet file of two machines: both reach its slice store. Runs stop before their third day, and a silent one is given up as soon
    as may be."""

    def hold(statement: str) -> Fault | None:
        if third_days.is_set() or OF_THIRD_DAY not in statement:
            return None
        third_days.wait()
        # Whoever sent it is dead.
        return Fault.REFUSED

    document = yaml.safe_load(stack.fleet_path.read_text(encoding="utf-8"))
    document["slices"] = str(tmp_path / "slices")
    document["watch"]["silent_seconds"] = SILENT_SECONDS
    document["clusters"][CLUSTER]["customers"] = {name: {"profiles": list(of)} for name, of in CUSTOMERS.items()}
    with faulty_shard(load_fleet(stack.fleet_path)) as (behind, proxy):
        proxy.decide = hold
        shards = behind.clusters[CLUSTER].clickhouse.shards
        document["clusters"][CLUSTER]["clickhouse"]["shards"] = [shard.model_dump(mode="json") for shard in shards]
        path = tmp_path / "fleet.yaml"
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        yield path
        third_days.set()


def days_written(instance: DagsterInstance, run: DagsterRun) -> list[str]:
    """The partitions that a run has written to the shards."""
    found = instance.get_records_for_run(run.run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION).records
    told = [record.event_log_entry.asset_materialization for record in found]
    return [str(one.partition) for one in told if one is not None and one.asset_key == WRITES]


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("clean")
def test_a_worker_killed_in_the_middle_of_a_fleets_backfill_costs_time_and_no_data(
    redis_url: str,
    held_fleet_file: Path,
    third_days: threading.Event,
    instance: DagsterInstance,
    source: Connection,
    shard_clients: list[Client],
    tmp_path: Path,
) -> None:
    make_source(source, PLAN)
    slices: list[Slice] = slices_of(PLAN)
    environment = {**celery_home(tmp_path / "home", redis_url), "REINDEX_FLEET": str(held_fleet_file)}
    # Before the daemon is up, which looks for backfills but every 30 s.
    ask_for_backfill(
        instance,
        load_fleet(held_fleet_file),
        slices,
        [asset_key(dataset_named(CLUSTER, PROCESS), step) for step in Step],
        RUN_CONFIG,
    )

    with (
        running_workers(redis_url, tmp_path / "worker.log", environment, ["one", "two"]) as workers,
        running_dagster(tmp_path / "dagster.log", environment) as dagster,
    ):

        def told() -> str:
            # The end is what a failure shows: so the logs, which are long, come first.
            states = [
                (run.run_id, run.status.value, workers.of(run), events(instance, run)) for run in instance.get_runs()
            ]
            return "\n".join((workers.logs(), tail(tmp_path / "dagster.log"), *map(str, states)))

        def in_their_middle() -> tuple[DagsterRun, DagsterRun]:
            """Waits for a run of each worker that has done some of its days and not all, both at the same time."""
            found: dict[str | None, DagsterRun] = {}

            def look() -> bool:
                runs = instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.STARTED]))
                found.clear()
                found.update(
                    {workers.of(run): run for run in runs if 0 < len(days_written(instance, run)) < PLAN.days - 1}
                )
                return {"one", "two"} <= found.keys()

            until(look, told)
            return found["one"], found["two"]

        workers.wait()
        assert workers.check("two") == 0
        died_alone, on_dead_machine = in_their_middle()
        workers.kill("two")
        workers.kill_runs_of("one")
        killed_at = time.monotonic()
        assert workers.check("two") == 1
        third_days.set()
        halves = [len(days_written(instance, run)) for run in (on_dead_machine, died_alone)]

        # A worker that lives says that the process of its run has died, and the janitor sees it: whichever looks first. Of a dead worker
        # nobody says anything.
        until(lambda: status(instance, died_alone) is DagsterRunStatus.FAILURE, told)
        assert workers.state(on_dead_machine) == "STARTED"
        until(lambda: status(instance, on_dead_machine) is DagsterRunStatus.FAILURE, told)
        noticed = time.monotonic() - killed_at
        until(lambda: all(retries(instance, run) for run in (on_dead_machine, died_alone)), told)
        until(lambda: all(run.is_finished for run in instance.get_runs()), told)
        ticks = [tick["skipReason"] or "" for tick in dagster.ticks(JANITOR)]
        done_by = {run.run_id: workers.of(run) for run in finished(instance)}

    sys.stdout.write(
        f"of {PLAN.days} days the killed runs had done {halves}; the machine's death was noticed after {noticed:.0f} s, "
        f"and everything was done after {time.monotonic() - killed_at:.0f} s\n"
    )
    assert any(on_dead_machine.run_id in tick for tick in ticks), ticks
    for run in (on_dead_machine, died_alone):
        [again] = retries(instance, run)
        assert done_by[again.run_id] == "one", "the machine that is left took its place"
    assert len(done_by) == len(CUSTOMERS), "every run succeeded once"
    assert_equal(source, shard_clients, kind="process")
    assert instance.get_materialized_partitions(WRITES) == {item.partition_key for item in slices}


def finished(instance: DagsterInstance) -> Sequence[DagsterRun]:
    return instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.SUCCESS]))


def status(instance: DagsterInstance, run: DagsterRun) -> DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def events(instance: DagsterInstance, run: DagsterRun) -> list[str]:
    """What Dagster, the workers and the janitor did with a run, in short."""
    found = instance.get_records_for_run(
        run.run_id, of_type={DagsterEventType.ENGINE_EVENT, DagsterEventType.RUN_FAILURE}, limit=8, ascending=False
    ).records
    return [f"{record.timestamp:.0f} {record.event_log_entry.message[:100]}" for record in found]


def retries(instance: DagsterInstance, run: DagsterRun) -> list[DagsterRun]:
    return [one for one in instance.get_runs() if one.parent_run_id == run.run_id]


# --- the parts


def test_the_instance_differs_from_that_of_one_machine_in_its_launcher_only() -> None:
    here = yaml.safe_load((DAGSTER_YAML.parents[2] / "dagster.yaml").read_text(encoding="utf-8"))
    there = yaml.safe_load(DAGSTER_YAML.read_text(encoding="utf-8"))
    launcher = there.pop("run_launcher")
    assert (launcher["module"], launcher["class"]) == ("dagster_celery.launcher", "CeleryRunLauncher")
    # Longer than Dagster's own 180 s: a run may wait for a free worker.
    assert there["run_monitoring"].pop("start_timeout_seconds") > 180
    assert there == here


def test_the_worker_has_the_launchers_own_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in celery_home(tmp_path, "redis://127.0.0.1:1/0").items():
        monkeypatch.setenv(name, value)
    made = worker_app()
    assert made.conf.broker_url == made.conf.result_backend == "redis://127.0.0.1:1/0"
    assert "execute_job" in made.tasks
    assert made.conf.result_extended


def test_whoever_looks_after_a_worker_is_told_when_its_broker_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in celery_home(tmp_path, "redis://:secret@127.0.0.1:1/0").items():
        monkeypatch.setenv(name, value)
    ended = CliRunner().invoke(app, ["worker", "--check"])
    assert ended.exit_code == 2
    assert "the broker at redis://:**@127.0.0.1:1/0 can't be asked" in " ".join(ended.stderr.split())


def test_a_worker_of_an_instance_with_another_launcher_is_refused(stack: LocalStack) -> None:
    ended = CliRunner().invoke(app, ["worker"])
    assert ended.exit_code == 2
    assert "launches runs by DefaultRunLauncher" in " ".join(ended.stderr.split())
    assert "use deploy/celery/dagster.yaml" in " ".join(ended.stderr.split())
