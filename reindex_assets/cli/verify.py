"""The command `verify`: compares both engines and says whether they are equal.

What lives here: its arguments. What does not: the comparison (comparison/verification.py), and what is printed of it
(cli/render/tables.py, cli/render/page.py).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reindex_assets.cli.options import (
    DIFFERENT,
    CustomerOption,
    FleetOption,
    FromOption,
    JsonOption,
    KindOption,
    ToOption,
    exit_statuses,
    open_fleet,
)
from reindex_assets.cli.render.json import print_json, verification_json
from reindex_assets.cli.render.page import open_report, render_report
from reindex_assets.cli.render.tables import print_verification
from reindex_assets.comparison.comparison import SETTLE_SECONDS
from reindex_assets.comparison.verification import Depth
from reindex_assets.comparison.verification import verify as verify_range
from reindex_assets.config.modes import Mode
from reindex_assets.errors import ConfigurationError


def verify(
    first: FromOption,
    last: ToOption,
    customer: CustomerOption = None,
    kind: KindOption = Mode.PROCESS,
    depth: Annotated[
        Depth,
        typer.Option(
            "--depth",
            help="counts: numbers of rows only. fingerprint: every value, by sums of digests. rows: the same, and rows that differ "
            "are shown.",
        ),
    ] = Depth.FINGERPRINT,
    samples: Annotated[
        int,
        typer.Option(
            "--samples", min=1, help="With --depth rows: rows shown of each customer-day, table and kind of difference."
        ),
    ] = 10,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the report as a page of its own to this file.", dir_okay=False)
    ] = None,
    as_json: JsonOption = False,
    settle: Annotated[
        float, typer.Option("--settle", min=0, help="Look at a difference again after so many seconds.")
    ] = SETTLE_SECONDS,
    fleet: FleetOption = None,
) -> None:
    """Compares both sides per customer and day. Exit status: 0 nothing differs, 1 something does, 2 could not tell."""
    with exit_statuses(), open_report(html) as save:
        if len(kind.kinds) > 1:
            choice = " or ".join(f"--kind {one.name}" for one in kind.kinds)
            raise ConfigurationError(f"a report is about one kind of scorecards: {choice}")
        found = verify_range(
            open_fleet(fleet),
            customer or [],
            first.date(),
            last.date(),
            kind=kind.kinds[0],
            depth=depth,
            settle_seconds=settle,
            samples=samples,
        )
        if save is not None:
            save(render_report(found, datetime.now(UTC)))
        if as_json:
            print_json(verification_json(found))
        else:
            print_verification(Console(), found)
            if html is not None:
                Console().print(f"The report is in {html}", soft_wrap=True, highlight=False)
        if not found.agrees:
            raise typer.Exit(DIFFERENT)
