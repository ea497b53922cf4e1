"""The command `repairs`: lists the partitions whose repair was given up, and asks to try them again."""

from __future__ import annotations

from typing import Annotated

import typer

from reindex_assets.cli import options
from reindex_assets.cli.render.json import given_up_json, print_json
from reindex_assets.cli.render.tables import print_given_up
from reindex_assets.cli.render.terminal import open_console


def repairs(
    again: Annotated[
        bool, typer.Option("--again", help="Ask the repair sensor to try them again, with all its attempts.")
    ] = False,
    customer: options.Customer = None,
    as_json: options.Json = False,
    fleet: options.FleetFile = None,
) -> None:
    """Lists the partitions whose repair was given up, and asks to try them again.

    Exit status: 0 none, 1 some, 2 could not tell.
    """
    from reindex_assets.defs.history.repairs import ask_again, given_up_repairs
    from reindex_assets.defs.instance.opening import open_instance

    opened = options.open_fleet(fleet)
    chosen = options.customers_of(opened, customer)
    with open_instance() as instance:
        given_up = given_up_repairs(instance, opened)
        if chosen:
            given_up = [partition for partition in given_up if partition.repair.customer in chosen]
        if again:
            ask_again(instance, given_up)
    if as_json:
        print_json([given_up_json(partition) for partition in given_up])
    else:
        print_given_up(open_console(), given_up, again=again)
    if given_up and not again:
        raise typer.Exit(options.DIFFERENT)
