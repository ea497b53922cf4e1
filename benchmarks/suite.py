"""The suite: it measures one subject after the other, and saves the report after each.

What lives here: the list of subjects, the loop, and the rule that a broken subject does not stop the others. What does not: arguments
(__main__.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from rich.console import Console

from benchmarks import (
    fleet_load,
    footprint,
    growth,
    limits,
    memory,
    noop,
    peers,
    spirit_replay,
    verify_depths,
    window_cost,
    workers,
)
from benchmarks.bench import Bench
from benchmarks.figures import Figure, NotRun, Result
from benchmarks.machine import Machine, package_versions
from benchmarks.report import Broken, Report, to_json, to_markdown
from benchmarks.sizes import Size
from benchmarks.stacks import remove_stacks
from reindex_assets.local.stack.files import write_atomically


@dataclass(frozen=True)
class Subject:
    """One thing that is measured."""

    name: str
    what: str
    run: Callable[[Bench], Iterator[Result]]

    @staticmethod
    def of(module: ModuleType) -> Subject:
        """The subject in a file of the suite; the first line of its docstring says what it measures."""
        return Subject(module.NAME, (module.__doc__ or "").strip().partition("\n")[0], module.run)


_MODULES = (
    spirit_replay, peers, noop, window_cost, memory, growth, verify_depths, limits, workers, footprint, fleet_load
)  # fmt: skip
SUBJECTS = {module.NAME: Subject.of(module) for module in _MODULES}


def run_suite(
    size: Size, root: Path, names: Sequence[str], document: Path | None, console: Console, keep: bool = False
) -> Report:
    """Runs the named subjects on stacks in `root`.

    Args:
        document: the JSON file; the same report as Markdown goes beside it.
        keep: leave the stacks at the end.
    """
    began = time.monotonic()
    remove_stacks(root)
    report = Report(size, datetime.now(UTC), 0.0, Machine.this(), package_versions())
    bench = Bench(root, size, lambda text: console.print(f"[dim]{text}[/dim]", highlight=False, soft_wrap=True), keep)
    try:
        for name in names:
            console.rule(name)
            figures: list[Figure] = []
            not_run: list[NotRun] = []
            broken: list[Broken] = []
            try:
                for result in SUBJECTS[name].run(bench):
                    if isinstance(result, Figure):
                        figures.append(result)
                    else:
                        not_run.append(result)
            except Exception as error:  # noqa: BLE001 - the report and the exit status tell it; the other subjects go on
                console.print_exception()
                broken.append(Broken(name, bench.stacks.without_password(f"{type(error).__name__}: {error}")[:2_000]))
            report = replace(
                report,
                seconds=time.monotonic() - began,
                versions={**report.versions, **bench.stacks.versions},
                figures=[*report.figures, *figures],
                not_run=[*report.not_run, *not_run],
                broken=[*report.broken, *broken],
            )
            if document is not None:
                _write(report, document)
    finally:
        bench.stacks.close()
    return report


def _write(report: Report, document: Path) -> None:
    document.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(document, json.dumps(to_json(report), indent=2, ensure_ascii=False) + "\n")
    write_atomically(document.with_suffix(".md"), to_markdown(report))
