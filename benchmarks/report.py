"""The report of the suite, as tables on the terminal, as a JSON document and as Markdown.

What lives here: the report and its three forms. What does not: figures (figures.py), and bars with their verdicts (bars.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rich.console import Console
from rich.table import Table

from benchmarks.bars import State, Verdict, judge
from benchmarks.figures import Figure, NotRun
from benchmarks.machine import Machine, versions_line
from benchmarks.sizes import Size

#: The version of the JSON document; raise it when the shape changes.
FORMAT = 1

_COLOURS = {State.MET: "green", State.MISSED: "red", State.NOT_JUDGED: "dim", State.NOT_MEASURED: "yellow"}


@dataclass(frozen=True)
class Broken:
    """A subject that ended with an error; figures that it yielded before stay in the report."""

    subject: str
    error: str


@dataclass(frozen=True)
class Report:
    """One run of the suite, complete or still going on."""

    size: Size
    begun: datetime
    seconds: float
    machine: Machine
    versions: dict[str, str]
    figures: Sequence[Figure] = field(default=())
    not_run: Sequence[NotRun] = field(default=())
    broken: Sequence[Broken] = field(default=())

    @property
    def verdicts(self) -> list[Verdict]:
        return judge(self.figures, self.size.name)

    @property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(figure.subject for figure in self.figures))

    def of(self, subject: str) -> list[Figure]:
        return [figure for figure in self.figures if figure.subject == subject]


def to_json(report: Report) -> dict[str, object]:
    """Each figure names the machine, versions and data that it was measured on, so that it can be quoted alone."""
    machine, versions = str(report.machine), versions_line(report.versions)
    return {
        "format": FORMAT,
        "size": dataclasses.asdict(report.size),
        "begun": report.begun.isoformat(timespec="seconds"),
        "seconds": round(report.seconds, 1),
        "machine": dataclasses.asdict(report.machine),
        "versions": report.versions,
        "figures": [
            {
                **dataclasses.asdict(figure),
                "spread": figure.spread,
                "size": report.size.name,
                "machine": machine,
                "versions": versions,
            }
            for figure in report.figures
        ],
        "bars": [
            {**dataclasses.asdict(verdict.bar), "value": verdict.value, "state": verdict.state.value}
            for verdict in report.verdicts
        ],
        "not_run": [dataclasses.asdict(not_run) for not_run in report.not_run],
        "broken": [dataclasses.asdict(broken) for broken in report.broken],
    }


def print_report(console: Console, report: Report) -> None:
    """Prints a table for each subject, then the bars, then what could not be measured."""
    for subject in report.subjects:
        table = Table(title=subject, title_justify="left", caption=_caption(report, subject), caption_justify="left")
        for name, justify in (("figure", "left"), ("value", "right"), ("spread", "right"), ("of", "left")):
            table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
        for figure in report.of(subject):
            table.add_row(*_row(figure))
        console.print(table)
    table = Table(title="bars", title_justify="left")
    for name, justify in (("bar", "left"), ("limit", "right"), ("measured", "right"), ("", "left")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for verdict in report.verdicts:
        colour = _COLOURS[verdict.state]
        table.add_row(*_bar_row(verdict)[:3], f"[{colour}]{verdict.state}[/{colour}]")
    console.print(table)
    for not_run in report.not_run:
        console.print(f"[yellow]not run:[/yellow] {not_run.name}: {not_run.reason}", highlight=False, soft_wrap=True)
    for broken in report.broken:
        console.print(f"[red]broken:[/red] {broken.subject}: ", end="")
        console.print(broken.error, markup=False, highlight=False, soft_wrap=True)


def to_markdown(report: Report) -> str:
    """The report as Markdown, to be pasted into a document."""
    return "\n".join(_markdown(report)) + "\n"


def _markdown(report: Report) -> Iterator[str]:
    yield f"Size `{report.size.name}`, {report.begun:%Y-%m-%d}, {report.machine}."
    yield f"{versions_line(report.versions)}."
    for subject in report.subjects:
        data = sorted({figure.data for figure in report.of(subject)})
        yield from ("", f"### {subject}", "", *(f"{line}.\n" for line in data if len(data) == 1))
        yield from ("| figure | value | spread | of |", "|---|---:|---:|---|")
        for figure in report.of(subject):
            name, value, spread, of = _row(figure)
            of = of if len(data) == 1 else f"{of} ({figure.data})"
            yield f"| {name} | {value} | {spread} | {_cell(of)} |"
    yield from ("", "### bars", "", "| bar | limit | measured | |", "|---|---:|---:|---|")
    for verdict in report.verdicts:
        yield f"| {' | '.join(_cell(text) for text in _bar_row(verdict))} |"
    problems = [(not_run.name, not_run.reason) for not_run in report.not_run] + [
        (f"{broken.subject} (broken)", broken.error) for broken in report.broken
    ]
    if problems:
        yield from ("", "Not measured:", "")
        yield from (f"- {name}: {' '.join(reason.split())}" for name, reason in problems)


def _caption(report: Report, subject: str) -> str:
    data = list(dict.fromkeys(figure.data for figure in report.of(subject)))
    return "\n".join([*data, str(report.machine), versions_line(report.versions)])


def _row(figure: Figure) -> tuple[str, str, str, str]:
    spread = "" if figure.spread is None else f"{figure.spread:.0%} of {len(figure.samples)}"
    of = f"{figure.of}; {figure.detail}" if figure.detail else figure.of
    return figure.name.partition(".")[2], _number(figure.value, figure.unit), spread, of


def _bar_row(verdict: Verdict) -> tuple[str, str, str, str]:
    bar = verdict.bar
    value = "" if verdict.value is None else _number(verdict.value, bar.unit)
    return bar.text, f"{bar.sense} {_number(bar.limit, bar.unit)}", value, verdict.state.value


def _number(value: float, unit: str) -> str:
    """A number with its significant digits.

    >>> _number(1634498.2, "rows/s"), _number(39.68, "s"), _number(0.0301, "x"), _number(205.4, "x")
    ('1,634,498 rows/s', '39.7 s', '0.030 x', '205 x')
    """
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f} {unit}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
