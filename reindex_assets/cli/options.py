"""What the commands of the command line share: options, the fleet they are about, and exit statuses.

What lives here: nothing that does work. What does not: the commands (cli/app.py and the files that it assembles).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.config.local_environment import use_local_environment
from reindex_assets.config.modes import Mode
from reindex_assets.config.settings import Settings
from reindex_assets.errors import ConfigurationError, ReindexError

EQUAL, DIFFERENT, COULD_NOT_TELL = 0, 1, 2

_DAY = ["%Y-%m-%d"]
FleetOption = Annotated[
    Path | None,
    typer.Option("--fleet", help="The fleet file. Without it: REINDEX_FLEET, else the local stack's.", dir_okay=False),
]
FromOption = Annotated[datetime, typer.Option("--from", formats=_DAY, help="The first UTC day.")]
ToOption = Annotated[datetime, typer.Option("--to", formats=_DAY, help="The last UTC day, included.")]
CustomerOption = Annotated[
    list[str] | None, typer.Option("--customer", help="A customer; repeat it. Without: every customer.")
]
KindOption = Annotated[
    Mode,
    typer.Option("--kind", help="The scorecards: process, conversation, or all of them."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]


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


@contextmanager
def exit_statuses() -> Iterator[None]:
    """An error we raise on purpose is a sentence and exit status 2; anything else keeps its stack trace."""
    try:
        yield
    except ReindexError as error:
        Console(stderr=True).print(f"[red]error:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(COULD_NOT_TELL) from None
