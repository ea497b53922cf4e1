"""The local shard server under many clients at once, and its process: killed, ended, started again.

What lives here: clients that go away, `kill -9`, signals, and starts that are refused. What does not: the stack's own crashes
(local/test_local_crashes.py).
"""

from __future__ import annotations

import signal
import socket
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error

from reindex_assets.config.local_environment import PASSWORD_VARIABLE
from reindex_assets_tests.support.shard_servers import (
    PASSWORD,
    Shard,
    free_port,
    spawn,
    start,
)
from reindex_assets_tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("engines")


def test_eight_threads_write_and_read_at_once(shard: Shard, database: str) -> None:
    with shard.client(database=database) as admin:
        admin.command("CREATE TABLE t (w UInt8, b UInt32, n UInt32) ENGINE = MergeTree ORDER BY (w, b, n)")

    def write(writer: int) -> int:
        with shard.client(database=database) as client:
            for batch in range(6):
                rows = [[writer, batch, n] for n in range(1_000)]
                client.insert("t", rows, column_names=["w", "b", "n"], settings={"async_insert": 0})
                sizes = client.query("SELECT DISTINCT count() FROM t GROUP BY w, b").result_columns[0]
                assert list(sizes) == [1_000]
        return 6_000

    with ThreadPoolExecutor(8) as pool:
        written = sum(pool.map(write, range(8)))
    with shard.client(database=database) as admin:
        assert admin.command("SELECT count() FROM t") == written == 48_000


def test_a_query_whose_client_goes_away_is_cancelled(shard: Shard, client: Client) -> None:
    mark = uuid.uuid4().hex
    body = f"SELECT count(), '{mark}' FROM numbers(1000000000000) WHERE sipHash64(number) = 5".encode()
    request = (
        b"POST / HTTP/1.1\r\nHost: x\r\nX-ClickHouse-User: default\r\nX-ClickHouse-Key: "
        + PASSWORD.encode()
        + b"\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )
    running = "SELECT count() FROM system.processes WHERE query LIKE {m:String} AND query NOT LIKE '%system.processes%'"
    with socket.create_connection(("127.0.0.1", shard.port)) as connection:
        connection.sendall(request)
        until(lambda: client.command(running, parameters={"m": f"%{mark}%"}) == 1)
    until(lambda: client.command(running, parameters={"m": f"%{mark}%"}) == 0)


def test_a_stream_left_half_read_does_not_wedge_the_shard(shard: Shard, client: Client) -> None:
    for fmt in ("Native", "ArrowStream"):
        body = f"SELECT number, toString(number) FROM numbers(100000000) FORMAT {fmt}".encode()
        connection = shard.raw()
        connection.request("POST", "/", body, {"X-ClickHouse-User": "default", "X-ClickHouse-Key": PASSWORD.encode()})
        assert connection.getresponse().read(100_000)
        connection.close()
    running = (
        "SELECT count() FROM system.processes WHERE query LIKE '%numbers(100000000)%' AND query NOT LIKE '%processes%'"
    )
    until(lambda: client.command(running) == 0)


def test_no_acknowledged_batch_is_lost_and_none_is_partial_after_kill_9(tmp_path: Path) -> None:
    running = start(tmp_path)
    with running.client() as admin:
        admin.command("CREATE DATABASE kept")
        admin.command("CREATE TABLE kept.t (w UInt8, b UInt32, n UInt32) ENGINE = MergeTree ORDER BY (w, b, n)")
    rows = 3_000
    acknowledged: list[tuple[int, int]] = []

    def write(writer: int, first: int) -> None:
        with suppress(Error), running.client() as client:
            for batch in range(first, first + 100_000):
                numbers = pa.array(range(rows), pa.uint32())
                table = pa.table(
                    {
                        "w": pa.array([writer] * rows, pa.uint8()),
                        "b": pa.array([batch] * rows, pa.uint32()),
                        "n": numbers,
                    }
                )
                client.insert_arrow("kept.t", table, settings={"async_insert": 0})
                acknowledged.append((writer, batch))

    for round_number in range(3):
        writers = [threading.Thread(target=write, args=(w, round_number * 1_000_000)) for w in range(3)]
        for writer in writers:
            writer.start()
        # Killed in the midst of writing, however slow the machine: not before some batches are acknowledged.
        enough = len(acknowledged) + 5
        until(partial(lambda enough: len(acknowledged) > enough, enough))
        time.sleep(0.17 * round_number)
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        for writer in writers:
            writer.join()
        running = start(tmp_path, running.port)
        with running.client() as admin:
            found = admin.query("SELECT w, b, count(), uniqExact(n) FROM kept.t GROUP BY w, b").result_rows
        assert set(acknowledged) - {(row[0], row[1]) for row in found} == set()
        assert {row[2:] for row in found} == {(rows, rows)}
    assert running.stop() == 0


def test_a_restart_finds_the_tables_of_every_database_again(tmp_path: Path) -> None:
    for expected in (0, 1, 2):
        running = start(tmp_path)
        with running.client() as client:
            client.command("CREATE TABLE IF NOT EXISTS t (n UInt64) ENGINE = MergeTree ORDER BY n")
            assert client.command("SELECT count() FROM t") == expected
            client.insert("t", [[expected]], column_names=["n"])
        assert running.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_shard_soon_even_when_a_query_never_would(tmp_path: Path, number: signal.Signals) -> None:
    running = start(tmp_path)
    client = running.client()
    endless = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 5"

    def ask_endlessly() -> None:
        with suppress(Error):
            client.command(endless)

    busy = threading.Thread(target=ask_endlessly)
    busy.start()
    time.sleep(0.3)
    running.process.send_signal(number)
    # About one second on an idle machine; the query alone would take an hour.
    assert running.process.wait(120) == 0
    busy.join()
    assert start(tmp_path).stop() == 0


def test_a_second_process_on_the_same_path_is_refused(shard: Shard) -> None:
    second = spawn(shard.path, free_port())
    _, message = second.communicate(timeout=30)
    assert second.returncode == 2
    assert str(shard.path) in message
    assert "Stop that process first" in message
    with shard.client() as client:
        assert client.command("SELECT 1") == 1


def test_a_start_without_password_or_with_a_taken_port_is_refused(shard: Shard, tmp_path: Path) -> None:
    without = spawn(tmp_path / "a", free_port(), password=None)
    assert PASSWORD_VARIABLE in without.communicate(timeout=30)[1]
    assert without.returncode == 2
    taken = spawn(tmp_path / "b", shard.port)
    assert str(shard.port) in taken.communicate(timeout=30)[1]
    assert taken.returncode == 2


def test_this_process_never_loads_the_engine() -> None:
    assert not any(name == "chdb" or name.startswith("chdb.") for name in sys.modules)
