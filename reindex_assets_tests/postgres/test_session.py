"""What one session may do to a shared Postgres: read, at a limited rate, and never hold anything for ever.

What lives here: refused writes, statements that take too long, readers that stop. What does not: how many sessions there are
(postgres/test_connection_slots.py), standbys (postgres/test_standby.py), and wrong addresses (postgres/test_unusable_engines.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pyarrow as pa
import pytest
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ReindexError, SourceUnreachableError
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.postgres.session import SourceSession
from reindex_assets_tests.support.hand_made_rows import with_postgres
from reindex_assets_tests.support.waiting import until

_NUMBERS = "SELECT number, repeat('x', 100) AS text FROM generate_series(1, {rows}) AS number"


def session(fleet: Fleet, **changes: object) -> SourceSession:
    return SourceSession(with_postgres(fleet, **changes).clusters[CLUSTER].postgres)


def all_rows(reading: SourceSession, sql: str) -> pa.Table:
    return pa.Table.from_batches(reading.stream(sql))


def backend(reading: SourceSession) -> int:
    [row] = reading.rows("SELECT pg_backend_pid() AS pid")
    pid: int = row["pid"]
    return pid


def lives(source: Connection, pid: int) -> bool:
    with source.cursor() as cursor:
        cursor.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,))
        return cursor.rowcount == 1


# --- it only reads


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO app.written VALUES (2)",
        "UPDATE app.written SET number = 2",
        "DELETE FROM app.written",
        "TRUNCATE app.written",
        "DROP TABLE app.written",
        "CREATE TABLE app.made (number int)",
        "WITH gone AS (DELETE FROM app.written RETURNING number) SELECT number FROM gone",
        "SELECT number FROM app.written FOR UPDATE",
    ],
)
def test_a_write_is_refused_in_a_snapshot_and_outside(fleet: Fleet, source: Connection, sql: str) -> None:
    with source.cursor() as cursor:
        # A superuser's session: only the transaction itself stands in the way.
        cursor.execute("CREATE TABLE app.written AS SELECT 1 AS number")
        try:
            with session(fleet) as reading, pytest.raises(ReindexError, match="read-only transaction"):
                reading.rows(sql)
            with session(fleet) as reading, reading.snapshot({}), pytest.raises(ReindexError, match="read-only"):
                reading.rows(sql)
            with session(fleet) as reading, reading.snapshot({}), pytest.raises(ReindexError):
                list(reading.stream(sql))
            cursor.execute("SELECT number FROM app.written")
            assert cursor.fetchall() == [(1,)]
        finally:
            cursor.execute("DROP TABLE app.written")


# --- it ends


@pytest.mark.parametrize(
    "ask", [SourceSession.rows, lambda reading, sql: list(reading.stream(sql))], ids=["a few rows", "a stream"]
)
def test_a_statement_that_takes_too_long_ends_with_an_error_that_names_the_limit_and_the_remedy(
    fleet: Fleet, ask: Callable[[SourceSession, str], object]
) -> None:
    with session(fleet, statement_timeout_seconds=1) as reading:
        with reading.snapshot({}), pytest.raises(ReindexError) as cancelled:
            ask(reading, "SELECT number, pg_sleep(0.01)::text AS slept FROM generate_series(1, 6000) AS number")
        # The session itself is sound.
        assert reading.rows("SELECT 1 AS one") == [{"one": 1}]
    text = str(cancelled.value)
    assert f"Postgres {fleet.clusters[CLUSTER].postgres.host}:" in text
    assert "longer than statement_timeout_seconds (1 s)" in text
    assert "group_scorecards" in text
    # The same would take as long again: no case for another try.
    assert not isinstance(cancelled.value, SourceUnreachableError)


def test_a_statement_that_somebody_cancels_is_not_tried_again(fleet: Fleet) -> None:
    with session(fleet) as reading, pytest.raises(ReindexError, match="as somebody has asked for") as cancelled:
        reading.rows("SELECT pg_cancel_backend(pg_backend_pid()) AS done, pg_sleep(60)::text AS slept")
    assert not isinstance(cancelled.value, SourceUnreachableError)


def test_a_reader_that_stops_in_the_middle_of_a_stream_does_not_hold_its_snapshot_for_ever(
    fleet: Fleet, source: Connection
) -> None:
    # No timeout of a statement ends it: the server waits for its reader, and heeds none.
    with session(fleet, statement_timeout_seconds=2) as reading:
        pid = backend(reading)
        with reading.snapshot({}):
            batches = reading.stream("SELECT repeat('x', 1000) AS text FROM generate_series(1, 200000)")
            next(batches)
            until(lambda: not lives(source, pid))
            with pytest.raises(SourceUnreachableError, match="broke off"):
                list(batches)


def test_a_reader_that_stops_between_two_statements_does_not_hold_its_snapshot_for_ever(
    fleet: Fleet, source: Connection
) -> None:
    with session(fleet, statement_timeout_seconds=1) as reading:
        pid = backend(reading)
        with reading.snapshot({}):
            until(lambda: not lives(source, pid))
            with pytest.raises(SourceUnreachableError, match="idle-in-transaction timeout"):
                reading.rows("SELECT 1 AS one")


def test_a_session_without_a_snapshot_is_left_alone_however_long_the_shards_write(fleet: Fleet) -> None:
    # Its locks of slices hang on it.
    with session(fleet, statement_timeout_seconds=1) as reading:
        with reading.snapshot({}):
            reading.rows("SELECT 1 AS one")
        time.sleep(2.5)
        reading.assert_alive()


def test_the_server_misses_a_vanished_machine_within_a_minute(fleet: Fleet) -> None:
    with session(fleet) as reading:
        [found] = reading.rows(
            "SELECT current_setting('tcp_keepalives_idle')::int AS idle,"
            " current_setting('tcp_keepalives_interval')::int AS pause, current_setting('tcp_keepalives_count')::int AS number"
        )
    assert 0 < found["idle"] + found["pause"] * found["number"] <= 60


# --- it does not hurry


def test_a_limited_session_takes_its_time_and_brings_every_row(fleet: Fleet) -> None:
    rows, rate = 6_000, 3_000
    with session(fleet, max_rows_per_second=rate) as reading, reading.snapshot({}):
        begun = time.monotonic()
        found = all_rows(reading, _NUMBERS.format(rows=rows))
        assert time.monotonic() - begun >= rows / rate * 0.8
    assert found["number"].to_pylist() == list(range(1, rows + 1))


def test_many_short_streams_are_no_way_around_the_limit(fleet: Fleet) -> None:
    streams, rows, rate = 40, 100, 2_000
    with session(fleet, max_rows_per_second=rate) as reading, reading.snapshot({}):
        begun = time.monotonic()
        for _ in range(streams):
            assert all_rows(reading, _NUMBERS.format(rows=rows)).num_rows == rows
        assert time.monotonic() - begun >= streams * rows / rate * 0.8


def test_a_limited_session_reads_in_pieces_of_about_a_second_instead_of_bursts(fleet: Fleet) -> None:
    rate = 2_000
    with session(fleet, max_rows_per_second=rate) as reading, reading.snapshot({}):
        sizes = [batch.num_rows for batch in reading.stream(_NUMBERS.format(rows=8_000))]
    assert sum(sizes) == 8_000
    # Rows of half the assumed length, so twice as many.
    assert max(sizes) <= 3 * rate


def test_an_unlimited_session_brings_the_same_rows(fleet: Fleet) -> None:
    with session(fleet) as reading, reading.snapshot({}):
        found = all_rows(reading, _NUMBERS.format(rows=100_000))
    assert found["number"].to_pylist() == list(range(1, 100_001))
