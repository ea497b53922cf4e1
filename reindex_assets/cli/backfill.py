"""The commands `backfill` and `status`: backfills over the fleet.

What lives here: their arguments. What does not: the work (backfill/, defs/runs/), and what they print (cli/render/backfill.py).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.live import Live

from reindex_assets.backfill.plan import chosen_customers, days_of_window
from reindex_assets.cli import options
from reindex_assets.cli.render.json import print_json
from reindex_assets.cli.render.terminal import open_console
from reindex_assets.errors import ConfigurationError
from reindex_assets.selection.days import check_days

_WATCH_SECONDS = 5
#: The longest silence of `status --watch` where there is no terminal.
_SILENT_SECONDS = 60
_NO_DAEMON = (
    "No Dagster daemon is running, so the runs wait until one starts. Start it with 'dagster-daemon run -w workspace.yaml' "
    "(or 'reindex-assets dev' on the local stack)."
)


def backfill(
    first: options.FirstDay,
    last: options.LastDay,
    customer: options.NamedCustomer = None,
    cluster: Annotated[
        list[str] | None, typer.Option("--cluster", metavar="NAME", help="All customers of a cluster; may be repeated.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="All customers of the fleet.")] = False,
    window: Annotated[
        str,
        typer.Option(
            "--window",
            metavar="DAYS",
            help="Days per run. Longer windows start fewer processes; with shorter ones, a run that fails loses less work.",
        ),
    ] = "10d",
    kind: options.Kind = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="The backfill's name. Default: <from>..<to>, whatever the customers and kinds.",
        ),
    ] = None,
    afresh: Annotated[
        bool,
        typer.Option(
            "--afresh", help="Do everything again, even what was done since the first launch under this name."
        ),
    ] = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
    fleet: options.FleetFile = None,
    customers: Annotated[
        list[str] | None, typer.Option("--customers", hidden=True, help="The former name of --customer.")
    ] = None,
) -> None:
    """Reindexes many customers and days with Dagster's own backfills.

    One run per customer and window. Run again, it does what is left. Exit status: 0 launched, or nothing is left, 2 could not plan.
    """
    if as_json and not (dry_run or yes):
        raise ConfigurationError("--json can't ask: add --yes to launch, or --dry-run to see the plan")
    opened = options.open_fleet(fleet)
    names = options.customers_of(opened, [*(customer or ()), *(customers or ())])
    kinds = options.kind_of(opened, kind).kinds
    chosen = chosen_customers(opened, kinds, names, cluster or [], everyone=everyone)
    window_days = days_of_window(window)
    check_days(opened, first, last, datetime.now(UTC).date())
    # Dagster takes seconds to import, so mistakes are reported before.
    from reindex_assets.backfill.forecast import speed_of
    from reindex_assets.backfill.row_estimates import estimate_rows
    from reindex_assets.cli.render.backfill import Forecast, plan_json, print_plan
    from reindex_assets.defs.history.past_runs import limits_of, past_runs
    from reindex_assets.defs.instance.daemon import daemon_is_alive
    from reindex_assets.defs.instance.opening import hold_connections, open_instance
    from reindex_assets.defs.runs.backfill_launch import (
        BackfillRequest,
        launch_backfill,
        plan_backfill,
    )

    console = open_console(quiet=as_json)
    with open_instance() as instance:
        hold_connections(instance)
        plan = plan_backfill(
            instance,
            BackfillRequest(
                chosen=chosen,
                first_day=first,
                last_day=last,
                window_days=window_days,
                name=name,
                afresh=afresh,
            ),
        )
        forecast = Forecast(
            estimate_rows(chosen, first, last) if plan.windows else {},
            speed_of(past_runs(instance, opened, kinds)),
            limits_of(instance),
        )
        print_plan(console, plan, forecast)
        if plan.windows and not daemon_is_alive(instance):
            open_console(stderr=True).print(f"[yellow]{_NO_DAEMON}[/yellow]", soft_wrap=True, highlight=False)
        if not plan.windows:
            console.print(
                "Nothing is left to launch. 'reindex-assets status' shows the progress; --afresh does everything again.",
                soft_wrap=True,
            )
        launched = 0
        if plan.windows and not dry_run:
            if not yes and not typer.confirm(f"Launch {len(plan.windows):,} runs?"):
                console.print("Nothing was launched.")
                return
            with console.status("") as spinner:
                stored = launch_backfill(
                    instance, opened, plan, lambda number: spinner.update(f"{number:,} backfills stored")
                )
            launched = len(stored)
            console.print(
                f"Launched {len(plan.windows):,} runs in {launched:,} Dagster backfills (page Backfills, tag reindex/backfill = "
                f"{plan.name}). To follow them: reindex-assets status --name {plan.name} --watch",
                soft_wrap=True,
                highlight=False,
            )
        if as_json:
            print_json({**plan_json(plan, forecast), "backfills_launched": launched})


def status(
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="The backfill's name. Default: the one launched last."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every few seconds until the backfill ends.")] = False,
    as_json: options.Json = False,
    fleet: options.FleetFile = None,
) -> None:
    """Shows how far a backfill is, per customer.

    Exit status: 0 done or still under way, 1 some of it failed, 2 no such backfill.
    """
    from reindex_assets.cli.render.backfill import status_json, status_line, status_tables
    from reindex_assets.defs.instance.opening import hold_connections, open_instance
    from reindex_assets.defs.runs.backfill_progress import find_backfill, latest_names
    from reindex_assets.defs.runs.backfill_status import BackfillStatus, backfill_status

    options.open_fleet(fleet)
    with open_instance() as instance:
        hold_connections(instance)
        names = latest_names(instance)
        wanted = name or next(iter(names), None)

        def read_status() -> BackfillStatus:
            if wanted is None:
                raise ConfigurationError("there is no backfill yet: launch one with 'reindex-assets backfill'")
            progress = find_backfill(instance, wanted)
            if progress is None:
                others = f"; there are {', '.join(names[:10])}" if names else ""
                raise ConfigurationError(f"there is no backfill {wanted!r}{others}")
            return backfill_status(progress, time.time())

        progress = read_status()
        console = open_console()
        if as_json:
            print_json(status_json(progress))
        elif watch and not console.is_terminal:
            # In a log, a line for each change. A line for nothing new shows that it still watches.
            said, said_at = "", 0.0
            while True:
                line = status_line(progress)
                if line != said or time.monotonic() - said_at > _SILENT_SECONDS:
                    console.print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {line}", soft_wrap=True, highlight=False)
                    said, said_at = line, time.monotonic()
                if progress.ended:
                    break
                time.sleep(_WATCH_SECONDS)
                progress = read_status()
            console.print(status_tables(progress))
        elif watch:
            with Live(status_tables(progress), console=console, auto_refresh=False) as live:
                while not progress.ended:
                    time.sleep(_WATCH_SECONDS)
                    progress = read_status()
                    live.update(status_tables(progress), refresh=True)
        else:
            console.print(status_tables(progress))
            if name is None and len(names) > 1:
                console.print(f"Earlier backfills: {', '.join(names[1:6])}", soft_wrap=True, highlight=False)
    if progress.windows["failed"]:
        raise typer.Exit(options.DIFFERENT)
