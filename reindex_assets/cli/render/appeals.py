"""What `appeals` prints: a table of customers, some places, the outcome, and all of it as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from reindex_assets.appeals.queries import TYPE_NAMES
from reindex_assets.appeals.report import Outcome, PurgeReport, customer_rows, example_rows
from reindex_assets.cli.render.tables import printable
from reindex_assets.cli.render.terminal import print_table


def print_purges(console: Console, reports: Sequence[PurgeReport]) -> None:
    """For each cluster a table of its customers, the first places of appeals, and the outcome."""
    for report in reports:
        rows = customer_rows(report)
        table = _table(f"Appeals, {report.cluster_name}", "customer")
        columns = {"scorecard_rows": "scorecard\nrows", "score_rows": "score\nrows"}
        if not report.dry_run:
            columns |= {
                "scorecards_deleted": "scorecards\ndeleted",
                "scores_deleted": "scores\ndeleted",
                "left": "left",
            }
        for head in ("in\nPostgres", "in\nClickHouse", *columns.values()):
            table.add_column(head, justify="right")
        for row in rows:
            sides = [sum(_by_type(row, side)) for side in _SIDES]
            numbers = [f"{number:,}" for number in (*sides, *(int(row[name]) for name in columns))]
            table.add_row(printable(str(row["customer"])), *numbers)
        print_table(console, table)
        if report.before.found.appeals:
            _print_places(console, rows)
        for place in example_rows(report.latest.examples)[:_SHOWN]:
            words = " ".join(f"{name} {value}" for name, value in place.items())
            console.print(printable(words, "dim"), soft_wrap=True)
        if len(report.latest.examples) > _SHOWN:
            console.print("and more (--json has up to 20 places)")
        style = "green" if report.outcome is Outcome.CLEAN else "red"
        console.print(printable(report.sentence, style), soft_wrap=True)


_SHOWN = 5


def _print_places(console: Console, rows: Sequence[Mapping[str, str | int]]) -> None:
    """Of which types the appeals are, and on which shards their rows, of all customers together."""
    types = _table("By type", "type")
    for head in ("in Postgres", "in ClickHouse"):
        types.add_column(head, justify="right")
    sides = [[sum(numbers) for numbers in zip(*(_by_type(row, side) for row in rows), strict=True)] for side in _SIDES]
    for name, *numbers in zip(TYPE_NAMES.values(), *sides, strict=True):
        types.add_row(name, *(f"{number:,}" for number in numbers))
    print_table(console, types)
    shards = [name for name in rows[0] if name.startswith("shard_")]
    held = {name.removeprefix("shard_"): sum(int(row[name]) for row in rows) for name in shards}
    words = ", ".join(f"{number:,} on shard {name}" for name, number in held.items() if number)
    console.print(f"Rows of appeals: {words}", soft_wrap=True, highlight=False)


_SIDES = ("postgres", "clickhouse")


def _by_type(row: Mapping[str, str | int], side: str) -> list[int]:
    return [int(row[f"{side}_{name}"]) for name in TYPE_NAMES.values()]


def _table(title: str, first: str) -> Table:
    table = Table(title=title)
    table.add_column(first)
    return table


def purge_json(report: PurgeReport) -> dict[str, object]:
    return {
        "cluster": report.cluster_name,
        "from": report.group.first_day,
        "to": report.group.days[-1],
        "dry_run": report.dry_run,
        "outcome": report.outcome.name.lower(),
        "verdict": report.sentence,
        "customers": customer_rows(report),
        "appeals_left": report.latest.found.appeals,
        "places": example_rows(report.latest.examples),
    }
