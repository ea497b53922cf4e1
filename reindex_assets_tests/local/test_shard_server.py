"""The local shard server, asked by unmodified clickhouse-connect over a real process of its own.

What lives here: what a client reads of one shard, the values that pass, and its sessions. What does not: what it writes
(local/test_shard_server_writing.py), what is refused (local/test_shard_server_errors.py), processes that come and go
(local/test_shard_server_process.py), the stack around it (local/test_local_stack.py) and our tables. The engine is never imported into
this process: a process that has loaded it must not fork.
"""

from __future__ import annotations

import contextlib
import math
import struct
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData

from reindex_assets_tests.support.shard_servers import (
    PASSWORD,
    Shard,
    code_of,
)


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


def test_settings_of_a_request_hold_for_that_request_only(client: Client) -> None:
    names = "getSetting('async_insert'), getSetting('max_query_size'), getSetting('max_threads')"
    settings = {"async_insert": 0, "max_query_size": 1_000_000, "max_threads": 3, "insert_deduplicate": 0}
    before = client.query(f"SELECT {names}").first_row
    assert client.query(f"SELECT {names}", settings=settings).first_row == (False, 1_000_000, 3)
    assert client.query(f"SELECT {names}").first_row == before
    long_query = f"SELECT length('{'x' * 300_000}')"
    assert code_of(client, long_query) == 62
    assert client.query(long_query, settings={"max_query_size": 10_000_000}).first_row == (300_000,)


@pytest.mark.parametrize(
    "statement",
    [
        "SET max_block_size = 77",
        "USE system",
        "CREATE TEMPORARY TABLE seen (n UInt8)",
        "CREATE OR REPLACE TEMPORARY TABLE seen (n UInt8)",
        "SELECT getSetting('max_block_size') SETTINGS max_block_size = 77",
        "SELECT throwIf(1, 'on purpose') SETTINGS max_block_size = 77",
        "INSERT INTO FUNCTION null('n UInt8') SETTINGS max_block_size = 77 SELECT 1",
    ],
)
@pytest.mark.parametrize("settings", [{}, {"final": 0}, {"compatibility": "22.8"}], ids=str)
def test_without_a_session_a_statement_leaves_nothing_to_the_next(
    shard: Shard, statement: str, settings: dict[str, object]
) -> None:
    state = (
        "SELECT currentDatabase(), getSetting('max_block_size'), (SELECT count() FROM system.tables WHERE is_temporary)"
    )
    with shard.client(autogenerate_session_id=False) as client:
        before = client.query(state, settings=settings).first_row
        for _ in range(2):
            with contextlib.suppress(DatabaseError):
                client.command(statement, settings=settings)
            assert client.query(state, settings=settings).first_row == before


def test_an_old_compatibility_is_that_of_its_request_alone(shard: Shard) -> None:
    with shard.client(autogenerate_session_id=False) as client:

        def changed(**settings: object) -> int:
            [[count]] = client.query("SELECT count() FROM system.settings WHERE changed", settings=settings).result_rows
            return int(count)

        before = changed()
        for _ in range(2):
            assert changed(compatibility="22.8") > before + 10
            assert changed(compatibility="") <= before + 1
            assert changed() == before


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
