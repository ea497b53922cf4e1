"""The words of an alert: one message for all that is new, grouped, with what differs, where to look and what to do.

What lives here: title, body and their caps. What does not: what is told and when (alerts/problems.py), and the look-up of details
(defs/automation/alert_sensor.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from urllib.parse import quote

from reindex_assets.alerts.problems import News, Problem, ProblemKind, Severity, Standing
from reindex_assets.model import APPEALS_CHECK, Slice
from reindex_assets.selection.days import day_ranges, range_text

#: Lines of details in one message, shared by the groups it has.
MOST_LINES = 30
#: Ranges of days in one line.
_MOST_RANGES = 8
_MOST_CHARACTERS = 400

_HEADINGS = {
    ProblemKind.ENGINE: "ENGINE OUT OF REACH",
    ProblemKind.GIVEN_UP: "REPAIR GIVEN UP",
    ProblemKind.CHECK: "RED CHECKS",
    ProblemKind.RUN: "FAILED RUNS",
    ProblemKind.AUTOMATION: "FAILING SENSORS AND SCHEDULES",
}
_REMEDIES = {
    ProblemKind.ENGINE: (
        "Nothing is known about the data meanwhile, and nothing is repaired. Bring the engine back, or correct its address in the "
        "fleet file; the rest happens by itself."
    ),
    ProblemKind.GIVEN_UP: (
        "The automatic repair has stopped trying. Open the last run of the partition, correct the cause, then materialize the "
        "partition again."
    ),
    ProblemKind.CHECK: (
        "The automatic repair has not made it green. Materialize these partitions again; what stays red is written wrongly by "
        "something else, and quarantined rows are to be corrected in Postgres."
    ),
    ProblemKind.RUN: (
        "Open the run and correct what it names, then materialize its partitions again: 'failed and missing' in the backfill "
        "dialog picks them."
    ),
    ProblemKind.AUTOMATION: (
        "It does not do its work until this is corrected. Its page under Automation in the UI has the whole error."
    ),
}

#: What else helps against some of the red checks.
_OF_CHECKS = {
    APPEALS_CHECK: (
        "Appeals of all customers and days at once are removed by the job purge_appeals_<cluster>, or by 'reindex-assets appeals --purge'."
    ),
}


@dataclass(frozen=True)
class Detail:
    """What is known about a problem or a failed run beyond its name."""

    sentence: str
    run_id: str = ""


@dataclass(frozen=True)
class Message:
    """A message as it is sent. `worst` is None when all it tells is good."""

    title: str
    body: str
    worst: Severity | None


@dataclass(frozen=True)
class Look:
    """How details are looked up, only for what is shown: `None` when nothing is known."""

    problem: Callable[[Problem], Detail | None]
    failed_run: Callable[[str], Detail | None]


@dataclass(frozen=True)
class _Item:
    """A few lines on some problems. The lines are made, and their details looked up, only if they are shown."""

    problems: int
    lines: Callable[[], list[str]]


def compose(
    news: News, open_problems: Mapping[Problem, Standing], look: Look, ui_url: str = "", incomplete: bool = False
) -> Message:
    """The message that tells `news`.

    Args:
        incomplete: more is red than is followed, and so nothing is told of the rest.
    """
    links = _Links(ui_url.rstrip("/"))
    told = (*news.first, *news.again)
    groups: list[tuple[str, list[_Item], str]] = []
    for kind in ProblemKind:
        if kind is ProblemKind.RUN:
            items = _run_items(news, look, links)
        else:
            items = _items([problem for problem in told if problem.kind is kind], open_problems, look, links)
        checks = {problem.check for problem in told if problem.kind is kind}
        remedies = [_REMEDIES[kind], *(text for check, text in _OF_CHECKS.items() if check in checks)]
        groups.append((_HEADINGS[kind], items, f"What to do: {' '.join(remedies)}"))
    groups.append(("GREEN AGAIN", _recovered_items(news.recovered), ""))
    groups = [group for group in groups if group[1]]
    lines_each = MOST_LINES // max(1, len(groups))
    blocks = [_block(*group, lines_each) for group in groups]
    if incomplete:
        blocks.append("More checks are red than are followed one by one: the others are told when fewer are open.")
    if links.base:
        blocks.append(f"All of it: {links.base}")
    worst: Severity | None = None
    if news.problems:
        only_checks = not news.failed_runs and not news.failed_runs_left_out
        warnings = only_checks and all(open_problems[problem].severity is Severity.WARNING for problem in told)
        worst = Severity.WARNING if warnings else Severity.ERROR
    return Message(f"reindex_assets: {summary(news)}", "\n\n".join(blocks), worst)


def summary(news: News) -> str:
    """The counts.

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


def plural(count: int, noun: str, nouns: str = "") -> str:
    """
    >>> plural(1, "recovery", "recoveries"), plural(2, "problem")
    ('1 recovery', '2 problems')
    """
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"


def days_text(days: Iterable[date]) -> str:
    """Days as a reader wants them.

    >>> days_text([date(2026, 1, 2), date(2026, 1, 3), date(2026, 1, 9)])
    '2026-01-02 to 2026-01-03, 2026-01-09'
    """
    ranges = day_ranges(days)
    shown = [range_text(*days_of) for days_of in ranges[:_MOST_RANGES]]
    hidden = sum((b - a).days + 1 for a, b in ranges[_MOST_RANGES:])
    return ", ".join(shown) + (f" and {plural(hidden, 'more day')}" if hidden else "")


@dataclass(frozen=True)
class _Links:
    base: str

    def lines(self, run_id: str = "", asset: str = "", partition: str = "") -> list[str]:
        links = []
        if self.base and run_id:
            links.append(f"run {self.base}/runs/{run_id}")
        if self.base and asset:
            path = "/".join(quote(part, safe="") for part in asset.split("/"))
            query = f"?partition={quote(partition, safe='')}&view=partitions" if partition else ""
            links.append(f"partition {self.base}/assets/{path}{query}" if query else f"asset {self.base}/assets/{path}")
        return [f"    {link}" for link in links]


def one_line(text: str) -> str:
    """Text of others as one line of bounded length."""
    line = "; ".join(part.strip().rstrip(";") for part in text.splitlines() if part.strip())
    return line if len(line) <= _MOST_CHARACTERS else line[: _MOST_CHARACTERS - 3] + "..."


def _block(heading: str, items: list[_Item], remedy: str, most_lines: int) -> str:
    """A group: as many whole items as fit, what is left out, and what to do. The first item always stands."""
    lines: list[str] = []
    shown = 0
    for item in items:
        made = item.lines()
        if not made or (shown and len(lines) + len(made) > most_lines):
            break
        lines += made
        shown += 1
        if len(lines) >= most_lines:
            break
    hidden = sum(item.problems for item in items[shown:])
    more = [f"- and {hidden} more, left out here"] if hidden else []
    return "\n".join([heading, *lines, *more, *([remedy] if remedy else [])])


def _items(
    problems: list[Problem], open_problems: Mapping[Problem, Standing], look: Look, links: _Links
) -> list[_Item]:
    if problems and problems[0].of_automation:
        return _automation_items(problems, look)
    return [
        _Item(len(group.problems), partial(_group_lines, group, open_problems, look, links))
        for group in _grouped(problems)
    ]


def _automation_items(problems: list[Problem], look: Look) -> list[_Item]:
    """Sensors that fail for the same reason stand together: an engine out of reach stops several."""
    by_sentence: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        detail = look.problem(problem)
        by_sentence[one_line(detail.sentence) if detail else "no reason was recorded"].append(problem.where)
    lines = {f"- {sentence} ({', '.join(where)})": len(where) for sentence, where in by_sentence.items()}
    return [_Item(count, partial(list, [line])) for line, count in lines.items()]


@dataclass(frozen=True)
class _Group:
    """The days of a customer on which the same checks of an asset are concerned.

    Attributes:
        customer: the whole partition key where it is not of a customer's day; then `slices` is empty.
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


def _grouped(problems: Iterable[Problem]) -> list[_Group]:
    of_partition: dict[tuple[str, str], list[Problem]] = defaultdict(list)
    for problem in problems:
        of_partition[problem.where, problem.partition].append(problem)
    groups: dict[tuple[str, str, tuple[str, ...]], list[tuple[Slice | None, list[Problem]]]] = defaultdict(list)
    for (asset, partition), together in of_partition.items():
        try:
            found: Slice | None = Slice.of(partition)
        except ValueError:
            found = None
        checks = tuple(sorted(problem.check for problem in together))
        groups[asset, found.customer if found else partition, checks].append((found, together))
    return [
        _Group(
            *key,
            slices=tuple(sorted(found for found, _ in parts if found)),
            problems=tuple(problem for _, together in parts for problem in together),
        )
        for key, parts in sorted(groups.items())
    ]


def _group_lines(group: _Group, open_problems: Mapping[Problem, Standing], look: Look, links: _Links) -> list[str]:
    """What is red, what differs on the latest of its days, and where to look at that."""
    latest = group.slices[-1] if group.slices else None
    partition = latest.partition_key if latest else group.customer
    shown = sorted(problem for problem in group.problems if problem.partition == partition)
    checks = [
        f"{problem.check} (warning)" if open_problems[problem].severity is Severity.WARNING else problem.check
        for problem in shown
    ]
    since = datetime.fromtimestamp(min(open_problems[problem].since for problem in group.problems), UTC)
    count = f" ({len(group.slices)} days)" if len(group.slices) > 1 else ""
    details = [detail for problem in shown if (detail := look.problem(problem))]
    # The sentences of checks begin with the slice, which stands before them already.
    what = "; ".join(detail.sentence.removeprefix(f"{latest}: ").rstrip(".") for detail in details)
    day = f"{latest.day}: " if latest else ""
    return [
        f"- {group.title}{count}: {', '.join(checks)}, since {since:%Y-%m-%d}",
        *([f"    {day}{one_line(what)}"] if what else []),
        *links.lines(next((detail.run_id for detail in details if detail.run_id), ""), group.asset, partition),
    ]


def _run_items(news: News, look: Look, links: _Links) -> list[_Item]:
    """The latest first."""
    items = [_Item(1, partial(_run_lines, run_id, look, links)) for run_id in reversed(news.failed_runs)]
    return [*items, _Item(news.failed_runs_left_out, list)] if news.failed_runs_left_out else items


def _run_lines(run_id: str, look: Look, links: _Links) -> list[str]:
    detail = look.failed_run(run_id)
    return [
        f"- run {run_id[:8]}: {one_line(detail.sentence) if detail else 'no reason was recorded'}",
        *links.lines(run_id),
    ]


def _recovered_items(problems: Iterable[Problem]) -> list[_Item]:
    of_automation = [problem for problem in problems if problem.of_automation]
    items = [
        _Item(len(group.problems), partial(list, [f"- {group.title}: {', '.join(group.checks)}"]))
        for group in _grouped(problem for problem in problems if not problem.of_automation)
    ]
    for problem in of_automation:
        what = "reaches its engine again" if problem.kind is ProblemKind.ENGINE else "works again"
        items.append(_Item(1, partial(list, [f"- {problem.where} {what}"])))
    return items
