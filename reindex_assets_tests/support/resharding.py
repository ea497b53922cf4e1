"""What the tests of a reshard share: a stack of four shards, rows of both kinds on some of them, and a reader of all shards at once.

What lives here: fleets that name some of the shards, loading, records, and the reader. What does not: tests.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from clickhouse_connect.driver.client import Client
from dagster import DagsterInstance
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_conversations import hold_conversations
from reindex_assets.local.data.made_data import DataPlan
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack import connections
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import CONVERSATION, PROCESS
from reindex_assets.reindex.job import Progress, Reindex, ReindexOptions
from reindex_assets.reindex.pipeline import SliceOutcome
from reindex_assets.reindex.run_report import RunReport
from reindex_assets.reshard.work import ReshardOptions, ReshardOutcome, ReshardWork, WindowRun
from reindex_assets.selection.rectangles import Rectangle
from reindex_assets_tests.support.running import errors, slices_of, with_shards
from reindex_assets_tests.support.session_stack import CUSTOMERS, FIRST_DAY

PLAN = DataPlan(CUSTOMERS, date(2026, 1, 31), days=2, scale=0.0006, seed=17, conversation_share=3.0)
SLICES = slices_of(PLAN)
#: What has partitions in these tests: few days, so that nothing asks for months of empty ones.
DAYS = (date(2026, 1, 30), date(2026, 2, 2))
KINDS = (PROCESS, CONVERSATION)
TABLES = ("scorecard", "score", "conversation", "reindex_layout")
assert DAYS[0] >= FIRST_DAY


@dataclass
class Shards:
    """Four shards, and what stands on them."""

    fleet: Fleet
    source: Connection
    clients: Sequence[Client]
    saved: set[tuple[int, ...]] = field(default_factory=set)

    def of(self, numbers: Sequence[int], retiring: Sequence[int] = ()) -> Fleet:
        """The fleet file that names some of them."""
        return with_shards(self.fleet, numbers, retiring)

    def load(self, numbers: Sequence[int]) -> None:
        """Rows of both kinds, their conversations and records on some shards, and nothing on the others. Written once, then restored."""
        for client in self.clients:
            for table in TABLES:
                client.command(f"TRUNCATE TABLE {table}")
        saved = f"saved_{len(numbers)}"
        if tuple(numbers) not in self.saved:
            hold_conversations(self.source, [self.clients[number] for number in numbers])
            for outcomes in reindex(self.of(numbers)):
                assert errors(outcomes) == []
            for number in numbers:
                self.clients[number].command(f"CREATE DATABASE {saved}")
                for table in TABLES:
                    self.clients[number].command(f"CREATE TABLE {saved}.{table} AS {table}")
                    self.clients[number].command(f"INSERT INTO {saved}.{table} SELECT * FROM {table}")
            self.saved.add(tuple(numbers))
        for number in numbers:
            for table in TABLES:
                self.clients[number].command(f"TRUNCATE TABLE {table}")
                self.clients[number].command(f"INSERT INTO {table} SELECT * FROM {saved}.{table}")

    def assert_placed(self, numbers: Sequence[int]) -> None:
        """The oracle's word: both kinds, to the bit, on these shards in this order."""
        for kind in KINDS:
            oracle.assert_equal(self.source, [self.clients[number] for number in numbers], kind=kind.name)

    def rows(self, number: int) -> int:
        tables = ("scorecard", "score")
        return sum(
            int(self.clients[number].query(f"SELECT count() FROM {table}").result_rows[0][0]) for table in tables
        )

    def records(self) -> list[tuple[object, ...] | None]:
        """Of each shard: state, number, shards, next number, next shards."""
        found = []
        for client in self.clients:
            rows = client.query(
                "SELECT state, shard, shards, next_shard, next_shards FROM reindex_layout ORDER BY version DESC LIMIT 1"
            ).result_rows
            found.append(tuple(rows[0]) if rows else None)
        return found

    def settled(self, numbers: Sequence[int]) -> bool:
        """Whether the records of these shards say so, and that nothing is under way."""
        records = self.records()
        expected = [("settled", index, len(numbers), -1, 0) for index in range(len(numbers))]
        return [records[number] for number in numbers] == expected


def reindex(fleet: Fleet, options: ReindexOptions | None = None) -> list[list[SliceOutcome]]:
    """A run of each kind."""
    return [Reindex(fleet.dataset(CLUSTER, kind), options).run(SLICES) for kind in KINDS]


def reshard(fleet: Fleet, instance: DagsterInstance | None, **options: object) -> ReshardOutcome:
    """A whole reshard of the stack's cluster; without an instance, one that has nothing to move."""
    chosen = ReshardOptions(**{"settle_seconds": 0, **options})  # type: ignore[arg-type]
    return ReshardWork(fleet, CLUSTER, DAYS[1], chosen).run(window_run(instance))


def window_run(instance: DagsterInstance | None) -> WindowRun:
    """Runs of windows in this process, in a Dagster instance."""

    def run(
        rectangle: Rectangle, config: Mapping[str, object], on_progress: Callable[[Progress], None], /
    ) -> RunReport:
        from reindex_assets.defs.runs.launch import launch

        assert instance is not None, "there was nothing to move"
        return launch(instance, rectangle, config, on_progress)

    return run


_KEYS = {
    "scorecard": "customer, profile, scorecard_id, day",
    "score": "customer, profile, scorecard_id, score_id, day",
}


class UnionReader:
    """Samples some shards together, over and over, as a dashboard that sums over them does; with connections of its own.

    A row that moves while the shards are read one after the other may be seen on none of them, however it is moved: so a row is missed
    when two readings in a row have not seen it anywhere.

    Attributes:
        samples: readings of both tables.
        missed: rows that were there at the beginning, and not in some sample: by table and digest.
    """

    def __init__(self, fleet: Fleet) -> None:
        """
        Args:
            fleet: its retiring shards are read too.
        """
        cluster = fleet.clusters[CLUSTER]
        clickhouse = cluster.clickhouse
        everywhere = clickhouse.model_copy(update={"shards": (*clickhouse.shards, *clickhouse.retiring)})
        self._clients = connections.connect_shards(cluster.model_copy(update={"clickhouse": everywhere}))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._failure: BaseException | None = None
        self.before = {table: self._rows(table) for table in _KEYS}
        self.missed: Counter[tuple[str, int]] = Counter()
        self.samples = 0

    def __enter__(self) -> UnionReader:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        for client in self._clients:
            client.close()
        if self._failure is not None:
            raise self._failure

    def _rows(self, table: str) -> set[int]:
        sql = f"SELECT cityHash64({_KEYS[table]}) FROM {table}"
        return {row[0] for client in self._clients for row in client.query(sql).result_rows}

    def _read(self) -> None:
        try:
            # The pause leaves the machine to what is watched; a hole lasts longer.
            while not self._stop.wait(0.02):
                for table, before in self.before.items():
                    gone = before - self._rows(table)
                    if gone:
                        gone -= self._rows(table)
                    self.missed.update((table, row) for row in gone)
                self.samples += 1
        except BaseException as failure:  # noqa: BLE001 - raised again in the thread that waits
            self._failure = failure
