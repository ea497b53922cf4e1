"""Reading from a standby: one that lags is told from one whose primary is idle, and its time never lies after what it shows.

What lives here: a real primary with a real streaming standby, their states, and the comparison on the standby. What does not: making
them (support/standby.py), and drift.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from clickhouse_connect.driver.client import Client

from reindex_assets.config.fleet import Fleet
from reindex_assets.config.local_environment import PASSWORD_VARIABLE
from reindex_assets.errors import LaggingReplicaError, SourceUnreachableError
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.postgres import USER
from reindex_assets.local.stack.processes import LOOPBACK
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import PROCESS, Slice
from reindex_assets.postgres.session import Snapshot, SourceSession
from reindex_assets_tests.support.comparing import compare
from reindex_assets_tests.support.hand_made_rows import add_scorecard, with_postgres
from reindex_assets_tests.support.plain_loader import load_plainly
from reindex_assets_tests.support.standby import READER, ReplicatedPostgres, replicated

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
LIMIT_SECONDS = 1
#: Longer than the limit, whatever the rounding.
LONG_SECONDS = 1.3


@pytest.fixture(scope="module")
def _pair(stack: LocalStack, stacks_directory: Path) -> Iterator[ReplicatedPostgres]:
    with replicated(stacks_directory, os.environ[PASSWORD_VARIABLE]) as pair:
        pair.on_primary("CREATE TABLE written (number int, written_at timestamptz)")
        pair.on_primary(f"GRANT SELECT ON written TO {READER}")
        yield pair


@pytest.fixture
def pair(_pair: ReplicatedPostgres) -> ReplicatedPostgres:
    """The pair, level with each other."""
    _pair.on_primary("TRUNCATE written")
    _pair.catch_up()
    return _pair


def at(fleet: Fleet, port: int, user: str = READER, limit_seconds: int = LIMIT_SECONDS) -> Fleet:
    return with_postgres(fleet, host=LOOPBACK, port=port, user=user, max_replica_lag_seconds=limit_seconds)


def session(fleet: Fleet, port: int, user: str = READER, limit_seconds: int = LIMIT_SECONDS) -> SourceSession:
    return SourceSession(at(fleet, port, user, limit_seconds).clusters[CLUSTER].postgres)


@pytest.fixture
def both_roles(fleet: Fleet, pair: ReplicatedPostgres) -> Callable[[], list[Snapshot]]:
    """Looks at the standby as the superuser and as an ordinary role, who must see the same, and refuses a lag."""

    def looked() -> list[Snapshot]:
        with ThreadPoolExecutor(2) as pool:
            looks = [pool.submit(look_as, user) for user in (USER, READER)]
        errors = [error for one in looks if (error := one.exception()) is not None]
        assert len(errors) in (0, len(looks)), errors
        return [one.result() for one in looks]

    def look_as(user: str) -> Snapshot:
        with session(fleet, pair.standby_port, user) as reading:
            return look(reading)

    return looked


def look(reading: SourceSession) -> Snapshot:
    """A snapshot that isn't lagging."""
    with reading.snapshot({}) as snapshot:
        reading.assert_not_lagging(snapshot)
        return snapshot


def write(pair: ReplicatedPostgres, number: int) -> None:
    pair.on_primary("INSERT INTO written VALUES (%s, clock_timestamp())", number)


def now() -> int:
    return time.time_ns() // 1000


def test_a_primary_has_no_lag(fleet: Fleet, pair: ReplicatedPostgres) -> None:
    before = now()
    with session(fleet, pair.primary_port) as reading:
        snapshot = look(reading)
    assert (snapshot.is_standby, snapshot.lag_seconds) == (False, 0.0)
    assert before <= snapshot.microseconds <= now()


def test_a_standby_that_is_level_has_no_lag_however_long_its_primary_is_idle(
    fleet: Fleet,
    pair: ReplicatedPostgres,
    both_roles: Callable[[], list[Snapshot]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(pair, 1)
    pair.catch_up()
    idle_since = now()
    time.sleep(LONG_SECONDS)

    for snapshot in both_roles():
        assert (snapshot.is_standby, snapshot.lag_seconds) == (True, 0.0)
        # It may not say that it shows more: what the primary does now might be under way.
        assert snapshot.microseconds <= idle_since
    with session(fleet, pair.standby_port) as reading:
        look(reading)
        monkeypatch.setattr(
            "reindex_assets.postgres.standby.time.sleep", lambda seconds: pytest.fail("a session waits but once")
        )
        assert look(reading).lag_seconds == 0.0


def test_a_standby_that_does_not_replay_is_refused_until_it_does_again(
    fleet: Fleet, pair: ReplicatedPostgres, both_roles: Callable[[], list[Snapshot]]
) -> None:
    with pair.replay_paused():
        write(pair, 1)
        time.sleep(LONG_SECONDS)
        with pytest.raises(LaggingReplicaError) as refused:
            both_roles()
        with session(fleet, pair.standby_port, limit_seconds=3600) as patient:
            assert LONG_SECONDS < look(patient).lag_seconds < 3600
    pair.catch_up()
    assert [snapshot.lag_seconds for snapshot in both_roles()] == [0.0, 0.0]

    text = str(refused.value)
    assert f"Postgres {LOOPBACK}:{pair.standby_port}/app is a standby" in text
    assert f"max_replica_lag_seconds ({LIMIT_SECONDS} s)" in text
    assert "at the primary" in text
    assert LONG_SECONDS - 0.1 <= float(text.split(" s behind")[0].split()[-1]) < 60


def test_a_standby_without_its_primary_is_refused_after_the_limit(
    pair: ReplicatedPostgres, both_roles: Callable[[], list[Snapshot]]
) -> None:
    write(pair, 1)
    pair.catch_up()
    with pair.primary_stopped():
        time.sleep(LONG_SECONDS)
        with pytest.raises(LaggingReplicaError):
            both_roles()
        pair.restart_standby()
        with pytest.raises(LaggingReplicaError):
            both_roles()
    pair.catch_up()
    both_roles()


def test_a_standby_just_started_has_replayed_no_commit_and_yet_knows_a_time_and_a_lag(
    pair: ReplicatedPostgres, both_roles: Callable[[], list[Snapshot]]
) -> None:
    before = now()
    write(pair, 1)
    pair.on_primary("CHECKPOINT")  # where it starts again: after the commit
    pair.catch_up()
    idle_since = now()
    pair.restart_standby()
    pair.catch_up()
    time.sleep(LONG_SECONDS)

    assert pair.on_standby("SELECT pg_last_xact_replay_timestamp()") == [(None,)]
    for snapshot in both_roles():
        assert snapshot.lag_seconds == 0.0
        # A checkpoint's time is a whole second.
        assert before - 1_000_000 <= snapshot.microseconds <= idle_since


def test_a_standby_that_has_replayed_all_it_received_lags_while_more_comes_in_late(
    pair: ReplicatedPostgres, both_roles: Callable[[], list[Snapshot]]
) -> None:
    with pair.thin_line(bytes_per_second=300_000):
        pair.on_primary("INSERT INTO written SELECT 0, now() FROM generate_series(1, 20000)")
        write(pair, 2)
        time.sleep(LONG_SECONDS)
        with pytest.raises(LaggingReplicaError):
            both_roles()
        assert pair.on_standby("SELECT count(*) FROM written") == [(0,)]
    pair.catch_up()
    both_roles()


def test_the_time_of_a_snapshot_on_a_standby_is_never_later_than_what_it_shows(
    fleet: Fleet, pair: ReplicatedPostgres
) -> None:
    # Each row says when it was written, and by then every row before it could be seen on the primary.
    commits = (
        "DO $$ BEGIN SET synchronous_commit = off; FOR number IN 1..60000 LOOP"
        " INSERT INTO written VALUES (number, clock_timestamp()); COMMIT; END LOOP; END $$"
    )
    seen: list[tuple[int, int]] = []
    with ThreadPoolExecutor(1) as other, session(fleet, pair.standby_port) as reading:
        writing = other.submit(pair.on_primary, commits)
        while not writing.done():
            with reading.snapshot({}) as snapshot:
                [row] = reading.rows("SELECT coalesce(max(number), 0) AS number FROM public.written")
                seen.append((snapshot.microseconds, row["number"]))
        writing.result()

    rows = pair.on_primary("SELECT number, floor(extract(epoch FROM written_at) * 1000000)::bigint FROM written")
    written_at = dict(cast(list[tuple[int, int]], rows))
    # The first row that a snapshot does not show could be seen when the row after it was written.
    checked = [(shown, written_at[number + 2]) for shown, number in seen if number and number + 2 in written_at]
    assert len(checked) > 20
    assert not [(shown, visible) for shown, visible in checked if shown > visible]


def test_a_row_that_is_not_replayed_yet_is_newer_than_the_snapshot(fleet: Fleet, pair: ReplicatedPostgres) -> None:
    write(pair, 1)
    pair.catch_up()
    with pair.replay_paused():
        before = now()
        write(pair, 2)
        with session(fleet, pair.standby_port) as reading, reading.snapshot({}) as snapshot:
            assert reading.rows("SELECT number FROM public.written") == [{"number": 1}]
    assert snapshot.microseconds < before


@pytest.mark.parametrize("at_work", [True, False], ids=["during a statement", "between two statements"])
def test_a_query_that_the_replay_cancels_is_an_engine_out_of_reach(
    fleet: Fleet, pair: ReplicatedPostgres, at_work: bool
) -> None:
    write(pair, 1)
    pair.catch_up()
    with session(fleet, pair.standby_port) as reading, pytest.raises(SourceUnreachableError) as cancelled:
        read_what_is_vacuumed_meanwhile(pair, reading, at_work)
    assert f"{LOOPBACK}:{pair.standby_port}" in str(cancelled.value)
    assert "conflict with recovery" in str(cancelled.value)
    assert "hot_standby_feedback" in str(cancelled.value)


def read_what_is_vacuumed_meanwhile(pair: ReplicatedPostgres, reading: SourceSession, at_work: bool) -> None:
    with reading.snapshot({}), ThreadPoolExecutor(1) as other:
        reading.rows("SELECT number FROM public.written")
        vacuumed = other.submit(vacuum, pair, after_seconds=0.3 if at_work else 0.0)
        if not at_work:
            vacuumed.result()
            pair.await_on_standby("SELECT pg_stat_get_db_conflict_all(oid) > 0 FROM pg_database WHERE datname = 'app'")
        reading.rows("SELECT pg_sleep(20)::text AS slept FROM public.written")


def vacuum(pair: ReplicatedPostgres, after_seconds: float) -> None:
    time.sleep(after_seconds)
    pair.on_primary("DELETE FROM written")
    pair.on_primary("VACUUM written")


@pytest.mark.usefixtures("clean")
def test_the_comparison_on_a_standby_that_is_level_is_the_comparison_on_its_primary(
    fleet: Fleet, pair: ReplicatedPostgres, shard_clients: list[Client]
) -> None:
    with contextlib.closing(pair.connect_primary()) as primary:
        for seconds in range(20):
            add_scorecard(primary, NOON + timedelta(seconds=seconds))
        add_scorecard(primary, NOON, customer="globex")
        load_plainly(primary, shard_clients)
        add_scorecard(primary, NOON, customer="globex")
    pair.catch_up()
    slices = [Slice(customer, NOON.date()) for customer in ("acme", "globex")]

    on_standby, on_primary = (
        compare(at(fleet, port).dataset(CLUSTER, PROCESS), slices) for port in (pair.standby_port, pair.primary_port)
    )

    assert [found.tables for found in on_standby] == [found.tables for found in on_primary]
    assert [found.is_equal for found in on_standby] == [True, False]
    assert [found.scorecards.postgres_rows for found in on_standby] == [20, 2]
