"""Compares both sides over a range of days to a chosen depth: what 'reindex-assets verify' prints, and its report.

What lives here: the depths, the verdict on each customer-day in numbers and words, the gaps, and the overall verdict. What does not: the
comparison itself (comparison/comparison.py, comparison/counts.py), and the output (cli/render/).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum

from reindex_assets.comparison.comparison import SETTLE_SECONDS, Comparison
from reindex_assets.comparison.count_queries import count_both_sides, counts_of
from reindex_assets.comparison.counts import PLURALS, Counts, TableCounts, TableRow, shard_table, template_table
from reindex_assets.comparison.gaps import empty_between
from reindex_assets.comparison.parity import SliceDifferences, SliceParity, but, explain, explain_rows
from reindex_assets.comparison.samples import RowSample
from reindex_assets.comparison.strays import Stray, explain_strays, find_strays
from reindex_assets.config.dataset import Dataset
from reindex_assets.config.fleet import Fleet
from reindex_assets.model import CHILD, PARENT, Kind, Slice
from reindex_assets.postgres.extract import QuarantinedRow
from reindex_assets.selection.days import A_DAY
from reindex_assets.selection.rectangles import plan_rectangles


class Depth(StrEnum):
    """How much is compared.

    COUNTS: numbers of rows by customer, day, template and shard; no values.
    FINGERPRINT: every column of every row, by sums of digests; where these differ, the rows, to tell drift from rows in flight.
    ROWS: the same, and shows some of the differing rows with their values.
    """

    COUNTS = "counts"
    FINGERPRINT = "fingerprint"
    ROWS = "rows"


@dataclass(frozen=True, kw_only=True)
class DayReport:
    """The report of one customer-day.

    Attributes:
        rows: rows in Postgres and in ClickHouse, by table name.
        difference: what differs, in words; None if nothing does.
        remark: differences that are no drift, in words; empty if there are none.
        strays: rows outside every partition that are reported to this one.
        parity: the comparison of values; None at the depth `COUNTS`.
    """

    cluster: str
    slice: Slice
    rows: Mapping[str, tuple[int, int]]
    difference: str | None
    remark: str
    counts: Mapping[str, TableCounts]
    quarantined: tuple[QuarantinedRow, ...]
    strays: tuple[Stray, ...] = ()
    parity: SliceParity | None = None

    @property
    def agrees(self) -> bool:
        return self.difference is None

    @property
    def samples(self) -> tuple[RowSample, ...]:
        return self._differences.samples if self._differences is not None else ()

    @property
    def differing_rows(self) -> int:
        """The exact number of rows that drifted; only the strays among them if rows were not compared."""
        strays = sum(stray.total for stray in self.strays)
        return strays + (self._differences.total if self._differences is not None else 0)

    @property
    def _differences(self) -> SliceDifferences | None:
        return None if self.parity is None else self.parity.differences


@dataclass(frozen=True)
class MissingDays:
    """Consecutive days of a customer without scorecards on one or both engines, between days with some.

    Attributes:
        missing_in: "Postgres", "ClickHouse" or "both". Both: nothing happened on these days, or it was not recorded.
    """

    cluster: str
    customer: str
    first_day: date
    last_day: date
    missing_in: str

    @property
    def days(self) -> int:
        return (self.last_day - self.first_day).days + 1

    def meets(self, later: MissingDays) -> bool:
        """Whether `later` continues this gap."""
        return self.last_day + A_DAY == later.first_day and later == replace(
            self, first_day=later.first_day, last_day=later.last_day
        )


@dataclass(frozen=True)
class ClusterVerification:
    """One cluster: its counts, the comparison of values (None at the depth `COUNTS`), and the rows outside every partition."""

    name: str
    counts: Counts
    parities: tuple[SliceParity, ...] | None
    strays: Mapping[Slice, tuple[Stray, ...]]

    @property
    def snapshots(self) -> tuple[int, ...]:
        """When Postgres was read for the verdict, microseconds."""
        if self.parities is None:
            return self.counts.snapshots
        return tuple(sorted({parity.snapshot for parity in self.parities}))


@dataclass(frozen=True, kw_only=True)
class Verification:
    """Some customers over some days.

    Attributes:
        settle_seconds: the time before differences were compared again.
        samples: at the depth `ROWS`, the most differing rows shown for each customer-day, table and kind of difference.
        days: every customer-day, by cluster, customer and day, in this order.
        left_out: what was not looked at, in words.
    """

    kind: str
    depth: Depth
    first_day: date
    last_day: date
    settle_seconds: float
    samples: int
    clusters: tuple[ClusterVerification, ...]
    days: tuple[DayReport, ...]
    gaps: tuple[MissingDays, ...]
    left_out: str = ""

    @property
    def agrees(self) -> bool:
        """Whether all that was compared agrees."""
        return all(day.agrees for day in self.days)

    @property
    def different(self) -> list[DayReport]:
        return [day for day in self.days if not day.agrees]

    @property
    def snapshots(self) -> list[int]:
        return sorted({snapshot for cluster in self.clusters for snapshot in cluster.snapshots})

    def rows(self, table_name: str) -> tuple[int, int]:
        """A table's rows in Postgres and in ClickHouse, in total."""
        sides = [day.rows[table_name] for day in self.days]
        return sum(postgres for postgres, _ in sides), sum(clickhouse for _, clickhouse in sides)

    @property
    def sentence(self) -> str:
        """The verdict. It claims no more than the depth allows."""
        days, different = len(self.days), len(self.different)
        if different and self.depth is Depth.COUNTS:
            return f"Counts differ on {different:,} of {days:,} customer-days; values were not compared."
        if different:
            rows = sum(day.differing_rows for day in self.days)
            return f"{different:,} of {days:,} customer-days differ, in {rows:,} rows."
        everything = "the one customer-day" if days == 1 else f"all {days:,} customer-days"
        if not any(sum(sides) for day in self.days for sides in day.rows.values()):
            return f"There was nothing to compare: neither side has a row of {self.kind} scorecards on {everything}."
        scorecards, scores = (self.rows(name)[0] for name in (PARENT, CHILD))
        numbers = f"{scorecards:,} {self.kind} scorecards and {scores:,} scores"
        if self.depth is Depth.COUNTS:
            return f"Counts agree on {everything}: {numbers}{but(self.left_out)}; values were not compared."
        return f"Both sides are equal on {everything}: {numbers}, every column of every row{but(self.left_out)}."

    @property
    def templates(self) -> list[TableRow]:
        return [row for cluster in self.clusters for row in template_table(cluster.counts)]

    @property
    def shards(self) -> list[TableRow]:
        return [{"cluster": cluster.name, **row} for cluster in self.clusters for row in shard_table(cluster.counts)]


def verify(
    fleet: Fleet,
    customers: Sequence[str],
    first_day: date,
    last_day: date,
    *,
    kind: Kind,
    depth: Depth = Depth.FINGERPRINT,
    settle_seconds: float = SETTLE_SECONDS,
    samples: int = 10,
) -> Verification:
    """Compares the scorecards of one kind of some customers (all, if none is named) over some days.

    Raises:
        ConfigurationError: an invalid request.
        SourceUnreachableError, ShardUnreachableError, LaggingReplicaError: there is no result.
    """
    slices: dict[Dataset, list[Slice]] = {}
    for rectangle in plan_rectangles(fleet, [kind], customers, first_day, last_day):
        slices.setdefault(rectangle.dataset, []).extend(rectangle.slices)
    clusters = []
    left_out: set[str] = set()
    for dataset, wanted in slices.items():
        name = dataset.cluster_name
        with Comparison(dataset) as comparison:
            left_out.add(comparison.left_out())
            strays = find_strays(comparison, set(wanted), settle_seconds)
            if depth is Depth.COUNTS:
                counts = _settled_counts(comparison, wanted, settle_seconds)
                clusters.append(ClusterVerification(name, counts, None, strays))
                continue
            shown = samples if depth is Depth.ROWS else 0
            parities = tuple(comparison.settled(wanted, settle_seconds, shown))
            # Rows that were in flight have arrived by now.
            again = [parity.slice for parity in parities if not parity.sums_agree] if settle_seconds else []
            counted = {parity.slice: parity for parity in (*parities, *comparison.sums(again))}
            clusters.append(ClusterVerification(name, counts_of(comparison, counted.values()), parities, strays))
    days = tuple(day for cluster in clusters for day in _days(cluster))
    return Verification(
        kind=kind.name,
        depth=depth,
        first_day=first_day,
        last_day=last_day,
        settle_seconds=settle_seconds,
        samples=samples,
        clusters=tuple(clusters),
        days=days,
        gaps=tuple(find_missing_days(days)),
        left_out=" and ".join(sorted(left_out - {""})),
    )


def _settled_counts(comparison: Comparison, slices: Iterable[Slice], settle_seconds: float) -> Counts:
    """The counts; counts those that disagree again later, as rows may have been in flight."""
    counts = count_both_sides(comparison, slices)
    disagreeing = counts.disagreeing()
    if disagreeing and settle_seconds:
        time.sleep(settle_seconds)
        counts = counts.updated(count_both_sides(comparison, disagreeing))
    return counts


def _days(cluster: ClusterVerification) -> Iterator[DayReport]:
    counted, strays = cluster.counts.by_slice(), cluster.strays
    if cluster.parities is None:
        unequal = set(cluster.counts.disagreeing())
        for item, tables in counted.items():
            yield DayReport(
                cluster=cluster.name,
                slice=item,
                rows={name: (table.postgres_rows, table.clickhouse_rows) for name, table in tables.items()},
                difference=_joined(explain_counts(tables) if item in unequal else None, strays.get(item, ())),
                remark="",
                strays=strays.get(item, ()),
                counts=tables,
                quarantined=tuple(row for row in cluster.counts.quarantined if row.slice == item),
            )
        return
    for parity in cluster.parities:
        yield DayReport(
            cluster=cluster.name,
            slice=parity.slice,
            rows={name: (table.postgres_rows, table.clickhouse_rows) for name, table in parity.tables.items()},
            difference=_joined(explain(parity), strays.get(parity.slice, ())),
            remark=_remark(parity),
            strays=strays.get(parity.slice, ()),
            counts=counted[parity.slice],
            quarantined=parity.quarantined,
            parity=parity,
        )


def _joined(difference: str | None, strays: Sequence[Stray]) -> str | None:
    return "; ".join(part for part in (difference, explain_strays(strays)) if part) or None


def explain_counts(tables: Mapping[str, TableCounts]) -> str:
    """What differs in a slice whose counts disagree, in a few words.

    >>> explain_counts({"scorecard": TableCounts((3, 0), (1, 1), (0, 1)), "score": TableCounts((9, 9), (9, 9), (0, 0))})
    '-1 scorecards; 1 scorecards on a wrong shard'
    """
    parts = []
    for name, plural in PLURALS.items():
        table = tables[name]
        if table.difference:
            parts.append(f"{table.difference:+,} {plural}")
        if table.misplaced_rows:
            parts.append(f"{table.misplaced_rows:,} {plural} on a wrong shard")
        elif not table.difference and not table.agrees:
            parts.append(f"as many {plural}, but not on each shard")
    if all(table.agrees for table in tables.values()):
        return "as many rows, but not of each template"
    return "; ".join(parts)


def _remark(parity: SliceParity) -> str:
    if parity.differences is None:
        return ""
    parts = [explain_rows(parity.differences.harmless)]
    if parity.differences.in_flight:
        parts.append(f"{parity.differences.in_flight:,} rows in flight")
    return "; ".join(part for part in parts if part)


def find_missing_days(days: Iterable[DayReport]) -> list[MissingDays]:
    """The gaps of each engine between its first and last day with rows; outside, a gap can't be told from a late start."""
    by_customer: dict[tuple[str, str], dict[date, DayReport]] = {}
    for report in days:
        by_customer.setdefault((report.cluster, report.slice.customer), {})[report.slice.day] = report
    gaps: list[MissingDays] = []
    for (cluster, customer), reports in by_customer.items():
        reach = (max(reports) - min(reports)).days
        by_engine = [
            {day: sum(sides[engine] for sides in reports[day].rows.values()) for day in reports} for engine in (0, 1)
        ]
        for day in sorted(reports):
            if not any(empty_between(counts, day, busy=1, reach=reach) for counts in by_engine):
                continue
            in_postgres, in_clickhouse = (counts[day] for counts in by_engine)
            missing_in = "ClickHouse" if in_postgres else "Postgres" if in_clickhouse else "both"
            gap = MissingDays(cluster, customer, day, day, missing_in)
            if gaps and gaps[-1].meets(gap):
                gap = replace(gap, first_day=gaps.pop().first_day)
            gaps.append(gap)
    return gaps
