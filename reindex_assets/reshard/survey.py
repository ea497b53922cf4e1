"""Which shard rows are on, and which they belong on by the fleet file: what a reshard has to move, and what it can't.

What lives here: queries to the shards, and their sums. What does not: moving rows (an ordinary run), and whether they are right
(comparison/comparison.py). Doesn't query Postgres: a run makes its slices equal, whatever it finds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any

from reindex_assets.clickhouse.shards import ShardConnection, ShardSet
from reindex_assets.config.dataset import Dataset
from reindex_assets.errors import SchemaMismatchError
from reindex_assets.model import PARENT, Slice, Table, days_between
from reindex_assets.placement.resolver import MAY_BE_ELSEWHERE, GroupPlacement
from reindex_assets.selection.groups import SliceGroup, group_slices, slice_group
from reindex_assets.selection.shard_rule import shard_expression
from reindex_assets.selection.shard_sql import (
    IN_SLICES,
    OF_ANY_PROFILE,
    OF_CUSTOMERS,
    OF_PROFILES,
    ON_DAYS,
    shard_scope,
)

#: Slices per query; it holds their conversations in memory.
_SLICES_AT_ONCE = 2_000
_COMMENT = "reindex_assets reshard"
_KEY = "customer, profile, conversation_id"


@dataclass(frozen=True)
class CustomerMoves:
    """What a reshard does with a customer's rows.

    Attributes:
        stay, move: rows by table name.
        arrive: moving scorecards by the number of their new shard.
        partitions: how many have rows to move, all kinds together.
    """

    customer: str
    stay: Mapping[str, int]
    move: Mapping[str, int]
    arrive: Mapping[int, int]
    partitions: int


@dataclass(frozen=True)
class LeftBehind:
    """Rows on a wrong shard that no run can move.

    Attributes:
        reason: why not.
        shard: its label.
        rows: by table name.
    """

    customer: str
    reason: str
    shard: str
    rows: Mapping[str, int]
    first_day: date
    last_day: date


@dataclass
class RowLocations:
    """Where the rows of some slices are.

    Attributes:
        standing: rows by kind, customer, table name, the number of the shard they are on, and of the shard they belong on.
        slices: those with rows to move, by dataset.
    """

    standing: Counter[tuple[str, str, str, int, int]] = field(default_factory=Counter)
    slices: dict[Dataset, set[Slice]] = field(default_factory=dict)

    @property
    def rows_to_move(self) -> int:
        return sum(rows for (_, _, _, at, to), rows in self.standing.items() if at != to)

    def of_shard(self, shard: int, table: str = PARENT) -> tuple[int, int, int]:
        """A shard's rows now, those that leave it, and those that arrive."""
        mine = [(at, to, rows) for (_, _, name, at, to), rows in self.standing.items() if name == table]
        return (
            sum(rows for at, _, rows in mine if at == shard),
            sum(rows for at, to, rows in mine if at == shard != to),
            sum(rows for at, to, rows in mine if to == shard != at),
        )

    def by_customer(self) -> list[CustomerMoves]:
        """The sums of each customer that has rows."""
        sums: dict[str, tuple[Counter[str], Counter[str], Counter[int]]] = {}
        for (_, customer, table, at, to), rows in self.standing.items():
            stay, move, arrive = sums.setdefault(customer, (Counter(), Counter(), Counter()))
            (stay if at == to else move)[table] += rows
            if at != to and table == PARENT:
                arrive[to] += rows
        partitions = Counter(item.customer for slices in self.slices.values() for item in slices)
        return [CustomerMoves(customer, *sums[customer], partitions[customer]) for customer in sorted(sums)]


class ShardSurvey:
    """Finds the rows on a cluster's shards, retiring ones included. Use as a context. `datasets` are all of the cluster's."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self._datasets = datasets

    def __enter__(self) -> ShardSurvey:
        self.shards = ShardSet(self._datasets[0].cluster, _COMMENT, with_retiring=True)
        return self

    def __exit__(self, *error: object) -> None:
        self.shards.close()

    def present(self) -> list[Dataset]:
        """The datasets with rows on the shards."""
        sql = " UNION ALL ".join(
            f"SELECT DISTINCT template_type AS found FROM {table.clickhouse}" for table in self.shards.tables
        )
        types = {int(str(row["found"])) for rows in self.shards.map(lambda shard: shard.rows(sql)) for row in rows}
        return [dataset for dataset in self._datasets if dataset.kind.template_type in types]

    def find(self, slices: Iterable[Slice]) -> RowLocations:
        """Where the rows of some slices are, of every kind.

        Raises:
            ShardUnreachableError: a shard could not be asked.
        """
        locations = RowLocations()
        wanted = set(slices)
        for dataset in self.present():
            for group in group_slices(wanted, dataset, {}, 1, _SLICES_AT_ONCE):
                self._find_group(locations, dataset, group)
        return locations

    def _find_group(self, locations: RowLocations, dataset: Dataset, group: SliceGroup) -> None:
        placement = GroupPlacement(self.shards, group)
        for table in dataset.tables:
            for item, at, to, rows in (
                self._conversation_rows(placement, table, group)
                if dataset.kind.is_of_conversations
                else self._timed_rows(table, group)
            ):
                locations.standing[dataset.kind.name, item.customer, table.name, at, to] += rows
                if at != to and rows:
                    locations.slices.setdefault(dataset, set()).add(item)

    def _timed_rows(self, table: Table, group: SliceGroup) -> Iterable[tuple[Slice, int, int, int]]:
        sql = f"""\
SELECT customer, day, toInt32({shard_expression(len(self.shards))}) AS belongs, count() AS found
FROM {table.clickhouse}
WHERE {IN_SLICES}
GROUP BY customer, day, belongs"""
        for shard, rows in enumerate(self.shards.map(lambda connection: connection.rows(sql, shard_scope(group)))):
            for row in rows:
                yield Slice.of_row(row), shard, int(str(row["belongs"])), int(str(row["found"]))

    def _conversation_rows(
        self, placement: GroupPlacement, table: Table, group: SliceGroup
    ) -> Iterable[tuple[Slice, int, int, int]]:
        count = len(self.shards)
        total = (
            f"SELECT customer, day, count() AS found FROM {table.clickhouse}\nWHERE {IN_SLICES}\nGROUP BY customer, day"
        )
        doubtful = f"""\
SELECT customer, day, profile, conversation_id, toInt32({shard_expression(count)}) AS shard, toInt64(count()) AS found
FROM {table.clickhouse}
WHERE {IN_SLICES}
  AND ({{retires:Bool}} OR {MAY_BE_ELSEWHERE})
GROUP BY customer, day, profile, conversation_id, shard"""

        def ask(shard: ShardConnection) -> tuple[list[dict[str, object]], Any]:
            scope = placement.scope
            # On a retiring shard no conversation keeps its scorecards.
            return shard.rows(total, scope), shard.table(doubtful, {**scope, "retires": shard.index >= count})

        for shard, (totals, rows) in enumerate(self.shards.map(ask)):
            stay = Counter({Slice.of_row(row): int(str(row["found"])) for row in totals})
            if rows.num_rows:
                belongs, _ = placement.resolve(rows, rows.column("shard").to_numpy())
                columns = rows.select(["customer", "day", "found"]).to_pylist()
                for row, to in zip(columns, belongs.tolist(), strict=True):
                    if to != shard:
                        item = Slice.of_row(row)
                        stay[item] -= row["found"]
                        yield item, shard, to, row["found"]
            for item, count_here in stay.items():
                yield item, shard, shard, count_here

    # --- what no run reaches

    def left_behind(self, first_day: date, last_day: date) -> list[LeftBehind]:
        """Rows on a wrong shard and outside every partition: customers, profiles, kinds and days that the fleet file doesn't list."""
        # Any kind will do: the queries below ask for all of them.
        any_kind = self._datasets[0]
        group = slice_group(any_kind, any_kind.customers, days_between(first_day, last_day))
        entries: dict[tuple[str, str, int], dict[str, Any]] = {}
        for table in self.shards.tables:
            for shard, rows in enumerate(self.shards.map(partial(self._outside, table=table, group=group))):
                for row in rows:
                    entry = entries.setdefault(
                        (str(row["customer"]), str(row["reason"]), shard),
                        {"rows": Counter(), "first": row["first"], "last": row["last"]},
                    )
                    entry["rows"][table.name] += int(str(row["found"]))
                    entry["first"], entry["last"] = min(entry["first"], row["first"]), max(entry["last"], row["last"])
        labels = [connection.label for connection in self.shards.connections]
        return [
            LeftBehind(customer, reason, labels[shard], entry["rows"], entry["first"], entry["last"])
            for (customer, reason, shard), entry in sorted(entries.items())
        ]

    def _outside(self, shard: ShardConnection, table: Table, group: SliceGroup) -> list[dict[str, object]]:
        retires = shard.index >= len(self.shards)
        outside = f"NOT ({_OF_FLEET})"
        kinds = [dataset.kind for dataset in self._datasets]
        scope = {
            **shard_scope(group),
            "kinds": [kind.template_type for kind in kinds],
            "of_conversations": [kind.template_type for kind in kinds if kind.is_of_conversations],
            "shard": shard.index,
            "retires": retires,
            "first_day": group.first_day,
        }
        if not shard.rows(f"SELECT 1 AS found FROM {table.clickhouse} WHERE {outside} LIMIT 1", scope):
            return []
        elsewhere = f"({{retires:Bool}} OR {shard_expression(len(self.shards))} != {{shard:UInt16}})"
        by_conversation = "template_type IN {of_conversations:Array(UInt8)} AND NOT {retires:Bool}"
        held = f"{by_conversation} AND ({_KEY}) IN (SELECT {_KEY} FROM conversation)"

        def ask(condition: str) -> list[dict[str, object]]:
            return shard.rows(
                f"""\
SELECT customer, {_REASON} AS reason, min(day) AS first, max(day) AS last, count() AS found
FROM {table.clickhouse}
WHERE {outside} AND {condition}
GROUP BY customer, reason""",
                scope,
            )

        try:
            return ask(f"{elsewhere} AND NOT ({held})")
        except SchemaMismatchError:
            # Without the product's conversations, none of them keeps a row here.
            return ask(elsewhere)

    def held_by(self, shard: ShardConnection) -> dict[str, int]:
        """All rows of a shard, by table name."""
        return {
            table.name: shard.row(f"SELECT count() AS found FROM {table.clickhouse}")["found"] for table in shard.tables
        }

    def held_by_retiring(self) -> dict[str, dict[str, int]]:
        """All rows of each retiring shard, by label and table name."""
        futures = {
            connection.label: self.shards.submit(connection.index, self.held_by)
            for connection in self.shards.connections[len(self.shards) :]
        }
        return {label: future.result() for label, future in futures.items()}


_OF_KINDS = "template_type IN {kinds:Array(UInt8)}"
_OF_FLEET = f"{OF_CUSTOMERS} AND {ON_DAYS} AND {_OF_KINDS}"
_REASON = f"""\
multiIf(NOT {OF_ANY_PROFILE}, 'the customer is not in the fleet file',
        NOT {OF_PROFILES}, 'the profile is not in the fleet file',
        NOT ({_OF_KINDS}), 'its template type is none of ours',
        day < {{first_day:Date32}}, 'before first_day', 'after today')"""
