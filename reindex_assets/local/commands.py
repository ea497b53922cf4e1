"""`reindex-assets local ...`: the commands of the local stack.

What lives here: arguments, questions and tables on the terminal. What does not: the work of the commands (local/stack/stack.py).

The commands import the stack themselves: it needs the extra `local`, and the command line must load without it.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from reindex_assets.backfill.forecast import duration_words
from reindex_assets.cli import options
from reindex_assets.cli.group import Commands
from reindex_assets.config.local_environment import DEFAULT_ROOT, environment_path
from reindex_assets.config.modes import Mode
from reindex_assets.errors import ConfigurationError

if TYPE_CHECKING:
    from reindex_assets.local.stack.server import ServerStatus
    from reindex_assets.local.stack.stack import LocalStack


class _LocalCommands(Commands):
    exit_status = 1


local_app = typer.Typer(
    cls=_LocalCommands,
    help="A real PostgreSQL and real ClickHouse shards on this machine, loopback only.",
    no_args_is_help=True,
)

Root = Annotated[Path, typer.Option("--root", metavar="DIRECTORY", help="The stack's own directory.", file_okay=False)]

_COLOURS = {"running": "green", "unresponsive": "yellow", "crashed": "red", "stopped": "dim"}


@local_app.command()
def up(
    shards: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=64,
            help="Number of ClickHouse shards. Default: as before, else 4.",
            show_default=False,
        ),
    ] = None,
    customer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[:PROFILE,...]", help="A customer; repeat it. Default: those of the fleet file."),
    ] = None,
    first_day: Annotated[
        date | None,
        typer.Option(
            help="The first day kept true. Default: that of the fleet file.",
            **options.DAY,
        ),
    ] = None,
    clusters: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Make a fleet of this many clusters (at most 8), whose shards share --shards engines.",
            show_default=False,
        ),
    ] = None,
    customers: Annotated[
        int | None,
        typer.Option(metavar="N", help="With --clusters: the number of customers in all. Default: 95 for 8 clusters."),
    ] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Starts the servers that don't run, and writes the fleet file and the environment that point at them."""
    console = Console()
    stack = _stack(root, shards, clusters, customers)
    started_at = time.monotonic()
    with console.status("Starting PostgreSQL and the shards"):
        stack.up(
            customers=dict(_customer(text) for text in customer) if customer else None,
            first_day=first_day,
        )
    console.print(_table(stack.status()))
    console.print(f"Up after {time.monotonic() - started_at:.1f} s. Fleet file: {stack.fleet_path}", soft_wrap=True)
    console.print(f"For a shell: set -a; . {environment_path(stack.root)}; set +a", soft_wrap=True)


@local_app.command()
def down(root: Root = DEFAULT_ROOT) -> None:
    """Stops every server; the data stay."""
    _stack(root).down()
    Console().print("Stopped.")


@local_app.command()
def status(root: Root = DEFAULT_ROOT) -> None:
    """Shows every server; exits with 0 only if all of them run."""
    servers = _stack(root).status()
    Console().print(_table(servers))
    if any(server.state != "running" for server in servers):
        raise typer.Exit(1)


@local_app.command()
def spoil(
    customer: Annotated[str, typer.Option("--customer", metavar="NAME", help="The customer whose rows become wrong.")],
    day: Annotated[date, typer.Option("--day", help="The UTC day.", **options.DAY)],
    drift: Annotated[
        str,
        typer.Option(
            "--drift",
            metavar="KIND",
            help="missing, extra, changed, duplicated, wrong_shard, stale_after_move, orphan_score or appeal.",
        ),
    ] = "changed",
    kind: Annotated[
        Mode, typer.Option("--kind", metavar="KIND", help="The scorecards: process or conversation.")
    ] = Mode.PROCESS,
    count: Annotated[int, typer.Option("--count", metavar="N", min=1, help="Number of scorecards.")] = 1,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Makes rows in ClickHouse wrong, to watch how that is found and repaired."""
    stack = _stack(root)
    from reindex_assets.local.drift.plant import Drift
    from reindex_assets.local.drift.spoil import spoil as plant

    if drift not in list(Drift):
        raise ConfigurationError(f"--drift {drift} is none of {', '.join(Drift)}")
    if kind is Mode.ALL:
        raise ConfigurationError("--kind all: choose process or conversation")
    for planted in plant(stack, customer, day, Drift(drift), kind.kinds[0], count):
        Console().print(
            f"{planted.drift}: {planted.customer} {planted.day}, shard {planted.shard}: {planted.detail}",
            soft_wrap=True,
        )


@local_app.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Stops every server and removes all data of the stack."""
    stack = _stack(root)
    if not yes:
        typer.confirm(f"Remove the stack in {stack.root} with all its data?", abort=True)
    stack.reset()
    Console().print("Removed.")


def _stack(
    root: Path, shards: int | None = None, clusters: int | None = None, customers: int | None = None
) -> LocalStack:
    try:
        from reindex_assets.local.demo.fleet_plan import DEFAULT_ENGINES, plan_fleet
        from reindex_assets.local.stack.stack import LocalStack
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the local stack needs the package {error.name}: pip install 'reindex-assets[local]'"
        ) from error
    plan = None if clusters is None else plan_fleet(clusters, customers, shards or DEFAULT_ENGINES)
    return LocalStack(root, shards, plan)


def _customer(text: str) -> tuple[str, tuple[str, ...]]:
    """
    >>> _customer("acme"), _customer("acme:main,voice")
    (('acme', ()), ('acme', ('main', 'voice')))
    """
    name, _, profiles = text.partition(":")
    return name, tuple(profile for profile in profiles.split(",") if profile)


def _table(servers: list[ServerStatus]) -> Table:
    table = Table(title=f"Local stack, {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
    for column in ("server", "pid", "port", "state", "memory", "uptime"):
        table.add_column(column, justify="left" if column in ("server", "state") else "right")
    for server in servers:
        colour = _COLOURS[server.state]
        table.add_row(
            server.name,
            "" if server.pid is None else str(server.pid),
            "" if server.port is None else str(server.port),
            f"[{colour}]{server.state}[/{colour}]",
            "" if server.resident_bytes is None else f"{server.resident_bytes / 2**20:,.0f} MiB",
            "" if server.uptime_seconds is None else duration_words(server.uptime_seconds),
        )
    return table
