"""What the tests of the local stack ask of a stack.

What lives here: its pids and states, and rows that must survive. What does not: tests, and the stacks (conftest.py).
"""

from __future__ import annotations

import contextlib

import psutil

from reindex_assets.config.fleet import load_fleet
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets_tests.support.session_stack import connect_shards, connect_source


def pids(stack: LocalStack) -> dict[str, int | None]:
    return {service.name: service.pid for service in stack.status()}


def states(stack: LocalStack) -> dict[str, str]:
    return {service.name: service.state for service in stack.status()}


def write_everywhere(stack: LocalStack, number: int) -> None:
    fleet = load_fleet(stack.fleet_path)
    with contextlib.closing(connect_source(fleet)) as source, source.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS written (number bigint)")
        cursor.execute("INSERT INTO written VALUES (%s)", (number,))
    for client in connect_shards(fleet):
        client.command("CREATE TABLE IF NOT EXISTS written (number Int64) ENGINE = MergeTree ORDER BY number")
        client.insert("written", [[number]], column_names=["number"], settings={"async_insert": 0})
        client.close()


def found_everywhere(stack: LocalStack, number: int) -> list[bool]:
    fleet = load_fleet(stack.fleet_path)
    found = []
    with contextlib.closing(connect_source(fleet)) as source, source.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM written WHERE number = %s", (number,))
        found.append(cursor.fetchone() == (1,))
    for client in connect_shards(fleet):
        found.append(client.query(f"SELECT count() FROM written WHERE number = {number}").result_rows == [(1,)])
        client.close()
    return found


def command_line(process: psutil.Process) -> str:
    """Empty for a process that is gone."""
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return " ".join(process.cmdline())
    return ""
