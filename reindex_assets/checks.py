"""The asset checks on `shard_writes`: what each one means, and its verdict on one slice.

What lives here: names, descriptions, severities and the tables an operator reads. What does not: the comparison (parity.py) and
when it runs (assets.py).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
from dagster_shared.utils.warnings import PreviewWarning

from reindex_assets.model import SCORE, SCORECARD
from reindex_assets.parity import SliceParity, TableParity

_REPAIR = (
    "Reindex this partition; if it stays red, something writes these rows wrongly: look at the rows named by 'verify'."
)


@dataclass(frozen=True)
class Verdict:
    """What a check says of a slice."""

    passed: bool
    sentence: str
    numbers: dict[str, int]


@dataclass(frozen=True)
class Check:
    """A check: its name, what it means to an operator, and its rule."""

    name: str
    description: str
    severity: AssetCheckSeverity
    judge: Callable[[SliceParity], Verdict]


def _counts(name: str, plural: str) -> Callable[[SliceParity], Verdict]:
    def judge(parity: SliceParity) -> Verdict:
        table = parity.tables[name]
        numbers = {
            "postgres": table.postgres_rows,
            "clickhouse": table.clickhouse_rows,
            "difference": table.clickhouse_rows - table.postgres_rows,
        }
        sentence = f"{table.postgres_rows} {plural} in Postgres, {table.clickhouse_rows} in ClickHouse"
        return Verdict(table.counts_agree, sentence, numbers)

    return judge


def _each(what: str, number: Callable[[TableParity], int], good: str) -> Callable[[SliceParity], Verdict]:
    def judge(parity: SliceParity) -> Verdict:
        cards, scores = number(parity.scorecards), number(parity.scores)
        bad = cards + scores
        sentence = f"{cards} scorecards and {scores} scores {what}" if bad else good
        return Verdict(bad == 0, sentence, {"scorecards": cards, "scores": scores})

    return judge


def _rows_agree(parity: SliceParity) -> Verdict:
    wrong = [name for name in (SCORECARD.name, SCORE.name) if not parity.tables[name].digests_agree]
    numbers = {f"{name}_rows_compared": parity.tables[name].postgres_rows for name in (SCORECARD.name, SCORE.name)}
    sentence = (
        f"the rows of table {' and '.join(wrong)} are not the same on both sides"
        if wrong
        else "every column of every row is the same on both sides, to the bit"
    )
    return Verdict(not wrong, sentence, numbers)


def _quarantined(parity: SliceParity) -> Verdict:
    count = len(parity.quarantined)
    sentence = (
        f"{count} scorecards can't leave Postgres; the first: {parity.quarantined[0].scorecard_id}: "
        f"{parity.quarantined[0].reason}"
        if count
        else "every scorecard of this day could be placed"
    )
    return Verdict(count == 0, sentence, {"quarantined": count})


CHECKS = (
    Check(
        "scorecard_counts_agree",
        "Postgres and ClickHouse hold as many scorecards of this customer on this day. Red: dashboards show too few or too "
        f"many. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        _counts(SCORECARD.name, "scorecards"),
    ),
    Check(
        "score_counts_agree",
        "Postgres and ClickHouse hold as many scores of this customer on this day. Red: some scorecards lack scores, or have "
        f"too many. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        _counts(SCORE.name, "scores"),
    ),
    Check(
        "rows_agree",
        "Every column of every row is the same in both engines: equal sums of a digest over each row, floats by their bits. "
        f"Red with equal counts: some value is stale, or one missing and one extra row cancel out. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        _rows_agree,
    ),
    Check(
        "right_shard",
        "Every row stands on the shard that its time gives: floor(epoch) mod the number of shards. Red: a query that picks "
        f"one shard misses rows, and a later write may double them. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        _each("stand on a wrong shard", lambda table: table.misplaced_rows, "every row stands on its shard"),
    ),
    Check(
        "no_duplicates",
        "No row stands twice on a shard. Red: queries without FINAL count it twice. An update by the real-time writer shows "
        f"here until ClickHouse merges it. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        _each("stand more than once", lambda table: table.repeated_rows, "every row stands once"),
    ),
    Check(
        "nothing_quarantined",
        "Every scorecard of the day could be placed. Yellow: some have no usable time or no template revision and can't reach "
        "ClickHouse until they are corrected in Postgres; the table names them with the reason.",
        AssetCheckSeverity.WARN,
        _quarantined,
    ),
)


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
    names: set[str],
    parity: SliceParity,
    target: AssetCheckEvaluationTargetMaterializationData | None,
) -> Iterator[AssetCheckEvaluation]:
    """The verdict of each selected check on one slice.

    They are events of their own instead of `AssetCheckResult`s, because in a run over a range Dagster stores a result with no
    partition; an event that names its partition is kept for that partition (Dagster 1.13).
    """
    for check in CHECKS:
        if check.name not in names:
            continue
        verdict = check.judge(parity)
        yield AssetCheckEvaluation(
            asset_key=asset,
            check_name=check.name,
            passed=verdict.passed,
            severity=check.severity,
            description=f"{parity.slice}: {verdict.sentence}.",
            metadata={**verdict.numbers, **_tables(check, parity, verdict.passed)},
            partition=parity.slice.partition_key,
            target_materialization_data=target,
        )


def _tables(check: Check, parity: SliceParity, passed: bool) -> dict[str, MetadataValue]:
    if check.name == "nothing_quarantined":
        if passed:
            return {}
        rows = [
            TableRecord({"scorecard": row.scorecard_id, "profile": row.profile, "reason": row.reason})
            for row in parity.quarantined[:50]
        ]
        return {"rows": MetadataValue.table(rows, _text_columns("scorecard", "profile", "reason"))}
    return {"both_sides": both_sides(parity)}


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
