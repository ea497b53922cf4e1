"""The commands `demo` and `dev`.

What lives here: their arguments. What does not: the demonstrations themselves (local/demo/demo.py, local/demo/fleet_demo.py).
"""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.console import Console

from reindex_assets.config.local_environment import DEFAULT_ROOT
from reindex_assets.errors import ConfigurationError


def demo(
    scale: Annotated[
        float | None,
        typer.Option(
            metavar="FACTOR",
            help="1.0 makes 15,000 to 57,000 scorecards a customer and day. Without: 0.02; of a fleet 0.002.",
        ),
    ] = None,
    days: Annotated[int | None, typer.Option(metavar="N", min=3, max=365, help="Without: 14; of a fleet 3.")] = None,
    shards: Annotated[
        int, typer.Option(metavar="N", min=1, max=16, help="Of a fleet: engines, which its clusters share.")
    ] = 4,
    fleet: Annotated[
        bool, typer.Option("--fleet", help="Many clusters in mode `all`, repaired by the sensors.")
    ] = False,
    clusters: Annotated[int, typer.Option(metavar="N", min=1, help="With --fleet: how many clusters, at most 8.")] = 8,
    customers: Annotated[
        int | None,
        typer.Option(metavar="N", help="With --fleet: how many customers in all. Without: 95 of 8 clusters."),
    ] = None,
) -> None:
    """The whole story on this machine: stack, data, load, drift, red, repair, green. Begins the local stack afresh."""
    if fleet:
        from reindex_assets.local.demo.fleet_demo import run_fleet_demo
        from reindex_assets.local.demo.fleet_plan import plan_fleet

        run_fleet_demo(Console(), plan_fleet(clusters, customers, shards), days or 3, scale or 0.002)
    else:
        from reindex_assets.local.demo.demo import DAYS, SCALE, run_demo

        run_demo(Console(), scale or SCALE, days or DAYS, shards)


def dev(
    port: Annotated[int, typer.Option(metavar="PORT", help="Port of the Dagster UI, on loopback.")] = 3000,
) -> None:
    """Opens the Dagster UI, with its daemon, on the local stack with data.

    Ctrl-C ends Dagster; the stack's servers go on until 'reindex-assets local down'.
    """
    from reindex_assets.local.demo.demo import ensure_data
    from reindex_assets.local.stack.dagster_lock import hold_for_dagster
    from reindex_assets.local.stack.dagster_processes import dev_command
    from reindex_assets.local.stack.processes import LOOPBACK, port_is_free

    console = Console()
    # Before anything is started.
    with hold_for_dagster(DEFAULT_ROOT):
        if not port_is_free(port):
            raise ConfigurationError(
                f"port {port} is in use: choose another one with --port, or end what listens there"
            )
        ensure_data(console)
        console.print(
            f"The Dagster UI: http://{LOOPBACK}:{port}. Ctrl-C ends it; PostgreSQL and the shards go on until 'reindex-assets local down'.",
            soft_wrap=True,
        )
        # In place of this process: Ctrl-C and signals reach Dagster itself.
        command = dev_command(port)
        os.execv(command[0], command)
