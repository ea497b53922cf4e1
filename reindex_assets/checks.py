"""The asset checks on `shard_writes`: what each one means, and its verdict on one slice.

What lives here: names, descriptions, severities and the tables an operator reads. What does not: the comparison (parity.py) and
when it runs (assets.py).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    MetadataValue,
    MultiPartitionsDefinition,
    TableColumn,
    TableRecord,
    TableSchema,
)
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.definitions.metadata import RawMetadataValue
from dagster_shared.utils.warnings import PreviewWarning

from reindex_assets.differences import HARMLESS, Difference
from reindex_assets.gaps import Gap
from reindex_assets.model import SCORE, SCORECARD, Slice
from reindex_assets.parity import SliceDifferences, SliceParity, TableParity, explain, explain_rows
from reindex_assets.repairs import Repair

_REPAIR = "The repair sensor reindexes the partition by itself when it is on; else reindex it from the asset's page."

#: Differing rows that a verdict shows.
_SHOWN = 50


@dataclass(frozen=True)
class Verdict:
    """What a check says of a slice."""

    passed: bool
    sentence: str
    metadata: Mapping[str, RawMetadataValue]


@dataclass(frozen=True)
class Evidence:
    """What the checks of one slice judge: both sides, the gap if the day is one, the repair if it was given up."""

    parity: SliceParity
    gap: Gap | None = None
    given_up: Repair | None = None
    given_up_of_customer: Sequence[Repair] = ()


@dataclass(frozen=True)
class Check:
    """A check: its name, what it means to an operator, and its rule."""

    name: str
    description: str
    severity: AssetCheckSeverity
    judge: Callable[[Evidence], Verdict]


def _counts_agree(evidence: Evidence) -> Verdict:
    parity = evidence.parity
    numbers: dict[str, RawMetadataValue] = {}
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
        sentence += "; the difference is on its way or waits for a merge"
    return Verdict(
        not differ or not lasting,
        sentence,
        {**numbers, "both_sides": both_sides(parity), "templates": _template_table(parity)},
    )


def _rows_agree(evidence: Evidence) -> Verdict:
    parity = evidence.parity
    numbers: dict[str, RawMetadataValue] = {
        f"{plural}_compared": table.postgres_rows for plural, table in _sides(parity)
    }
    numbers["differing_rows"] = 0 if parity.differences is None else parity.differences.total
    if parity.is_equal:
        return Verdict(
            True, f"every column of every row is the same on both sides, to the bit{_aside(parity)}", numbers
        )
    if parity.differences is None:
        return Verdict(False, explain(parity) or "", numbers)
    numbers |= {name: _total(parity, Difference(name)) for name in Difference if Difference(name) not in HARMLESS}
    numbers["rows"] = _sample_table(parity.differences)
    return Verdict(False, f"{explain(parity)}{_aside(parity)}", numbers)


def _aside(parity: SliceParity) -> str:
    """What differs and is no drift."""
    found = parity.differences
    if found is None:
        return ""
    parts = [explain_rows(found.harmless)] if found.harmless else []
    if found.on_their_way:
        parts.append(f"{found.on_their_way:,} rows on their way")
    return f" (besides: {'; '.join(parts)})" if parts else ""


def _none_of(difference: Difference, bad: str, good: str) -> Callable[[Evidence], Verdict]:
    """A check that is red when there are rows of one class of difference."""

    def judge(evidence: Evidence) -> Verdict:
        found = evidence.parity.differences
        rows = {} if found is None else found.rows
        cards, scores = (rows.get((table.name, difference), 0) for table in (SCORECARD, SCORE))
        numbers: dict[str, RawMetadataValue] = {"scorecards": cards, "scores": scores}
        if not cards and not scores:
            return Verdict(True, good, numbers)
        assert found is not None
        return Verdict(
            False,
            f"{cards:,} scorecards and {scores:,} scores {bad}",
            {**numbers, "rows": _sample_table(found, difference)},
        )

    return judge


def _no_gap(evidence: Evidence) -> Verdict:
    parity, gap = evidence.parity, evidence.gap
    shown = parity.scorecards.clickhouse_rows
    numbers: dict[str, RawMetadataValue] = {"clickhouse_scorecards": shown}
    if gap is None:
        return Verdict(True, f"{shown:,} scorecards, no gap between the days around", numbers)
    cause = (
        f"Postgres has {parity.scorecards.postgres_rows:,}: they are missing in ClickHouse, see rows_agree"
        if parity.scorecards.postgres_rows
        else "Postgres has none either: nothing to repair here, ask the product whether nobody worked, or rows were lost there"
    )
    return Verdict(
        False,
        f"no scorecard in ClickHouse, between {gap.before_rows:,} on {gap.before} and {gap.after_rows:,} on {gap.after}; {cause}",
        numbers,
    )


def _nothing_left_failed(evidence: Evidence) -> Verdict:
    return given_up_verdict(evidence.given_up, evidence.given_up_of_customer)


def given_up_verdict(one: Repair | None, repairs: Sequence[Repair]) -> Verdict:
    """The verdict of `nothing_left_failed` on a partition: its own repair if that was given up, and all of its customer's."""
    numbers: dict[str, RawMetadataValue] = {"given_up_partitions_of_customer": len(repairs)}
    if one is None:
        return Verdict(True, "no repair of this partition was given up", numbers)
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
    return Verdict(
        False,
        f"the repair was given up at {_time(one.given_up_at)} after {one.failed} failed ones: {one.differs}. {RECOVERY}",
        {**numbers, "given_up": MetadataValue.table(table), "recovery": RECOVERY},
    )


RECOVERY = (
    "Open the last failed run of this partition and correct what its error names; then materialize the partition from the asset's page, or "
    "let it be tried again by 'reindex-assets repairs --again'. It is also tried again by itself when its rows change"
)


def _time(at: float | None) -> str:
    return datetime.fromtimestamp(at or 0.0, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _quarantined(evidence: Evidence) -> Verdict:
    rows = evidence.parity.quarantined
    if not rows:
        return Verdict(True, "every scorecard of this day could be placed", {"quarantined": 0})
    table = [
        TableRecord({"scorecard": row.scorecard_id, "profile": row.profile, "reason": row.reason})
        for row in rows[:_SHOWN]
    ]
    sentence = f"{len(rows)} scorecards can't leave Postgres; the first: {rows[0].scorecard_id}: {rows[0].reason}"
    schema = _text_columns("scorecard", "profile", "reason")
    return Verdict(False, sentence, {"quarantined": len(rows), "rows": MetadataValue.table(table, schema)})


CHECKS = (
    Check(
        "counts_agree",
        "Postgres and ClickHouse hold as many scorecards, and as many scores, of this customer on this day. Red: dashboards show too "
        f"few or too many. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        _counts_agree,
    ),
    Check(
        "rows_agree",
        "Every column of every row is the same in both engines: equal sums of a digest over each row, floats by their bits; where the "
        "sums differ, every row is looked at, twice. Red with equal counts: a value is stale, or one missing and one extra row cancel "
        f"out. The table names rows, at most 10 of each kind. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        _rows_agree,
    ),
    Check(
        "right_shard",
        "Every row stands on the shard that its time gives: floor(epoch) mod the number of shards. Red: a query that picks one "
        f"shard misses rows, and a later write may double them. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        _none_of(Difference.WRONG_SHARD, "stand on a wrong shard", "every row stands on its shard"),
    ),
    Check(
        "no_duplicates",
        "No row stands twice on a shard. Red: queries without FINAL count it twice. An older version that the product's writer has just "
        f"superseded is ClickHouse's to merge away: it is red only when that has not happened for ten minutes. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        _none_of(Difference.DUPLICATED, "stand more than once", "every row stands once"),
    ),
    Check(
        "no_appeals",
        "No scorecard of an appeal (scorecard_type 1, 2 or 3 in Postgres) stands in ClickHouse, nor its scores. Red: dashboards count "
        f"appeals as work. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        _none_of(Difference.APPEAL, "belong to appeals", "no appeals"),
    ),
    Check(
        "no_orphan_scores",
        f"Every score in ClickHouse has its scorecard in one of the engines. Red: averages over scores count what is nobody's. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        _none_of(Difference.ORPHAN_SCORE, "have no scorecard in either engine", "every score has its scorecard"),
    ),
    Check(
        "no_gap_in_days",
        "The day is not empty in ClickHouse between days with many scorecards (20 or more within three days on either side; a day that is "
        "empty every week is none). Yellow, as it is only suspicious: rows may have been lost before they reached Postgres.",
        AssetCheckSeverity.WARN,
        _no_gap,
    ),
    Check(
        "nothing_left_failed",
        "The repair sensor has not given this partition up. Red: the same drift outlasted several repairs, nothing more is tried, and a "
        f"person is needed. {RECOVERY}.",
        AssetCheckSeverity.ERROR,
        _nothing_left_failed,
    ),
    Check(
        "nothing_quarantined",
        "Every scorecard of the day could be placed. Yellow: some have no usable time or no template revision and can't reach "
        "ClickHouse until they are corrected in Postgres; the table names them with the reason.",
        AssetCheckSeverity.WARN,
        _quarantined,
    ),
)

LEFT_FAILED = next(check for check in CHECKS if check.judge is _nothing_left_failed)


def check_specs(asset: AssetKey, partitions: MultiPartitionsDefinition) -> list[AssetCheckSpec]:
    """The checks as Dagster shows them; not blocking, because a wrong slice must not stop the others."""
    with warnings.catch_warnings():
        # Partitions on checks are a preview in Dagster 1.13; the tests show that what we use of them works.
        warnings.simplefilter("ignore", PreviewWarning)
        return [
            AssetCheckSpec(check.name, asset=asset, description=check.description, partitions_def=partitions)
            for check in CHECKS
        ]


def evaluations(
    asset: AssetKey,
    names: Collection[str],
    evidence: Evidence,
    target: AssetCheckEvaluationTargetMaterializationData | None,
) -> Iterator[AssetCheckEvaluation]:
    """The verdict of each selected check on one slice.

    They are events of their own instead of `AssetCheckResult`s, because in a run over a range Dagster stores a result with no
    partition; an event that names its partition is kept for that partition (Dagster 1.13).
    """
    for check in CHECKS:
        if check.name in names:
            yield evaluation(check, asset, evidence.parity.slice, check.judge(evidence), target)


def evaluation(
    check: Check,
    asset: AssetKey,
    item: Slice,
    verdict: Verdict,
    target: AssetCheckEvaluationTargetMaterializationData | None,
) -> AssetCheckEvaluation:
    return AssetCheckEvaluation(
        asset_key=asset,
        check_name=check.name,
        passed=verdict.passed,
        severity=check.severity,
        description=f"{item}: {verdict.sentence}.",
        metadata=dict(verdict.metadata),
        partition=item.partition_key,
        target_materialization_data=target,
    )


def _sides(parity: SliceParity) -> tuple[tuple[str, TableParity], ...]:
    return (("scorecards", parity.scorecards), ("scores", parity.scores))


def _total(parity: SliceParity, difference: Difference) -> int:
    return 0 if parity.differences is None else parity.differences.of(difference)


def _template_table(parity: SliceParity) -> MetadataValue:
    """Both sides by template: a template that nobody writes to ClickHouse stands out."""
    rows = []
    for template in sorted({*parity.scorecards.by_template, *parity.scores.by_template}):
        cards, scores = (table.by_template.get(template, (0, 0)) for table in (parity.scorecards, parity.scores))
        rows.append(
            TableRecord(
                {
                    "template": template,
                    "postgres_scorecards": cards[0],
                    "clickhouse_scorecards": cards[1],
                    "postgres_scores": scores[0],
                    "clickhouse_scores": scores[1],
                }
            )
        )
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


def _sample_table(found: SliceDifferences, only: Difference | None = None) -> MetadataValue:
    samples = [sample for sample in found.samples if only is None or sample.difference is only]
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
    for name in (SCORECARD.name, SCORE.name):
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
