"""The verification report as a self-contained HTML page, to attach to a ticket, print or keep.

What lives here: the page's data, and writing its file. What does not: its text and looks (report.html.jinja), and its charts
(cli/render/chart.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile

from jinja2 import Environment, PackageLoader, StrictUndefined

from reindex_assets.cli.render.chart import Chart, customer_chart
from reindex_assets.comparison.counts import PLURALS
from reindex_assets.comparison.verification import DayReport, Depth, Verification
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import days_between

#: The most differing rows that the page shows.
SHOWN_ROWS = 1_000


@contextmanager
def open_report(path: Path | None) -> Iterator[Callable[[str], None] | None]:
    """Checks that the report can be written, before anything is compared, and yields a function that writes it (None without a path).

    The file appears as a whole or not at all: it is written next to its path and then renamed.

    Raises:
        ConfigurationError: it can't be written there.
    """
    if path is None:
        yield None
        return
    draft: Path | None = None
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a directory")
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            draft = Path(file.name)
    except OSError as error:
        raise ConfigurationError(
            f"the report cannot be written to {path}: {error.strerror or error}. Name a file in a directory that exists "
            "and that you may write to"
        ) from None

    def save(page: str) -> None:
        try:
            with draft.open("w", encoding="utf-8") as file:
                file.write(page)
                file.flush()
                os.fsync(file.fileno())
            # Only the owner may read a temporary file. The report gets the permissions of any other new file.
            draft.chmod(0o666 & ~_umask())
            draft.replace(path)
        except OSError as error:
            raise ConfigurationError(f"the report cannot be written to {path}: {error.strerror or error}") from None

    try:
        yield save
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()


def _umask() -> int:
    # It can't be read without setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def render_report(report: Verification, made_at: datetime) -> str:
    """The page. All text from the data is escaped."""
    environment = Environment(
        loader=PackageLoader("reindex_assets.cli.render", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "signed": _signed, "instant": _instant}
    shown = [(day, sample) for day in report.days for sample in day.samples]
    return environment.get_template("report.html.jinja").render(
        report=report,
        made_at=made_at.astimezone(UTC),
        is_counts=report.depth is Depth.COUNTS,
        is_rows=report.depth is Depth.ROWS,
        plurals=PLURALS,
        totals=[(plural, *report.rows(name)) for name, plural in PLURALS.items()],
        charts=_charts(report),
        titles_errors=[cluster.counts.titles_error for cluster in report.clusters if cluster.counts.titles_error],
        shown_rows=shown[:SHOWN_ROWS],
        sampled_rows=len(shown),
        differing_rows=sum(day.differing_rows for day in report.days),
        quarantined=[row for day in report.days for row in day.quarantined],
    )


def _charts(report: Verification) -> list[Chart]:
    """A chart for each customer, those with the most differing days first."""
    gaps: dict[tuple[str, str], set[date]] = {}
    for gap in report.gaps:
        gaps.setdefault((gap.cluster, gap.customer), set()).update(days_between(gap.first_day, gap.last_day))
    customers: dict[tuple[str, str], list[DayReport]] = {}
    for day in report.days:
        customers.setdefault((day.cluster, day.slice.customer), []).append(day)
    charts = [
        customer_chart(sorted(days, key=lambda day: day.slice.day), frozenset(gaps.get(key, ())))
        for key, days in customers.items()
    ]
    return sorted(charts, key=lambda chart: -chart.differing)


def _number(value: int) -> str:
    return f"{value:,}"


def _signed(value: int) -> str:
    return f"{value:+,}".replace("-", "\N{MINUS SIGN}") if value else "0"


def _instant(value: datetime | int) -> str:
    """A time in words; it may be given in microseconds since 1970."""
    at = value if isinstance(value, datetime) else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
