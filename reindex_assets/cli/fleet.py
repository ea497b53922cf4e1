"""The commands `fleet check`, `fleet show` and `fleet schema`.

What lives here: their arguments, and what they print. What does not: the rules of the file (config/fleet.py), and its content as data
(config/effective.py).
"""

from __future__ import annotations

import json
import os

import typer
import yaml
from rich.table import Table

from reindex_assets.cli import options
from reindex_assets.cli.group import Commands
from reindex_assets.cli.render.terminal import open_console, print_table
from reindex_assets.config.effective import effective, fleet_schema
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.modes import Mode
from reindex_assets.config.settings import Settings

fleet_app = typer.Typer(cls=Commands, help="Checks and shows the fleet file.", no_args_is_help=True)


@fleet_app.command("check")
def fleet_check(fleet: options.FleetFile = None) -> None:
    """Validates the fleet file without connecting to anything, and lists its clusters.

    Exit status: 0 valid, 2 invalid.
    """
    opened, mode = options.open_fleet(fleet), Settings().mode
    console = open_console()
    print_table(console, _table(opened, mode))
    customers = sum(len(cluster.customers) for cluster in opened.clusters.values())
    console.print(f"The fleet file is valid: {len(opened.clusters)} clusters, {customers} customers.")
    if mode is not None:
        console.print(f"REINDEX_MODE={mode} overrides the file's 'mode' in every cluster.")
    engines = [engine for cluster in opened.clusters.values() for engine in (cluster.postgres, cluster.clickhouse)]
    unset = {engine.password.env for engine in engines} - os.environ.keys()
    if unset:
        console.print(f"Not set in this environment: {', '.join(sorted(unset))}", soft_wrap=True)


def _table(fleet: Fleet, mode: Mode | None) -> Table:
    table = Table()
    for name in ("cluster", "customers", "shards", "replicas", "mode", "reindex", "checks", "time zone"):
        table.add_column(name, justify="right" if name in ("customers", "shards", "replicas") else "left")
    for name in ("look-back", "connections", "rows/s each"):
        table.add_column(name, justify="right")
    for name, cluster in fleet.clusters.items():
        rules = fleet.rules(name, mode)
        shards = cluster.clickhouse.shards
        replicas = sorted({len(shard.addresses) for shard in shards})
        rate = cluster.postgres.max_rows_per_second
        table.add_row(
            name,
            str(len(cluster.customers)),
            str(len(shards)),
            "-".join(str(number) for number in (replicas[:1] + replicas[1:][-1:])),
            rules.mode,
            rules.schedule.reindex,
            rules.schedule.checks,
            rules.schedule.timezone,
            f"{rules.look_back_days} d",
            str(cluster.postgres.max_connections),
            f"{rate:,}" if rate else "-",
        )
    return table


@fleet_app.command("show")
def fleet_show(as_json: options.Json = False, fleet: options.FleetFile = None) -> None:
    """Prints the fleet file with every default filled in, as YAML or JSON.

    Shows where secrets come from, but not the secrets.
    """
    data = effective(options.open_fleet(fleet), os.environ, Settings().mode)
    typer.echo(json.dumps(data, indent=2) if as_json else yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


@fleet_app.command("schema")
def schema() -> None:
    """Prints the JSON Schema of a fleet file, for editors."""
    typer.echo(json.dumps(fleet_schema(), indent=2))
