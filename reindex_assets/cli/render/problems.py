"""What `problems` prints: the open problems in groups, in the words of the alerts, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from reindex_assets.alerts.message import HEADINGS, Group, counted, grouped, one_line, plural, remedy
from reindex_assets.alerts.problems import Problem, Severity
from reindex_assets.cli.render.tables import print_line, printable

if TYPE_CHECKING:
    from reindex_assets.defs.automation.open_problems import OpenProblem

#: Groups shown of a kind; --json has them all.
_SHOWN = 40


def print_problems(console: Console, problems: Sequence[OpenProblem], notes: Sequence[str]) -> None:
    """For each kind of problem its groups and what to do; then what is not watched."""
    by_problem = {item.problem: item for item in problems}
    for kind, of_kind in groupby(by_problem, key=lambda problem: problem.kind):
        listed = list(of_kind)
        groups = grouped(listed)
        print_line(console, Text(HEADINGS[kind], style="bold red"))
        for group in groups[:_SHOWN]:
            _print_group(console, group, by_problem)
        if len(groups) > _SHOWN:
            print_line(console, f"and {len(groups) - _SHOWN:,} more (--json has them all)")
        console.print(Text(remedy(kind, listed) + "\n", style="dim"))
    for note in notes:
        console.print(Text(note, style="yellow"))
    if not problems:
        print_line(console, Text("Nothing is open, as far as checks, sensors and runs have found.", style="green"))
        return
    severities = [item.severity for item in problems]
    days = len({(problem.where, problem.slice) for problem in by_problem if problem.slice})
    on = f", on {plural(days, 'customer-day')}" if days else ""
    print_line(
        console, Text(f"Open: {counted(severities)}{on}.", style="red" if Severity.ERROR in severities else "yellow")
    )


def _print_group(console: Console, group: Group, by_problem: Mapping[Problem, OpenProblem]) -> None:
    """The days of a customer on which the same is wrong: what, since when, and what is being done, in the words of the latest day."""
    latest = group.slices[-1] if group.slices else None
    of_latest = [by_problem[problem] for problem in group.problems if latest is None or problem.slice == latest]
    since = datetime.fromtimestamp(min(by_problem[problem].since for problem in group.problems), UTC)
    days = f" ({len(group.slices)} days)" if len(group.slices) > 1 else ""
    title = group.title if not group.problems[0].of_automation else group.asset
    print_line(console, Text("- ") + printable(f"{title}{days}"))
    checks = [
        f"{item.problem.check}{' (warning)' if item.severity is Severity.WARNING else ''}"
        for item in of_latest
        if item.problem.check
    ]
    _print_indented(console, Text(", ".join([*checks, f"since {since:%Y-%m-%d %H:%M} UTC"])))
    # The sentences of checks begin with the slice, which the line names already.
    sentences = dict.fromkeys(item.what.removeprefix(f"{latest}: ").rstrip(".") for item in of_latest if item.what)
    if sentences:
        of_day = f"{latest.day}: " if latest and len(group.slices) > 1 else ""
        _print_indented(console, printable(of_day + one_line("; ".join(sentences))))
    for repair in dict.fromkeys(by_problem[problem].repair for problem in group.problems):
        if repair:
            _print_indented(console, printable(repair, "cyan"))


def _print_indented(console: Console, text: Text) -> None:
    """Wraps between words in a terminal, and not at all in a pipe."""
    console.print(Padding(text, (0, 0, 0, 4), expand=False))


def problems_json(problems: Sequence[OpenProblem], notes: Sequence[str]) -> dict[str, object]:
    return {
        "problems": [
            {
                "kind": item.problem.kind.value,
                "severity": item.severity.value,
                "where": item.problem.where,
                "check": item.problem.check or None,
                "customer": item.problem.slice.customer if item.problem.slice else None,
                "day": item.problem.slice.day if item.problem.slice else None,
                "since": datetime.fromtimestamp(item.since, UTC).isoformat(timespec="seconds"),
                "what": item.what,
                "repair": item.repair or None,
                "run_id": item.run_id or None,
            }
            for item in problems
        ],
        "notes": list(notes),
    }
