"""The local shard server, asked by unmodified clickhouse-connect over a real process of its own.

What lives here: what a client sees of one shard. What does not: the stack around it (test_local_stack.py) and our tables.
The engine is never imported into this process: a process that has loaded it must not fork.
"""

from __future__ import annotations

import http.client
import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode

import clickhouse_connect
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, Error
from clickhouse_connect.driver.external import ExternalData
from clickhouse_connect.driver.summary import QuerySummary
from urllib3.exceptions import HTTPError

from reindex_assets.local.environment import PASSWORD_VARIABLE

PASSWORD = "a'pass\"wörd"
READY_SECONDS = 30.0


@dataclass
class Shard:
    """One server process."""

    path: Path
    port: int
    process: subprocess.Popen[str]

    def client(self, **options: Any) -> Client:
        return clickhouse_connect.get_client(
            **{"host": "127.0.0.1", "port": self.port, "username": "default", "password": PASSWORD, **options}
        )

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(10)

    def raw(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)


def spawn(path: Path, port: int, *, password: str | None = PASSWORD) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != PASSWORD_VARIABLE}
    if password is not None:
        environment[PASSWORD_VARIABLE] = password
    return subprocess.Popen(
        [sys.executable, "-m", "reindex_assets.local.shard_server", "--path", str(path), "--port", str(port)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start(path: Path, port: int = 0) -> Shard:
    port = port or free_port()
    shard = Shard(path, port, spawn(path, port))
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if shard.process.poll() is not None:
            raise AssertionError(f"the shard ended: {shard.process.communicate()}")
        with suppress(OSError):
            if ask(shard, "GET", "/ping") == (200, b"Ok.\n"):
                return shard
        time.sleep(0.02)
    raise AssertionError("the shard never answered")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(shard: Shard, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    connection = shard.raw()
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shard]:
    running = start(tmp_path_factory.mktemp("shard"))
    yield running
    running.stop()


@pytest.fixture
def database(shard: Shard) -> Iterator[str]:
    name = f"d_{uuid.uuid4().hex[:12]}"
    with shard.client() as admin:
        admin.command(f"CREATE DATABASE {name}")
        yield name
        admin.command(f"DROP DATABASE {name} SYNC")


@pytest.fixture
def client(shard: Shard, database: str) -> Iterator[Client]:
    with shard.client(database=database) as connected:
        yield connected


def code_of(client: Client, query: str, **options: Any) -> int | None:
    with pytest.raises(DatabaseError) as caught:
        _ = client.query(query, **options).result_rows
    return caught.value.code


# --- Reading -------------------------------------------------------------------------------------------------------


def test_a_client_connects_and_learns_version_zone_and_settings(client: Client) -> None:
    assert str(client.server_version).startswith("2")
    assert str(client.server_tz) == "UTC"
    assert len(client.server_settings) > 500
    assert client.command("SELECT currentDatabase()") == client.database


def test_a_query_answers_rows_names_and_types(client: Client) -> None:
    result = client.query("SELECT number AS n, toString(number) AS s FROM numbers(3)")
    assert result.result_rows == [(0, "0"), (1, "1"), (2, "2")]
    assert result.column_names == ("n", "s")
    assert [kind.name for kind in result.column_types] == ["UInt64", "String"]


def test_the_default_database_is_an_ordinary_one_that_shows_no_files(shard: Shard) -> None:
    with shard.client() as client:
        assert client.command("SELECT engine FROM system.databases WHERE name = 'default'") == "Atomic"
        assert client.command("SELECT count() FROM system.databases WHERE engine IN ('Overlay', 'Filesystem')") == 0
        assert code_of(client, "SELECT * FROM `/etc/passwd`") == 60


@pytest.mark.parametrize("coding", ["lz4", "zstd", "gzip", "br", False])
def test_results_and_inserts_pass_through_every_compression(shard: Shard, database: str, coding: str | bool) -> None:
    with shard.client(database=database, compress=coding) as client:
        client.command("CREATE TABLE t (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
        client.insert("t", [[n, f"row {n}" * 5] for n in range(20_000)], column_names=["n", "s"])
        assert client.query("SELECT count(), sum(n) FROM t").result_rows == [(20_000, 199_990_000)]
        rows = client.query("SELECT n, s FROM t ORDER BY n").result_rows
        assert rows[-1] == (19_999, "row 19999" * 5)
        assert len(rows) == 20_000


@pytest.mark.parametrize("coding", ["lz4", "zstd", "gzip", "br", "deflate", ""])
def test_an_answer_carries_the_coding_that_the_client_accepts(shard: Shard, coding: str) -> None:
    connection = shard.raw()
    target = "/?enable_http_compression=1"
    headers: dict[str, str | bytes] = {
        "Accept-Encoding": coding,
        "X-ClickHouse-User": "default",
        "X-ClickHouse-Key": PASSWORD.encode(),
    }
    connection.request("POST", target, b"SELECT 1", headers)
    response = connection.getresponse()
    assert response.status == 200
    assert (response.headers["Content-Encoding"] or "") == coding
    connection.close()


def test_blocks_and_rows_stream(client: Client) -> None:
    query = "SELECT number FROM numbers(1000000)"
    with client.query_row_block_stream(query, settings={"max_block_size": 50_000}) as blocks:
        sizes = [len(block) for block in blocks]
    assert sum(sizes) == 1_000_000
    assert len(sizes) > 5
    with client.query_column_block_stream(query) as columns:
        assert sum(sum(block[0]) for block in columns) == 499_999_500_000
    with client.query_rows_stream(query) as rows:
        assert sum(1 for _ in rows) == 1_000_000


def test_arrow_answers_whole_and_in_streams(client: Client) -> None:
    table = client.query_arrow("SELECT number AS n, toString(number) AS s FROM numbers(200000)")
    assert table.num_rows == 200_000
    assert table.column_names == ["n", "s"]
    with client.query_arrow_stream("SELECT number AS n FROM numbers(500000)") as batches:
        assert sum(batch.num_rows for batch in batches) == 500_000
    empty = client.query_arrow("SELECT number AS n FROM numbers(0)")
    assert (empty.num_rows, empty.column_names) == (0, ["n"])


def test_pandas_frames_come_and_go(client: Client) -> None:
    frame = client.query_df("SELECT number AS n, toString(number) AS s FROM numbers(5)")
    assert list(frame["n"]) == [0, 1, 2, 3, 4]
    client.command("CREATE TABLE t (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
    client.insert_df("t", frame)
    assert client.query("SELECT s FROM t ORDER BY n").result_columns == [["0", "1", "2", "3", "4"]]


def test_a_columns_only_query_describes_its_columns(client: Client) -> None:
    assert client.query("SELECT 1 AS a, 'x' AS b LIMIT 0").column_names == ("a", "b")


def test_formats_with_a_header_keep_it_once_and_when_empty(client: Client) -> None:
    text = client.raw_query("SELECT number AS n FROM numbers(200000)", fmt="CSVWithNames").decode()
    assert text.count('"n"') == 1
    assert client.raw_query("SELECT number AS n FROM numbers(0)", fmt="TSVWithNames") == b"n\n"


def test_statements_without_a_stream_answer_too(client: Client) -> None:
    client.command("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
    assert client.command("EXISTS TABLE t") == 1
    assert client.query("SHOW TABLES").result_rows == [("t",)]
    assert client.query("DESCRIBE TABLE t").result_rows[0][:2] == ("n", "UInt64")
    assert "Read" in str(client.query("EXPLAIN SELECT * FROM t").result_rows)
    assert client.query("WITH 1 AS x SELECT x + 1").first_row == (2,)
    assert set(client.query("(SELECT 1) UNION ALL (SELECT 2) -- why not").result_rows) == {(1,), (2,)}


# --- Values --------------------------------------------------------------------------------------------------------

HARD_TEXTS = [
    "",
    "it's",
    'a "quote"',
    "back\\slash",
    "tab\tline\nreturn\r",
    "ünïcödé 漢字 🎉",
    "{x:String}",
    "\\N",
    "%s",
]


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_bound_text_arrives_unchanged_on_both_sides(client: Client, text: str) -> None:
    server_side = client.query("SELECT {x:String}, length({x:String})", parameters={"x": text}).first_row
    assert server_side == (text, len(text.encode()))
    assert client.query("SELECT %(x)s", parameters={"x": text}).first_row == (text,)


def test_bound_arrays_nulls_times_and_names_arrive(client: Client) -> None:
    assert client.query("SELECT {x:Array(String)}", parameters={"x": HARD_TEXTS[:6]}).first_row == (HARD_TEXTS[:6],)
    assert client.query("SELECT {x:Nullable(String)}", parameters={"x": None}).first_row == (None,)
    assert client.query("SELECT {x:Array(UInt64)}", parameters={"x": [1, 2]}).first_row == ([1, 2],)
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    row = client.query("SELECT {x:DateTime64(6, 'UTC')} AS t", parameters={"x": moment}).result_rows[0]
    assert row[0].replace(tzinfo=UTC) == moment
    client.command("CREATE TABLE t (n UInt64) ENGINE = MergeTree ORDER BY n")
    assert client.command("SELECT count() FROM {t:Identifier}", parameters={"t": "t"}) == 0


def test_a_parameter_too_long_for_a_url_goes_as_a_form(client: Client) -> None:
    ids = list(range(20_000))
    assert client.query("SELECT length({x:Array(UInt64)})", parameters={"x": ids}).first_row == (20_000,)


def test_external_data_is_a_table_for_one_query(client: Client) -> None:
    external = ExternalData(file_name="e.csv", data=b"1,a\n2,b\n", fmt="CSV", structure=["n UInt8", "s String"])
    assert client.query("SELECT n, s FROM e ORDER BY n", external_data=external).result_rows == [(1, "a"), (2, "b")]
    assert code_of(client, "SELECT * FROM e") == 60


def test_times_keep_their_microseconds_before_1970_too(client: Client) -> None:
    moments = [
        datetime(1960, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 11, 22, 1, 2, 3, 1, tzinfo=UTC),
    ]
    client.command("CREATE TABLE t (i UInt8, at DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY i")
    client.insert("t", [[i, at] for i, at in enumerate(moments)], column_names=["i", "at"])
    rows = client.query("SELECT at, toUnixTimestamp64Micro(at) FROM t ORDER BY i").result_rows
    assert [row[0].replace(tzinfo=UTC) for row in rows] == moments
    client.command("TRUNCATE TABLE t")
    client.insert_arrow(
        "t", pa.table({"i": pa.array([0, 1, 2], pa.uint8()), "at": pa.array(moments, pa.timestamp("us", tz="UTC"))})
    )
    assert client.query("SELECT at, toUnixTimestamp64Micro(at) FROM t ORDER BY i").result_rows == rows


def test_nullable_low_cardinality_uuid_and_array_round_trip(client: Client) -> None:
    client.command(
        "CREATE TABLE t (i UInt8, n Nullable(Int64), l LowCardinality(Nullable(String)), u UUID, a Array(Nullable(String)),"
        " d Decimal(18, 4), b Bool) ENGINE = MergeTree ORDER BY i"
    )
    import decimal

    rows: Sequence[Sequence[Any]] = [
        [0, None, None, uuid.UUID(int=0), [], decimal.Decimal("0.0000"), False],
        [1, -(2**63), "x", uuid.uuid4(), ["a", None, "ü"], decimal.Decimal("-12345.6789"), True],
    ]
    client.insert("t", rows, column_names="*")
    assert [list(row) for row in client.query("SELECT * FROM t ORDER BY i").result_rows] == rows


def test_floats_keep_their_bits(client: Client) -> None:
    floats = [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308, 0.1]
    client.command("CREATE TABLE t (i UInt8, f Float64) ENGINE = MergeTree ORDER BY i")
    client.insert("t", [[i, value] for i, value in enumerate(floats)], column_names=["i", "f"])
    back = client.query("SELECT f FROM t ORDER BY i").result_columns[0]
    assert [struct.pack("<d", value) for value in back] == [struct.pack("<d", value) for value in floats]


def test_a_text_of_a_megabyte_round_trips(client: Client) -> None:
    text = "ä'\\\n" * 250_000
    client.command("CREATE TABLE t (s String) ENGINE = MergeTree ORDER BY tuple()")
    client.insert("t", [[text]], column_names=["s"])
    assert client.query("SELECT s FROM t").first_row == (text,)


# --- Writing -------------------------------------------------------------------------------------------------------


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
    wait_until(lambda: client.command(running) == 0 and not list((shard.path / "pipes").iterdir()))


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
        wait_until(lambda: client.command("SELECT count() FROM system.processes WHERE query LIKE 'INSERT%'") == 6)
        assert client.insert("t", [[3]], column_names=["n"]).written_rows == 1
        assert client.command("SELECT count() FROM t") == 1
        for gate in reversed(gates):
            gate.set()
        assert [one.result() for one in uploads] == [400_000] * 6
    assert client.query("SELECT count(), sum(n) FROM t").first_row == (2_400_001, 3_600_003)


def test_lightweight_deletes_mutations_except_and_final_work(client: Client) -> None:
    client.command(
        "CREATE TABLE live (d Date, k UInt64, s String, version UInt64) "
        "ENGINE = ReplacingMergeTree(version) PARTITION BY d ORDER BY k"
    )
    rows = [[datetime(2026, 1, 1).date(), k, f"s{k}", 1] for k in range(10)]  # noqa: DTZ001 - a date has no zone
    client.insert("live", rows, column_names="*")
    client.insert("live", [[*rows[3][:2], "newer", 2]], column_names="*")
    assert client.command("SELECT count() FROM live") == 11
    assert client.query("SELECT s FROM live FINAL WHERE k = 3").result_rows == [("newer",)]
    client.command("CREATE TEMPORARY TABLE staging (k UInt64, s String)")
    client.insert("staging", [[3, "newer"], [4, "changed"], [99, "missing"]], column_names=["k", "s"])
    different = client.query("SELECT k FROM (SELECT k, s FROM staging EXCEPT SELECT k, s FROM live FINAL) ORDER BY k")
    assert different.result_rows == [(4,), (99,)]
    # A mutation runs apart from the session, here as on a server: it sees no temporary table.
    client.command("CREATE TABLE kept ENGINE = MergeTree ORDER BY k AS SELECT * FROM staging")
    client.command(
        "DELETE FROM live IN PARTITION '2026-01-01' WHERE k IN (SELECT k FROM kept)",
        settings={"lightweight_deletes_sync": 2},
    )
    assert client.command("SELECT count() FROM live FINAL") == 8
    client.command("ALTER TABLE live UPDATE s = 'mutated' WHERE k = 5", settings={"mutations_sync": 2})
    assert client.query("SELECT s FROM live WHERE k = 5").result_rows == [("mutated",)]
    states = client.query(
        "SELECT is_done FROM system.mutations WHERE database = {d:String}", parameters={"d": client.database}
    )
    assert set(states.result_columns[0]) == {1}


def test_settings_of_a_request_hold_for_that_request_only(client: Client) -> None:
    names = "getSetting('async_insert'), getSetting('max_query_size'), getSetting('max_threads')"
    settings = {"async_insert": 0, "max_query_size": 1_000_000, "max_threads": 1, "insert_deduplicate": 0}
    before = client.query(f"SELECT {names}").first_row
    assert client.query(f"SELECT {names}", settings=settings).first_row == (False, 1_000_000, 1)
    assert client.query(f"SELECT {names}").first_row == before
    long_query = f"SELECT length('{'x' * 300_000}')"
    assert code_of(client, long_query) == 62
    assert client.query(long_query, settings={"max_query_size": 10_000_000}).first_row == (300_000,)


def test_a_query_leaves_its_comment_in_the_log(client: Client) -> None:
    mark = uuid.uuid4().hex
    summary = client.query(f"SELECT '{mark}'").summary
    _ = client.query(f"SELECT '{mark}', 2", settings={"log_comment": f"comment {mark}"}).result_rows
    client.command("SYSTEM FLUSH LOGS")
    rows = client.query(
        "SELECT log_comment FROM system.query_log WHERE type = 'QueryFinish' AND query LIKE {q:String} "
        "AND query NOT LIKE '%query_log%' ORDER BY event_time_microseconds",
        parameters={"q": f"SELECT '{mark}'%"},
    )
    assert rows.result_columns == [[summary["query_id"], f"comment {mark}"]]


# --- Sessions ------------------------------------------------------------------------------------------------------


def test_a_temporary_table_lives_in_its_session_only(shard: Shard) -> None:
    with shard.client(session_id="one") as one, shard.client(session_id="two") as two:
        one.command("CREATE TEMPORARY TABLE mine (n UInt8)")
        one.command("INSERT INTO mine VALUES (1)")
        assert one.command("SELECT count() FROM mine") == 1
        assert code_of(two, "SELECT * FROM mine") == 60


def test_set_and_use_stay_in_a_session_and_a_request_does_not_undo_them(shard: Shard, database: str) -> None:
    with shard.client(session_id="with-set") as client:
        client.command("SET max_threads = 3")
        assert client.command("SELECT getSetting('max_threads')", settings={"max_threads": 2}) == 2
        assert client.command("SELECT getSetting('max_threads')") == 3
        client.command(f"USE {database}")
        assert client.command("SELECT currentDatabase()") == database


def test_a_busy_session_is_refused(shard: Shard) -> None:
    with shard.client(session_id="busy") as first, shard.client(autogenerate_session_id=False) as second:
        slow = threading.Thread(target=lambda: first.command("SELECT sleep(1)"))
        slow.start()
        time.sleep(0.4)
        assert code_of(second, "SELECT 1", settings={"session_id": "busy"}) == 373
        slow.join()
        assert second.query("SELECT 1", settings={"session_id": "busy"}).first_row == (1,)


def test_an_idle_session_ends_with_its_timeout(shard: Shard) -> None:
    with shard.client(autogenerate_session_id=False) as client:
        brief = {"session_id": "brief", "session_timeout": 1}
        client.command("CREATE TEMPORARY TABLE mine (n UInt8)", settings=brief)
        time.sleep(1.6)
        assert code_of(client, "SELECT 1", settings={**brief, "session_check": 1}) == 372


# --- Errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("SELECT * FROM no_such_table", 60),
        ("SELEC 1", 62),
        ("garbage", 62),
        ("SELECT 1; SELECT 2", 62),
        ("SELECT nope", 47),
        ("SELECT nope(1)", 46),
        ("SELECT * FROM nope.t", 81),
        ("SELECT throwIf(1)", 395),
        ("SELECT 1 SETTINGS nope = 1", 115),
        ("CREATE TABLE t (n Nope) ENGINE = Memory", 50),
        ("SELECT {x:UInt8}", 456),
    ],
)
def test_an_error_carries_clickhouses_code(client: Client, query: str, code: int) -> None:
    assert code_of(client, query) == code


@pytest.mark.parametrize("coding", ["lz4", "zstd", "gzip", False])
def test_an_error_in_mid_stream_is_raised_with_its_code(shard: Shard, coding: str | bool) -> None:
    query = "SELECT number, throwIf(number = 1000000) FROM numbers(3000000) SETTINGS max_block_size = 65536"
    with shard.client(compress=coding) as client:
        assert code_of(client, query) == 395
        with pytest.raises(DatabaseError) as caught, client.query_row_block_stream(query) as blocks:
            for _ in blocks:
                pass
        assert caught.value.code == 395
        with pytest.raises(DatabaseError):
            client.query_arrow(query)
        assert client.command("SELECT 1") == 1


def test_an_arrow_stream_that_fails_never_passes_for_a_whole_one(client: Client) -> None:
    query = "SELECT number, throwIf(number = 1000000) AS t FROM numbers(3000000) SETTINGS max_block_size = 65536"
    with pytest.raises((pa.ArrowException, OSError, Error, HTTPError)), client.query_arrow_stream(query) as batches:
        for _ in batches:
            pass


@pytest.mark.parametrize(("user", "password"), [("default", "wrong"), ("someone", PASSWORD), ("default", "")])
def test_the_wrong_user_or_password_is_refused(shard: Shard, user: str, password: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        shard.client(username=user, password=password)
    assert caught.value.code == 516


def test_credentials_are_taken_from_every_place(shard: Shard) -> None:
    named = urlencode({"user": "default", "password": PASSWORD, "query": "SELECT 7"})
    assert ask(shard, "GET", f"/?{named}") == (200, b"7\n")
    status, text = ask(shard, "POST", "/", b"SELECT 7")
    assert (status, text[:10]) == (403, b"Code: 516.")
    assert ask(shard, "GET", "/ping") == (200, b"Ok.\n")
    assert ask(shard, "HEAD", "/ping") == (200, b"")
    assert ask(shard, "GET", "/nothing")[0] == 404


def test_a_get_request_changes_nothing(shard: Shard) -> None:
    target = "/?" + urlencode({"user": "default", "password": PASSWORD, "query": "CREATE TABLE g (n Int8) ENGINE=Log"})
    status, text = ask(shard, "GET", target)
    assert (status, text[:10]) == (500, b"Code: 164.")


def test_one_connection_serves_many_requests_errors_included(shard: Shard) -> None:
    connection = shard.raw()
    headers: dict[str, str | bytes] = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": PASSWORD.encode()}
    for body, status in [(b"SELECT 1", 200), (b"SELEC", 400), (b"SELECT * FROM nope", 404), (b"SELECT 2", 200)] * 5:
        connection.request("POST", "/", body, headers)
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (status, True)
        assert not response.will_close
    connection.close()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM file('/etc/passwd', 'CSV')",
        "SELECT * FROM `file`('/etc/passwd', 'CSV')",
        "SELECT file('/etc/passwd')",
        "DESCRIBE TABLE file('/etc/passwd', 'CSV')",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV')",
        "SELECT * FROM /* a comment */ s3 /* another */ ('http://127.0.0.1:1/b/k', 'CSV')",
        "SELECT * FROM executable('id', 'TSV', 's String')",
        "SELECT * FROM sqlite('/tmp/x.db', 't')",
        "SELECT 1 INTO OUTFILE '/tmp/out'",
        "INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV",
        "INSERT INTO FUNCTION file('/tmp/x', 'CSV', 'n UInt8') SELECT 1",
        "INSERT INTO t VALUES (file('/etc/passwd'))",
        "CREATE TABLE f (s String) ENGINE = File(CSV, '/etc/passwd')",
        "CREATE DATABASE f ENGINE = Filesystem('/')",
        "CREATE TABLE f AS url('http://127.0.0.1:1/', 'CSV', 's String')",
        "CREATE VIEW v AS SELECT * FROM file('/etc/passwd', 'CSV')",
        "BACKUP DATABASE default TO File('/tmp/b')",
        "ATTACH TABLE t FROM '/tmp/x' (n UInt8) ENGINE = MergeTree ORDER BY n",
    ],
)
def test_reaching_past_the_shard_is_refused(client: Client, query: str) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.command(query)
    assert caught.value.code == 497


def test_words_that_only_look_like_refused_functions_pass(client: Client) -> None:
    client.command("CREATE TABLE file (url String, `s3` String) ENGINE = MergeTree ORDER BY url")
    client.command("INSERT INTO file (url, s3) VALUES ('file(''x'')', 'INTO OUTFILE')")
    assert client.query("SELECT url, s3 FROM file -- url('x')").first_row == ("file('x')", "INTO OUTFILE")


def test_the_postgresql_function_reaches_the_engine(client: Client) -> None:
    with pytest.raises(DatabaseError) as caught:
        client.query("SELECT * FROM postgresql('127.0.0.1:1', 'd', 't', 'u', 'p')")
    assert caught.value.code != 497


# --- Many at once, and the ends ------------------------------------------------------------------------------------


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
        wait_until(lambda: client.command(running, parameters={"m": f"%{mark}%"}) == 1)
    wait_until(lambda: client.command(running, parameters={"m": f"%{mark}%"}) == 0)


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
    wait_until(lambda: client.command(running) == 0)


def wait_until(condition: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)


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
        before = len(acknowledged)
        wait_until(lambda before=before: len(acknowledged) > before + 5)
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
    began = time.monotonic()
    running.process.send_signal(number)
    assert running.process.wait(10) == 0
    # About one second on an idle machine; the rest is for a crowded one.
    assert time.monotonic() - began < 5
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
