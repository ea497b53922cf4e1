"""The command `verify`: compares both engines and reports whether they are equal.

What lives here: its arguments. What does not: the comparison (comparison/verification.py), and printing its result
(cli/render/tables.py, cli/render/page.py).
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from reindex_assets.cli import options
from reindex_assets.cli.render.json import print_json, verification_json
from reindex_assets.cli.render.page import open_report, render_report
from reindex_assets.cli.render.tables import print_verification
from reindex_assets.cli.render.terminal import open_console
from reindex_assets.comparison.comparison import SETTLE_SECONDS
from reindex_assets.comparison.verification import Depth
from reindex_assets.comparison.verification import verify as verify_range
from reindex_assets.errors import ConfigurationError


def verify(
    first: options.FirstDay,
    last: options.LastDay,
    customer: options.Customer = None,
    kind: options.Kind = None,
    depth: Annotated[
        Depth,
        typer.Option(
            "--depth",
            metavar="DEPTH",
            help="counts compares only numbers of rows. fingerprint compares every value, by sums of digests. rows also shows the rows "
            "that differ.",
        ),
    ] = Depth.FINGERPRINT,
    samples: Annotated[
        int,
        typer.Option(
            "--samples",
            metavar="N",
            min=1,
            help="With --depth rows: rows to show per customer-day, table and kind of difference.",
        ),
    ] = 10,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Also write the report to this file, as one HTML page.", dir_okay=False
        ),
    ] = None,
    as_json: options.Json = False,
    settle: options.Settle = SETTLE_SECONDS,
    fleet: options.FleetFile = None,
) -> None:
    """Compares Postgres and ClickHouse per customer and day.

    Exit status: 0 nothing differs, 1 something does, 2 could not tell.
    """
    with open_report(html) as save:
        opened = options.open_fleet(fleet)
        kinds = options.kind_of(opened, kind).kinds
        if len(kinds) > 1:
            choices = " or ".join(f"--kind {choice.name}" for choice in kinds)
            raise ConfigurationError(f"a report is about one kind of scorecards: {choices}")
        report = verify_range(
            opened,
            options.customers_of(opened, customer),
            first,
            last,
            kind=kinds[0],
            depth=depth,
            settle_seconds=settle,
            samples=samples,
        )
        if save is not None:
            save(render_report(report, datetime.now(UTC)))
        if as_json:
            print_json(verification_json(report))
        else:
            print_verification(open_console(), report)
            if html is not None:
                open_console().print(f"The report is in {html}", soft_wrap=True, highlight=False)
        if not report.agrees:
            raise typer.Exit(options.DIFFERENT)
