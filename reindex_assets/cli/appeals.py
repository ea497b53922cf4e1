"""The command `appeals`: finds appeals in ClickHouse, and purges them.

What lives here: its arguments, and what it prints. What does not: the work (appeals/purge.py).
"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from reindex_assets.appeals.purge import MAX_SCORECARDS, AppealPurge, PurgeOptions, plan_purges
from reindex_assets.appeals.report import Outcome, PurgeReport
from reindex_assets.cli import options
from reindex_assets.cli.render.appeals import print_purges, purge_json
from reindex_assets.cli.render.json import print_json
from reindex_assets.cli.render.tables import printable
from reindex_assets.cli.render.terminal import open_console
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ConfigurationError
from reindex_assets.selection.groups import SliceGroup


def appeals(
    first: options.FirstDay,
    last: options.LastDay,
    customer: options.Customer = None,
    purge: Annotated[bool, typer.Option("--purge", help="Delete the appeals, and check that they are gone.")] = False,
    most: Annotated[
        int,
        typer.Option(
            "--max",
            metavar="N",
            min=1,
            max=MAX_SCORECARDS,
            help="The most appeals to delete per cluster. The next call continues.",
        ),
    ] = PurgeOptions().max_scorecards,
    yes: options.Yes = False,
    as_json: options.Json = False,
    fleet: options.FleetFile = None,
) -> None:
    """Finds appeals on every ClickHouse shard; --purge deletes them.

    Exit status: 0 there are none, 1 there are some, 2 could not tell.
    """
    if as_json and purge and not yes:
        raise ConfigurationError("--json can't ask: add --yes to --purge, or look first without --purge")
    opened = options.open_fleet(fleet)
    groups = plan_purges(opened, options.customers_of(opened, customer), first, last)
    console, notes = open_console(), open_console(stderr=True)
    reports = [] if purge and yes else _run(opened, groups, PurgeOptions(dry_run=True), notes)
    if not as_json:
        print_purges(console, reports)
    if purge and (yes or any(report.before.found.appeals for report in reports)):
        if not yes and not typer.confirm(f"Delete them, at most {most:,} appeals in each cluster?"):
            raise typer.Exit(options.DIFFERENT)
        reports = _run(opened, groups, PurgeOptions(dry_run=False, max_scorecards=most), notes)
        if not as_json:
            print_purges(console, reports)
    if as_json:
        print_json([purge_json(report) for report in reports])
    if any(report.outcome is not Outcome.CLEAN for report in reports):
        raise typer.Exit(options.DIFFERENT)


def _run(fleet: Fleet, groups: dict[str, SliceGroup], choices: PurgeOptions, notes: Console) -> list[PurgeReport]:
    return [
        AppealPurge(
            fleet,
            cluster_name,
            group,
            choices,
            on_retry=lambda message: notes.print(printable(message, "yellow"), soft_wrap=True),
        ).run()
        for cluster_name, group in groups.items()
    ]
