"""The charts of the report: one customer's rows per day in both engines, as positions in a drawing.

What lives here: the geometry. What does not: the SVG made from it (report.html.jinja), and colours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from reindex_assets.comparison.counts import PLURALS
from reindex_assets.comparison.verification import DayReport

_LEFT, _RIGHT, _TOP = 58.0, 12.0, 26.0
_PANEL_HEIGHT, _BETWEEN, _FOOT = 84.0, 28.0, 34.0
#: The days share the width of the plot, within these limits. Two charts of 14 days fit side by side.
_PLOT_WIDTH, _WIDEST_DAY, _NARROWEST_DAY = 960.0, 32.0, 2.5
#: The width of a date below the chart.
_DATE_WIDTH = 50.0


@dataclass(frozen=True)
class Bar:
    """The rows of one engine in one table on one day. `side` is "postgres" or "clickhouse"."""

    side: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Day:
    """One day: its column, its bars in both panels, and its tooltip."""

    x: float
    width: float
    differs: bool
    gap: bool
    title: str
    bars: tuple[Bar, ...]

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@dataclass(frozen=True)
class Mark:
    """A label on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Panel:
    """The part of the chart that shows one table."""

    name: str
    top: float
    bottom: float
    ticks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One customer's chart: a panel for each table, one above the other, over the same days."""

    customer: str
    cluster: str
    left: float
    right: float
    width: float
    height: float
    panels: tuple[Panel, ...]
    days: tuple[Day, ...]
    dates: tuple[Mark, ...]
    differing: int

    @property
    def bottom(self) -> float:
        return self.panels[-1].bottom


def customer_chart(days: Sequence[DayReport], gap_days: frozenset[date]) -> Chart:
    """The chart of one customer's days, at least one, in order."""
    step = max(_NARROWEST_DAY, min(_WIDEST_DAY, _PLOT_WIDTH / len(days)))
    right = _LEFT + step * len(days)
    panels = tuple(
        _panel(name, [day.rows[name] for day in days], _TOP + number * (_PANEL_HEIGHT + _BETWEEN))
        for number, name in enumerate(PLURALS)
    )
    every = math.ceil(_DATE_WIDTH / step)
    return Chart(
        customer=days[0].slice.customer,
        cluster=days[0].cluster,
        left=_LEFT,
        right=right,
        # Wide enough for the legend, even with a single day.
        width=max(right, _LEFT + 200) + _RIGHT,
        height=panels[-1][0].bottom + _FOOT,
        panels=tuple(panel for panel, _ in panels),
        days=tuple(
            _day(day, _LEFT + number * step, step, gap=day.slice.day in gap_days, panels=panels)
            for number, day in enumerate(days)
        ),
        dates=tuple(
            Mark(round(_LEFT + (number + 0.5) * step, 2), f"{day.slice.day:%d %b}")
            for number, day in enumerate(days)
            if number % every == 0
        ),
        differing=sum(not day.agrees for day in days),
    )


def _panel(name: str, sides: Sequence[tuple[int, int]], top: float) -> tuple[Panel, float]:
    """A panel, and the number of rows at the top of its axis."""
    bottom = top + _PANEL_HEIGHT
    highest, tick = _scale(max(max(pair) for pair in sides))
    ticks = tuple(
        Mark(round(bottom - _PANEL_HEIGHT * value / highest, 2), f"{value:,}") for value in range(0, highest + 1, tick)
    )
    return Panel(PLURALS[name], top, bottom, ticks), highest


def _scale(rows: int) -> tuple[int, int]:
    """The top of an axis and the distance of its ticks: round numbers, with at most four ticks above zero.

    >>> [_scale(rows) for rows in (0, 1, 7, 38, 57_000)]
    [(1, 1), (1, 1), (8, 2), (40, 10), (60000, 20000)]
    """
    rows = max(1, rows)
    magnitude = 10 ** max(0, math.floor(math.log10(rows)) - 1)
    tick = next(step * magnitude for step in (1, 2, 5, 10, 20, 50) if step * magnitude * 4 >= rows)
    return math.ceil(rows / tick) * tick, tick


def _day(day: DayReport, x: float, step: float, *, gap: bool, panels: Sequence[tuple[Panel, float]]) -> Day:
    inset = min(step * 0.12, 4.0)
    width = (step - 2 * inset) / 2
    bars = []
    for (panel, highest), name in zip(panels, PLURALS, strict=True):
        for side, rows in enumerate(day.rows[name]):
            if rows:
                # At least 1, so that a few rows among thousands are visible.
                height = max(1.0, _PANEL_HEIGHT * rows / highest)
                bars.append(
                    Bar(
                        ("postgres", "clickhouse")[side],
                        round(x + inset + side * width, 2),
                        round(panel.bottom - height, 2),
                        round(width, 2),
                        round(height, 2),
                    )
                )
    return Day(
        x=round(x, 2),
        width=round(step, 2),
        differs=not day.agrees,
        gap=gap,
        title=_title(day, day.rows),
        bars=tuple(bars),
    )


def _title(day: DayReport, rows: Mapping[str, tuple[int, int]]) -> str:
    lines = [f"{day.slice.customer} {day.slice.day}"]
    lines += [f"{plural}: Postgres {rows[name][0]:,}, ClickHouse {rows[name][1]:,}" for name, plural in PLURALS.items()]
    return "\n".join([*lines, *([day.difference] if day.difference else [])])
