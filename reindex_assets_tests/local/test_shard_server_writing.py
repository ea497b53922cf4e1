"""What goes into the local shard server: in every format, whole or not at all.

What lives here: inserts over unmodified clickhouse-connect, and uploads that fail, break off or are slow. What does not: what is read
(local/test_shard_server.py).
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import cast
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, Error
from clickhouse_connect.driver.summary import QuerySummary

from reindex_assets_tests.support.shard_servers import (
    PASSWORD,
    Shard,
)
from reindex_assets_tests.support.waiting import until


def test_two_hundred_thousand_rows_go_in_at_once_and_are_one_part(client: Client) -> None:
    client.command("CREATE TABLE t (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
    numbers = range(200_000)
    table = pa.table({"n": pa.array(numbers, pa.uint64()), "s": pa.array([f"text of row {n}" for n in numbers])})
    summary = client.insert_arrow("t", table, settings={"async_insert": 0})
    assert summary.written_rows == 200_000
    summary = client.insert("t", [[n, "x"] for n in numbers], column_names=["n", "s"], settings={"async_insert": 0})
    assert summary.written_rows == 200_000
    assert client.query("SELECT count(), uniqExact(n) FROM t").first_row == (400_000, 200_000)
    client.command("SYSTEM FLUSH LOGS")
    parts = client.query(
        "SELECT rows FROM system.part_log WHERE event_type = 'NewPart' AND database = {d:String} ORDER BY event_time",
        parameters={"d": client.database},
    )
    assert parts.result_columns == [[200_000, 200_000]]


def test_values_and_raw_formats_insert_with_or_without_a_query_parameter(client: Client) -> None:
    client.command("CREATE TABLE t (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
    client.command("INSERT INTO t (n, s) VALUES (1 + 1, 'FORMAT x'), (3, upper('values'))")
    client.command("INSERT INTO t VALUES ({n:UInt64}, {s:String})", parameters={"n": 4, "s": "it's"})
    client.raw_insert("t", ["n", "s"], "5\tfive\n6\tsix\n", fmt="TSV")
    client.raw_insert("t", ["n", "s"], (piece for piece in (b"7,seven\n8,ei", b"ght\n")), fmt="CSV")
    client.command("INSERT INTO t FORMAT JSONEachRow", data='{"n": 9, "s": "nine"}')
    client.command("INSERT INTO t SELECT 10, 'FORMAT Native'")
    client.command("INSERT INTO t VALUES " + ",".join(f"({n}, '{'x' * 90}')" for n in range(100, 5_100)))
    assert client.query("SELECT n, s FROM t WHERE n < 100 ORDER BY n").result_rows == [
        (2, "FORMAT x"),
        (3, "VALUES"),
        (4, "it's"),
        (5, "five"),
        (6, "six"),
        (7, "seven"),
        (8, "eight"),
        (9, "nine"),
        (10, "FORMAT Native"),
    ]
    assert client.command("SELECT count() FROM t WHERE n >= 100") == 5_000


def test_an_insert_that_fails_leaves_nothing_and_the_connection_lives(client: Client) -> None:
    client.command("CREATE TABLE t (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
    with pytest.raises(DatabaseError) as caught:
        client.raw_insert("t", ["n", "s"], "1\ta\n2\tb\nnot a number\tc\n" * 10_000, fmt="TSV")
    assert caught.value.code == 27
    # A value that the client can't write: it spoils the body on purpose, so that the server refuses the insert.
    with pytest.raises(AttributeError):
        client.insert("t", [[1, "a"], [2, object()]], column_names=["n", "s"])
    assert client.command("SELECT count() FROM t") == 0


def test_an_upload_that_breaks_off_leaves_nothing_and_the_shard_serves_on(shard: Shard, client: Client) -> None:
    client.command("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY s")
    head = (
        f"POST /?database={client.database}&query=INSERT+INTO+t+FORMAT+TSV HTTP/1.1\r\nHost: x\r\n"
        "X-ClickHouse-User: default\r\nX-ClickHouse-Key: "
    ).encode() + PASSWORD.encode()
    whole_rows = b"row\n" * 100_000
    for framing, body in (
        (b"Content-Length: 1000000000", whole_rows),
        (b"Transfer-Encoding: chunked", b"%x\r\n" % (len(whole_rows) + 10) + whole_rows),
        (b"Transfer-Encoding: chunked", b"%x\r\n" % len(whole_rows) + whole_rows + b"\r\n"),
    ):
        with socket.create_connection(("127.0.0.1", shard.port)) as connection:
            connection.sendall(head + b"\r\n" + framing + b"\r\n\r\n" + body)
            time.sleep(0.2)
    time.sleep(0.3)
    assert client.command("SELECT count() FROM t") == 0
    assert client.command("SELECT count() FROM system.processes WHERE query LIKE 'INSERT%'") == 0
    client.insert("t", [["one"]], column_names=["s"])
    assert client.command("SELECT count() FROM t") == 1


def ways_to_insert(client: Client, rows: Sequence[tuple[int, str]]) -> dict[str, Callable[[], int]]:
    """Every way in for rows of (n UInt64, s String) into `t`; each answers the written rows of its summary."""
    table = pa.table({"n": pa.array([n for n, _ in rows], pa.uint64()), "s": pa.array([s for _, s in rows])})
    columns = ["n", "s"]
    parquet, stream = pa.BufferOutputStream(), pa.BufferOutputStream()
    pq.write_table(table, parquet)
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    texts = {
        "CSV": "".join(f'{n},"{s}"\n' for n, s in rows),
        "TSV": "".join(f"{n}\t{s}\n" for n, s in rows),
        "JSONEachRow": "".join(json.dumps({"n": n, "s": s}) + "\n" for n, s in rows),
        "Values": ",".join(f"({n},'{s}')" for n, s in rows),
        "Parquet": parquet.getvalue().to_pybytes(),
        "ArrowStream": stream.getvalue().to_pybytes(),
    }
    return {
        "Native": lambda: client.insert("t", rows, column_names=columns).written_rows,
        "Arrow": lambda: client.insert_arrow("t", table).written_rows,
        **{
            # The name is bound as a default, so that each way keeps its own format.
            name: lambda name=name: client.raw_insert("t", columns, texts[name], fmt=name).written_rows  # type: ignore[misc]
            for name in texts
        },
        "VALUES": lambda: cast(QuerySummary, client.command(f"INSERT INTO t VALUES {texts['Values']}")).written_rows,
    }


WAYS = ["Native", "Arrow", "CSV", "TSV", "JSONEachRow", "Values", "Parquet", "ArrowStream", "VALUES"]


@pytest.mark.parametrize("count", [1, 30_000])
@pytest.mark.parametrize("way", WAYS)
def test_acknowledged_rows_are_really_there(client: Client, way: str, count: int) -> None:
    client.command("CREATE TABLE t (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
    written = ways_to_insert(client, [(n, f"row {n}") for n in range(count)])[way]()
    assert client.query("SELECT count(), uniqExact(n, s) FROM t").first_row == (written, written) == (count, count)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("definition", "code"),
    [
        ("(n UInt64, s String, CONSTRAINT c CHECK n != 149) ENGINE = MergeTree ORDER BY n", 469),
        ("(n UInt64, s String) ENGINE = MergeTree ORDER BY n PARTITION BY n", 252),
        ("(n UInt64, s String, m UInt8 MATERIALIZED throwIf(n = 149)) ENGINE = MergeTree ORDER BY n", 395),
    ],
    ids=["constraint", "partitions", "materialized"],
)
def test_what_the_table_refuses_is_an_error_and_nothing_is_stored(
    client: Client, way: str, definition: str, code: int
) -> None:
    client.command(f"CREATE TABLE t {definition}")
    with pytest.raises(DatabaseError) as caught:
        ways_to_insert(client, [(n, "x") for n in range(150)])[way]()
    assert caught.value.code == code
    assert "/pipes/" not in str(caught.value)
    assert client.command("SELECT count() FROM t") == 0
    assert ways_to_insert(client, [(n, "x") for n in range(100)])[way]() == 100
    assert client.command("SELECT count() FROM t") == 100


def test_an_error_in_a_materialized_view_reaches_the_inserting_client(client: Client) -> None:
    client.command("CREATE TABLE t (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
    client.command("CREATE MATERIALIZED VIEW v ENGINE = MergeTree ORDER BY n AS SELECT n, throwIf(n = 7) AS x FROM t")
    with pytest.raises(DatabaseError) as caught:
        client.insert("t", [[7, "x"]], column_names=["n", "s"])
    assert caught.value.code == 395


@pytest.mark.parametrize("fmt", ["Arrow", "Parquet"])
def test_half_a_million_rows_pass_in_formats_that_are_read_whole(shard: Shard, client: Client, fmt: str) -> None:
    client.command("CREATE TABLE t (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
    numbers = range(500_000)
    table = pa.table({"n": pa.array(numbers, pa.uint64()), "s": pa.array([f"text of row {n}" for n in numbers])})
    if fmt == "Arrow":
        assert client.insert_arrow("t", table).written_rows == 500_000
    else:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        assert client.raw_insert("t", ["n", "s"], sink.getvalue().to_pybytes(), fmt=fmt).written_rows == 500_000
    assert client.query("SELECT count(), sum(n) FROM t").first_row == (500_000, sum(numbers))
    assert list((shard.path / "pipes").iterdir()) == []


def test_settings_in_an_insert_itself_and_bound_names_still_hold(client: Client) -> None:
    client.command("CREATE TABLE settings (n UInt64, s String DEFAULT concat('v', toString(n))) ENGINE = Memory")
    client.raw_insert("settings", ["n", "s"], "1;a\n", fmt="CSV", settings={"format_csv_delimiter": ";"})
    client.command("INSERT INTO settings (n, s) SETTINGS format_csv_delimiter = '|' FORMAT CSV", data="2|b\n")
    client.command("INSERT INTO settings -- why\nSETTINGS async_insert = 0 FORMAT JSONEachRow", data='{"n": 3}')
    client.command("INSERT INTO {t:Identifier} (n) FORMAT CSV", data="4\n", parameters={"t": "settings"})
    assert client.query("SELECT n, s FROM settings ORDER BY n").result_rows == [
        (1, "a"),
        (2, "b"),
        (3, "v3"),
        (4, "v4"),
    ]
    with pytest.raises(DatabaseError) as caught:
        client.command("INSERT INTO settings SETTINGS nope = 1 FORMAT CSV", data="5,x\n")
    assert caught.value.code == 115
    with pytest.raises(DatabaseError) as caught:
        client.command("INSERT INTO settings SELECT n, '' FROM input('n UInt64') FORMAT CSV", data="5\n")
    assert caught.value.code == 48
    assert client.command("SELECT count() FROM settings") == 4


@pytest.mark.parametrize("rows", [1, 2_000_000])
def test_an_insert_that_fails_before_or_amid_its_data_answers_its_code(client: Client, rows: int) -> None:
    client.command("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
    body = b"x\n" + b"12345678\n" * rows
    for table, fmt, code in [("nope", "CSV", 60), ("t", "Nope", 73), ("t", "CSV", 117), ("t", "Pretty", 85)]:
        # Beyond a few megabytes the server closes the connection instead of reading on, and a client may meet that first.
        with pytest.raises(Error) as caught:
            client.raw_insert(table, ["n"], body, fmt=fmt)
        if rows == 1:
            assert cast(DatabaseError, caught.value).code == code
    assert client.command("SELECT count() FROM t") == 0
    assert client.command("SELECT count() FROM system.processes WHERE query LIKE 'INSERT%'") == 0


def native_block(numbers: Sequence[int]) -> bytes:
    """A block of one column `n UInt64`; its count of rows takes three bytes."""
    count = len(numbers)
    assert 2**14 <= count < 2**21
    size = bytes([count & 127 | 128, count >> 7 & 127 | 128, count >> 14])
    return b"\x01" + size + b"\x01n\x06UInt64" + struct.pack(f"<{count}Q", *numbers)


@pytest.mark.parametrize("clause", ["", "SETTINGS workload = 'mine' "])
@pytest.mark.parametrize(
    ("fmt", "body"),
    [
        ("Native", native_block(range(100_000)) * 3),
        ("Native", native_block(range(100_000)) + native_block(range(20_000))[:-5]),
        ("CSV", b"7\n" * 3),
        ("CSV", b"7\n" * 300_000),
        ("TSV", b"7\n" * 300_000 + b"12"),
        ("JSONEachRow", b'{"n": 7}\n' * 100_000),
        ("RowBinary", bytes(8) * 100_000),
    ],
    ids=["Native", "Native-cut", "CSV-short", "CSV", "TSV-cut", "JSONEachRow", "RowBinary"],
)
def test_an_upload_that_breaks_off_at_the_end_of_a_row_stores_none(
    shard: Shard, client: Client, fmt: str, body: bytes, clause: str
) -> None:
    client.command("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
    break_off(shard, client, f"INSERT INTO t (n) {clause}FORMAT {fmt}", body)
    assert client.command("SELECT count() FROM t") == 0
    assert list((shard.path / "pipes").iterdir()) == []
    client.insert("t", [[1]], column_names=["n"])
    assert client.command("SELECT count() FROM t") == 1


def test_an_upload_that_breaks_off_after_many_blocks_leaves_whole_blocks_only(shard: Shard, client: Client) -> None:
    client.command("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
    blocks = "SETTINGS min_insert_block_size_rows = 50000, min_insert_block_size_bytes = 0 "
    for _ in range(5):
        break_off(shard, client, f"INSERT INTO t (n) {blocks}FORMAT Native", native_block(range(50_000)) * 6 + b"\x01")
    stored = int(str(client.command("SELECT count() FROM t")))
    assert stored % 50_000 == 0
    assert stored <= 5 * 300_000


def break_off(shard: Shard, client: Client, statement: str, body: bytes) -> None:
    """Begin an upload, leave in its midst, and wait until the shard has noticed."""
    mark = uuid.uuid4().hex
    head = (
        f"POST /?{urlencode({'database': client.database, 'query': statement, 'log_comment': mark})} HTTP/1.1\r\nHost: x\r\n"
        f"X-ClickHouse-User: default\r\nX-ClickHouse-Key: {PASSWORD}\r\nContent-Length: 1000000000\r\n\r\n"
    )
    running = f"SELECT count() FROM system.processes WHERE Settings['log_comment'] = '{mark}'"
    with socket.create_connection(("127.0.0.1", shard.port)) as connection:
        connection.sendall(head.encode() + body)
        # The pipe holds a megabyte, and the first read of a body waits for 256 KiB.
        time.sleep(0.3)
    until(lambda: client.command(running) == 0 and not list((shard.path / "pipes").iterdir()))


def test_slow_uploads_hold_up_nobody(shard: Shard, client: Client) -> None:
    client.command("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
    gates = [threading.Event() for _ in range(6)]

    def upload(gate: threading.Event) -> int:
        def pieces() -> Generator[bytes, None, None]:
            yield b"1\n" * 200_000
            gate.wait(20)
            yield b"2\n" * 200_000

        with shard.client(database=client.database) as own:
            return own.raw_insert("t", ["n"], pieces(), fmt="CSV").written_rows

    with ThreadPoolExecutor(6) as pool:
        uploads = [pool.submit(upload, gate) for gate in gates]
        until(lambda: client.command("SELECT count() FROM system.processes WHERE query LIKE 'INSERT%'") == 6)
        assert client.insert("t", [[3]], column_names=["n"]).written_rows == 1
        assert client.command("SELECT count() FROM t") == 1
        for gate in reversed(gates):
            gate.set()
        assert [one.result() for one in uploads] == [400_000] * 6
    assert client.query("SELECT count(), sum(n) FROM t").first_row == (2_400_001, 3_600_003)
