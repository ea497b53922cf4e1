"""A case of a sweep: with some setting of an engine other than usual, the product compares and mends a small world. Is all well?

What lives here: the world, and the verdict. What does not: which settings and values there are (sweeps/values.py), and how they are set.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ReindexError
from reindex_assets.local.oracle.compare import differences
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice, Table
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets_tests.support.comparing import compare
from reindex_assets_tests.support.hand_made_rows import add_scorecard, reindex, succeeded, update_scorecard
from reindex_assets_tests.support.running import content

#: The days of the world: of two months, so of two partitions of the tables.
SLICES = [Slice("acme", date(2026, 1, 31)), Slice("acme", date(2026, 2, 1))]
_FIRST = datetime(2026, 1, 31, 23, 59, 40, tzinfo=UTC)
_SCORECARDS = 40
_ONCE = ReindexOptions(attempts=1, everything=True)


class Verdict(StrEnum):
    """What a case ends with."""

    #: Red before the run and green after it, and the oracle agrees.
    RIGHT = "right"
    #: An error of the product's own, and every row that was right still stands.
    ERROR = "error"
    WRONG = "WRONG"


@dataclass(frozen=True, kw_only=True)
class Result:
    """A case's verdict, and why."""

    verdict: Verdict
    words: str = ""


class World:
    """Some dozen scorecards of which ClickHouse has right, changed, superseded, doubled and orphaned rows, and lacks some.

    Args:
        shard_clients: straight to the shards, whatever holds for the product. No merge may be running (support/merges.py).
    """

    def __init__(self, fleet: Fleet, source: Connection, shard_clients: list[Client]) -> None:
        self._source = source
        self._shards = shard_clients
        ids = [
            add_scorecard(source, _FIRST + timedelta(seconds=seconds), scores=({"comment": "ä\t'\n"}, {}, {}))
            for seconds in range(_SCORECARDS)
        ]
        succeeded(reindex(fleet, SLICES, options=_ONCE))
        self._spoil(ids)
        for client in shard_clients:
            for table in TABLES:
                client.command(
                    f"CREATE TABLE {_kept(table)} ENGINE = MergeTree ORDER BY tuple() AS {_select(table.name, table)}"
                )
        before = set(content(shard_clients))
        succeeded(reindex(fleet, SLICES, options=_ONCE))
        assert not self._differences()
        #: Rows that no run has a reason to touch.
        self._right = before & set(content(shard_clients))
        assert self._right

    def _spoil(self, ids: list[str]) -> None:
        for scorecard_id in ids[::8]:
            update_scorecard(self._source, scorecard_id, score=99.5)
        with self._source.cursor() as cursor:
            for relation in ("historic.scorecard_scores", "director.scorecards"):
                cursor.execute(f"DELETE FROM {relation} WHERE scorecard_id = ANY (%s::uuid[])", (ids[1::8],))
        for seconds in range(3):
            add_scorecard(self._source, _FIRST + timedelta(seconds=seconds))
        for client in self._shards:
            for table in TABLES:
                _copy(client, table, ids[2::8], "version")
                _copy(client, table, ids[3::8], "version - 1000")
            client.command(f"DELETE FROM scorecard WHERE scorecard_id IN ({_listed(ids[4::8])})")
            client.command(f"DELETE FROM score WHERE scorecard_id IN ({_listed(ids[5::8])})")

    def close(self) -> None:
        for client in self._shards:
            for table in TABLES:
                client.command(f"DROP TABLE IF EXISTS {_kept(table)} SYNC")

    def restore(self) -> None:
        """ClickHouse differs again as it did at first."""
        for client in self._shards:
            for table in TABLES:
                client.command(f"TRUNCATE TABLE {table.name}")
                columns = ", ".join(_columns(table))
                # By default copies would be folded as they are inserted.
                client.command(
                    f"INSERT INTO {table.name} ({columns}) SETTINGS optimize_on_insert = 0 {_select(_kept(table), table)}"
                )

    def judge(self, fleet: Fleet, changed: Callable[[], AbstractContextManager[object]]) -> Result:
        """Restores the world, and lets the product compare it, mend it, and compare it again.

        Args:
            changed: while it is entered, the setting holds for the product.
        """
        self.restore()
        try:
            with changed():
                if self._is_green(fleet):
                    return Result(verdict=Verdict.WRONG, words="green over differences")
                failures = [
                    outcome.error for outcome in reindex(fleet, SLICES, options=_ONCE).values() if outcome.error
                ]
                if failures:
                    return self._failed(failures[0])
                is_green = self._is_green(fleet)
        except ReindexError as error:
            return self._failed(f"{type(error).__name__}: {error}")
        except Exception as error:  # noqa: BLE001 - any other exception is what the sweep looks for
            return Result(verdict=Verdict.WRONG, words=f"{type(error).__name__}: {error}")
        found = self._differences()
        if found:
            return Result(verdict=Verdict.WRONG, words=f"{len(found)} rows differ: {found[0]}")
        return Result(verdict=Verdict.RIGHT) if is_green else Result(verdict=Verdict.WRONG, words="red over equal rows")

    def _failed(self, words: str) -> Result:
        lost = len(self._right - set(content(self._shards)))
        if lost:
            return Result(verdict=Verdict.WRONG, words=f"{lost} right rows have gone: {words}")
        return Result(verdict=Verdict.ERROR, words=words)

    def _is_green(self, fleet: Fleet) -> bool:
        parities = compare(fleet.dataset(CLUSTER, PROCESS), SLICES)
        return all(parity.sums_agree for parity in parities)

    def _differences(self) -> list[str]:
        return differences(self._source, self._shards, kind="process")


def _columns(table: Table) -> list[str]:
    return [*table.column_names, "version"]


def _kept(table: Table) -> str:
    return f"kept_{table.name}"


def _select(name: str, table: Table) -> str:
    return f"SELECT {', '.join(_columns(table))} FROM {name}"


def _copy(client: Client, table: Table, ids: list[str], version: str) -> None:
    values = ", ".join([*table.column_names, version])
    client.command(
        f"INSERT INTO {table.name} ({', '.join(_columns(table))}) "
        f"SELECT {values} FROM {table.name} WHERE scorecard_id IN ({_listed(ids)})"
    )


def _listed(ids: list[str]) -> str:
    return ", ".join(f"'{one}'" for one in ids)
