"""Shard servers of the tests' own: processes, a client each, and questions over plain HTTP.

What lives here: the processes, and the fixtures of the test_shard_server files. What does not: tests, and the stack of the session
(conftest.py).
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from reindex_assets.config.local_environment import PASSWORD_VARIABLE

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


def spawn(
    path: Path, port: int, *, password: str | None = PASSWORD, users: Path | None = None
) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != PASSWORD_VARIABLE}
    if password is not None:
        environment[PASSWORD_VARIABLE] = password
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "reindex_assets.local.shard_server", "--path", str(path), "--port", str(port)),
            *(("--users", str(users)) if users else ()),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start(path: Path, port: int = 0, users: Path | None = None) -> Shard:
    port = port or free_port()
    shard = Shard(path, port, spawn(path, port, users=users))
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


@pytest.fixture(name="shard", scope="module")
def lone_shard(engines: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shard]:
    running = start(tmp_path_factory.mktemp("shard"))
    yield running
    running.stop()


@pytest.fixture(name="database")
def database_of_its_own(shard: Shard) -> Iterator[str]:
    name = f"d_{uuid.uuid4().hex[:12]}"
    with shard.client() as admin:
        admin.command(f"CREATE DATABASE {name}")
        yield name
        admin.command(f"DROP DATABASE {name} SYNC")


@pytest.fixture(name="client")
def client_of_the_shard(shard: Shard, database: str) -> Iterator[Client]:
    with shard.client(database=database) as connected:
        yield connected


def code_of(client: Client, query: str, **options: Any) -> int | None:
    with pytest.raises(DatabaseError) as caught:
        _ = client.query(query, **options).result_rows
    return caught.value.code
