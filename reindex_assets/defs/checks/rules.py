"""The rule of each check: its result on one slice, as a sentence, numbers and tables that an operator understands.

What lives here: rules and their metadata. What does not: the checks themselves, their names and severities (defs/checks/specs.py), and the
comparison (comparison/comparison.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from dagster import MetadataValue, TableColumn, TableRecord, TableSchema

from reindex_assets.comparison.differences import HARMLESS, Difference
from reindex_assets.comparison.gaps import Gap
from reindex_assets.comparison.parity import SliceDifferences, SliceParity, TableParity, but, explain, explain_rows
from reindex_assets.comparison.strays import Stray, explain_strays
from reindex_assets.drift.repair_policy import Repair
from reindex_assets.model import CHILD, MICROSECONDS, PARENT

#: The types of metadata values that this project uses; Dagster accepts more.
Metadata = MetadataValue | str | int | float
#: Differing rows that a result shows.
_SHOWN = 50


@dataclass(frozen=True)
class CheckResult:
    """The result of a check on a slice."""

    passed: bool
    sentence: str
    metadata: Mapping[str, Metadata]


@dataclass(frozen=True)
class Evidence:
    """What the checks of a slice look at: both sides, the gap if the day is one, the repair if it was given up, the rows outside every
    partition that are reported to this one, and what the comparison leaves out, in words."""

    parity: SliceParity
    gap: Gap | None = None
    given_up: Repair | None = None
    given_up_of_customer: Sequence[Repair] = ()
    strays: Sequence[Stray] = ()
    left_out: str = ""


def counts_agree(evidence: Evidence) -> CheckResult:
    parity = evidence.parity
    numbers: dict[str, Metadata] = {}
    for plural, table in _sides(parity):
        numbers[f"postgres_{plural}"] = table.postgres_rows
        numbers[f"clickhouse_{plural}"] = table.clickhouse_rows
        numbers[f"{plural}_difference"] = table.clickhouse_rows - table.postgres_rows
    sentence = " and ".join(
        f"{table.postgres_rows:,} {plural} in Postgres, {table.clickhouse_rows:,} in ClickHouse"
        for plural, table in _sides(parity)
    )
    differ = [plural for plural, table in _sides(parity) if not table.counts_agree]
    lasting = parity.differences is None or any(
        difference is not Difference.CHANGED for _, difference in parity.differences.rows
    )
    if differ and not lasting:
        sentence += "; the difference is in flight or awaits a merge"
    return CheckResult(
        not differ or not lasting,
        sentence,
        {**numbers, "both_sides": both_sides(parity), "templates": _template_table(parity)},
    )


def rows_agree(evidence: Evidence) -> CheckResult:
    parity = evidence.parity
    numbers: dict[str, Metadata] = {f"{plural}_compared": table.postgres_rows for plural, table in _sides(parity)}
    numbers["differing_rows"] = 0 if parity.differences is None else parity.differences.total
    rows = _rows(parity, "postgres_rows")
    if parity.unchanged_since:
        since = datetime.fromtimestamp(parity.unchanged_since / MICROSECONDS, UTC)
        at = f"{since:%Y-%m-%d %H:%M:%S} UTC"
        sentence = (
            f"every column of every row was the same on both sides, to the bit, at {at}, and neither engine has changed a row of it "
            f"since: {rows}{but(evidence.left_out)}"
            if rows
            else f"neither side had a row on this day at {at}, and none has come since: there was nothing to compare"
        )
        return CheckResult(True, sentence, numbers | {"unchanged_since": since.isoformat()})
    if parity.is_equal:
        sentence = (
            f"every column of every row is the same on both sides, to the bit: {rows}{but(evidence.left_out)}{_aside(parity)}"
            if rows or _rows(parity, "clickhouse_rows")
            else "neither side has a row on this day: there was nothing to compare"
        )
        return CheckResult(True, sentence, numbers)
    if parity.differences is None:
        return CheckResult(False, explain(parity) or "", numbers)
    numbers |= {name: _total(parity, Difference(name)) for name in Difference if Difference(name) not in HARMLESS}
    numbers["rows"] = _sample_table(parity.differences)
    return CheckResult(False, f"{explain(parity)}{_aside(parity)}", numbers)


def _aside(parity: SliceParity) -> str:
    """The differences that are not drift."""
    differences = parity.differences
    if differences is None:
        return ""
    parts = [explain_rows(differences.harmless)] if differences.harmless else []
    if differences.in_flight:
        parts.append(f"{differences.in_flight:,} rows in flight")
    return f" (besides: {'; '.join(parts)})" if parts else ""


def none_of(difference: Difference, bad: str, good: str) -> Callable[[Evidence], CheckResult]:
    """A rule that is red when any row has this kind of difference."""

    def judge(evidence: Evidence) -> CheckResult:
        differences = evidence.parity.differences
        rows = {} if differences is None else differences.rows
        cards, scores = (rows.get((name, difference), 0) for name in (PARENT, CHILD))
        numbers: dict[str, Metadata] = {"scorecards": cards, "scores": scores}
        if not cards and not scores:
            looked_at = _rows(evidence.parity, "clickhouse_rows")
            return CheckResult(
                True, f"{good}: {looked_at}" if looked_at else "ClickHouse has no row on this day", numbers
            )
        assert differences is not None
        return CheckResult(
            False,
            f"{cards:,} scorecards and {scores:,} scores {bad}",
            {**numbers, "rows": _sample_table(differences, difference)},
        )

    return judge


def no_gap_in_days(evidence: Evidence) -> CheckResult:
    parity, gap = evidence.parity, evidence.gap
    shown = parity.scorecards.clickhouse_rows
    numbers: dict[str, Metadata] = {"clickhouse_scorecards": shown}
    if gap is None:
        return CheckResult(True, f"{shown:,} scorecards: this day is not a gap", numbers)
    cause = (
        f"Postgres has {parity.scorecards.postgres_rows:,}, which ClickHouse lacks: see rows_agree"
        if parity.scorecards.postgres_rows
        else "Postgres has none either, so there is nothing to repair here: ask the owners of the product whether rows were lost "
        "before they reached Postgres, or nobody worked that day"
    )
    return CheckResult(
        False,
        f"no scorecard in ClickHouse, between {gap.before_rows:,} on {gap.before} and {gap.after_rows:,} on {gap.after}; {cause}",
        numbers,
    )


def nothing_left_failed(evidence: Evidence) -> CheckResult:
    return given_up_result(evidence.given_up, evidence.given_up_of_customer)


def given_up_result(repair: Repair | None, repairs: Sequence[Repair]) -> CheckResult:
    """The result of `nothing_left_failed` for a partition.

    Args:
        repair: the partition's own, if it was given up.
        repairs: all of its customer's repairs that were given up.
    """
    numbers: dict[str, Metadata] = {"given_up_partitions_of_customer": len(repairs)}
    if repair is None:
        return CheckResult(True, "the repair of this partition was not given up", numbers)
    table = [
        TableRecord(
            {
                "partition": repair.slice.partition_key,
                "differs": repair.differs,
                "failed_repairs": repair.failed,
                "since": _time(repair.given_up_at),
            }
        )
        for repair in repairs[:_SHOWN]
    ]
    if repair.impossible_until is None:
        recovery = RECOVERY
        sentence = f"the repair was given up at {_time(repair.given_up_at)} after failing {repair.failed} times"
    else:
        recovery = RECOVERY_OF_ROWS_AHEAD
        sentence = "no repair can succeed now, so none is tried"
    return CheckResult(
        False,
        f"{sentence}: {repair.differs}. {recovery}",
        {**numbers, "given_up": MetadataValue.table(table), "recovery": recovery},
    )


RECOVERY = (
    "Open the last failed run of this partition and correct the cause that its error names. Then materialize the partition from the "
    "asset's page, or run 'reindex-assets repairs --again'. The repair is also tried again automatically when the partition's rows change"
)

#: Such a row may be right one day, so nobody but a person deletes it.
RECOVERY_OF_ROWS_AHEAD = (
    "A row's version is the time at which its writer read Postgres, and no run touches a row that is newer than its own snapshot. Correct "
    "the clock of the writer, then delete these rows on their shard (DELETE FROM ... WHERE version > toUnixTimestamp64Micro(now64(6)) and "
    "their ids): the repair sensor writes them anew. Otherwise they are repaired once that time has come"
)


def _time(at: float | None) -> str:
    return datetime.fromtimestamp(at or 0.0, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def nothing_quarantined(evidence: Evidence) -> CheckResult:
    rows = evidence.parity.quarantined
    if not rows:
        placed = evidence.parity.scorecards.postgres_rows
        sentence = (
            f"every scorecard of this day can be copied: {placed:,}"
            if placed
            else "Postgres has no scorecard on this day"
        )
        return CheckResult(True, sentence, {"quarantined": 0})
    table = [
        TableRecord({"scorecard": row.scorecard_id, "profile": row.profile, "reason": row.reason})
        for row in rows[:_SHOWN]
    ]
    sentence = (
        f"{len(rows)} scorecards can't be copied to ClickHouse; the first: {rows[0].scorecard_id}: {rows[0].reason}"
    )
    schema = _text_columns("scorecard", "profile", "reason")
    return CheckResult(False, sentence, {"quarantined": len(rows), "rows": MetadataValue.table(table, schema)})


def no_strays(evidence: Evidence) -> CheckResult:
    strays = evidence.strays
    numbers: dict[str, Metadata] = {
        "left_behind": sum(stray.total for stray in strays if stray.is_copy),
        "of_no_partition": sum(stray.total for stray in strays if not stray.is_copy),
    }
    if not strays:
        return CheckResult(True, "ClickHouse has no rows outside the partitions that concern this one", numbers)
    remedies = []
    if numbers["left_behind"]:
        remedies.append("Reindex this partition: its run deletes what was left behind")
    if numbers["of_no_partition"]:
        remedies.append(
            "No run touches rows that belong to no partition: find out who writes them, and delete them on their shard unless they are "
            "somebody's"
        )
    table = [
        TableRecord(
            {"scorecard": stray.scorecard_id, "where": stray.where, "left_behind": stray.is_copy, **dict(stray.rows)}
        )
        for stray in strays[:_SHOWN]
    ]
    return CheckResult(
        False, f"{explain_strays(strays)}. {'. '.join(remedies)}", {**numbers, "rows": MetadataValue.table(table)}
    )


def _sides(parity: SliceParity) -> tuple[tuple[str, TableParity], ...]:
    return (("scorecards", parity.scorecards), ("scores", parity.scores))


def _rows(parity: SliceParity, side: Literal["postgres_rows", "clickhouse_rows"]) -> str:
    """How many rows of one side a result is about; empty if there are none."""
    counts = {plural: getattr(table, side) for plural, table in _sides(parity)}
    return " and ".join(f"{count:,} {plural}" for plural, count in counts.items()) if any(counts.values()) else ""


def _total(parity: SliceParity, difference: Difference) -> int:
    return 0 if parity.differences is None else parity.differences.of(difference)


def _template_table(parity: SliceParity) -> MetadataValue:
    """Both sides by template, so that a template that is never written to ClickHouse stands out."""
    rows = []
    for template in sorted({*parity.scorecards.by_template, *parity.scores.by_template}):
        row: dict[str, str | int] = {"template": template}
        for plural, table in _sides(parity):
            counts = table.by_template.get(template)
            row[f"postgres_{plural}"] = counts.postgres_rows if counts else 0
            row[f"clickhouse_{plural}"] = counts.clickhouse_rows if counts else 0
        rows.append(TableRecord(row))
    return MetadataValue.table(rows, _TEMPLATE_COLUMNS)


_TEMPLATE_COLUMNS = TableSchema(
    [
        TableColumn("template", "string"),
        *(
            TableColumn(f"{engine}_{plural}", "int")
            for plural in ("scorecards", "scores")
            for engine in ("postgres", "clickhouse")
        ),
    ]
)


def _sample_table(differences: SliceDifferences, only: Difference | None = None) -> MetadataValue:
    samples = [sample for sample in differences.samples if only is None or sample.difference is only]
    return MetadataValue.table(
        [
            TableRecord(
                {
                    "table": sample.table,
                    "difference": sample.difference.value,
                    "profile": sample.profile,
                    "scorecard": sample.scorecard_id,
                    "score": sample.score_id or "",
                    "what": sample.what,
                }
            )
            for sample in samples[:_SHOWN]
        ],
        _text_columns("table", "difference", "profile", "scorecard", "score", "what"),
    )


def both_sides(parity: SliceParity) -> MetadataValue:
    """A slice as a table: Postgres, ClickHouse and each shard, for both tables."""
    rows = []
    for name in (PARENT, CHILD):
        table = parity.tables[name]
        shards = {f"shard_{shard}": rows_there for shard, rows_there in enumerate(table.by_shard)}
        rows.append(
            TableRecord(
                {
                    "table": name,
                    "postgres": table.postgres_rows,
                    "clickhouse": table.clickhouse_rows,
                    "same_values": table.digests_agree,
                    "wrong_shard": table.misplaced_rows,
                    "repeated": table.repeated_rows,
                    **shards,
                }
            )
        )
    return MetadataValue.table(rows)


def _text_columns(*names: str) -> TableSchema:
    return TableSchema([TableColumn(name, "string") for name in names])
