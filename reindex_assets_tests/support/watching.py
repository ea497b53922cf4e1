"""What the tests of the watch share: one plan of data, proved equal, and looks that tell what they have compared.

What lives here: the fixture's class and the helpers of drift/test_watch.py and drift/test_watch_turns.py. What does not: tests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.cluster import Watch
from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.drift.watch import WatchResult, look
from reindex_assets.drift.watch_state import WatchState
from reindex_assets.local.data.made_data import DataPlan
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets_tests.support.datasets import watched_by
from reindex_assets_tests.support.plain_loader import load_plainly
from reindex_assets_tests.support.session_stack import CUSTOMERS

#: Across the end of a month.
PLAN = DataPlan(CUSTOMERS, date(2026, 1, 28), days=9, scale=0.0008, seed=6)
SLICES = [Slice(customer, day) for customer in PLAN.customers for day in PLAN.all_days]
DAYS = (PLAN.first_day, PLAN.last_day)
AT_ONCE = Watch(settle_seconds=0)


class Watching:
    """Looks one after the other, each with the state of the last one."""

    def __init__(self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        self.fleet = fleet
        self.state = WatchState()
        #: Slices that the last look has compared to the bit, in the order of their choice.
        self.compared: list[Slice] = []
        original = Comparison.sums

        def counted(comparison: Comparison, slices: Iterable[Slice], max_slices: int = 2_000) -> list[SliceParity]:
            self.compared += list(slices)
            return original(comparison, self.compared, max_slices)

        monkeypatch.setattr(Comparison, "sums", counted)

    def look(
        self,
        limits: Watch = AT_ONCE,
        suspect: Collection[Slice] = (),
        in_flight: Collection[Slice] = (),
        paused: Collection[Slice] = (),
        days: tuple[date, date] = DAYS,
    ) -> WatchResult:
        self.compared.clear()
        found = look(
            watched_by(self.fleet.dataset(CLUSTER, PROCESS), limits),
            days,
            self.state,
            suspect=suspect,
            in_flight=in_flight,
            paused=paused,
        )
        self.state = found.state
        return found

    def drifted(self, paused: Collection[Slice] = ()) -> set[Slice]:
        return set(self.look(paused=paused).drifted)

    def assert_quiet(self) -> None:
        """Everything is known to be equal, and was not looked at again."""
        found = self.look()
        assert (found.touched, found.waiting, self.compared) == (0, 0, [])
        assert all(marks.is_equal for marks in found.state.slices.values())


def reload(source: Connection, shard_clients: list[Client]) -> None:
    """ClickHouse as Postgres is now, written by another hand than the product's."""
    for client in shard_clients:
        for table in TABLES:
            client.command(f"TRUNCATE TABLE {table.name}")
    load_plainly(source, shard_clients)
