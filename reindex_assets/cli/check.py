"""The command `check`: runs the checks of some customers and days, and records their results.

What lives here: its arguments, and what it prints. What does not: the run (defs/runs/launch.py), and the checks (defs/checks/).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from reindex_assets.alerts.message import plural
from reindex_assets.cli import options
from reindex_assets.cli.reindex import reindex_range
from reindex_assets.cli.render.json import check_json, print_json
from reindex_assets.cli.render.tables import print_errors, print_line, print_red_checks
from reindex_assets.cli.render.terminal import open_console

if TYPE_CHECKING:
    from reindex_assets.reindex.run_report import RunReport


def check(
    first: options.FirstDay,
    last: options.LastDay,
    customer: options.Customer = None,
    kind: options.Kind = None,
    as_json: options.Json = False,
    fleet: options.FleetFile = None,
) -> None:
    """Runs the checks of some customers and days, and records their results in Dagster.

    As the nightly checks do: both engines are compared to the bit, and nothing is written to them. The UI, the alerts and the repair
    sensor see the results. 'verify' compares without recording anything.

    Exit status: 0 every check is green, 1 a check is red or yellow, 2 could not tell.
    """
    opened = options.open_fleet(fleet)
    reports = reindex_range(
        opened,
        options.customers_of(opened, customer),
        first,
        last,
        options.kind_of(opened, kind),
        {},
        open_console(stderr=True, quiet=as_json),
        checks_only=True,
    )
    if as_json:
        print_json([check_json(report) for report in reports])
    else:
        _print(open_console(), reports)
    # A run that stored no result has not looked.
    if not all(report.success and report.check_results for report in reports):
        raise typer.Exit(options.COULD_NOT_TELL)
    if any(report.red_checks for report in reports):
        raise typer.Exit(options.DIFFERENT)


def _print(console: Console, reports: Sequence[RunReport]) -> None:
    print_errors(console, reports)
    print_red_checks(console, reports)
    for report in reports:
        rectangle = report.rectangle
        days = plural(len(rectangle.slices), "customer-day")
        results = plural(report.check_results, "result")
        red = len(report.red_checks)
        verdict = "nothing was checked" if not report.check_results else f"{red:,} red" if red else "all green"
        print_line(
            console,
            Text(
                f"{rectangle.dataset}, run {report.run_id[:8]}: {results} of checks on {days}, {verdict}",
                style="green" if report.success and report.check_results and not red else "red",
            ),
        )
