"""What several commands share: options, exit statuses, and opening the fleet.

What lives here: nothing that does work. What does not: the commands (cli/app.py and the files that it assembles).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from reindex_assets.cli.render.tables import printable
from reindex_assets.cli.render.terminal import open_console
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.config.local_environment import use_local_environment
from reindex_assets.config.modes import Mode
from reindex_assets.config.settings import Settings
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import PROCESS

#: Exit statuses. 0 means that both sides are equal, or that everything is done.
DIFFERENT, COULD_NOT_TELL = 1, 2


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a day: write it as 2026-01-31") from None


#: What every option that takes a day shares.
DAY: Any = {"parser": _day, "metavar": "YYYY-MM-DD"}
_FIRST_DAY = typer.Option("--from", help="The first UTC day.", **DAY)
_LAST_DAY = typer.Option("--to", help="The last UTC day, included.", **DAY)

FleetFile = Annotated[
    Path | None,
    typer.Option(
        "--fleet",
        metavar="FILE",
        help="The fleet file. Default: REINDEX_FLEET, else the local stack's.",
        dir_okay=False,
    ),
]
FirstDay = Annotated[date, _FIRST_DAY]
LastDay = Annotated[date, _LAST_DAY]
MaybeFirstDay = Annotated[date | None, _FIRST_DAY]
MaybeLastDay = Annotated[date | None, _LAST_DAY]
_CUSTOMER = "A customer, or several separated by commas; may be repeated."
Customer = Annotated[
    list[str] | None, typer.Option("--customer", metavar="NAME", help=f"{_CUSTOMER} Default: every customer.")
]
#: Where every customer has to be asked for.
NamedCustomer = Annotated[list[str] | None, typer.Option("--customer", metavar="NAME", help=_CUSTOMER)]
Kind = Annotated[
    Mode | None,
    typer.Option("--kind", metavar="KIND", help="The scorecards: process, conversation or all. Default: process."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Settle = Annotated[
    float,
    typer.Option(
        "--settle",
        metavar="SECONDS",
        min=0,
        help="Seconds after which a difference is looked at again. Only what still differs counts.",
    ),
]


def note(sentence: str) -> None:
    """Says what a command waits for, or tries again: beside its output, also when that is JSON."""
    # Where nobody reads it, it is no reason to end.
    with suppress(BrokenPipeError):
        open_console(stderr=True).print(printable(sentence, "yellow"), soft_wrap=True)


def customers_of(fleet: Fleet, texts: Sequence[str] | None) -> list[str]:
    """The customers of `--customer`; none where it was not given, which means every customer.

    An empty name is refused like any other that the fleet doesn't have: an unset variable of a script must not mean every customer.

    Raises:
        ConfigurationError: the fleet does not have one of them.
    """
    names = [name.strip() for text in texts or () for name in text.split(",")]
    for name in names:
        fleet.cluster_of(name)
    return list(dict.fromkeys(names))


def kind_of(fleet: Fleet, kind: Mode | None) -> Mode:
    """The kind of `--kind`; without it, process. Says so where the fleet's schedules and repairs are about another kind."""
    if kind is not None:
        return kind
    override = Settings().mode
    modes = {fleet.rules(name, override).mode for name in fleet.clusters}
    if not any(PROCESS in mode.kinds for mode in modes):
        others = ", ".join(sorted(modes))
        note(f"Without --kind this is about process scorecards. The mode of this fleet is {others}: --kind {others}")
    return Mode.PROCESS


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
