"""The output for programs: JSON. What lives here: its shape. What does not: tables for people (cli/render/tables.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import typer

from reindex_assets.comparison.counts import TableCounts
from reindex_assets.comparison.differences import Difference
from reindex_assets.comparison.parity import SliceDifferences, TableParity
from reindex_assets.comparison.verification import DayReport, Depth, Verification
from reindex_assets.model import MICROSECONDS

if TYPE_CHECKING:
    from reindex_assets.drift.repair_policy import GivenUp
    from reindex_assets.reindex.run_report import RunReport


def verification_json(report: Verification) -> dict[str, object]:
    """A verification. At depth `counts` slices have no field `equal` and no fields about values, because values were not compared."""
    return {
        "kind": report.kind,
        "depth": report.depth.value,
        "from": report.first_day,
        "to": report.last_day,
        "agrees": report.agrees,
        "values_compared": report.depth is not Depth.COUNTS,
        "verdict": report.sentence,
        "snapshots": [_instant(snapshot) for snapshot in report.snapshots],
        "slices": [_day_json(day, report) for day in report.days],
        "templates": report.templates,
        "shards": report.shards,
        "gaps": [
            {
                "cluster": gap.cluster,
                "customer": gap.customer,
                "from": gap.first_day,
                "to": gap.last_day,
                "missing_in": gap.missing_in,
            }
            for gap in report.gaps
        ],
    }


def check_json(report: RunReport) -> dict[str, object]:
    return {
        "run_id": report.run_id,
        "cluster": report.rectangle.dataset.cluster_name,
        "kind": report.rectangle.dataset.kind.name,
        "customers": report.rectangle.customers,
        "from": report.rectangle.first_day,
        "to": report.rectangle.last_day,
        "success": report.success,
        "seconds": round(report.seconds, 3),
        "results": report.check_results,
        "red_checks": report.red_checks,
        "error": report.error,
    }


def report_json(report: RunReport) -> dict[str, object]:
    return {
        "run_id": report.run_id,
        "cluster": report.rectangle.dataset.cluster_name,
        "kind": report.rectangle.dataset.kind.name,
        "customers": report.rectangle.customers,
        "from": report.rectangle.first_day,
        "to": report.rectangle.last_day,
        "success": report.success,
        "seconds": round(report.seconds, 3),
        **report.rows,
        "before": None if report.before is None else dict(report.before),
        "after": None if report.after is None else dict(report.after),
        "red_checks": list(report.red_checks),
        "failed_partitions": dict(report.failed),
        "error": report.error,
    }


def given_up_json(partition: GivenUp) -> dict[str, object]:
    dataset = partition.dataset
    return {"cluster": dataset.cluster_name, "kind": dataset.kind.name, **partition.repair.model_dump(mode="json")}


def print_json(value: object) -> None:
    # Days in ISO format. Not with rich, which would wrap lines.
    typer.echo(json.dumps(value, indent=2, default=date.isoformat))


def _day_json(day: DayReport, report: Verification) -> dict[str, object]:
    result: dict[str, object] = {
        "cluster": day.cluster,
        "customer": day.slice.customer,
        "day": day.slice.day,
        "counts_agree" if day.parity is None else "equal": day.agrees,
        "difference": day.difference,
    }
    if day.parity is None:
        result |= {name: _counts_json(table) for name, table in day.counts.items()}
    else:
        result |= {name: _parity_json(table) for name, table in day.parity.tables.items()}
        differences = day.parity.differences
        result["rows"] = None if differences is None else _differences_json(differences, report)
    result["quarantined"] = [{"scorecard": row.scorecard_id, "reason": row.reason} for row in day.quarantined]
    return result


def _counts_json(table: TableCounts) -> dict[str, object]:
    return {
        "postgres": table.postgres_rows,
        "clickhouse": table.clickhouse_rows,
        "by_shard": table.clickhouse_by_shard,
        "wrong_shard": table.misplaced_rows,
    }


def _parity_json(table: TableParity) -> dict[str, object]:
    return {
        "postgres": table.postgres_rows,
        "clickhouse": table.clickhouse_rows,
        "by_shard": table.by_shard,
        "same_values": table.digests_agree,
        "wrong_shard": table.misplaced_rows,
        "repeated": table.repeated_rows,
    }


def _differences_json(differences: SliceDifferences, report: Verification) -> dict[str, object]:
    """The numbers are exact. There are at most `samples_limit` samples per table and kind of difference."""
    return {
        "different": _numbers_json(differences.rows),
        "no_drift": _numbers_json(differences.harmless),
        "on_their_way": differences.in_flight,
        "samples_limit": report.samples if report.depth is Depth.ROWS else 0,
        "samples": [asdict(sample) for sample in differences.samples],
    }


def _numbers_json(rows: Mapping[tuple[str, Difference], int]) -> list[dict[str, object]]:
    return [
        {"table": table, "difference": difference.value, "rows": number}
        for (table, difference), number in sorted(rows.items())
    ]


def _instant(microseconds: int) -> str:
    # Not as a float, which would lose microseconds.
    seconds, rest = divmod(microseconds, MICROSECONDS)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest).isoformat()
