"""Rows of ClickHouse outside every partition: of a template type that no kind has, or on a day before the first or after today.

What lives here: finding them, and to which partition each is reported. What does not: rows in a partition (comparison/comparison.py),
and deleting: reindexing a scorecard's own partition deletes its rows anywhere else (clickhouse/difference.py).

No comparison of partitions sees such rows, and dashboards count them. Postgres tells what they are. If it has the scorecard in a partition
of this kind, they are copies that were left behind, reported to that partition. If it has the scorecard before the first day, where these
rows are, too, they are left out on purpose. Everything else belongs to nobody. It may be somebody's who is not known here, so no run
deletes it; it is reported to the partition of its day, or to the first one or today's.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from uuid import UUID

import pyarrow as pa

from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.counts import PLURALS
from reindex_assets.comparison.row_queries import NO_DAY, known_scorecards
from reindex_assets.config.dataset import Dataset
from reindex_assets.model import CHILD, KINDS, PARENT, TABLE_NAMES, Kind, Slice, Tables
from reindex_assets.selection.groups import SliceGroup, slice_group
from reindex_assets.selection.shard_sql import OF_CUSTOMERS, shard_scope
from reindex_assets.selection.source_sql import source_scope

#: Rows that are looked at on each shard, for each table and reason, the latest days first: a fleet file may begin years after the product
#: did.
_MOST_ROWS = 20_000
_NAMED = 3

_KNOWN_TYPES = {kind.template_type for kind in KINDS}
_IS_UNKNOWN = f"template_type NOT IN ({', '.join(map(str, sorted(_KNOWN_TYPES)))})"
#: No row has two of them.
_REASONS = (
    _IS_UNKNOWN,
    f"NOT ({_IS_UNKNOWN}) AND day > {{today:Date32}}",
    f"NOT ({_IS_UNKNOWN}) AND day < {{first_day:Date32}}",
)
_COLUMNS = "customer, profile, toString(scorecard_id) AS id, template_type, day"


@dataclass(frozen=True, kw_only=True)
class Stray:
    """The rows of one scorecard at one place outside every partition.

    Attributes:
        slice: the partition that they are reported to.
        is_copy: Postgres has the scorecard in that partition; reindexing it deletes these rows.
        where: the place, in words.
        rows: their number, by table name.
    """

    slice: Slice
    is_copy: bool
    where: str
    scorecard_id: str
    rows: tuple[tuple[str, int], ...]

    @property
    def place(self) -> tuple[Slice, bool, str, str]:
        """Which stray it is, however many rows it has."""
        return self.slice, self.is_copy, self.where, self.scorecard_id

    @property
    def total(self) -> int:
        return sum(number for _, number in self.rows)


def find_strays(
    comparison: Comparison, slices: Collection[Slice], settle_seconds: float
) -> dict[Slice, tuple[Stray, ...]]:
    """The strays that are reported to some slices; those that are still there after `settle_seconds`."""
    found = _strays_of(comparison, slices)
    if found and settle_seconds:
        time.sleep(settle_seconds)
        # How many rows it has may change meanwhile, by a merge for example.
        before = {stray.place for stray in found}
        found = {stray for stray in _strays_of(comparison, slices) if stray.place in before}
    strays: dict[Slice, list[Stray]] = defaultdict(list)
    for stray in sorted(found, key=lambda stray: (stray.slice, stray.where, stray.scorecard_id)):
        strays[stray.slice].append(stray)
    return {item: tuple(of_slice) for item, of_slice in strays.items()}


def explain_strays(strays: Sequence[Stray]) -> str:
    """What strays there are, in words; empty if there are none."""
    return "; ".join(
        f"{rows_text(some)} {what} ({named(some)})"
        for is_copy, what in ((True, "left behind outside"), (False, "that belong to no partition"))
        if (some := [stray for stray in strays if stray.is_copy is is_copy])
    )


def rows_text(strays: Iterable[Stray]) -> str:
    """The numbers of their rows, in words."""
    rows = dict.fromkeys((PARENT, CHILD), 0)
    for stray in strays:
        for name, number in stray.rows:
            rows[name] += number
    return " and ".join(f"{number:,} {PLURALS[name]}" for name, number in rows.items() if number)


def named(strays: Sequence[Stray]) -> str:
    """Some of them, with their places."""
    more = f" and {len(strays) - _NAMED:,} more" if len(strays) > _NAMED else ""
    return ", ".join(f"{stray.scorecard_id} {stray.where}" for stray in strays[:_NAMED]) + more


def _strays_statement(tables: Tables) -> str:
    """The statement for a shard's rows outside every partition, by scorecard and place."""
    some_rows = "\n    UNION ALL\n    ".join(
        f"SELECT * FROM (SELECT {_COLUMNS}, {int(table.is_parent)} AS is_scorecard FROM {table.clickhouse}\n"
        f"    WHERE {OF_CUSTOMERS} AND {reason}\n    ORDER BY day DESC, customer, profile, scorecard_id LIMIT {_MOST_ROWS})"
        for table in tables
        for reason in _REASONS
    )
    return f"""\
SELECT customer, profile, id, template_type, day,
       countIf(is_scorecard = 1) AS scorecards, countIf(is_scorecard = 0) AS scores
FROM
(
    {some_rows}
)
GROUP BY customer, profile, id, template_type, day"""


@dataclass(frozen=True, kw_only=True)
class _Owner:
    """A scorecard in Postgres; `day` is None if its time is none."""

    scorecard_type: int
    template_type: int
    day: date | None


def _strays_of(comparison: Comparison, slices: Collection[Slice]) -> set[Stray]:
    dataset = comparison.dataset
    today = datetime.now(UTC).date()
    customers = sorted({item.customer for item in slices})
    if not customers:
        return set()
    group = slice_group(dataset, customers, [dataset.first_day])
    scope = {**shard_scope(group), "first_day": dataset.first_day, "today": today}
    sql = _strays_statement(group.tables)
    rows = [row for answer in comparison.shards.map(lambda shard: shard.rows(sql, scope)) for row in answer]
    if not rows:
        return set()
    owners = _owners(comparison, group, {row["id"] for row in rows})
    found: dict[tuple[Slice, bool, str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(TABLE_NAMES, 0))
    for row in rows:
        owner = owners.get((row["customer"], row["profile"], row["id"]))
        place = _reported_to(row["customer"], row["day"], row["template_type"], owner, dataset, today)
        if place is None or place[0] not in slices:
            continue
        where = _where(row["day"], row["template_type"], dataset, today)
        numbers = found[*place, where, row["id"]]
        numbers[PARENT] += row["scorecards"]
        numbers[CHILD] += row["scores"]
    return {
        Stray(slice=item, is_copy=is_copy, where=where, scorecard_id=scorecard_id, rows=tuple(numbers.items()))
        for (item, is_copy, where, scorecard_id), numbers in found.items()
    }


def _owners(comparison: Comparison, group: SliceGroup, ids: Collection[str]) -> dict[tuple[str, str, str], _Owner]:
    """The scorecards of these ids in Postgres, by customer, profile and id."""
    wanted = pa.table({"scorecard_id": pa.array([UUID(text).bytes for text in sorted(ids)])})
    with comparison.session.snapshot(source_scope(group)):
        known = known_scorecards(comparison.session, group, wanted)
    return {
        (row["customer"], row["profile"], str(UUID(bytes=row["scorecard_id"]))): _Owner(
            scorecard_type=row["scorecard_type"],
            template_type=row["template_type"],
            day=None if row["day"] == NO_DAY else row["day"],
        )
        for row in known.to_pylist()
    }


def _reported_to(
    customer: str, day: date, template_type: int, owner: _Owner | None, dataset: Dataset, today: date
) -> tuple[Slice, bool] | None:
    """The slice, and whether the rows are copies of its scorecard. None if they are another kind's, or left out on purpose."""
    kind: Kind = dataset.kind
    if owner is not None and owner.scorecard_type == 0 and owner.template_type in _KNOWN_TYPES:
        if owner.template_type != kind.template_type:
            return None
        if owner.day is not None and dataset.first_day <= owner.day <= today:
            return Slice(customer, owner.day), True
        if owner.day is not None and max(owner.day, day) < dataset.first_day and template_type == kind.template_type:
            return None
    elif template_type in _KNOWN_TYPES - {kind.template_type}:
        return None
    return Slice(customer, min(max(day, dataset.first_day), today)), False


def _where(day: date, template_type: int, dataset: Dataset, today: date) -> str:
    parts = [f"on {day}"]
    if day < dataset.first_day:
        parts.append("before the fleet file's first day")
    elif day > today:
        parts.append("a day to come")
    if template_type not in _KNOWN_TYPES:
        parts.append(f"with the unknown template type {template_type}")
    return ", ".join(parts)
