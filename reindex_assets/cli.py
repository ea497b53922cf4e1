"""The command line: reindex, verify, repairs, backfill, status, schema, demo and the local stack.

What lives here: arguments and their commands. What does not: options of several commands (cli_options.py), what the commands do
(launch.py, verification.py, schema.py, local/) and what they print (output.py, output_json.py, report.py).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from reindex_assets.cli_appeals import appeals
from reindex_assets.cli_backfill import add_backfill_commands
from reindex_assets.cli_fleet import fleet_app
from reindex_assets.cli_options import (
    COULD_NOT_TELL,
    DIFFERENT,
    CustomerOption,
    FleetOption,
    FromOption,
    JsonOption,
    KindOption,
    ToOption,
    exit_statuses,
    open_fleet,
)
from reindex_assets.cli_reshard import reshard
from reindex_assets.cli_worker import worker
from reindex_assets.comparison import SETTLE_SECONDS
from reindex_assets.errors import ConfigurationError
from reindex_assets.fleet import Fleet
from reindex_assets.local.commands import local_app
from reindex_assets.modes import Mode
from reindex_assets.output import print_given_up, print_reports, print_verification
from reindex_assets.output_json import print_json, report_json, verification_json
from reindex_assets.rectangles import plan_rectangles
from reindex_assets.report import open_report, render_report
from reindex_assets.verification import Depth
from reindex_assets.verification import verify as verify_range

if TYPE_CHECKING:
    from reindex_assets.launch import RunReport

app = typer.Typer(
    help="Keeps ClickHouse's scorecards exactly true to Postgres, customer by customer, day by day, shard by shard.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
schema_app = typer.Typer(help="The ClickHouse tables.", no_args_is_help=True)
app.add_typer(schema_app, name="schema")
app.add_typer(local_app, name="local")
app.add_typer(fleet_app, name="fleet")
app.command()(worker)
app.command()(appeals)
app.command()(reshard)
add_backfill_commands(app)


@app.command()
def reindex(
    first: FromOption,
    last: ToOption,
    customer: CustomerOption = None,
    kind: KindOption = Mode.PROCESS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would be written, and write nothing.")
    ] = False,
    clean_up: Annotated[
        bool, typer.Option("--clean-up", help="Delete the slices first and rebuild them: readers see a hole meanwhile.")
    ] = False,
    everything: Annotated[
        bool,
        typer.Option(
            "--everything", help="Read, compare and write also what nothing has touched since it was proved equal."
        ),
    ] = False,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """Makes ClickHouse equal to Postgres for some customers and days. The runs show in the Dagster UI."""
    config = {"dry_run": dry_run, "clean_up": clean_up, "everything": everything}
    with exit_statuses():
        reports = reindex_range(
            open_fleet(fleet),
            customer or [],
            first.date(),
            last.date(),
            kind,
            config,
            Console(stderr=True, quiet=as_json),
        )
        if as_json:
            print_json([report_json(report) for report in reports])
        else:
            print_reports(Console(), reports, dry_run)
        if not all(report.success for report in reports):
            raise typer.Exit(COULD_NOT_TELL)
        if any(report.red_checks for report in reports):
            raise typer.Exit(DIFFERENT)


@app.command()
def verify(
    first: FromOption,
    last: ToOption,
    customer: CustomerOption = None,
    kind: KindOption = Mode.PROCESS,
    depth: Annotated[
        Depth,
        typer.Option(
            "--depth",
            help="counts: numbers of rows only. fingerprint: every value, by sums of digests. rows: the same, and rows that differ "
            "are shown.",
        ),
    ] = Depth.FINGERPRINT,
    samples: Annotated[
        int,
        typer.Option(
            "--samples", min=1, help="With --depth rows: rows shown of each customer-day, table and kind of difference."
        ),
    ] = 10,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the report as a page of its own to this file.", dir_okay=False)
    ] = None,
    as_json: JsonOption = False,
    settle: Annotated[
        float, typer.Option("--settle", min=0, help="Look at a difference again after so many seconds.")
    ] = SETTLE_SECONDS,
    fleet: FleetOption = None,
) -> None:
    """Compares both sides per customer and day. Exit status: 0 nothing differs, 1 something does, 2 could not tell."""
    with exit_statuses(), open_report(html) as save:
        if len(kind.kinds) > 1:
            raise ConfigurationError("a report is about one kind of scorecards: --kind process or --kind conversation")
        found = verify_range(
            open_fleet(fleet), customer or [], first.date(), last.date(), depth, settle, samples, *kind.kinds
        )
        if save is not None:
            save(render_report(found, datetime.now(UTC)))
        if as_json:
            print_json(verification_json(found))
        else:
            print_verification(Console(), found)
            if html is not None:
                Console().print(f"The report is in {html}", soft_wrap=True, highlight=False)
        if not found.agrees:
            raise typer.Exit(DIFFERENT)


@app.command()
def repairs(
    again: Annotated[
        bool, typer.Option("--again", help="Ask the repair sensor to try them again, from the first attempt.")
    ] = False,
    customer: CustomerOption = None,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """Lists the partitions whose repair was given up. Exit status: 0 none, 1 some."""
    with exit_statuses():
        from reindex_assets.instance import open_instance
        from reindex_assets.repair_request import ask_again, given_up_repairs

        known = open_fleet(fleet)
        with open_instance() as instance:
            found = [
                one for one in given_up_repairs(instance, known) if not customer or one.repair.customer in customer
            ]
            if again:
                ask_again(instance, found)
        if as_json:
            print_json(
                [{"cluster": one.cluster, "kind": one.kind.name, **one.repair.model_dump(mode="json")} for one in found]
            )
        else:
            print_given_up(Console(), found, again)
        if found and not again:
            raise typer.Exit(DIFFERENT)


@schema_app.command("apply")
def schema_apply(fleet: FleetOption = None) -> None:
    """Creates the ClickHouse tables on every shard; changes nothing where they are."""
    from reindex_assets.schema import apply_schema

    with exit_statuses():
        for name, cluster in open_fleet(fleet).clusters.items():
            for line in apply_schema(cluster):
                Console().print(f"{name} {line}", soft_wrap=True)


@app.command()
def demo(
    scale: Annotated[
        float | None,
        typer.Option(help="1.0 makes 15,000 to 57,000 scorecards a customer and day. Without: 0.02; of a fleet 0.002."),
    ] = None,
    days: Annotated[int | None, typer.Option(min=3, max=365, help="Without: 14; of a fleet 3.")] = None,
    shards: Annotated[int, typer.Option(min=1, max=16, help="Of a fleet: engines, which its clusters share.")] = 4,
    fleet: Annotated[
        bool, typer.Option("--fleet", help="Many clusters in mode `all`, repaired by the sensors.")
    ] = False,
    clusters: Annotated[int, typer.Option(min=1, help="With --fleet: how many clusters, at most 8.")] = 8,
    customers: Annotated[
        int | None, typer.Option(help="With --fleet: how many customers in all. Without: 95 of 8 clusters.")
    ] = None,
) -> None:
    """The whole story on this machine: stack, data, load, drift, red, repair, green. Begins the local stack afresh."""
    with exit_statuses():
        if fleet:
            from reindex_assets.local.fleet_demo import run_fleet_demo
            from reindex_assets.local.fleet_plan import plan_fleet

            run_fleet_demo(Console(), plan_fleet(clusters, customers, shards), days or 3, scale or 0.002)
        else:
            from reindex_assets.local.demo import run_demo

            run_demo(Console(), scale or 0.02, days or 14, shards)


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="Port of the Dagster UI, on loopback.")] = 3000,
) -> None:
    """Opens the Dagster UI, with its daemon, on the local stack with data."""
    with exit_statuses():
        from reindex_assets.local.demo import ensure_data

        ensure_data(Console())
        # In place of this process: Ctrl-C and signals reach Dagster itself.
        os.execv(
            sys.executable,
            [
                *(sys.executable, "-m", "dagster", "dev", "-m", "reindex_assets.definitions"),
                *("-h", "127.0.0.1", "-p", str(port)),
            ],
        )


def main() -> None:
    """Entry point."""
    app()


def reindex_range(
    fleet: Fleet,
    customers: Sequence[str],
    first: date,
    last: date,
    mode: Mode,
    config: Mapping[str, object],
    console: Console,
) -> list[RunReport]:
    """Runs the assets over customers and days, with a progress bar; returns a report for each run."""
    # Dagster takes seconds to import; the other commands do without it.
    from reindex_assets.instance import open_instance
    from reindex_assets.launch import launch

    rectangles = plan_rectangles(fleet, customers, first, last)
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("partitions"),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeElapsedColumn(),
        console=console,
    )
    reports = []
    with open_instance() as instance, bar:
        for rectangle, kind in product(rectangles, mode.kinds):
            task = bar.add_task(f"{rectangle.cluster_name}, {kind.name}", total=len(rectangle.slices), rows=0)
            reports.append(
                launch(
                    fleet,
                    instance,
                    rectangle,
                    config,
                    lambda progress, task=task: bar.update(  # type: ignore[misc]
                        task, completed=progress.processed + progress.failed, rows=progress.rows
                    ),
                    kind,
                )
            )
    return reports
