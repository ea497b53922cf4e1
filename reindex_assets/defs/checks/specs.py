"""The asset checks on `shard_writes`: what each one means, and its results as Dagster keeps them.

What lives here: names, descriptions, severities, and the events. What does not: the rules (defs/checks/rules.py), and when checks run
(defs/assets/reindex.py).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetKey,
    MetadataValue,
    MultiPartitionsDefinition,
    PreviewWarning,
)

from reindex_assets.comparison.differences import Difference
from reindex_assets.defs.checks.rules import (
    RECOVERY,
    CheckResult,
    Evidence,
    Metadata,
    counts_agree,
    no_gap_in_days,
    none_of,
    nothing_left_failed,
    nothing_quarantined,
    rows_agree,
)
from reindex_assets.defs.dagster_private import AssetCheckEvaluationTargetMaterializationData
from reindex_assets.defs.keys.names import purge_asset_key
from reindex_assets.model import APPEALS_CHECK, GIVEN_UP_CHECK, Slice

_REPAIR = "The repair sensor reindexes the partition by itself when it is on; else reindex it from the asset's page."


@dataclass(frozen=True)
class Check:
    """A check: its name, what it means to an operator, its rule, and where a red one leads beside its partition."""

    name: str
    description: str
    severity: AssetCheckSeverity
    judge: Callable[[Evidence], CheckResult]
    leads_to: Callable[[AssetKey], Mapping[str, Metadata]] = lambda asset: {}


def _leads_to_purge(asset: AssetKey) -> Mapping[str, Metadata]:
    return {"purge": MetadataValue.asset(purge_asset_key(asset.path[0]))}


CHECKS = (
    Check(
        "counts_agree",
        "Postgres and ClickHouse hold as many scorecards, and as many scores, of this customer on this day. Red: dashboards show too "
        f"few or too many. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        counts_agree,
    ),
    Check(
        "rows_agree",
        "Every column of every row is the same in both engines: equal sums of a digest over each row, floats by their bits; where the "
        "sums differ, every row is looked at, twice. Red with equal counts: a value is stale, or one missing and one extra row cancel "
        f"out. The table names rows, at most 10 of each kind. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        rows_agree,
    ),
    Check(
        "right_shard",
        "Every row stands on the shard that its time gives: floor(epoch) mod the number of shards. Red: a query that picks one "
        f"shard misses rows, and a later write may double them. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        none_of(Difference.WRONG_SHARD, "stand on a wrong shard", "every row stands on its shard"),
    ),
    Check(
        "no_duplicates",
        "No row stands twice on a shard. Red: queries without FINAL count it twice. An older version that the product's writer has just "
        f"superseded is ClickHouse's to merge away: it is red only when that has not happened for ten minutes. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        none_of(Difference.DUPLICATED, "stand more than once", "every row stands once"),
    ),
    Check(
        APPEALS_CHECK,
        "No scorecard of an appeal (scorecard_type 1, 2 or 3 in Postgres) stands in ClickHouse, nor its scores. Red: dashboards count "
        f"appeals as work. {_REPAIR} The job purge_appeals_<cluster> removes those of all customers and days at once, without reindexing "
        "anything: its asset is linked from a red result.",
        AssetCheckSeverity.ERROR,
        none_of(Difference.APPEAL, "belong to appeals", "no appeals"),
        _leads_to_purge,
    ),
    Check(
        "no_orphan_scores",
        f"Every score in ClickHouse has its scorecard in one of the engines. Red: averages over scores count what is nobody's. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        none_of(Difference.ORPHAN_SCORE, "have no scorecard in either engine", "every score has its scorecard"),
    ),
    Check(
        "no_gap_in_days",
        "The day is not empty in ClickHouse between days with many scorecards (20 or more within three days on either side; a day that is "
        "empty every week is none). Yellow, as it is only suspicious: rows may have been lost before they reached Postgres.",
        AssetCheckSeverity.WARN,
        no_gap_in_days,
    ),
    Check(
        GIVEN_UP_CHECK,
        "The repair sensor has not given this partition up. Red: the same drift outlasted several repairs, nothing more is tried, and a "
        f"person is needed. {RECOVERY}.",
        AssetCheckSeverity.ERROR,
        nothing_left_failed,
    ),
    Check(
        "nothing_quarantined",
        "Every scorecard of the day could be placed. Yellow: some have no usable time or no template revision and can't reach "
        "ClickHouse until they are corrected in Postgres; the table names them with the reason.",
        AssetCheckSeverity.WARN,
        nothing_quarantined,
    ),
)

ROWS_AGREE = next(check for check in CHECKS if check.judge is rows_agree)
LEFT_FAILED = next(check for check in CHECKS if check.judge is nothing_left_failed)


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
    remark: str = "",
) -> Iterator[AssetCheckEvaluation]:
    """The result of each selected check on one slice; a `remark` is added to those that are not good.

    They are events of their own instead of `AssetCheckResult`s, because in a run over a range Dagster stores a result with no
    partition; an event that names its partition is kept for that partition (Dagster 1.13).
    """
    for check in CHECKS:
        if check.name in names:
            yield evaluation(check, asset, evidence.parity.slice, check.judge(evidence), target, remark)


def evaluation(
    check: Check,
    asset: AssetKey,
    item: Slice,
    result: CheckResult,
    target: AssetCheckEvaluationTargetMaterializationData | None,
    remark: str = "",
) -> AssetCheckEvaluation:
    return AssetCheckEvaluation(
        asset_key=asset,
        check_name=check.name,
        passed=result.passed,
        severity=check.severity,
        description=f"{item}: {result.sentence}." + (f" {remark}." if remark and not result.passed else ""),
        metadata={**result.metadata, **({} if result.passed else check.leads_to(asset))},
        partition=item.partition_key,
        target_materialization_data=target,
    )
