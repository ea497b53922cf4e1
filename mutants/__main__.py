"""`python -m mutants`: tries faults in the code that checks and writes, and tells which of them no test notices.

What lives here: the command, and the table that it prints. What does not: trying (campaign.py).
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mutants.campaign import chosen, mutants_of, tried, try_all
from mutants.subjects import SUBJECTS

app = typer.Typer(add_completion=False)


@app.command()
def run(
    results: Annotated[Path, typer.Argument(help="A file of results; what stands in it isn't tried again.")],
    only: Annotated[list[str] | None, typer.Option(help="A module, as reindex/writer. May be repeated.")] = None,
    of_each: Annotated[int, typer.Option(help="How many mutants of each module.")] = 12,
    seed: Annotated[int, typer.Option(help="Which ones.")] = 1,
    workers: Annotated[int, typer.Option(help="How many at once, each with engines of its own.")] = 2,
) -> None:
    """Tries a sample of the mutants. Exits with 1 if one survives."""
    console = Console()
    modules = only or list(SUBJECTS)
    mutants = chosen(modules, of_each, seed)
    with tempfile.TemporaryDirectory() as copies:
        for trial in try_all(mutants, results, Path(copies), workers):
            console.print(
                f"{trial.outcome}: {trial.mutant.module}:{trial.mutant.line} {trial.mutant.operator}", markup=False
            )
    trials = [trial for trial in tried(results) if trial.mutant.module in modules]
    table = Table("module", "mutants", "tried", "killed", "survived", "incompetent")
    for module in modules:
        outcomes = Counter(trial.outcome for trial in trials if trial.mutant.module == module)
        counts = (outcomes.total(), outcomes["killed"], outcomes["survived"], outcomes["incompetent"])
        table.add_row(module, str(len(mutants_of(module))), *map(str, counts))
    console.print(table)
    survivors = [trial for trial in trials if trial.outcome == "survived"]
    for trial in survivors:
        console.print(
            f"\n{trial.mutant.module}:{trial.mutant.line} {trial.mutant.operator}\n{trial.change}", markup=False
        )
    raise typer.Exit(1 if survivors else 0)


app()
