"""The asset checks on `shard_writes`: what each one means, and its results as Dagster stores them.

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
    no_strays,
    none_of,
    nothing_left_failed,
    nothing_quarantined,
    rows_agree,
)
from reindex_assets.defs.dagster_private import AssetCheckEvaluationTargetMaterializationData
from reindex_assets.defs.keys.names import purge_asset_key
from reindex_assets.model import APPEALS_CHECK, GIVEN_UP_CHECK, Slice

_REPAIR = (
    "If the repair sensor is on, it reindexes the partition automatically; otherwise reindex it from the asset's page."
)


@dataclass(frozen=True)
class Check:
    """A check: its name, what it means to an operator, its severity and rule, and the links that a red result shows."""

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
        "Postgres and ClickHouse hold the same number of scorecards, and the same number of scores, for this customer and day. Red: "
        f"dashboards show too few or too many. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        counts_agree,
    ),
    Check(
        "rows_agree",
        "Every column of every row is the same in both engines, floats to the bit. Sums of a digest of each row are compared first; where "
        "they differ, the rows themselves, twice. Red with equal counts: a value is stale, or one missing and one extra row cancel "
        f"out. The table lists differing rows, at most 10 of each kind. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        rows_agree,
    ),
    Check(
        "right_shard",
        "Every row is on its shard: the one that holds its conversation, else floor(epoch of its time) mod the number of shards. Red: a "
        f"query that reads a single shard misses rows, and a later write may duplicate them. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        none_of(Difference.WRONG_SHARD, "are on a wrong shard", "every row is on its shard"),
    ),
    Check(
        "no_duplicates",
        "No row appears twice on a shard. Red: queries without FINAL count it twice. An older version that the product's writer has just "
        f"superseded counts only if ClickHouse has not merged it away within ten minutes. {_REPAIR}",
        AssetCheckSeverity.ERROR,
        none_of(Difference.DUPLICATED, "appear more than once", "every row appears once"),
    ),
    Check(
        APPEALS_CHECK,
        "No scorecard of an appeal (scorecard_type 1, 2 or 3 in Postgres) is in ClickHouse, and none of its scores. Red: dashboards count "
        f"appeals as work. {_REPAIR} The job purge_appeals_<cluster> removes the appeals of all customers and days at once, without "
        "reindexing anything: a red result links to its asset.",
        AssetCheckSeverity.ERROR,
        none_of(Difference.APPEAL, "belong to appeals", "no appeals"),
        _leads_to_purge,
    ),
    Check(
        "no_orphan_scores",
        "Every score in ClickHouse has its scorecard in one of the engines. Red: averages include scores that belong to no scorecard. "
        f"{_REPAIR}",
        AssetCheckSeverity.ERROR,
        none_of(Difference.ORPHAN_SCORE, "have no scorecard in either engine", "every score has its scorecard"),
    ),
    Check(
        "no_strays",
        "ClickHouse has no rows outside every partition: of a template type that no kind has, on a day before the fleet file's first, or "
        "on a day to come. Red: dashboards count rows that nothing else compares. What was left behind of a scorecard of this partition "
        "goes when the partition is reindexed; what belongs to no partition, a person has to look at.",
        AssetCheckSeverity.ERROR,
        no_strays,
    ),
    Check(
        "no_gap_in_days",
        "The day is not an empty day between busy ones in ClickHouse (20 scorecards or more within three days on either side; a day of "
        "the week that is always empty does not count). Yellow, because it is only a suspicion: rows may have been lost before they "
        "reached Postgres.",
        AssetCheckSeverity.WARN,
        no_gap_in_days,
    ),
    Check(
        GIVEN_UP_CHECK,
        "The repair sensor has not given up on this partition. Red: the same drift outlasted several repairs, or consists of rows whose "
        f"versions lie ahead of the clock, so no more repairs are tried, and a person has to act. {RECOVERY}.",
        AssetCheckSeverity.ERROR,
        nothing_left_failed,
    ),
    Check(
        "nothing_quarantined",
        "Every scorecard of the day can be copied to ClickHouse. Yellow: some can't until they are corrected in Postgres, for example "
        "because they have no usable time, an unknown type, or no template revision or conversation; the table lists them with the reason.",
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
    """The result of each selected check on one slice; a `remark` is added to the red ones.

    These are events instead of `AssetCheckResult`s: in a run over a range, Dagster stores an `AssetCheckResult` without a
    partition, but keeps an event for the partition that it names (Dagster 1.13).
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
