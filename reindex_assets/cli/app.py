"""The command line of a production installation.

What lives here: which commands there are. What does not: the commands (one module each), how they are listed (cli/group.py), and those
of the local stack (local/commands.py, local/demo/commands.py), which `__main__` adds.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from reindex_assets.cli import options
from reindex_assets.cli.appeals import appeals
from reindex_assets.cli.backfill import backfill, status
from reindex_assets.cli.check import check
from reindex_assets.cli.fleet import fleet_app
from reindex_assets.cli.group import Commands, panel_of
from reindex_assets.cli.problems import problems
from reindex_assets.cli.reindex import reindex
from reindex_assets.cli.render.terminal import open_console
from reindex_assets.cli.repairs import repairs
from reindex_assets.cli.reshard import reshard
from reindex_assets.cli.verify import verify
from reindex_assets.cli.worker import worker
from reindex_assets.clickhouse.schema import apply_schema

schema_app = typer.Typer(cls=Commands, help="The ClickHouse tables.", no_args_is_help=True)


@schema_app.command("apply")
def schema_apply(fleet: options.FleetFile = None) -> None:
    """Creates the ClickHouse tables on every shard. Leaves tables that exist unchanged."""
    for name, cluster in options.open_fleet(fleet).clusters.items():
        for line in apply_schema(cluster):
            open_console().print(f"{name} {line}", soft_wrap=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"reindex-assets {version('reindex-assets')}")
        raise typer.Exit


def _root(
    print_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...


def build_app() -> typer.Typer:
    """The production commands."""
    app = typer.Typer(
        cls=Commands,
        help="Keeps ClickHouse's scorecards exactly true to Postgres, customer by customer, day by day, shard by shard.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(_root)
    for command in (backfill, status, problems, check, verify, reindex, repairs, appeals, reshard, worker):
        app.command(rich_help_panel=panel_of(command.__name__))(command)
    app.add_typer(schema_app, name="schema", rich_help_panel=panel_of("schema"))
    app.add_typer(fleet_app, name="fleet", rich_help_panel=panel_of("fleet"))
    return app
