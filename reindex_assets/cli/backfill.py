"""Backfills over the fleet, on the command line: backfill and status.

What lives here: arguments and their commands. What does not: what they do (backfill_*.py) and print (cli/render/backfill.py).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from reindex_assets.backfill.plan import chosen_customers, days_of_window
from reindex_assets.cli.options import (
    DIFFERENT,
    FleetOption,
    FromOption,
    JsonOption,
    KindOption,
    ToOption,
    exit_statuses,
    open_fleet,
)
from reindex_assets.cli.render.json import print_json
from reindex_assets.config.modes import Mode
from reindex_assets.errors import ConfigurationError
from reindex_assets.selection.days import check_days

_WATCH_SECONDS = 5
_NO_DAEMON = (
    "No Dagster daemon is alive: what is launched waits until one runs. Start it with 'dagster-daemon run -w workspace.yaml' "
    "(or 'reindex-assets dev' on the local stack)."
)

NameOption = Annotated[
    str | None,
    typer.Option(
        "--name", help="The backfill's name. Without it: the days, <from>..<to>, whatever customers and kinds."
    ),
]


def add_backfill_commands(app: typer.Typer) -> None:
    """Adds the commands of this file to the command line."""
    app.command()(backfill)
    app.command()(status)


def backfill(
    first: FromOption,
    last: ToOption,
    customers: Annotated[
        list[str] | None, typer.Option("--customers", help="A customer, or several with commas; may be repeated.")
    ] = None,
    cluster: Annotated[
        list[str] | None, typer.Option("--cluster", help="Every customer of a cluster; may be repeated.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every customer of the fleet.")] = False,
    window: Annotated[
        str,
        typer.Option(
            "--window",
            help="Days of one run. Longer windows cost fewer starts of a process; shorter ones show and lose less at a time.",
        ),
    ] = "10d",
    kind: KindOption = Mode.PROCESS,
    name: NameOption = None,
    afresh: Annotated[
        bool, typer.Option("--afresh", help="Do everything, also what was done since the first launch under this name.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and launch nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Launch without asking.")] = False,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """Reindexes many customers and days by Dagster's own backfills, a run for each customer and window. Again: only what is left."""
    with exit_statuses():
        if as_json and not (dry_run or yes):
            raise ConfigurationError(
                "with --json nothing can be asked: add --yes to launch, or --dry-run to see the plan"
            )
        known = open_fleet(fleet)
        named = [one.strip() for several in customers or [] for one in several.split(",") if one.strip()]
        chosen = chosen_customers(known, kind.kinds, named, cluster or [], everyone=everyone)
        window_days = days_of_window(window)
        check_days(known, first.date(), last.date(), datetime.now(UTC).date())
        # Dagster takes seconds to import: mistakes are told before.
        from reindex_assets.backfill.forecast import speed_of
        from reindex_assets.backfill.row_estimates import estimate_rows
        from reindex_assets.cli.render.backfill import Forecast, plan_json, print_plan
        from reindex_assets.defs.history.past_runs import limits_of, past_runs
        from reindex_assets.defs.instance.opening import hold_connections, open_instance
        from reindex_assets.defs.runs.backfill_launch import (
            BackfillRequest,
            daemon_is_alive,
            launch_backfill,
            plan_backfill,
        )

        console, aside = Console(quiet=as_json), Console(stderr=True)
        with open_instance() as instance:
            hold_connections(instance)
            plan = plan_backfill(
                instance,
                BackfillRequest(
                    chosen=chosen,
                    first_day=first.date(),
                    last_day=last.date(),
                    window_days=window_days,
                    name=name,
                    afresh=afresh,
                ),
            )
            forecast = Forecast(
                estimate_rows(chosen, first.date(), last.date()) if plan.windows else {},
                speed_of(past_runs(instance, known, kind.kinds)),
                limits_of(instance),
            )
            print_plan(console, plan, forecast)
            if plan.windows and not daemon_is_alive(instance):
                aside.print(f"[yellow]{_NO_DAEMON}[/yellow]", soft_wrap=True, highlight=False)
            if not plan.windows:
                console.print(
                    "Nothing is left to launch. 'reindex-assets status' shows how it goes; --afresh does everything again.",
                    soft_wrap=True,
                )
            launched = 0
            if plan.windows and not dry_run:
                if not yes and not typer.confirm(f"Launch {len(plan.windows):,} runs?"):
                    console.print("Nothing was launched.")
                    return
                with console.status("") as shown:
                    stored = launch_backfill(
                        instance, known, plan, lambda number: shown.update(f"{number:,} backfills stored")
                    )
                launched = len(stored)
                console.print(
                    f"Launched: {len(plan.windows):,} runs in {launched:,} of Dagster's backfills (page Backfills; tag "
                    f"reindex/backfill = {plan.name}). Follow it: reindex-assets status --name {plan.name} --watch",
                    soft_wrap=True,
                    highlight=False,
                )
            if as_json:
                print_json({**plan_json(plan, forecast), "backfills_launched": launched})


def status(
    name: Annotated[
        str | None, typer.Option("--name", help="The backfill's name. Without it: the one that was launched last.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew every few seconds, until it has ended.")] = False,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """How far a backfill is, per customer. Exit status: 0 all done, or still under way; 1 some of it failed; 2 there is none."""
    with exit_statuses():
        from reindex_assets.cli.render.backfill import status_json, status_table
        from reindex_assets.defs.instance.opening import hold_connections, open_instance
        from reindex_assets.defs.runs.backfill_progress import find_backfill, latest_names
        from reindex_assets.defs.runs.backfill_status import BackfillStatus, backfill_status

        open_fleet(fleet)
        with open_instance() as instance:
            hold_connections(instance)
            names = latest_names(instance)
            wanted = name or next(iter(names), None)

            def look() -> BackfillStatus:
                found = find_backfill(instance, wanted) if wanted is not None else None
                if found is None:
                    others = f"; known are {', '.join(names[:10])}" if names else ""
                    raise ConfigurationError(
                        f"there is no backfill {wanted!r}{others}"
                        if wanted is not None
                        else "there is no backfill yet: launch one with 'reindex-assets backfill'"
                    )
                return backfill_status(found, time.time())

            now = look()
            if as_json:
                print_json(status_json(now))
            elif watch:
                with Live(status_table(now), auto_refresh=False) as live:
                    while not now.ended:
                        time.sleep(_WATCH_SECONDS)
                        now = look()
                        live.update(status_table(now), refresh=True)
            else:
                Console().print(status_table(now))
                if name is None and len(names) > 1:
                    Console().print(f"Earlier ones (--name): {', '.join(names[1:6])}", soft_wrap=True, highlight=False)
        if now.windows["failed"]:
            raise typer.Exit(DIFFERENT)
