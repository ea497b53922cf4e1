"""What the local shard server refuses, and with which code.

What lives here: errors before and amid an answer, credentials, and what reaches past the shard. What does not: inserts that fail
(local/test_shard_server_writing.py).
"""

from __future__ import annotations

from urllib.parse import urlencode

import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError, Error
from urllib3.exceptions import HTTPError

from reindex_assets_tests.support.shard_servers import (
    PASSWORD,
    Shard,
    ask,
    code_of,
)


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
