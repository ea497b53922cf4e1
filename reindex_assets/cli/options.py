"""What several commands share: options, exit statuses, and opening the fleet.

What lives here: nothing that does work. What does not: the commands (cli/app.py and the files that it assembles).
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reindex_assets.cli.render.tables import printable
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.config.local_environment import use_local_environment
from reindex_assets.config.modes import Mode
from reindex_assets.config.settings import Settings
from reindex_assets.errors import ConfigurationError

#: Exit statuses. 0 means that both sides are equal, or that everything is done.
DIFFERENT, COULD_NOT_TELL = 1, 2

_FIRST_DAY = typer.Option("--from", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="The first UTC day.")
_LAST_DAY = typer.Option("--to", formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="The last UTC day, included.")

FleetFile = Annotated[
    Path | None,
    typer.Option("--fleet", help="The fleet file. Default: REINDEX_FLEET, else the local stack's.", dir_okay=False),
]
FirstDay = Annotated[datetime, _FIRST_DAY]
LastDay = Annotated[datetime, _LAST_DAY]
MaybeFirstDay = Annotated[datetime | None, _FIRST_DAY]
MaybeLastDay = Annotated[datetime | None, _LAST_DAY]
Customer = Annotated[
    list[str] | None, typer.Option("--customer", help="A customer; may be repeated. Default: every customer.")
]
Kind = Annotated[Mode, typer.Option("--kind", help="The kind of scorecards.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Settle = Annotated[
    float,
    typer.Option(
        "--settle", min=0, help="Seconds after which a difference is looked at again. Only what still differs counts."
    ),
]


def note(sentence: str) -> None:
    """Says what a command waits for, or tries again: beside its output, also when that is JSON."""
    Console(stderr=True).print(printable(sentence, "yellow"), soft_wrap=True)


def open_fleet(option: Path | None) -> Fleet:
    """The fleet of --fleet, else of REINDEX_FLEET, else of the local stack."""
    settings = Settings()
    if option is None and settings.fleet is None:
        if not settings.fleet_file().exists():
            raise ConfigurationError(
                "there is no fleet file: name one with --fleet or REINDEX_FLEET, or start the local stack with "
                "'reindex-assets local up' (or 'reindex-assets demo')"
            )
        use_local_environment()
    return load_fleet(option or settings.fleet_file())
