"""`kill -9` of the run, of a shard and of Postgres, at any moment: one more run, and both engines hold the same.

What lives here: real processes, really killed, on the session's stack, which every test leaves up on the same ports. What does
not: crashes of the local stack as such (local/test_local_crashes.py).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse import deletes, difference
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_data import DataPlan, change_source, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle.compare import assert_equal, differences
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import PROCESS
from reindex_assets.reindex import writer as shards
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.reindex.writer import WriteOptions
from reindex_assets_tests.support.plain_loader import load_plainly
from reindex_assets_tests.support.running import Once, attempt, errors, reindex, slices_of, staging_tables
from reindex_assets_tests.support.session_stack import CUSTOMERS, connect_source, list_shards, whole_fleet_path

#: Small, as every kill is followed by a whole run. Half of the kills hit a first load, half a repair: each has about as many steps.
PLAN = DataPlan(CUSTOMERS, date(2026, 2, 1), days=2, scale=0.003, seed=12)
SLICES = slices_of(PLAN)
KILLS = 14
ONCE = ReindexOptions(write=WriteOptions(batch_rows=300), attempts=1)


class KilledRuns:
    """Runs one after the other, each in a process of its own."""

    def __init__(self, stack: LocalStack) -> None:
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "reindex_assets_tests.support.crash_run",
                str(stack.fleet_path),
                str(PLAN.first_day),
                str(PLAN.last_day),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _begin(self, first_load: bool) -> int:
        assert self._process.stdin is not None
        # A first load group by group, so that a kill leaves some done; a repair, which starts mutations, at once.
        self._process.stdin.write("300\n" if first_load else "100000\n")
        self._process.stdin.flush()
        begun, pid = self._line().split()
        assert begun == "begun"
        return int(pid)

    def seconds(self, first_load: bool) -> float:
        """How long a run takes when nobody kills it."""
        self._begin(first_load)
        begun = time.monotonic()
        assert self._line() == "done"
        seconds = time.monotonic() - begun
        assert self._line() == "ended"
        return seconds

    def kill_after(self, first_load: bool, seconds: float) -> bool:
        """Begins one, and kills it; whether it was still at work."""
        pid = self._begin(first_load)
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        said = self._line()
        if said == "done":
            assert self._line() == "ended"
            return False
        assert said == "ended"
        return True

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def empty(shard_clients: list[Client]) -> None:
    for client in shard_clients:
        for table in ("scorecard", "score"):
            client.command(f"TRUNCATE TABLE {table}")


def spoil(source: Connection, shard_clients: list[Client], seed: int) -> None:
    """A round of the application's life, which leaves rows missing, changed and moved, and two more kinds of drift."""
    change_source(source, PLAN, seed)
    for number, drift in enumerate((Drift.EXTRA, Drift.STALE_AFTER_MOVE)):
        customer = list(PLAN.customers)[(seed + number) % 3]
        plant(drift, shard_clients, customer, PLAN.all_days[number], seed=seed, source=source, kind=PROCESS)


@pytest.mark.usefixtures("clean")
def test_a_run_that_is_killed_at_any_moment_is_made_good_by_one_more_run(
    stack: LocalStack, fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    make_source(source, PLAN)
    with contextlib.closing(KilledRuns(stack)) as runs:
        seconds = {True: runs.seconds(first_load=True)}
        spoil(source, shard_clients, seed=1)
        seconds[False] = runs.seconds(first_load=False)
        assert_equal(source, shard_clients, kind="process")

        chance = random.Random(20)
        # Spread evenly over the run, in a random order.
        moments = [(number + chance.random()) / KILLS for number in range(KILLS)]
        chance.shuffle(moments)
        killed = left_unequal = tries = 0
        while killed < KILLS:
            tries += 1
            assert tries <= 2 * KILLS
            first_load, moment = killed % 2 == 0, moments[killed]
            if first_load:
                empty(shard_clients)
            else:
                spoil(source, shard_clients, seed=10 + tries)
            if not runs.kill_after(first_load, moment * seconds[first_load]):
                # It had ended already: the machine is faster now than when the run was timed.
                seconds[first_load] *= 0.8
                continue
            at = f"kill {killed} at {moment:.0%} of a {'first load' if first_load else 'repair'}"
            killed += 1
            left_unequal += bool(differences(source, shard_clients, kind="process"))

            reindex(fleet, SLICES)

            assert differences(source, shard_clients, kind="process") == [], at
            assert staging_tables(shard_clients) == [], at
    # Most kills must have left something to do.
    assert left_unequal >= KILLS // 2


@pytest.fixture
def loaded(clean: None, source: Connection, shard_clients: list[Client]) -> None:
    make_source(source, PLAN)
    load_plainly(source, shard_clients)


@pytest.fixture
def mended(stack: LocalStack) -> Iterator[None]:
    """Whatever the test has killed is up again afterwards, on the ports of the fleet file."""
    yield
    stack.up()
    assert stack.fleet_path.read_text(encoding="utf-8") == whole_fleet_path(stack).read_text(encoding="utf-8")
    list_shards(stack, 2)


#: Where in a run the kill comes, by the function that is about to be called.
MOMENTS = {
    "while rows are staged": (shards.GroupWriter, "add"),
    "before the comparison": (difference, "find_difference"),
    "before the inserts": (difference, "insert_upserts"),
    "before the deletes": (deletes, "delete_rows"),
}


def kill_at(monkeypatch: pytest.MonkeyPatch, moment: str, kill: Callable[[], None]) -> Once:
    owner, name = MOMENTS[moment]
    original = getattr(owner, name)
    once = Once(kill)

    def killing(*args: object, **kwargs: object) -> object:
        once()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, killing)
    return once


@pytest.mark.usefixtures("loaded", "mended")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_shard_that_is_killed_under_a_run_is_named_and_one_more_run_makes_it_good(
    stack: LocalStack,
    fleet: Fleet,
    source: Connection,
    shard_clients: list[Client],
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    spoil(source, shard_clients, seed=2)
    killed = kill_at(monkeypatch, moment, lambda: stack.shard(1).kill())

    failures = errors(attempt(fleet, SLICES, ONCE))

    assert killed.done
    assert failures
    assert all("shard 1 (127.0.0.1:" in failure and "cannot be reached" in failure for failure in failures)
    stack.start_shard(1)
    reindex(fleet, SLICES)
    assert_equal(source, shard_clients, kind="process")
    assert staging_tables(shard_clients) == []


@pytest.mark.usefixtures("loaded", "mended")
def test_a_shard_that_comes_back_in_time_fails_no_slice(
    stack: LocalStack,
    fleet: Fleet,
    source: Connection,
    shard_clients: list[Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(source, shard_clients, seed=3)
    starting = threading.Thread(target=lambda: stack.start_shard(1))

    def kill() -> None:
        stack.shard(1).kill()
        starting.start()

    killed = kill_at(monkeypatch, "before the inserts", kill)

    outcomes = attempt(fleet, SLICES, replace(ONCE, attempts=8))

    starting.join()
    assert killed.done
    assert errors(outcomes) == []
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("loaded", "mended")
@pytest.mark.parametrize("moment", ["while rows are staged", "before the comparison", "before the inserts"])
def test_a_postgres_that_is_killed_under_a_run_is_named_and_one_more_run_makes_it_good(
    stack: LocalStack,
    fleet: Fleet,
    source: Connection,
    shard_clients: list[Client],
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    spoil(source, shard_clients, seed=4)
    killed = kill_at(monkeypatch, moment, stack.postgres.kill)

    failures = errors(attempt(fleet, SLICES, ONCE))

    assert killed.done
    # Once the comparison is done a run needs Postgres no more, and may end well.
    assert bool(failures) == (moment != "before the inserts")
    assert all("Postgres 127.0.0.1:" in failure for failure in failures)
    stack.up()
    reindex(fleet, SLICES)
    with contextlib.closing(connect_source(fleet)) as connection:
        assert_equal(connection, shard_clients, kind="process")
    assert staging_tables(shard_clients) == []
