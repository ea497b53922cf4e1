"""The command line of a production installation.

What lives here: which commands there are, and how they show an error. What does not: the commands (one module each), and those of the
local stack (local/commands.py, local/demo/commands.py), which `__main__` adds.
"""

from __future__ import annotations

import os
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from reindex_assets.cli import options
from reindex_assets.cli.appeals import appeals
from reindex_assets.cli.backfill import add_backfill_commands
from reindex_assets.cli.fleet import fleet_app
from reindex_assets.cli.reindex import reindex
from reindex_assets.cli.repairs import repairs
from reindex_assets.cli.reshard import reshard
from reindex_assets.cli.verify import verify
from reindex_assets.cli.worker import worker
from reindex_assets.clickhouse.schema import apply_schema
from reindex_assets.errors import ReindexError


class Commands(TyperGroup):
    """Shows an error as a sentence, and ends with the status that claims nothing: 1 would say that something differs.

    REINDEX_DEBUG adds the trace of an error that nobody expected.
    """

    exit_status = options.COULD_NOT_TELL

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.Abort:
            # Somebody ended a question, or the input did.
            sentence = "aborted"
        except ReindexError as error:
            sentence = str(error)
        except Exception as error:
            if hasattr(error, "exit_code"):
                # An exit, or a mistake in the arguments, which typer shows.
                raise
            console = Console(stderr=True)
            if os.environ.get("REINDEX_DEBUG"):
                console.print_exception()
            sentence = (
                f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:600]}. Nothing was found out. Run it again; if that "
                "doesn't help, report this with the trace, which REINDEX_DEBUG=1 shows"
            )
        Console(stderr=True).print(f"[red]error:[/red] {escape(sentence)}", highlight=False, soft_wrap=True)
        raise typer.Exit(self.exit_status)


schema_app = typer.Typer(help="The ClickHouse tables.", no_args_is_help=True)


@schema_app.command("apply")
def schema_apply(fleet: options.FleetFile = None) -> None:
    """Creates the ClickHouse tables on every shard. Leaves tables that exist unchanged."""
    for name, cluster in options.open_fleet(fleet).clusters.items():
        for line in apply_schema(cluster):
            Console().print(f"{name} {line}", soft_wrap=True)


def build_app() -> typer.Typer:
    """The production commands, in the order in which the help lists them."""
    app = typer.Typer(
        cls=Commands,
        help="Keeps ClickHouse's scorecards exactly true to Postgres, customer by customer, day by day, shard by shard.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
    )
    app.command()(reindex)
    app.command()(verify)
    app.command()(repairs)
    add_backfill_commands(app)
    app.command()(reshard)
    app.command()(appeals)
    app.command()(worker)
    app.add_typer(schema_app, name="schema")
    app.add_typer(fleet_app, name="fleet")
    return app
