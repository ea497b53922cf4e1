"""The command `reindex`: runs the assets over customers and days, in this process, with a progress bar.

What lives here: its arguments and its progress. What does not: the run (defs/runs/launch.py), and printing its report
(cli/render/tables.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import TaskID, TextColumn

from reindex_assets.cli import options
from reindex_assets.cli.render.json import print_json, report_json
from reindex_assets.cli.render.progress import partitions_bar
from reindex_assets.cli.render.tables import print_reports
from reindex_assets.cli.render.terminal import open_console
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.modes import Mode
from reindex_assets.selection.rectangles import plan_rectangles

if TYPE_CHECKING:
    from reindex_assets.reindex.job import Progress
    from reindex_assets.reindex.run_report import RunReport


def reindex(
    first: options.FirstDay,
    last: options.LastDay,
    customer: options.Customer = None,
    kind: options.Kind = None,
    dry_run: options.DryRun = False,
    clean_up: Annotated[
        bool,
        typer.Option(
            "--clean-up",
            help="Delete the rows in ClickHouse first, then write them anew. Readers see a hole meanwhile.",
        ),
    ] = False,
    allow_deletes: Annotated[
        bool,
        typer.Option(
            "--allow-deletes", help="Postgres is right: delete whatever it doesn't have, however much that is."
        ),
    ] = False,
    everything: Annotated[
        bool,
        typer.Option(
            "--everything", help="Process even the partitions that are unchanged since they were proved equal."
        ),
    ] = False,
    as_json: options.Json = False,
    fleet: options.FleetFile = None,
) -> None:
    """Makes ClickHouse equal to Postgres for some customers and days.

    The runs appear in the Dagster UI. Exit status: 0 every check is green, 1 a check is red or yellow, 2 a run failed.
    """
    opened = options.open_fleet(fleet)
    config = {"dry_run": dry_run, "clean_up": clean_up, "allow_deletes": allow_deletes, "everything": everything}
    reports = reindex_range(
        opened,
        options.customers_of(opened, customer),
        first,
        last,
        options.kind_of(opened, kind),
        config,
        open_console(stderr=True, quiet=as_json),
    )
    if as_json:
        print_json([report_json(report) for report in reports])
    else:
        print_reports(open_console(), reports, dry_run=dry_run)
    if not all(report.success for report in reports):
        raise typer.Exit(options.COULD_NOT_TELL)
    if any(report.red_checks for report in reports):
        raise typer.Exit(options.DIFFERENT)


def reindex_range(
    fleet: Fleet,
    customers: Sequence[str],
    first: date,
    last: date,
    mode: Mode,
    config: Mapping[str, object],
    console: Console,
    *,
    checks_only: bool = False,
) -> list[RunReport]:
    """Runs the assets, or only their checks, over customers and days, with a progress bar. Returns a report for each run."""
    # Dagster takes seconds to import, and other commands don't need it.
    from reindex_assets.defs.instance.opening import open_instance
    from reindex_assets.defs.runs.launch import launch

    rectangles = plan_rectangles(fleet, mode.kinds, customers, first, last)
    bar = partitions_bar(console, TextColumn("{task.fields[rows]:,} rows"))
    reports = []
    with open_instance() as instance, bar:
        for rectangle in rectangles:
            task = bar.add_task(str(rectangle.dataset), total=len(rectangle.slices), rows=0)

            def show(progress: Progress, task: TaskID = task) -> None:
                bar.update(task, completed=progress.processed + progress.failed, rows=progress.rows)

            report = launch(instance, rectangle, config, show, options.note, checks_only=checks_only)
            if checks_only and report.success:
                # Checks count what they have begun.
                bar.update(task, completed=len(rectangle.slices))
            reports.append(report)
    return reports
