"""The output for people: tables and sentences on a terminal.

What lives here: what several commands share, and the output of `verify`, `reindex` and `repairs`. What does not: the commands, JSON
(cli/render/json.py), and the HTML report (cli/render/page.py).

Text from the data is never interpreted as markup, and its control characters are printed as escapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reindex_assets.cli.render.terminal import print_table
from reindex_assets.comparison.counts import PLURALS, TableRow
from reindex_assets.comparison.verification import DayReport, Depth, MissingDays, Verification
from reindex_assets.selection.days import range_text

if TYPE_CHECKING:
    from reindex_assets.drift.repair_policy import GivenUp
    from reindex_assets.reindex.run_report import RunReport

T = TypeVar("T")

#: Rows shown of a table; --json has them all.
_SHOWN = 60


def print_line(console: Console, text: str | Text) -> None:
    """Prints a sentence as one line, which the terminal may wrap. A `str` may hold markup."""
    console.print(text, soft_wrap=True, highlight=False)


def print_verification(console: Console, report: Verification) -> None:
    """What differs per customer and day, template and shard (the first rows if nothing differs), and the result in one sentence."""
    equal = "counts agree" if report.depth is Depth.COUNTS else "equal"
    days = _shown(report.days, report.different)
    table = _table(
        f"Postgres and ClickHouse, {report.kind} scorecards per customer and day", "customer", "day", right=_SIDES
    )
    table.add_column("verdict", overflow="fold")
    for day in days:
        table.add_row(day.slice.customer, day.slice.day.isoformat(), *_sides(day), _verdict(day, equal))
    print_table(console, table)
    _print_rest(console, len(report.different or report.days) - len(days))
    _print_templates(console, report)
    _print_shards(console, report.shards)
    for gap in report.gaps[:_SHOWN]:
        console.print(f"[yellow]gap:[/yellow] {missing_days_text(gap)}", highlight=False)
    _print_rest(console, len(report.gaps) - _SHOWN)
    if report.depth is Depth.ROWS:
        _print_rows(console, report)
    quarantined = [row for day in report.days for row in day.quarantined]
    if quarantined:
        first = quarantined[0]
        console.print(
            Text(f"Quarantined scorecards: {len(quarantined):,}", style="yellow")
            + printable(f", the first: {first.customer} {first.scorecard_id}: {first.reason}")
        )
    console.print(Text(report.sentence, style="red" if report.different else "green"))


def print_reports(console: Console, reports: Sequence[RunReport], *, dry_run: bool) -> None:
    """What each run did; the rows in ClickHouse before and after; then the errors and the red checks."""
    table = _table("Dry run: nothing was written" if dry_run else "Reindexed", "run", "what")
    table.columns[1].overflow = "fold"
    for column in ("read", "to write" if dry_run else "written", "to delete" if dry_run else "deleted", "seconds"):
        table.add_column(column, justify="right")
    for report in reports:
        rectangle, rows = report.rectangle, report.rows
        customers = ", ".join(rectangle.customers[:3]) + (" ..." if len(rectangle.customers) > 3 else "")
        days = range_text(rectangle.first_day, rectangle.last_day)
        table.add_row(
            report.run_id[:8],
            f"{rectangle.dataset}: {customers}\n{days}",
            *(f"{rows[name]:,}" for name in ("rows_read", "rows_written", "rows_deleted")),
            f"{report.seconds:.1f}",
        )
    print_table(console, table)
    if not dry_run:
        _print_before_and_after(console, reports)
    print_errors(console, reports)
    print_red_checks(console, reports)


def print_red_checks(console: Console, reports: Sequence[RunReport]) -> None:
    for report in reports:
        for line in report.red_checks[:_SHOWN]:
            console.print(printable(line, "red"), soft_wrap=True)
        _print_rest(console, len(report.red_checks) - _SHOWN)


def print_errors(console: Console, reports: Sequence[RunReport]) -> None:
    for report in reports:
        if report.error:
            print_line(console, Text(f"run {report.run_id[:8]} failed: ", style="red") + printable(report.error))


def print_given_up(console: Console, given_up: Sequence[GivenUp], *, again: bool) -> None:
    """The repairs that were given up, and what happens next."""
    if not given_up:
        console.print("[green]No repair is given up.[/green]")
        return
    table = _table("Repairs given up", "cluster", "kind", "customer", "day", "differs", "since", right=("failed",))
    for partition in given_up[:_SHOWN]:
        repair = partition.repair
        since = datetime.fromtimestamp(repair.given_up_at or 0.0, UTC)
        table.add_row(
            partition.dataset.cluster_name,
            partition.dataset.kind.name,
            printable(repair.customer),
            repair.day.isoformat(),
            printable(repair.differs),
            f"{since:%Y-%m-%d %H:%M} UTC",
            str(repair.failed),
        )
    print_table(console, table)
    _print_rest(console, len(given_up) - _SHOWN)
    console.print(
        "The repair sensor tries them again at its next tick, if it is on."
        if again
        else "Correct the cause, which the last failed run of each names. Then ask for another try: reindex-assets repairs --again. "
        "Rows with a version ahead of the clock have no failed run: see docs/repair.md"
    )


def delta_words(before: int, after: int) -> str:
    """A change in rows, and in percent unless there were none before.

    >>> delta_words(1_538_150, 1_634_498), delta_words(0, 7), delta_words(5, 5), delta_words(90_000, 89_999)
    ('+96,348 (+6.3%)', '+7', '0', '-1 (under 0.1%)')
    """
    delta = after - before
    if not delta:
        return "0"
    if not before:
        return f"{delta:+,}"
    share = f"{delta / before:+.1%}"
    return f"{delta:+,} ({'under 0.1%' if share in ('+0.0%', '-0.0%') else share})"


def missing_days_text(gap: MissingDays) -> str:
    days = range_text(gap.first_day, gap.last_day) + (f" ({gap.days} days)" if gap.days > 1 else "")
    return f"{gap.customer} {days}: no row in {'either engine' if gap.missing_in == 'both' else gap.missing_in}"


def printable(value: str, style: str = "") -> Text:
    """Text from the data, without markup and with its control characters as escapes.

    >>> printable("a[red]b" + chr(27) + "[2J").plain
    'a[red]b\\\\x1b[2J'
    """
    return Text("".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in value), style=style)


_SIDES = ("scorecards\nPG | CH", "scores\nPG | CH")


def _table(title: str, *left: str, right: Sequence[str] = ()) -> Table:
    table = Table(title=title)
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _shown(everything: Sequence[T], different: Sequence[T]) -> Sequence[T]:
    return (different or everything)[:_SHOWN]


def _print_rest(console: Console, rest: int) -> None:
    if rest > 0:
        console.print(f"and {rest:,} more (--json has them all)")


def _sides(day: DayReport) -> list[str]:
    return [f"{day.rows[name][0]:,} | {day.rows[name][1]:,}" for name in PLURALS]


def _verdict(day: DayReport, equal: str) -> Text:
    if day.difference is not None:
        return printable(day.difference, "red")
    if not any(sum(sides) for sides in day.rows.values()):
        return Text("no rows", style="dim")
    return Text(equal, style="green") + Text(f" ({day.remark})" if day.remark else "", style="dim")


def _print_templates(console: Console, report: Verification) -> None:
    different = [row for row in report.templates if row["days_differ"]]
    shown = _shown(report.templates, different)
    if not shown:
        return
    numbers = [f"{plural}\nPG | CH | diff" for plural in PLURALS.values()]
    table = _table("Per template, all days together", "customer", "template", right=[*numbers, "days that\ndiffer"])
    table.columns[1].overflow = "fold"
    for row in shown:
        table.add_row(
            str(row["customer"]),
            _template(row),
            *(
                f"{row[f'{plural}_postgres']:,} | {row[f'{plural}_clickhouse']:,} | {_signed(row[f'{plural}_difference'])}"
                for plural in PLURALS.values()
            ),
            str(row["days_differ"]),
            style="red" if row["days_differ"] else "",
        )
    print_table(console, table)
    _print_rest(console, len(different or report.templates) - len(shown))
    for row in shown:
        if row["days_differ"] and row["title"]:
            print_line(console, printable(f"{row['customer']}, {row['title']}: {row['template_id']}", "dim"))
    for cluster in report.clusters:
        if cluster.counts.titles_error:
            print_line(console, Text("titles of templates: ", "dim") + printable(cluster.counts.titles_error))


def _template(row: TableRow) -> Text:
    """The template's title, or its id if it has none."""
    return printable(str(row["title"])) if row["title"] else Text(str(row["template_id"]), style="dim")


def _print_shards(console: Console, shards: Sequence[TableRow]) -> None:
    numbers = [f"{plural}\nexpected | there | wrong" for plural in PLURALS.values()]
    table = _table("Per shard", "cluster", "shard", right=numbers)
    for row in shards:
        cells = [
            f"{row[f'{plural}_expected']:,} | {row[f'{plural}_clickhouse']:,} | {row[f'{plural}_wrong_shard']:,}"
            for plural in PLURALS.values()
        ]
        wrong = any(
            row[f"{plural}_wrong_shard"] or row[f"{plural}_expected"] != row[f"{plural}_clickhouse"]
            for plural in PLURALS.values()
        )
        table.add_row(str(row["cluster"]), str(row["shard"]), *cells, style="red" if wrong else "")
    print_table(console, table)


def _print_rows(console: Console, report: Verification) -> None:
    """Some of the rows that differ, and their exact number."""
    total = sum(day.differing_rows for day in report.days)
    samples = [(day, sample) for day in report.days for sample in day.samples]
    if not total:
        return
    table = _table("Rows that differ", "customer, day", "table", "difference", "profile", "ids", "shard")
    table.add_column("what", overflow="fold")
    table.columns[4].overflow = "fold"
    for day, sample in samples[:_SHOWN]:
        table.add_row(
            f"{day.slice.customer}\n{day.slice.day}",
            sample.table,
            sample.difference.value,
            printable(sample.profile),
            sample.scorecard_id + (f"\nscore {sample.score_id}" if sample.score_id else ""),
            str(sample.shard),
            printable(sample.what),
        )
    print_table(console, table)
    console.print(
        f"{total:,} rows differ, of which {len(samples[:_SHOWN]):,} are shown (at most {report.samples:,} per customer-day, table and "
        f"kind of difference, and {_SHOWN} in all; --json and --html have {len(samples):,})",
        highlight=False,
    )


def _signed(value: str | int) -> str:
    return f"{value:+,}" if value else "0"


def _print_before_and_after(console: Console, reports: Sequence[RunReport]) -> None:
    """The rows in ClickHouse of the customers and days of all runs."""
    befores = [report.before for report in reports if report.before is not None]
    afters = [report.after for report in reports if report.after is not None]
    if len(befores) < len(reports) or len(afters) < len(reports):
        console.print("[yellow]The rows before and after were not counted: a shard did not answer.[/yellow]")
        return
    table = _table("ClickHouse, over these customers and days", "metric", right=("before", "after", "delta"))
    for name, plural in PLURALS.items():
        before, after = (sum(counts[name] for counts in side) for side in (befores, afters))
        table.add_row(plural, f"{before:,}", f"{after:,}", delta_words(before, after))
    print_table(console, table)
