"""What `backfill` and `status` print: the plan of a backfill, and how far it is.

What lives here: tables and sentences, and the same as JSON. What does not: the commands (cli/backfill.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from reindex_assets.backfill.forecast import Limits, PlannedRun, Speed, duration_words, expected_seconds
from reindex_assets.backfill.plan import BackfillPlan, Window
from reindex_assets.backfill.row_estimates import RowEstimate
from reindex_assets.cli.render.tables import printable
from reindex_assets.cli.render.terminal import print_table
from reindex_assets.config.dataset import Dataset
from reindex_assets.selection.days import range_text

if TYPE_CHECKING:
    from reindex_assets.defs.runs.backfill_status import BackfillStatus, CustomerStatus

#: The most customers in a table. A fleet has about a hundred.
_SHOWN = 200


@dataclass(frozen=True)
class Forecast:
    """How many rows and how much time a plan takes, as far as that is known.

    Attributes:
        rows: by dataset, estimated by its Postgres.
        speed: from past runs of this instance; None when there were none.
    """

    rows: Mapping[Dataset, RowEstimate]
    speed: Speed | None
    limits: Limits

    def counted(self, windows: Sequence[Window]) -> tuple[int, int] | None:
        """About how many scorecards and scores some windows have; None when a Postgres could not be asked."""
        scorecards = scores = 0
        for window in windows:
            rows = self.rows[window.dataset].rows(window.slices)
            if rows is None:
                return None
            scorecards, scores = scorecards + rows[0], scores + rows[1]
        return scorecards, scores

    def runs(self, windows: Sequence[Window]) -> list[PlannedRun]:
        """The runs of some windows, with their times. A window whose rows are unknown counts as empty."""
        assert self.speed is not None
        return [
            PlannedRun(
                window.dataset.cluster_name,
                window.customer,
                self.speed.seconds(len(window.days), sum(self.counted([window]) or (0, 0))),
            )
            for window in windows
        ]

    @property
    def unknown(self) -> list[str]:
        """The clusters whose Postgres could not be asked, with the reason."""
        errors = {dataset.cluster_name: rows.error for dataset, rows in self.rows.items() if rows.error is not None}
        return [f"{name}: {error}" for name, error in errors.items()]


def print_plan(console: Console, plan: BackfillPlan, forecast: Forecast) -> None:
    """What is done already, what is left per customer and in all, and how long it may take."""
    console.print(
        f"Backfill [bold]{plan.name}[/bold]: {range_text(plan.first_day, plan.last_day)} in windows of {plan.window_days} days",
        highlight=False,
    )
    if plan.last_begun is not None:
        console.print(
            f"It was first launched on {_time(plan.last_begun)}. Of these customer-days, {plan.done:,} have been done since, "
            f"{plan.under_way:,} are under way, and {plan.slices:,} are left.",
            highlight=False,
        )
    by_dataset: dict[Dataset, dict[str, list[Window]]] = defaultdict(lambda: defaultdict(list))
    for window in plan.windows:
        by_dataset[window.dataset][window.customer].append(window)
    customers = sum(map(len, by_dataset.values()))
    shown = 0
    for dataset, of_customer in sorted(by_dataset.items(), key=lambda entry: str(entry[0])):
        table = _table(
            f"To do, {dataset}", "windows", "days", "scorecards\nabout", "scores\nabout", "if run alone\nabout"
        )
        for customer, windows in sorted(of_customer.items())[: _SHOWN - shown]:
            shown += 1
            table.add_row(printable(customer), *_cells(windows, forecast))
        if len(of_customer) > 1:
            table.add_section()
            table.add_row(
                "total", *_cells([window for windows in of_customer.values() for window in windows], forecast)
            )
        print_table(console, table)
        if shown >= _SHOWN:
            break
    if customers > shown:
        console.print(f"and {customers - shown:,} more customers (--json has them all)")
    if len(by_dataset) > 1:
        names = ("windows", "days", "scorecards", "scores")
        numbers = zip(_cells(plan.windows, forecast), names, strict=False)
        console.print(f"In all {', '.join(f'{number} {name}' for number, name in numbers)}.", highlight=False)
    for line in forecast.unknown:
        console.print(Text("no estimate of rows for ", "yellow") + printable(line), soft_wrap=True)
    if plan.windows:
        console.print(_expected(plan.windows, forecast), highlight=False)


def _cells(windows: Sequence[Window], forecast: Forecast) -> list[str]:
    counted = forecast.counted(windows)
    rows = [f"{number:,}" for number in counted] if counted is not None else ["?", "?"]
    seconds = sum(run.seconds for run in forecast.runs(windows)) if forecast.speed is not None else None
    return [
        f"{len(windows):,}",
        f"{sum(len(window.days) for window in windows):,}",
        *rows,
        duration_words(seconds) if seconds is not None and counted is not None else "?",
    ]


def _expected(windows: Sequence[Window], forecast: Forecast) -> str:
    if forecast.speed is None:
        return "Expected duration: unknown, because this instance has no past runs to judge by."
    seconds = expected_seconds(forecast.runs(windows), forecast.limits)
    at_least = "at least" if forecast.unknown else "about"
    runs = "the last run" if forecast.speed.runs == 1 else f"the last {forecast.speed.runs} runs"
    return (
        f"Expected duration: {at_least} {duration_words(seconds)}, judging by {runs} and the limits in dagster.yaml, if nothing else "
        "runs. Partitions that are unchanged since they were proved equal take less."
    )


def plan_json(plan: BackfillPlan, forecast: Forecast) -> dict[str, object]:
    seconds = expected_seconds(forecast.runs(plan.windows), forecast.limits) if forecast.speed is not None else None
    windows = []
    for window in plan.windows:
        counted = forecast.counted([window])
        windows.append(
            {
                "cluster": window.dataset.cluster_name,
                "kind": window.dataset.kind.name,
                "customer": window.customer,
                "from": window.first_day,
                "to": window.last_day,
                "days": window.days,
                "scorecards": counted[0] if counted else None,
                "scores": counted[1] if counted else None,
            }
        )
    return {
        "name": plan.name,
        "from": plan.first_day,
        "to": plan.last_day,
        "window_days": plan.window_days,
        "first_launched": _time(plan.last_begun) if plan.last_begun is not None else None,
        "customer_days": {"left": plan.slices, "done": plan.done, "under_way": plan.under_way},
        "expected_seconds": _rounded(seconds),
        "without_estimate": forecast.unknown,
        "windows": windows,
    }


_STATES = ("done", "running", "failed", "left")


def status_tables(status: BackfillStatus) -> RenderableType:
    """How far each customer is, a table for each cluster and kind, the total, and what to do next."""
    by_dataset: dict[tuple[str, str], list[CustomerStatus]] = defaultdict(list)
    for customer in status.customers[:_SHOWN]:
        by_dataset[customer.cluster_name, customer.kind_name].append(customer)
    tables = []
    for (cluster, kind), customers in by_dataset.items():
        names = ("windows\ndone", "running", "failed", "days\ndone", "rows", "rows/s", "time left")
        table = _table(f"{cluster}, {kind}", *names)
        for customer in customers:
            table.add_row(
                printable(customer.customer),
                *_window_cells(customer.windows),
                f"{customer.slices_done:,}/{customer.slices:,}",
                f"{customer.rows:,}",
                _rate(customer.rows_per_second),
                _left(customer.seconds_left),
            )
        tables.append(table)
    rest = len(status.customers) - _SHOWN
    more = f"and {rest:,} more customers (--json has them all)\n" if rest > 0 else ""
    head = f"Backfill {status.name}, launched on {_time(status.begun)}"
    return Group(Text(head, style="bold"), *tables, Text(f"{more}{status_line(status)}\n{_sentence(status)}"))


def status_line(status: BackfillStatus) -> str:
    """How far everything is, in one line."""
    windows = {state: status.windows.get(state, 0) for state in _STATES}
    done, days = (sum(getattr(customer, name) for customer in status.customers) for name in ("slices_done", "slices"))
    rows, written = (sum(getattr(customer, name) for customer in status.customers) for name in ("rows", "written"))
    counts = ", ".join(f"{number:,} {state}" for state, number in windows.items())
    left = "" if status.ended else f"; time left: {_left(status.seconds_left) or 'none'}"
    return f"Windows: {counts}; days done: {done:,}/{days:,}; {rows:,} rows read, {written:,} written{left}"


def _table(title: str, *numbers: str) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    table.add_column("customer")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _window_cells(windows: Mapping[str, int]) -> list[str | Text]:
    done, running, failed = (windows.get(state, 0) for state in ("done", "running", "failed"))
    return [
        f"{done:,}/{sum(windows.values()):,}",
        f"{running:,}",
        Text(f"{failed:,}", style="red" if failed else ""),
    ]


def _rate(rows_per_second: float | None) -> str:
    return f"{rows_per_second:,.0f}" if rows_per_second else ""


def _left(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return duration_words(seconds) if seconds else ""


def _sentence(status: BackfillStatus) -> str:
    failed = status.windows.get("failed", 0)
    if failed:
        return (
            f"{failed:,} windows have days that failed or were cancelled. Their runs, or the page Backfills, show why. "
            "Correct the cause, then launch the backfill again: it does what is left."
        )
    if status.ended:
        return f"Done, in {duration_words(status.elapsed_seconds)}."
    return f"Under way for {duration_words(status.elapsed_seconds)}."


def status_json(status: BackfillStatus) -> dict[str, object]:
    return {
        "name": status.name,
        "first_launched": _time(status.begun),
        "ended": status.ended,
        "elapsed_seconds": round(status.elapsed_seconds, 1),
        "seconds_left": _rounded(status.seconds_left),
        "windows": {state: status.windows.get(state, 0) for state in _STATES},
        "customers": [_customer_json(customer) for customer in status.customers],
    }


def _customer_json(status: CustomerStatus) -> dict[str, object]:
    return {
        "cluster": status.cluster_name,
        "kind": status.kind_name,
        "customer": status.customer,
        "windows": {state: status.windows.get(state, 0) for state in _STATES},
        "days": status.slices,
        "days_done": status.slices_done,
        "rows": status.rows,
        "rows_written": status.written,
        "rows_deleted": status.deleted,
        "busy_seconds": round(status.busy_seconds, 1),
        "rows_per_second": _rounded(status.rows_per_second),
        "seconds_left": _rounded(status.seconds_left),
    }


def _rounded(value: float | None) -> float | None:
    return round(value, 1) if value is not None and value != float("inf") else None


def _time(epoch_seconds: float) -> str:
    return f"{datetime.fromtimestamp(epoch_seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
