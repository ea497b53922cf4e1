"""What `appeals` prints: a table of customers, some places, the outcome, and all of it as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from reindex_assets.appeals.queries import TYPE_NAMES
from reindex_assets.appeals.report import Outcome, PurgeReport, customer_rows, example_rows
from reindex_assets.cli.render.tables import printable


def print_purges(console: Console, reports: Sequence[PurgeReport]) -> None:
    """For each cluster a table of its customers, the first places of appeals, and the outcome."""
    for report in reports:
        rows = customer_rows(report)
        table = Table(title=f"Appeals, {report.cluster_name}")
        table.add_column("customer")
        types = " | ".join(TYPE_NAMES.values())
        heads = [f"Postgres\n{types}", f"ClickHouse\n{types}", "scorecard\nrows", "score\nrows"]
        shards = [name for name in rows[0] if name.startswith("shard_")]
        heads += [f"shard\n{name.removeprefix('shard_')}" for name in shards]
        heads += [] if report.dry_run else ["deleted\nscorecards | scores", "appeals\nleft"]
        for head in heads:
            table.add_column(head, justify="right", no_wrap=True)
        for row in rows:
            sides = [
                " | ".join(f"{row[f'{side}_{name}']:,}" for name in TYPE_NAMES.values())
                for side in ("postgres", "clickhouse")
            ]
            cells = [*sides, *(f"{row[name]:,}" for name in ("scorecard_rows", "score_rows", *shards))]
            if not report.dry_run:
                cells += [f"{row['scorecards_deleted']:,} | {row['scores_deleted']:,}", f"{row['left']:,}"]
            table.add_row(printable(str(row["customer"])), *cells)
        console.print(table)
        for place in example_rows(report.latest.examples)[:_SHOWN]:
            words = " ".join(f"{name} {value}" for name, value in place.items())
            console.print(printable(words, "dim"), soft_wrap=True)
        if len(report.latest.examples) > _SHOWN:
            console.print("and more (--json has up to 20 places)")
        style = "green" if report.outcome is Outcome.CLEAN else "red"
        console.print(printable(report.sentence, style), soft_wrap=True)


_SHOWN = 5


def purge_json(report: PurgeReport) -> dict[str, object]:
    return {
        "cluster": report.cluster_name,
        "from": report.group.first_day,
        "to": report.group.days[-1],
        "dry_run": report.dry_run,
        "outcome": report.outcome.name.lower(),
        "verdict": report.sentence,
        "customers": customer_rows(report),
        "appeals_left": report.latest.found.appeals,
        "places": example_rows(report.latest.examples),
    }
