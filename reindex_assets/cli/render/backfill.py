"""What the commands about backfills print for people: the plan, and how far it is.

What lives here: their tables and sentences, and the same as JSON. What does not: the commands (cli/backfill.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from reindex_assets.backfill.forecast import Limits, Speed, Work, duration_words, expected_seconds
from reindex_assets.backfill.plan import BackfillPlan, Window
from reindex_assets.backfill.row_estimates import RowEstimate
from reindex_assets.cli.render.tables import printable
from reindex_assets.config.dataset import Dataset
from reindex_assets.selection.days import range_text

if TYPE_CHECKING:
    from reindex_assets.defs.runs.backfill_status import BackfillStatus, CustomerStatus

#: Customers that a table names one by one; a fleet has about a hundred.
_SHOWN = 200


@dataclass(frozen=True)
class Forecast:
    """What a plan is going to cost, as far as it is known.

    Attributes:
        rows: of each dataset, what its Postgres said.
        speed: what past runs of this instance cost; None when there was none.
    """

    rows: Mapping[Dataset, RowEstimate]
    speed: Speed | None
    limits: Limits

    def counted(self, windows: Sequence[Window]) -> tuple[int, int] | None:
        """About so many scorecards and scores of windows; None when a Postgres didn't say."""
        if not windows:
            return 0, 0
        found = [self.rows[window.dataset].rows(window.slices) for window in windows]
        known = [one for one in found if one is not None]
        return (sum(one[0] for one in known), sum(one[1] for one in known)) if len(known) == len(found) else None

    def work(self, windows: Sequence[Window]) -> list[Work]:
        """The runs for windows, with their times; where Postgres didn't say how many rows, as if there were none."""
        assert self.speed is not None
        return [
            Work(
                window.dataset.cluster_name,
                window.customer,
                self.speed.seconds(len(window.days), sum(self.counted([window]) or (0, 0))),
            )
            for window in windows
        ]

    @property
    def unknown(self) -> list[str]:
        """The clusters whose Postgres didn't say, with the reason."""
        of_clusters = {one.cluster_name: rows.error for one, rows in self.rows.items() if rows.error is not None}
        return [f"{name}: {error}" for name, error in of_clusters.items()]


def print_plan(console: Console, plan: BackfillPlan, forecast: Forecast) -> None:
    """The plan per customer, its sum, how long it may take, and what of it is done already."""
    console.print(
        f"Backfill [bold]{plan.name}[/bold]: {range_text(plan.first_day, plan.last_day)} in windows of {plan.window_days} days",
        highlight=False,
    )
    if plan.last_begun is not None:
        console.print(
            f"It was launched on {_time(plan.last_begun)}: of these customers and days {plan.done:,} are done since "
            f"and {plan.under_way:,} are under way; what follows is left.",
            highlight=False,
        )
    by_customer: dict[tuple[str, str, str], list[Window]] = {}
    for window in plan.windows:
        by_customer.setdefault((window.dataset.cluster_name, window.dataset.kind.name, window.customer), []).append(
            window
        )
    if by_customer:
        table = Table(title="To do, per customer")
        for name in ("cluster", "kind", "customer"):
            table.add_column(name, overflow="fold")
        for name in ("windows", "days", "scorecards\nabout", "scores\nabout", "by itself\nabout"):
            table.add_column(name, justify="right")
        for (cluster_name, kind_name, customer), windows in sorted(by_customer.items())[:_SHOWN]:
            table.add_row(cluster_name, kind_name, customer, *_cells(windows, forecast))
        table.add_section()
        table.add_row("total", "", "", *_cells(plan.windows, forecast))
        console.print(table)
        if len(by_customer) > _SHOWN:
            console.print(f"and {len(by_customer) - _SHOWN:,} more customers (--json has them all)")
    for line in forecast.unknown:
        console.print(Text("no estimate of rows for ", "yellow") + printable(line), soft_wrap=True)
    if plan.windows:
        console.print(_expected(plan.windows, forecast), highlight=False)


def _cells(windows: Sequence[Window], forecast: Forecast) -> list[str]:
    counted = forecast.counted(windows)
    rows = [f"{number:,}" for number in counted] if counted is not None else ["?", "?"]
    seconds = sum(one.seconds for one in forecast.work(windows)) if forecast.speed is not None else None
    return [
        f"{len(windows):,}",
        f"{sum(len(window.days) for window in windows):,}",
        *rows,
        duration_words(seconds) if seconds is not None and counted is not None else "?",
    ]


def _expected(windows: Sequence[Window], forecast: Forecast) -> str:
    if forecast.speed is None:
        return "Expected duration: unknown, as no past run of this instance says how fast it is."
    seconds = expected_seconds(forecast.work(windows), forecast.limits)
    at_least = "at least " if forecast.unknown else "about "
    runs = "the last run" if forecast.speed.runs == 1 else f"the last {forecast.speed.runs} runs"
    return (
        f"Expected duration: {at_least}{duration_words(seconds)}, as {runs} went and with the limits of dagster.yaml, if nothing "
        "else runs. What nothing has touched since it was proved equal takes less."
    )


def plan_json(plan: BackfillPlan, forecast: Forecast) -> dict[str, object]:
    """The plan as an object."""
    seconds = expected_seconds(forecast.work(plan.windows), forecast.limits) if forecast.speed is not None else None
    windows = []
    for window in plan.windows:
        counted = forecast.counted([window])
        windows.append(
            {
                "cluster": window.dataset.cluster_name,
                "kind": window.dataset.kind.name,
                "customer": window.customer,
                "from": window.first_day.isoformat(),
                "to": window.last_day.isoformat(),
                "days": [day.isoformat() for day in window.days],
                "scorecards": counted[0] if counted else None,
                "scores": counted[1] if counted else None,
            }
        )
    return {
        "name": plan.name,
        "from": plan.first_day.isoformat(),
        "to": plan.last_day.isoformat(),
        "window_days": plan.window_days,
        "first_launched": _time(plan.last_begun) if plan.last_begun is not None else None,
        "customer_days": {"left": plan.slices, "done": plan.done, "under_way": plan.under_way},
        "expected_seconds": round(seconds, 1) if seconds is not None and seconds != float("inf") else None,
        "without_estimate": forecast.unknown,
        "windows": windows,
    }


_STATES = ("done", "running", "failed", "left")


def status_table(status: BackfillStatus) -> RenderableType:
    """How far each customer is, the total, and what comes next."""
    table = Table(title=f"Backfill {status.name}, launched on {_time(status.begun)}")
    for name in ("cluster", "kind", "customer"):
        table.add_column(name, overflow="fold")
    for name in ("windows\ndone", "running", "failed", "left", "days\ndone", "rows", "written", "rows/s", "time left"):
        table.add_column(name, justify="right")
    for one in status.customers[:_SHOWN]:
        table.add_row(
            one.cluster_name,
            one.kind_name,
            printable(one.customer),
            *_window_cells(one.windows),
            f"{one.slices_done:,} of {one.slices:,}",
            f"{one.rows:,}",
            f"{one.written:,}",
            _rate(one.rows_per_second),
            _left(one.seconds_left),
        )
    table.add_section()
    rows = sum(one.rows for one in status.customers)
    table.add_row(
        "total",
        "",
        f"{len({one.customer for one in status.customers}):,}",
        *_window_cells(status.windows),
        f"{sum(one.slices_done for one in status.customers):,} of {sum(one.slices for one in status.customers):,}",
        f"{rows:,}",
        f"{sum(one.written for one in status.customers):,}",
        _rate(rows / status.elapsed_seconds if status.elapsed_seconds > 0 else None),
        _left(status.seconds_left),
    )
    rest = len(status.customers) - _SHOWN
    more = f"and {rest:,} more customers (--json has them all)\n" if rest > 0 else ""
    return Group(table, Text(more + _sentence(status)))


def _window_cells(windows: Mapping[str, int]) -> list[str | Text]:
    return [
        Text(f"{windows.get(state, 0):,}", style="red" if state == "failed" and windows.get(state) else "")
        for state in _STATES
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
        some = (
            f"{failed:,} windows have days that failed or were cancelled: their runs, or the page Backfills, say why. "
        )
        return some + "Correct that, then launch the backfill again: it does what is left."
    if status.ended:
        return f"Done, in {duration_words(status.elapsed_seconds)}."
    return f"Under way for {duration_words(status.elapsed_seconds)}."


def status_json(status: BackfillStatus) -> dict[str, object]:
    """The status as an object."""
    return {
        "name": status.name,
        "first_launched": _time(status.begun),
        "ended": status.ended,
        "elapsed_seconds": round(status.elapsed_seconds, 1),
        "seconds_left": _rounded(status.seconds_left),
        "windows": {state: status.windows.get(state, 0) for state in _STATES},
        "customers": [_customer_json(one) for one in status.customers],
    }


def _customer_json(one: CustomerStatus) -> dict[str, object]:
    return {
        "cluster": one.cluster_name,
        "kind": one.kind_name,
        "customer": one.customer,
        "windows": {state: one.windows.get(state, 0) for state in _STATES},
        "days": one.slices,
        "days_done": one.slices_done,
        "rows": one.rows,
        "rows_written": one.written,
        "rows_deleted": one.deleted,
        "busy_seconds": round(one.busy_seconds, 1),
        "rows_per_second": _rounded(one.rows_per_second),
        "seconds_left": _rounded(one.seconds_left),
    }


def _rounded(value: float | None) -> float | None:
    return round(value, 1) if value is not None and value != float("inf") else None


def _time(epoch_seconds: float) -> str:
    return f"{datetime.fromtimestamp(epoch_seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
