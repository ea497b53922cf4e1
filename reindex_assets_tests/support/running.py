"""What the tests of the invariants share: made data, runs of the core, and what the shards' own logs say of them.

What lives here: starting a run, adding up its outcomes, and asking each shard what was written. What does not: what the
application does meanwhile (support/application.py), tests, and any judgement whether both engines hold the same (oracle.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from clickhouse_connect.driver.client import Client

from reindex_assets.config.cluster import Customer
from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_data import DataPlan
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice, Step
from reindex_assets.reindex.job import Reindex, ReindexOptions
from reindex_assets.reindex.pipeline import SliceOutcome
from reindex_assets_tests.support.session_stack import CUSTOMERS

#: Small, of three customers, and across the end of a month: rows of two partitions of the tables.
PLAN = DataPlan(CUSTOMERS, date(2026, 1, 30), days=4, scale=0.003, seed=11)

ALL_STEPS = tuple(Step)


def slices_of(plan: DataPlan) -> list[Slice]:
    """Every slice of a plan."""
    return [Slice(customer, day) for customer in plan.customers for day in plan.all_days]


def holds_plan(shard_clients: Sequence[Client], plan: DataPlan) -> bool:
    """Whether the slices of a plan, and no others, have rows in both tables of ClickHouse: an earlier test may have left those of other
    days, or scorecards without scores."""
    expected = set(slices_of(plan))
    return all(
        expected
        == {
            Slice(customer, day)
            for client in shard_clients
            for customer, day in client.query(f"SELECT DISTINCT customer, day FROM {table}").result_rows
        }
        for table in ("scorecard", "score")
    )


def attempt(
    fleet: Fleet,
    slices: Iterable[Slice],
    options: ReindexOptions | None = None,
    steps: Iterable[Step] = ALL_STEPS,
    on_retry: Callable[[str], None] = lambda message: None,
) -> list[SliceOutcome]:
    """One run of the core; its slices may fail."""
    return Reindex(fleet.dataset(CLUSTER, PROCESS), options, on_retry=on_retry).run(slices, steps)


def reindex(
    fleet: Fleet, slices: Iterable[Slice], options: ReindexOptions | None = None, steps: Iterable[Step] = ALL_STEPS
) -> list[SliceOutcome]:
    """One run of the core, in which no slice fails."""
    outcomes = attempt(fleet, slices, options, steps)
    assert errors(outcomes) == []
    return outcomes


def errors(outcomes: Sequence[SliceOutcome]) -> list[str]:
    return [f"{outcome.slice}: {outcome.error}" for outcome in outcomes if outcome.error is not None]


@dataclass(frozen=True)
class Rows:
    """Rows that runs report, over all slices, tables and shards."""

    read: int = 0
    missing: int = 0
    changed: int = 0
    deleted: int = 0
    newer: int = 0

    @property
    def written(self) -> int:
        return self.missing + self.changed


def reported(outcomes: Sequence[SliceOutcome], table: str | None = None) -> Rows:
    """What the outcomes add up to, of one table or of both."""
    writes = [
        write for outcome in outcomes for (name, _), write in outcome.writes.items() if table is None or name == table
    ]
    return Rows(
        sum(write.read for write in writes),
        sum(write.missing for write in writes),
        sum(write.changed for write in writes),
        sum(write.deleted for write in writes),
        sum(write.newer for write in writes),
    )


@dataclass(frozen=True)
class Activity:
    """What ever happened to the live tables, on all shards, by the engines' own logs. Merges are not counted.

    Attributes:
        new_rows: rows of the parts that inserts made.
    """

    new_parts: int
    new_rows: int
    mutated_parts: int
    mutations: int


def activity(shard_clients: Sequence[Client]) -> Activity:
    """Asks every shard."""
    found = [0, 0, 0, 0]
    for client in shard_clients:
        client.command("SYSTEM FLUSH LOGS")
        [parts] = client.query(
            """
            SELECT
                countIf(event_type = 'NewPart'),
                sumIf(rows, event_type = 'NewPart'),
                countIf(event_type = 'MutatePart')
            FROM system.part_log
            WHERE database = currentDatabase() AND table IN ('scorecard', 'score') AND error = 0
            """
        ).result_rows
        [[mutations]] = client.query(
            "SELECT count() FROM system.mutations WHERE database = currentDatabase() AND table IN ('scorecard', 'score')"
        ).result_rows
        found = [sum(pair) for pair in zip(found, (*parts, mutations), strict=True)]
    return Activity(*found)


def content(shard_clients: Sequence[Client], where: str = "1") -> list[tuple[object, ...]]:
    """Every physical row of the live tables, version included, as digests: (shard, table, digest), sorted."""
    return sorted(
        (shard, table.name, row[0])
        for shard, client in enumerate(shard_clients)
        for table in TABLES
        for row in client.query(f"SELECT sipHash128(toString(tuple(*))) FROM {table.name} WHERE {where}").result_rows
    )


def count_rows(shard_clients: Sequence[Client], table: str, where: str = "1", final: bool = False) -> list[int]:
    """Rows of a table on each shard."""
    return [
        int(client.query(f"SELECT count() FROM {table} {'FINAL' if final else ''} WHERE {where}").result_rows[0][0])
        for client in shard_clients
    ]


def staging_tables(shard_clients: Sequence[Client]) -> list[str]:
    """Staging tables on all shards, and anything else that a run may have left there."""
    return [
        f"{shard}: {name}"
        for shard, client in enumerate(shard_clients)
        for (name,) in client.query(
            "SELECT name FROM system.tables WHERE database = currentDatabase() AND name NOT IN"
            " ('scorecard', 'score', 'conversation', 'reindex_layout', 'written')"
        ).result_rows
    ]


# --- fleets that differ from the stack's


def with_customers(fleet: Fleet, customers: Mapping[str, Sequence[str]]) -> Fleet:
    cluster = fleet.clusters[CLUSTER].model_copy(
        update={"customers": {name: Customer(profiles=tuple(profiles)) for name, profiles in customers.items()}}
    )
    return fleet.model_copy(update={"clusters": {CLUSTER: cluster}})


def with_shards(fleet: Fleet, numbers: Sequence[int], retiring: Sequence[int] = ()) -> Fleet:
    """The fleet with these of its shards, in this order."""
    cluster = fleet.clusters[CLUSTER]
    shards, emptied = (tuple(cluster.clickhouse.shards[number] for number in chosen) for chosen in (numbers, retiring))
    clickhouse = cluster.clickhouse.model_copy(update={"shards": shards, "retiring": emptied})
    return fleet.model_copy(update={"clusters": {CLUSTER: cluster.model_copy(update={"clickhouse": clickhouse})}})


class Once:
    """Does something at the first call, of whichever thread; the others wait until it is done."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._lock = threading.Lock()
        self.done = False

    def __call__(self) -> None:
        with self._lock:
            if not self.done:
                self._action()
                self.done = True
