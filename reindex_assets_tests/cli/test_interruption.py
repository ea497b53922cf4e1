"""Ctrl-C while a run waits for an engine: the operator is told for what, the run ends as cancelled, and a second one ends it at once.

What lives here: the command as a process, and Postgres that does not answer. What does not: what a killed run leaves
(support/crash_run.py and its tests).
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

import psycopg2.extensions
import pytest
from clickhouse_connect.driver.client import Client
from dagster import DagsterInstance, DagsterRunStatus
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.oracle.compare import assert_equal
from reindex_assets_tests.support.command_line import command
from reindex_assets_tests.support.session_stack import CUSTOMERS, connect_source
from reindex_assets_tests.support.waiting import until

PLAN = DataPlan(CUSTOMERS, date(2026, 1, 31), days=1, scale=0.0004, seed=6)
RANGE = ["--from", "2026-01-31", "--to", "2026-01-31"]
_WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query NOT LIKE '%%pg_stat_activity%%'"
)


@dataclass
class Interrupted:
    """A `reindex` whose Postgres does not answer, until `answer` is called."""

    process: subprocess.Popen[str]
    blocker: Connection
    lines: queue.Queue[str] = field(default_factory=queue.Queue)

    def __post_init__(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.put(line)

    def interrupt(self) -> float:
        self.process.send_signal(signal.SIGINT)
        return time.monotonic()

    def says(self, words: str, within: float) -> None:
        """Waits until the command says something."""
        until, heard = time.monotonic() + within, ""
        while words not in heard:
            try:
                heard += self.lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"it has not said {words!r} within {within} s, but {heard!r}")

    def answer(self) -> None:
        self.blocker.rollback()


@pytest.fixture
def waiting(clean: None, instance: DagsterInstance, fleet: Fleet, source: Connection) -> Iterator[Interrupted]:
    make_source(source, PLAN)
    with contextlib.closing(connect_source(fleet)) as blocker:
        blocker.set_isolation_level(psycopg2.extensions.ISOLATION_LEVEL_READ_COMMITTED)
        with blocker.cursor() as cursor:
            cursor.execute("LOCK TABLE historic.scorecard_scores IN ACCESS EXCLUSIVE MODE")
        process = subprocess.Popen(
            [sys.executable, "-m", "reindex_assets", "reindex", *RANGE],
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            with source.cursor() as cursor:

                def waits() -> bool:
                    cursor.execute(_WAITING)
                    [(count,)] = cursor.fetchall()
                    return bool(count)

                until(waits, lambda: "the run does not wait for Postgres", seconds=120)
            yield Interrupted(process, blocker)
        finally:
            process.kill()
            process.wait()


def test_it_says_what_it_waits_for_and_the_run_ends_as_cancelled_with_the_statement(
    waiting: Interrupted, instance: DagsterInstance, source: Connection, shard_clients: list[Client]
) -> None:
    waiting.interrupt()
    waiting.says("The run ends after the statements under way: it has been waiting for Postgres for", within=2)
    [run] = instance.get_runs()
    until(lambda: [one.status for one in instance.get_runs()] == [DagsterRunStatus.CANCELING], seconds=30)
    assert waiting.process.poll() is None
    waiting.answer()
    assert waiting.process.wait(timeout=30) == 130
    [run] = instance.get_runs()
    assert run.status is DagsterRunStatus.CANCELED
    # Nothing of it is in the way of the next one.
    assert command("reindex", *RANGE).status == 0
    assert_equal(source, shard_clients, kind="process")


def test_a_second_one_ends_it_at_once(waiting: Interrupted, instance: DagsterInstance) -> None:
    waiting.interrupt()
    waiting.says("Ctrl-C again ends it at once", within=2)
    second = waiting.interrupt()
    assert waiting.process.wait(timeout=10) == 130
    assert time.monotonic() - second < 5
    [run] = instance.get_runs()
    assert run.status is DagsterRunStatus.CANCELED
