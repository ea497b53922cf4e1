"""What the command line prints for programs: JSON. What lives here: its shape. What does not: tables for people (cli/render/tables.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from reindex_assets.comparison.counts import TableCounts
from reindex_assets.comparison.differences import Difference
from reindex_assets.comparison.parity import SliceDifferences, TableParity
from reindex_assets.comparison.samples import RowSample
from reindex_assets.comparison.verification import DayReport, Depth, Verification
from reindex_assets.model import MICROSECONDS

if TYPE_CHECKING:
    from reindex_assets.reindex.run_report import RunReport


def verification_json(found: Verification) -> dict[str, object]:
    """A verification. At the depth `counts` no slice has a field `equal`, nor any of values: nothing is known of them."""
    return {
        "kind": found.kind,
        "depth": found.depth.value,
        "from": found.first_day.isoformat(),
        "to": found.last_day.isoformat(),
        "agrees": found.agrees,
        "values_compared": found.depth is not Depth.COUNTS,
        "verdict": found.sentence,
        "snapshots": [_instant(snapshot) for snapshot in found.snapshots],
        "slices": [_day_json(day, found) for day in found.days],
        "templates": found.templates,
        "shards": found.shards,
        "gaps": [
            {
                "cluster": gap.cluster,
                "customer": gap.customer,
                "from": gap.first_day.isoformat(),
                "to": gap.last_day.isoformat(),
                "missing_in": gap.missing_in,
            }
            for gap in found.gaps
        ],
    }


def report_json(report: RunReport) -> dict[str, object]:
    return {
        "run_id": report.run_id,
        "cluster": report.rectangle.cluster_name,
        "kind": report.kind,
        "customers": report.rectangle.customers,
        "from": report.rectangle.first_day.isoformat(),
        "to": report.rectangle.last_day.isoformat(),
        "success": report.success,
        "seconds": round(report.seconds, 3),
        **report.rows,
        "before": None if report.before is None else dict(report.before),
        "after": None if report.after is None else dict(report.after),
        "red_checks": list(report.red_checks),
        "failed_partitions": dict(report.failed),
        "error": report.error,
    }


def print_json(value: object) -> None:
    # Not through rich, which would wrap lines.
    typer.echo(json.dumps(value, indent=2))


def _day_json(day: DayReport, found: Verification) -> dict[str, object]:
    head: dict[str, object] = {
        "cluster": day.cluster,
        "customer": day.slice.customer,
        "day": day.slice.day.isoformat(),
    }
    tail: dict[str, object] = {
        "quarantined": [{"scorecard": row.scorecard_id, "reason": row.reason} for row in day.quarantined]
    }
    if day.parity is None:
        tables: dict[str, object] = {name: _counts_json(table) for name, table in day.counts.items()}
        return {**head, "counts_agree": day.agrees, "difference": day.difference, **tables, **tail}
    tables = {name: _parity_json(table) for name, table in day.parity.tables.items()}
    rows = None if day.parity.differences is None else _differences_json(day.parity.differences, found)
    return {**head, "equal": day.agrees, "difference": day.difference, **tables, "rows": rows, **tail}


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


def _differences_json(differences: SliceDifferences, found: Verification) -> dict[str, object]:
    """Numbers are exact; the samples are at most `samples_limit` of each table and difference."""
    return {
        "different": _numbers_json(differences.rows),
        "no_drift": _numbers_json(differences.harmless),
        "on_their_way": differences.on_their_way,
        "samples_limit": found.samples if found.depth is Depth.ROWS else 0,
        "samples": [_sample_json(sample) for sample in differences.samples],
    }


def _numbers_json(rows: Mapping[tuple[str, Difference], int]) -> list[dict[str, object]]:
    return [
        {"table": table, "difference": difference.value, "rows": number}
        for (table, difference), number in sorted(rows.items())
    ]


def _sample_json(sample: RowSample) -> dict[str, object]:
    return {
        "table": sample.table,
        "difference": sample.difference.value,
        "profile": sample.profile,
        "scorecard_id": sample.scorecard_id,
        "score_id": sample.score_id,
        "shard": sample.shard,
        "what": sample.what,
        "columns": [
            {"column": value.column, "postgres": value.postgres, "clickhouse": value.clickhouse}
            for value in sample.columns
        ],
    }


def _instant(microseconds: int) -> str:
    # Not a float: it would lose microseconds.
    seconds, rest = divmod(microseconds, MICROSECONDS)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest).isoformat()
