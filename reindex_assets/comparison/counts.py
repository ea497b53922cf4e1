"""How many rows stand where: scorecards and scores of every customer, day, template and shard, on both sides.

What lives here: the numbers, and the tables per template and per shard that are made of them. What does not: asking the engines
(comparison/count_queries.py), and values (comparison/comparison.py, comparison/differences.py): equal counts prove nothing about them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from reindex_assets.model import SCORE, SCORECARD, TABLES, Slice
from reindex_assets.postgres.extract import QuarantinedRow

#: A row of a table for people or for metadata: plain texts and numbers.
TableRow = dict[str, str | int]

PLURALS = {SCORECARD.name: "scorecards", SCORE.name: "scores"}


@dataclass(frozen=True)
class TableCounts:
    """Rows of one table, a number for each shard.

    Attributes:
        postgres_by_shard: rows of Postgres, by the shard where each belongs.
        clickhouse_by_shard: rows of ClickHouse, by the shard where each stands.
        misplaced_by_shard: of these, the ones that should stand elsewhere by their own time.
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
        """Rows that ClickHouse has more (below zero: fewer)."""
        return self.clickhouse_rows - self.postgres_rows

    @property
    def agrees(self) -> bool:
        """Each shard holds as many rows as belong there, and none that does not."""
        return self.postgres_by_shard == self.clickhouse_by_shard and not self.misplaced_rows


class TableTally:
    """The counts of one table while the answers of the engines come in."""

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
        slices: all that were asked for, those without any row too.
        templates: in the order of slice and template; only those that one of the sides has.
        snapshots: the times at which Postgres was read, microseconds: one for each rectangle of slices.
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

    def of(self, slices: Iterable[Slice]) -> Counts:
        """The same, of some of the slices."""
        return self._with(set(slices), ())

    def updated(self, later: Counts) -> Counts:
        """The same, with the slices of a later look in place of what was seen of them before."""
        return self._with(set(self.slices) - set(later.slices), (later,))

    def _with(self, kept: set[Slice], others: tuple[Counts, ...]) -> Counts:
        parts = [template for template in self.templates if template.slice in kept]
        rows = [row for row in self.quarantined if row.slice in kept]
        for other in others:
            parts += other.templates
            rows += other.quarantined
        return Counts(
            slices=tuple(sorted(kept.union(*(other.slices for other in others)))),
            templates=tuple(sorted(parts, key=lambda template: (template.slice, template.template_id))),
            shard_count=self.shard_count,
            snapshots=tuple(sorted({*self.snapshots, *(snapshot for other in others for snapshot in other.snapshots)})),
            quarantined=tuple(rows),
            titles=self.titles,
            titles_error=self.titles_error,
        )

    def by_slice(self) -> dict[Slice, Mapping[str, TableCounts]]:
        """The rows of each slice by table name, those of a slice without any too."""
        parts: dict[Slice, list[TemplateCounts]] = {item: [] for item in self.slices}
        for template in self.templates:
            parts[template.slice].append(template)
        return {item: self.summed(templates) for item, templates in parts.items()}

    def disagreeing(self) -> list[Slice]:
        """The slices of which some template has other counts on some shard."""
        return sorted({template.slice for template in self.templates if not template.agrees})

    def summed(self, templates: Iterable[TemplateCounts]) -> Mapping[str, TableCounts]:
        """The rows of some templates together, by table name."""
        found = list(templates)
        return {
            table.name: TableCounts(
                self._added(one.tables[table.name].postgres_by_shard for one in found),
                self._added(one.tables[table.name].clickhouse_by_shard for one in found),
                self._added(one.tables[table.name].misplaced_by_shard for one in found),
            )
            for table in TABLES
        }

    def _added(self, numbers: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
        return tuple(map(sum, zip((0,) * self.shard_count, *numbers, strict=False)))


def template_table(counts: Counts) -> list[TableRow]:
    """Both sides per customer and template, all days together: those with the most scorecards first.

    `days_differ` counts the days on which a template differs: a row too many on one day and one too few on another cancel out in the sums.
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
    """Per shard: rows that belong there by Postgres, rows that stand there, and how many of these stand on a wrong shard."""
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
