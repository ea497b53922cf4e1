"""Writes an alert: one message for all that is new, in groups, with what differs, where to look and what to do.

What lives here: title, body and their limits. What does not: what is reported and when (alerts/problems.py), and looking up details
(defs/automation/alert_sensor.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from urllib.parse import quote

from reindex_assets.alerts.problems import News, OpenState, Problem, ProblemKind, Severity
from reindex_assets.model import APPEALS_CHECK, Slice
from reindex_assets.selection.days import day_ranges, range_text

#: Lines of details in one message, shared among its groups.
MAX_LINES = 30
#: Ranges of days in one line.
_MAX_RANGES = 8
_MAX_CHARACTERS = 400

HEADINGS = {
    ProblemKind.ENGINE: "ENGINE UNREACHABLE",
    ProblemKind.GIVEN_UP: "REPAIR GIVEN UP",
    ProblemKind.CHECK: "RED CHECKS",
    ProblemKind.DRIFT: "DRIFT",
    ProblemKind.RUN: "FAILED RUNS",
    ProblemKind.AUTOMATION: "FAILING SENSORS AND SCHEDULES",
}
_REMEDIES = {
    ProblemKind.ENGINE: (
        "Until it answers, its data are neither checked nor repaired. Bring the engine back, or correct its address in the fleet file. "
        "Checks and repairs then resume automatically."
    ),
    ProblemKind.GIVEN_UP: (
        "The automatic repair has stopped trying. Open the last run of the partition and correct the cause. Then run "
        "'reindex-assets repairs --again', or materialize the partition again."
    ),
    ProblemKind.CHECK: (
        "The automatic repair, if it is on, has not fixed this yet. Unless a repair is under way, materialize the partitions again. If a "
        "check stays red after that, something else writes wrong rows. Quarantined rows have to be corrected in Postgres."
    ),
    ProblemKind.DRIFT: "Nothing yet: the repair sensor has seen it, and no check has. It is repaired as the line says.",
    ProblemKind.RUN: (
        "Open the run and correct the cause, then materialize its partitions again: 'failed and missing' in the backfill dialog "
        "selects them."
    ),
    ProblemKind.AUTOMATION: (
        "The sensor or schedule does nothing until this is corrected. Its page under Automation in the UI shows the whole error."
    ),
}

#: What else helps against some red checks.
_OF_CHECKS = {
    APPEALS_CHECK: (
        "The job purge_appeals_<cluster>, or 'reindex-assets appeals --purge', removes the appeals of all customers and days at once."
    ),
}


@dataclass(frozen=True)
class Detail:
    """What is known about a problem or a failed run besides its name."""

    sentence: str
    run_id: str = ""


@dataclass(frozen=True)
class Message:
    """A message as it is sent. `worst` is None when all of it is good news."""

    title: str
    body: str
    worst: Severity | None


@dataclass(frozen=True)
class Details:
    """How to look up details. Only those that a message shows are looked up. A look-up returns None when nothing is known."""

    problem: Callable[[Problem], Detail | None]
    failed_run: Callable[[str], Detail | None]


@dataclass(frozen=True)
class _Item:
    """A few lines about some problems. The lines are written, and their details looked up, only if they are shown."""

    problems: int
    lines: Callable[[], list[str]]


def compose(
    news: News,
    open_problems: Mapping[Problem, OpenState],
    details: Details,
    ui_url: str = "",
    *,
    incomplete: bool = False,
) -> Message:
    """The message that reports `news`.

    Args:
        incomplete: more checks are red than are followed, so the message leaves some out.
    """
    writer = _Writer(open_problems, details, ui_url.rstrip("/"))
    reported = (*news.first, *news.again)
    groups: list[tuple[str, list[_Item], str]] = []
    for kind in ProblemKind:
        problems = [problem for problem in reported if problem.kind is kind]
        if kind is ProblemKind.RUN:
            items = writer.runs(news)
        elif kind in (ProblemKind.ENGINE, ProblemKind.AUTOMATION):
            items = writer.automation(problems)
        else:
            items = writer.checks(problems)
        groups.append((HEADINGS[kind], items, remedy(kind, problems)))
    groups.append(("GREEN AGAIN", _recovered(news.recovered), ""))
    groups = [group for group in groups if group[1]]
    blocks = [_block(*group, MAX_LINES // len(groups)) for group in groups]
    if incomplete:
        blocks.append("More checks are red than the alerts can follow. The others are reported when fewer are open.")
    if writer.ui_url:
        blocks.append(f"Dagster UI: {writer.ui_url}")
    worst: Severity | None = None
    if news.problems:
        only_checks = not news.failed_runs and not news.failed_runs_left_out
        warnings = only_checks and all(open_problems[problem].severity is Severity.WARNING for problem in reported)
        worst = Severity.WARNING if warnings else Severity.ERROR
    return Message(f"reindex_assets: {summary(news)}", "\n\n".join(blocks), worst)


def remedy(kind: ProblemKind, problems: Iterable[Problem]) -> str:
    """What to do about problems of a kind."""
    checks = {problem.check for problem in problems}
    return " ".join(["What to do:", _REMEDIES[kind], *(text for check, text in _OF_CHECKS.items() if check in checks)])


def summary(news: News) -> str:
    """
    >>> summary(News(failed_runs=("a", "b", "c"), recovered=(Problem(ProblemKind.CHECK, "x"),)))
    '3 problems, 1 recovered'
    """
    parts = []
    if news.problems:
        still = f" ({len(news.again)} still open)" if news.again else ""
        parts.append(f"{plural(news.problems, 'problem')}{still}")
    if news.recovered:
        parts.append(f"{len(news.recovered)} recovered")
    return ", ".join(parts)


def counted(severities: Iterable[Severity]) -> str:
    """
    >>> counted([Severity.ERROR, Severity.WARNING, Severity.WARNING]), counted([])
    ('1 problem and 2 warnings', '')
    """
    listed = list(severities)
    errors = listed.count(Severity.ERROR)
    counts = [plural(errors, "problem")] if errors else []
    counts += [plural(len(listed) - errors, "warning")] if errors < len(listed) else []
    return " and ".join(counts)


def plural(count: int, noun: str, nouns: str = "") -> str:
    """
    >>> plural(1, "recovery", "recoveries"), plural(2, "problem")
    ('1 recovery', '2 problems')
    """
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"


def days_text(days: Iterable[date]) -> str:
    """Days as ranges, of which a few are named and the others counted.

    >>> days_text([date(2026, 1, 2), date(2026, 1, 3), date(2026, 1, 9)])
    '2026-01-02 to 2026-01-03, 2026-01-09'
    """
    ranges = day_ranges(days)
    hidden = sum((last - first).days + 1 for first, last in ranges[_MAX_RANGES:])
    shown = ", ".join(range_text(*days_of) for days_of in ranges[:_MAX_RANGES])
    return shown + (f" and {plural(hidden, 'more day')}" if hidden else "")


def one_line(text: str) -> str:
    """Text from elsewhere as one line of limited length."""
    line = "; ".join(part.strip().rstrip(";") for part in text.splitlines() if part.strip())
    return line if len(line) <= _MAX_CHARACTERS else line[: _MAX_CHARACTERS - 3] + "..."


def _block(heading: str, items: list[_Item], remedy: str, max_lines: int) -> str:
    """A group: as many whole items as fit (at least one), the number of problems not shown, and what to do."""
    lines: list[str] = []
    shown = 0
    for item in items:
        item_lines = item.lines()
        if not item_lines or (shown and len(lines) + len(item_lines) > max_lines):
            break
        lines += item_lines
        shown += 1
        if len(lines) >= max_lines:
            break
    hidden = sum(item.problems for item in items[shown:])
    more = [f"- and {hidden} more, not shown here"] if hidden else []
    return "\n".join([heading, *lines, *more, *([remedy] if remedy else [])])


@dataclass(frozen=True)
class Group:
    """The days of a customer on which the same checks of an asset are red or green again.

    Attributes:
        customer: the whole partition key when that is not a slice's; `slices` is then empty.
    """

    asset: str
    customer: str
    checks: tuple[str, ...]
    slices: tuple[Slice, ...]
    problems: tuple[Problem, ...]

    @property
    def title(self) -> str:
        days = days_text(item.day for item in self.slices)
        return f"{self.asset}: " + (f"{self.customer} {days}".strip() or "the whole asset")


def grouped(problems: Iterable[Problem]) -> list[Group]:
    by_partition: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        by_partition[problem.where, problem.partition].append(problem)
    groups: dict[tuple[str, str, tuple[str, ...]], list[Problem]] = defaultdict(list)
    for (asset, partition), together in by_partition.items():
        item = together[0].slice
        checks = tuple(sorted(problem.check for problem in together))
        groups[asset, item.customer if item else partition, checks] += together
    return [
        Group(
            *key,
            slices=tuple(sorted({item for problem in together if (item := problem.slice)})),
            problems=tuple(together),
        )
        for key, together in sorted(groups.items())
    ]


@dataclass(frozen=True)
class _Writer:
    """Writes the lines about open problems and failed runs, with details and links."""

    open_problems: Mapping[Problem, OpenState]
    details: Details
    ui_url: str

    def checks(self, problems: Iterable[Problem]) -> list[_Item]:
        return [_Item(len(group.problems), partial(self._group_lines, group)) for group in grouped(problems)]

    def _group_lines(self, group: Group) -> list[str]:
        """Which checks are red, what differs on the latest of the days, and links to it."""
        latest = group.slices[-1] if group.slices else None
        partition = latest.partition_key if latest else group.customer
        shown = sorted(problem for problem in group.problems if problem.partition == partition)
        checks = [
            f"{problem.check} (warning)" if self.open_problems[problem].severity is Severity.WARNING else problem.check
            for problem in shown
        ]
        since = datetime.fromtimestamp(min(self.open_problems[problem].since for problem in group.problems), UTC)
        count = f" ({len(group.slices)} days)" if len(group.slices) > 1 else ""
        details = [detail for problem in shown if (detail := self.details.problem(problem))]
        # The sentences of checks begin with the slice, which the line names already.
        sentences = "; ".join(detail.sentence.removeprefix(f"{latest}: ").rstrip(".") for detail in details)
        day = f"{latest.day}: " if latest else ""
        return [
            f"- {group.title}{count}: {', '.join(checks)}, since {since:%Y-%m-%d}",
            *([f"    {day}{one_line(sentences)}"] if sentences else []),
            *self._links(next((detail.run_id for detail in details if detail.run_id), ""), group.asset, partition),
        ]

    def automation(self, problems: Iterable[Problem]) -> list[_Item]:
        """One item for all that fail for the same reason: an unreachable engine stops several sensors."""
        by_sentence: dict[str, list[str]] = defaultdict(list)
        for problem in problems:
            by_sentence[_sentence(self.details.problem(problem))].append(problem.where)
        return [
            _Item(len(where), partial(list, [f"- {sentence} ({', '.join(where)})"]))
            for sentence, where in by_sentence.items()
        ]

    def runs(self, news: News) -> list[_Item]:
        """The failed runs, the latest first."""
        items = [_Item(1, partial(self._run_lines, run_id)) for run_id in reversed(news.failed_runs)]
        return [*items, _Item(news.failed_runs_left_out, list)] if news.failed_runs_left_out else items

    def _run_lines(self, run_id: str) -> list[str]:
        return [f"- run {run_id[:8]}: {_sentence(self.details.failed_run(run_id))}", *self._links(run_id)]

    def _links(self, run_id: str = "", asset: str = "", partition: str = "") -> list[str]:
        links = []
        if self.ui_url and run_id:
            links.append(f"    run {self.ui_url}/runs/{run_id}")
        if self.ui_url and asset:
            url = f"{self.ui_url}/assets/{'/'.join(quote(part, safe='') for part in asset.split('/'))}"
            query = f"?partition={quote(partition, safe='')}&view=partitions"
            links.append(f"    partition {url}{query}" if partition else f"    asset {url}")
        return links


def _sentence(detail: Detail | None) -> str:
    return one_line(detail.sentence) if detail else "no reason was recorded"


def _recovered(problems: Iterable[Problem]) -> list[_Item]:
    of_automation = [problem for problem in problems if problem.of_automation]
    items = [
        _Item(len(group.problems), partial(list, [f"- {group.title}: {', '.join(group.checks)}"]))
        for group in grouped(problem for problem in problems if not problem.of_automation)
    ]
    for problem in of_automation:
        what = "reaches its engine again" if problem.kind is ProblemKind.ENGINE else "works again"
        items.append(_Item(1, partial(list, [f"- {problem.where} {what}"])))
    return items
