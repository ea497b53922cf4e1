"""The cap on connections to a shared Postgres: it holds whoever asks, nobody waits for itself, and nothing killed leaves a slot behind.

What lives here: sessions beside each other on real servers, a standby among them. What does not: what one session may do
(postgres/test_session.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from dagster import DagsterInstance
from psycopg2.extensions import connection as Connection
from pydantic import ValidationError

from reindex_assets.comparison.verification import Depth, verify
from reindex_assets.config.cluster import Watch
from reindex_assets.config.engines import Postgres
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.local_environment import PASSWORD_VARIABLE
from reindex_assets.defs.automation import repair_sensor
from reindex_assets.drift.watch import look
from reindex_assets.drift.watch_state import WatchState
from reindex_assets.errors import SourceBusyError, SourceUnreachableError
from reindex_assets.local.oracle.compare import assert_equal
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.processes import LOOPBACK
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import PROCESS, Slice
from reindex_assets.postgres.connection_slots import LOCK_CLASS
from reindex_assets.postgres.session import SourceSession
from reindex_assets.reindex.job import Reindex, ReindexOptions
from reindex_assets_tests.support.comparing import compare_settled
from reindex_assets_tests.support.datasets import watched_by
from reindex_assets_tests.support.hand_made_rows import add_scorecard, reindex, succeeded, with_postgres
from reindex_assets_tests.support.repair_loop import RepairLoop
from reindex_assets_tests.support.standby import READER, replicated
from reindex_assets_tests.support.waiting import until

DAY = date(2026, 1, 5)
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SLICES = [Slice("acme", DAY), Slice("globex", DAY)]

_SLOTS_IN_USE = (
    "SELECT count(*)::int AS number FROM pg_locks"
    f" WHERE locktype = 'advisory' AND classid = {LOCK_CLASS} AND objsubid = 2 AND granted"
)
#: A session in a process of its own: says that it has one, and keeps Postgres at work.
_AT_WORK = """
import sys
from reindex_assets.config.fleet import load_fleet
from reindex_assets.postgres.session import SourceSession

with SourceSession(load_fleet(sys.argv[1]).clusters[sys.argv[2]].postgres) as session:
    sys.stdout.write("connected\\n")
    sys.stdout.flush()
    session.rows("SELECT pg_sleep(600)::text AS slept")
"""


def granting(fleet: Fleet, connections: int = 2, wait_seconds: int = 60, **changes: object) -> Fleet:
    return with_postgres(fleet, max_connections=connections, connection_wait_seconds=wait_seconds, **changes)


def session(fleet: Fleet) -> SourceSession:
    return SourceSession(fleet.clusters[CLUSTER].postgres)


@contextmanager
def taken(fleet: Fleet, connections: int) -> Iterator[ExitStack]:
    """Holds so many connections, until the stack is closed."""
    with ExitStack() as held:
        for _ in range(connections):
            held.enter_context(session(fleet))
        yield held


def our_backends(source: Connection) -> set[int]:
    with source.cursor() as cursor:
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'reindex_assets %'")
        return {pid for (pid,) in cursor.fetchall()}


def test_however_many_ask_at_once_no_more_than_the_cap_have_a_slot_and_all_have_their_turn(fleet: Fleet) -> None:
    capped = granting(fleet, connections=3)
    others = threading.Barrier(9)

    def visit(_: int) -> list[int]:
        others.wait()
        seen = []
        for _ in range(2):
            with session(capped) as mine:
                for _ in range(5):
                    seen += [row["number"] for row in mine.rows(_SLOTS_IN_USE)]
                    time.sleep(0.02)
        return seen

    with ThreadPoolExecutor(9) as pool:
        seen = [number for visits in pool.map(visit, range(9)) for number in visits]

    assert len(seen) == 9 * 2 * 5
    assert max(seen) == 3


def test_who_waits_says_so_holds_no_connection_and_gets_the_first_slot_that_comes_free(
    fleet: Fleet, source: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    capped = granting(fleet)
    with ThreadPoolExecutor(1) as other, taken(capped, 1), taken(capped, 1) as second:
        waiting = other.submit(lambda: session(capped))
        until(lambda: "all 2 connections of max_connections are in use; waiting for up to " in caplog.text)
        assert f" {os.getpid()}@" in caplog.text.partition(" s for ")[2]
        # Between two questions.
        until(lambda: len(our_backends(source)) == 2)
        assert not waiting.done()
        second.close()
        with waiting.result(60) as mine:
            mine.assert_alive()


def test_a_wait_in_vain_ends_with_an_error_that_says_who_holds_what_and_what_to_do(
    fleet: Fleet, source: Connection
) -> None:
    address = fleet.clusters[CLUSTER].postgres
    with taken(granting(fleet), 1), session(granting(fleet)) as second:
        held_by = our_backends(source)
        asked = time.monotonic()
        with pytest.raises(SourceBusyError) as refused:
            session(granting(fleet, wait_seconds=1))
        assert time.monotonic() - asked >= 1
        # It has not left a connection behind.
        until(lambda: our_backends(source) == held_by)
        second.assert_alive()

    text = str(refused.value)
    assert f"Postgres {address.host}:{address.port}/{address.database}" in text
    assert "all 2 connections" in text
    assert "connection_wait_seconds (1 s)" in text
    assert len(held_by) == 2
    for pid in held_by:
        assert f"pid {pid} (reindex_assets {os.getpid()}@" in text
    assert "raise max_connections" in text
    assert "pg_terminate_backend" in text
    # Nothing is known then: whoever handles an engine out of reach handles this.
    assert isinstance(refused.value, SourceUnreachableError)


def test_nobody_is_refused_while_more_is_granted_to_him_than_to_others(fleet: Fleet) -> None:
    with taken(granting(fleet, connections=2), 2), pytest.raises(SourceBusyError):
        session(granting(fleet, connections=2, wait_seconds=0))
    with taken(granting(fleet, connections=2), 2), session(granting(fleet, connections=3, wait_seconds=0)) as third:
        third.assert_alive()


def test_a_killed_process_leaves_no_slot_also_while_postgres_works_for_it(fleet: Fleet, stack: LocalStack) -> None:
    command = [sys.executable, "-c", _AT_WORK, str(stack.fleet_path), CLUSTER]
    with taken(granting(fleet), 1), subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as victim:
        try:
            assert victim.stdout is not None
            assert victim.stdout.readline() == "connected\n"
            with pytest.raises(SourceBusyError, match=rf"reindex_assets {victim.pid}@"):
                session(granting(fleet, wait_seconds=0))
        finally:
            victim.kill()
            victim.wait()
        # Its statement would have gone on for ten minutes.
        with session(granting(fleet)) as next_one:
            next_one.assert_alive()


@pytest.fixture
def rows(clean: None, source: Connection) -> None:
    for seconds in range(8):
        add_scorecard(source, NOON + timedelta(seconds=seconds))
        add_scorecard(source, NOON + timedelta(seconds=seconds), customer="globex")


@pytest.mark.usefixtures("rows")
def test_a_run_a_check_a_verification_and_a_look_of_the_watch_need_one_connection_each(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    # Two of them, each with one connection, would wait for each other's second one for ever.
    capped = granting(fleet, wait_seconds=20)
    with taken(capped, 1):
        succeeded(reindex(capped, SLICES))
        assert_equal(source, shard_clients, kind="process")
        add_scorecard(source, NOON)
        settled = compare_settled(capped.dataset(CLUSTER, PROCESS), SLICES, settle_seconds=0.1)
        assert [parity.is_equal for parity in settled] == [False, True]
        assert not verify(capped, [], DAY, DAY, kind=PROCESS, depth=Depth.ROWS, settle_seconds=0.1).agrees
        watched = watched_by(capped.dataset(CLUSTER, PROCESS), Watch(settle_seconds=0.1))
        assert set(look(watched, (DAY, DAY), WatchState()).drifted) == {SLICES[0]}


@pytest.mark.usefixtures("rows")
def test_a_run_that_finds_every_connection_in_use_tries_again(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    told: list[str] = []
    with taken(granting(fleet), 2) as others:

        def others_end(message: str) -> None:
            told.append(message)
            others.close()

        run = Reindex(
            granting(fleet, wait_seconds=0).dataset(CLUSTER, PROCESS),
            ReindexOptions(attempts=4),
            on_retry=others_end,
        )
        outcomes = run.run(SLICES)

    assert "all 2 connections" in told[0]
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("rows")
def test_a_comparison_that_gets_no_connection_says_nothing_about_the_rows(fleet: Fleet) -> None:
    with taken(granting(fleet), 2), pytest.raises(SourceBusyError):
        compare_settled(granting(fleet, wait_seconds=0).dataset(CLUSTER, PROCESS), SLICES)


@pytest.mark.usefixtures("clean")
def test_a_tick_of_the_repair_sensor_waits_less_than_dagster_waits_for_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert repair_sensor._CONNECTION_WAIT_SECONDS <= 30
    monkeypatch.setattr(repair_sensor, "_CONNECTION_WAIT_SECONDS", 1)
    haste = r"connection_wait_seconds \(1 s\)"
    with taken(granting(fleet), 2), DagsterInstance.get() as instance, pytest.raises(SourceBusyError, match=haste):
        RepairLoop(granting(fleet, wait_seconds=3600), instance, kind=PROCESS).tick()


def test_a_standby_has_slots_of_its_own_and_an_ordinary_role_may_take_them(
    fleet: Fleet, stack: LocalStack, stacks_directory: Path
) -> None:
    with replicated(stacks_directory, os.environ[PASSWORD_VARIABLE]) as pair:
        pair.catch_up()
        standby, primary = (
            granting(fleet, wait_seconds=0, host=LOOPBACK, port=port, user=READER)
            for port in (pair.standby_port, pair.primary_port)
        )
        with taken(standby, 1) as first, taken(standby, 1):
            assert pair.on_standby("SELECT pg_is_in_recovery()") == [(True,)]
            assert pair.on_standby(_SLOTS_IN_USE) == [(2,)]
            with pytest.raises(SourceBusyError, match=f"{LOOPBACK}:{pair.standby_port}.*reindex_assets {os.getpid()}@"):
                session(standby)
            with taken(primary, 2):
                assert pair.on_primary(_SLOTS_IN_USE) == [(2,)]
            first.close()
            until(lambda: pair.on_standby(_SLOTS_IN_USE) == [(1,)])
            with session(standby) as next_one, next_one.snapshot({}) as snapshot:
                assert snapshot.is_standby


def test_slots_of_another_role_are_named_by_their_process_too(
    fleet: Fleet, source: Connection, stack: LocalStack
) -> None:
    with source.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {READER} LOGIN PASSWORD %s", (os.environ[PASSWORD_VARIABLE],))
    try:
        with taken(granting(fleet), 2), pytest.raises(SourceBusyError) as refused:
            session(granting(fleet, wait_seconds=0, user=READER))
    finally:
        with source.cursor() as cursor:
            cursor.execute(f"DROP ROLE {READER}")
    assert str(refused.value).count(f"(reindex_assets {os.getpid()}@") == 2


@pytest.mark.parametrize("wrong", [{"max_connections": 1}, {"connection_wait_seconds": -1}, {"max_rows_per_second": 0}])
def test_limits_that_would_stop_everything_are_refused(fleet: Fleet, wrong: dict[str, int]) -> None:
    document = fleet.clusters[CLUSTER].postgres.model_dump()
    with pytest.raises(ValidationError, match="greater than or equal to"):
        Postgres.model_validate({**document, **wrong})


def test_connections_are_few_and_rows_unlimited_unless_the_fleet_file_says_otherwise() -> None:
    postgres = Postgres.model_validate({"host": "h", "database": "d", "user": "u", "password": {"env": "E"}})
    assert (postgres.max_connections, postgres.connection_wait_seconds, postgres.max_rows_per_second) == (8, 120, None)
