"""The command `appeals`: looks for appeals in ClickHouse, and purges them.

What lives here: its arguments, and what it prints. What does not: the work (appeals.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from reindex_assets.appeal_places import TYPE_NAMES
from reindex_assets.appeal_report import Outcome, PurgeReport, customer_rows, example_rows
from reindex_assets.appeals import MOST_SCORECARDS, AppealPurge, PurgeOptions, plan_purges
from reindex_assets.cli_options import (
    DIFFERENT,
    CustomerOption,
    FleetOption,
    FromOption,
    JsonOption,
    ToOption,
    exit_statuses,
    open_fleet,
)
from reindex_assets.errors import ConfigurationError
from reindex_assets.fleet import Fleet
from reindex_assets.output import printable
from reindex_assets.output_json import print_json
from reindex_assets.selection import SliceGroup


def appeals(
    first: FromOption,
    last: ToOption,
    customer: CustomerOption = None,
    purge: Annotated[bool, typer.Option("--purge", help="Delete what is found, and prove that it is gone.")] = False,
    most: Annotated[
        int,
        typer.Option(
            "--max", min=1, max=MOST_SCORECARDS, help="Appeals that are removed in each cluster; the next call goes on."
        ),
    ] = PurgeOptions().max_scorecards,
    yes: Annotated[bool, typer.Option("--yes", help="With --purge: don't ask.")] = False,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """Looks for appeals in ClickHouse on every shard; --purge deletes them. Exit status: 0 none is there, 1 some are, 2 could not tell."""
    with exit_statuses():
        if as_json and purge and not yes:
            raise ConfigurationError("--json can't ask: add --yes to --purge, or leave --purge out to look first")
        known = open_fleet(fleet)
        groups = plan_purges(known, customer or [], first.date(), last.date())
        console, notes = Console(), Console(stderr=True)
        reports = [] if purge and yes else _run(known, groups, PurgeOptions(dry_run=True), notes)
        if not as_json:
            _print(console, reports)
        if purge and (yes or any(report.before.found.appeals for report in reports)):
            if not yes and not typer.confirm(f"Delete them, at most {most:,} appeals in each cluster?"):
                raise typer.Exit(DIFFERENT)
            reports = _run(known, groups, PurgeOptions(dry_run=False, max_scorecards=most), notes)
            if not as_json:
                _print(console, reports)
        if as_json:
            print_json([_json(report) for report in reports])
        if any(report.outcome is not Outcome.CLEAN for report in reports):
            raise typer.Exit(DIFFERENT)


def _run(fleet: Fleet, groups: dict[str, SliceGroup], options: PurgeOptions, notes: Console) -> list[PurgeReport]:
    return [
        AppealPurge(
            fleet,
            cluster_name,
            group,
            options,
            on_retry=lambda message: notes.print(printable(message, "yellow"), soft_wrap=True),
        ).run()
        for cluster_name, group in groups.items()
    ]


def _print(console: Console, reports: Sequence[PurgeReport]) -> None:
    """A table per cluster, where the first ones stand, and the verdict."""
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
            console.print("and more (--json names up to 20 places)")
        style = "green" if report.outcome is Outcome.CLEAN else "red"
        console.print(printable(report.sentence, style), soft_wrap=True)


_SHOWN = 5


def _json(report: PurgeReport) -> dict[str, object]:
    return {
        "cluster": report.cluster_name,
        "from": report.group.first_day.isoformat(),
        "to": report.group.days[-1].isoformat(),
        "dry_run": report.dry_run,
        "outcome": report.outcome.name.lower(),
        "verdict": report.sentence,
        "customers": customer_rows(report),
        "appeals_left": report.latest.found.appeals,
        "places": example_rows(report.latest.examples),
    }
