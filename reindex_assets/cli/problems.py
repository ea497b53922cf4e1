"""The command `problems`: what is wrong now.

What lives here: its arguments. What does not: gathering (defs/automation/open_problems.py).
"""

from __future__ import annotations

import typer

from reindex_assets.alerts.problems import Severity
from reindex_assets.cli import options
from reindex_assets.cli.render.json import print_json
from reindex_assets.cli.render.problems import print_problems, problems_json
from reindex_assets.cli.render.terminal import open_console


def problems(customer: options.Customer = None, as_json: options.Json = False, fleet: options.FleetFile = None) -> None:
    """Lists what is wrong now: what differs, since when, and what is being done about it.

    As far as checks, sensors and runs have found it; no engine is asked. Failed runs are not listed: the alerts report them.

    Exit status: 0 nothing, or only warnings, 1 something, 2 could not tell, for example because nobody looks.
    """
    opened = options.open_fleet(fleet)
    chosen = options.customers_of(opened, customer)
    # Dagster takes seconds to import, so mistakes are reported before.
    from reindex_assets.defs.automation.open_problems import open_problems
    from reindex_assets.defs.build import build_defs
    from reindex_assets.defs.instance.opening import open_instance

    with open_instance() as instance:
        found = open_problems(instance, opened, build_defs(opened).get_repository_def())
    # What stops a sensor concerns every customer.
    listed = [
        item
        for item in found.problems
        if not chosen or item.problem.slice is None or item.problem.slice.customer in chosen
    ]
    if as_json:
        print_json(problems_json(listed, found.notes))
    else:
        print_problems(open_console(), listed, found.notes)
    if any(item.severity is Severity.ERROR for item in listed):
        raise typer.Exit(options.DIFFERENT)
    if not found.is_current:
        raise typer.Exit(options.COULD_NOT_TELL)
