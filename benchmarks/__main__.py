"""`python -m benchmarks run`, `list` and `clean`. What lives here: arguments and exit statuses. What does not: the suite (suite.py)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.report import print_report
from benchmarks.sizes import SIZES
from benchmarks.stacks import remove_stacks
from benchmarks.suite import SUBJECTS, run_suite

app = typer.Typer(
    help="Measures what this project costs, on its own stack with real engines.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)


Root = Annotated[
    Path,
    typer.Option(
        "--root",
        help="The directory of the stacks. The suite replaces what a killed run has left there.",
        file_okay=False,
    ),
]


@app.command()
def run(
    size: Annotated[str, typer.Option("--size", help=f"One of: {', '.join(SIZES)}.")] = "small",
    only: Annotated[
        list[str] | None, typer.Option("--only", help="A subject of 'list'; repeat it. Default: all subjects.")
    ] = None,
    root: Root = Path(".bench"),
    document: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="The JSON document; the Markdown goes beside it. Default: benchmarks/results/SIZE.json.",
            dir_okay=False,
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="At the end, stop the stacks and leave their data.")] = False,
) -> None:
    """Measures, prints tables and writes JSON. Exit status: 0 whatever the figures are; 1 if a subject broke; 2 for a wrong argument."""
    if size not in SIZES:
        raise typer.BadParameter(f"there is no size {size!r}; there are {', '.join(SIZES)}")
    unknown = [name for name in only or [] if name not in SUBJECTS]
    if unknown:
        raise typer.BadParameter(f"there is no subject {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    document = document or Path("benchmarks") / "results" / f"{size}.json"
    # A file or a pipe has no width: take what the tables need.
    console = Console(width=None if sys.stdout.isatty() else 160)
    report = run_suite(SIZES[size], root, only or list(SUBJECTS), document, console, keep)
    print_report(console, report)
    console.print(
        f"{report.seconds:,.0f} s in all. Written to {document} and {document.with_suffix('.md')}", soft_wrap=True
    )
    if report.broken:
        raise typer.Exit(1)


@app.command("list")
def list_subjects() -> None:
    """Lists the subjects, and what each measures."""
    table = Table()
    table.add_column("subject")
    table.add_column("what it measures")
    for subject in SUBJECTS.values():
        table.add_row(subject.name, subject.what)
    Console().print(table)


@app.command()
def clean(root: Root = Path(".bench")) -> None:
    """Stops and removes the stacks that --keep or a killed run has left."""
    remove_stacks(root)


if __name__ == "__main__":
    app()
