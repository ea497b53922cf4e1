"""Counts of scorecards and scores on both sides, by customer, day, template and shard.

What lives here: the numbers, and the tables by template and by shard. What does not: querying the engines (comparison/count_queries.py),
and values (comparison/comparison.py, comparison/differences.py): equal counts prove nothing about them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from reindex_assets.model import CHILD, PARENT, TABLE_NAMES, Slice
from reindex_assets.postgres.extract import QuarantinedRow

#: A row of a table for output or metadata: plain strings and numbers.
TableRow = dict[str, str | int]

PLURALS = {PARENT: "scorecards", CHILD: "scores"}


@dataclass(frozen=True)
class TableCounts:
    """Rows of one table, a number for each shard.

    Attributes:
        postgres_by_shard: rows in Postgres, by the shard they belong on.
        clickhouse_by_shard: rows in ClickHouse, by the shard they are on.
        misplaced_by_shard: those in ClickHouse that belong on another shard by their own time.
    """

    postgres_by_shard: tuple[int, ...]
    clickhouse_by_shard: tuple[int, ...]
    misplaced_by_shard: tuple[int, ...]

    @property
    def postgres_rows(self) -> int:
        return sum(self.postgres_by_shard)

    @property
    def clickhouse_rows(self) -> int:
        return sum(self.clickhouse_by_shard)

    @property
    def misplaced_rows(self) -> int:
        return sum(self.misplaced_by_shard)

    @property
    def difference(self) -> int:
        """ClickHouse's rows minus Postgres' rows."""
        return self.clickhouse_rows - self.postgres_rows

    @property
    def agrees(self) -> bool:
        """Each shard holds as many rows as belong there, and none that belongs elsewhere."""
        return self.postgres_by_shard == self.clickhouse_by_shard and not self.misplaced_rows


class TableTally:
    """Collects the counts of one table as the engines answer."""

    def __init__(self, shard_count: int) -> None:
        self.postgres = [0] * shard_count
        self.clickhouse = [0] * shard_count
        self.misplaced = [0] * shard_count

    def counts(self) -> TableCounts:
        return TableCounts(tuple(self.postgres), tuple(self.clickhouse), tuple(self.misplaced))


@dataclass(frozen=True)
class TemplateCounts:
    """One template in one slice; `tables` by table name."""

    slice: Slice
    template_id: str
    tables: Mapping[str, TableCounts]

    @property
    def agrees(self) -> bool:
        return all(table.agrees for table in self.tables.values())


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Both sides, counted.

    Attributes:
        slices: all that were asked for, including empty ones.
        templates: by slice and template, in this order; only those with rows on either side.
        snapshots: the times at which Postgres was read, microseconds: one per group of slices.
        titles: of templates, by customer and template id.
        titles_error: why the titles could not be read; the counts don't need them.
    """

    slices: tuple[Slice, ...]
    templates: tuple[TemplateCounts, ...]
    shard_count: int
    snapshots: tuple[int, ...] = ()
    quarantined: tuple[QuarantinedRow, ...] = ()
    titles: Mapping[tuple[str, str], str] = field(default_factory=dict)
    titles_error: str | None = None

    def updated(self, later: Counts) -> Counts:
        """These counts, with the slices of later ones replaced or added."""
        again = set(later.slices)
        templates = [template for template in self.templates if template.slice not in again]
        return replace(
            self,
            slices=tuple(sorted(again.union(self.slices))),
            templates=tuple(sorted([*templates, *later.templates], key=lambda each: (each.slice, each.template_id))),
            snapshots=tuple(sorted({*self.snapshots, *later.snapshots})),
            quarantined=(*(row for row in self.quarantined if row.slice not in again), *later.quarantined),
        )

    def by_slice(self) -> dict[Slice, Mapping[str, TableCounts]]:
        """The rows of each slice by table name, including empty slices."""
        parts: dict[Slice, list[TemplateCounts]] = {item: [] for item in self.slices}
        for template in self.templates:
            parts[template.slice].append(template)
        return {item: self.summed(templates) for item, templates in parts.items()}

    def disagreeing(self) -> list[Slice]:
        """The slices with a template whose counts differ on some shard."""
        return sorted({template.slice for template in self.templates if not template.agrees})

    def summed(self, templates: Iterable[TemplateCounts]) -> Mapping[str, TableCounts]:
        """The rows of some templates together, by table name."""
        tables = [template.tables for template in templates]
        return {
            name: TableCounts(
                self._added(counts[name].postgres_by_shard for counts in tables),
                self._added(counts[name].clickhouse_by_shard for counts in tables),
                self._added(counts[name].misplaced_by_shard for counts in tables),
            )
            for name in TABLE_NAMES
        }

    def _added(self, numbers: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
        return tuple(map(sum, zip((0,) * self.shard_count, *numbers, strict=False)))


def template_table(counts: Counts) -> list[TableRow]:
    """Both sides by customer and template, all days together, most scorecards first.

    `days_differ` counts the days on which a template differs: one row too many and one too few on different days cancel out in the sums.
    """
    parts: dict[tuple[str, str], list[TemplateCounts]] = defaultdict(list)
    for template in counts.templates:
        parts[template.slice.customer, template.template_id].append(template)
    rows: list[TableRow] = []
    for (customer, template_id), templates in parts.items():
        row: TableRow = {
            "customer": customer,
            "template_id": template_id,
            "title": counts.titles.get((customer, template_id), ""),
        }
        for name, table in counts.summed(templates).items():
            row |= {
                f"{PLURALS[name]}_postgres": table.postgres_rows,
                f"{PLURALS[name]}_clickhouse": table.clickhouse_rows,
                f"{PLURALS[name]}_difference": table.difference,
            }
        rows.append(row | {"days_differ": sum(not template.agrees for template in templates)})
    return sorted(rows, key=lambda row: (row["customer"], -int(row["scorecards_postgres"]), row["template_id"]))


def shard_table(counts: Counts) -> list[TableRow]:
    """By shard: the rows that belong there by Postgres, the rows on it, and how many of these are on a wrong shard."""
    tables = counts.summed(counts.templates)
    rows: list[TableRow] = []
    for shard in range(counts.shard_count):
        row: TableRow = {"shard": shard}
        for name, plural in PLURALS.items():
            row |= {
                f"{plural}_expected": tables[name].postgres_by_shard[shard],
                f"{plural}_clickhouse": tables[name].clickhouse_by_shard[shard],
                f"{plural}_wrong_shard": tables[name].misplaced_by_shard[shard],
            }
        rows.append(row)
    return rows
