"""What the command line prints: tables for people, JSON for programs. What lives here: their shape. What does not: the commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from reindex_assets.parity import SliceParity, explain

if TYPE_CHECKING:
    from reindex_assets.launch import RunReport

#: Rows of a table on the terminal; --json has them all.
_SHOWN = 60


def print_parity(console: Console, found: Sequence[SliceParity]) -> None:
    """Both sides as a table: what differs, or the first slices when nothing does; and the sum in one sentence."""
    different = [parity for parity in found if not parity.is_equal]
    shown = (different or list(found))[:_SHOWN]
    table = Table(title="Postgres and ClickHouse, per customer and day")
    table.add_column("customer")
    table.add_column("day")
    for column in ("scorecards\nPG | CH", "scores\nPG | CH"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for parity in shown:
        words = explain(parity)
        table.add_row(
            parity.slice.customer,
            parity.slice.day.isoformat(),
            *(f"{side.postgres_rows:,} | {side.clickhouse_rows:,}" for side in (parity.scorecards, parity.scores)),
            f"[red]{words}[/red]" if words else "[green]equal[/green]",
        )
    console.print(table)
    rest = len(different or found) - len(shown)
    if rest:
        console.print(f"and {rest} more (--json has them all)")
    quarantined = sum(len(parity.quarantined) for parity in found)
    if quarantined:
        first = next(row for parity in found for row in parity.quarantined)
        console.print(
            f"[yellow]{quarantined} scorecards can't leave Postgres[/yellow], the first: {first.customer} "
            f"{first.scorecard_id}: {first.reason}"
        )
    scorecards = sum(parity.scorecards.postgres_rows for parity in found)
    scores = sum(parity.scores.postgres_rows for parity in found)
    if different:
        console.print(f"[red]{len(different)} of {len(found)} customer-days differ.[/red]")
    else:
        console.print(
            f"[green]All {len(found)} customer-days are equal:[/green] {scorecards:,} scorecards and {scores:,} scores, "
            "every column of every row."
        )


def print_reports(console: Console, reports: Sequence[RunReport], dry_run: bool) -> None:
    """What each run did, as a table; then the errors and the red checks."""
    table = Table(title="Dry run: nothing was written" if dry_run else "Reindexed")
    table.add_column("run")
    table.add_column("what", overflow="fold")
    for column in ("read", "to write" if dry_run else "written", "to delete" if dry_run else "deleted", "seconds"):
        table.add_column(column, justify="right")
    for report in reports:
        rectangle, rows = report.rectangle, report.rows
        who = ", ".join(rectangle.customers[:3]) + (" ..." if len(rectangle.customers) > 3 else "")
        table.add_row(
            report.run_id[:8],
            f"{rectangle.cluster_name}: {who}\n{rectangle.first_day} to {rectangle.last_day}",
            *(f"{rows[name]:,}" for name in ("rows_read", "rows_written", "rows_deleted")),
            f"{report.seconds:.1f}",
        )
    console.print(table)
    for report in reports:
        if report.error:
            console.print(f"[red]run {report.run_id[:8]} failed:[/red] {report.error}", highlight=False, soft_wrap=True)
        for line in report.red_checks[:_SHOWN]:
            console.print(f"[red]{line}[/red]", highlight=False, soft_wrap=True)


def report_json(report: RunReport) -> dict[str, object]:
    return {
        "run_id": report.run_id,
        "cluster": report.rectangle.cluster_name,
        "customers": report.rectangle.customers,
        "from": report.rectangle.first_day.isoformat(),
        "to": report.rectangle.last_day.isoformat(),
        "success": report.success,
        "seconds": round(report.seconds, 3),
        **report.rows,
        "red_checks": list(report.red_checks),
        "failed_partitions": dict(report.failed),
        "error": report.error,
    }


def parity_json(parity: SliceParity) -> dict[str, object]:
    return {
        "customer": parity.slice.customer,
        "day": parity.slice.day.isoformat(),
        "equal": parity.is_equal,
        "difference": explain(parity),
        **{
            name: {
                "postgres": table.postgres_rows,
                "clickhouse": table.clickhouse_rows,
                "by_shard": table.by_shard,
                "same_values": table.digests_agree,
                "wrong_shard": table.misplaced_rows,
                "repeated": table.repeated_rows,
            }
            for name, table in parity.tables.items()
        },
        "quarantined": [{"scorecard": row.scorecard_id, "reason": row.reason} for row in parity.quarantined],
    }


def print_json(value: object) -> None:
    # Not through rich, which would wrap lines.
    typer.echo(json.dumps(value, indent=2))
