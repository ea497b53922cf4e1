"""The command `repairs`: the partitions whose repair was given up, and the request to try them again."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from reindex_assets.cli.options import DIFFERENT, CustomerOption, FleetOption, JsonOption, exit_statuses, open_fleet
from reindex_assets.cli.render.json import print_json
from reindex_assets.cli.render.tables import print_given_up


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
        from reindex_assets.defs.history.repairs import ask_again, given_up_repairs
        from reindex_assets.defs.instance.opening import open_instance

        known = open_fleet(fleet)
        with open_instance() as instance:
            found = [
                one for one in given_up_repairs(instance, known) if not customer or one.repair.customer in customer
            ]
            if again:
                ask_again(instance, found)
        if as_json:
            print_json(
                [
                    {
                        "cluster": one.dataset.cluster_name,
                        "kind": one.dataset.kind.name,
                        **one.repair.model_dump(mode="json"),
                    }
                    for one in found
                ]
            )
        else:
            print_given_up(Console(), found, again=again)
        if found and not again:
            raise typer.Exit(DIFFERENT)
