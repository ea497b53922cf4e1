"""The bars: what the figures of the full replay must reach on two cores.

What lives here: each bar once, and whether a figure reaches it. What does not: any assertion; a missed bar is reported and breaks nothing.

The bars are for the size `spirit`. At other sizes the same figures mostly measure the start of processes, so they are shown beside the
bar without a verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from benchmarks.figures import Figure
from benchmarks.sizes import SPIRIT


class Sense(StrEnum):
    """On which side of the limit a figure must be."""

    AT_MOST = "at most"
    AT_LEAST = "at least"


class State(StrEnum):
    """The outcome of a bar."""

    MET = "met"
    MISSED = "missed"
    NOT_JUDGED = "not judged"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        figure: the name of the figure that it judges.
        text: what was measured, in words.
    """

    figure: str
    sense: Sense
    limit: float
    unit: str
    text: str

    def judge(self, figure: Figure | None, size_name: str) -> Verdict:
        """Judges a figure by this bar.

        >>> bar = Bar("a.b", Sense.AT_MOST, 40, "s", "a run")
        >>> bar.judge(Figure("a.b", 40.0, "s", "a run", "3 rows"), "spirit").state
        <State.MET: 'met'>
        """
        if figure is None:
            return Verdict(self, None, State.NOT_MEASURED)
        if size_name != SPIRIT.name:
            return Verdict(self, figure.value, State.NOT_JUDGED)
        reached = figure.value <= self.limit if self.sense is Sense.AT_MOST else figure.value >= self.limit
        return Verdict(self, figure.value, State.MET if reached else State.MISSED)


@dataclass(frozen=True)
class Verdict:
    """A bar with the figure's value, or None if there is no such figure."""

    bar: Bar
    value: float | None
    state: State


BARS = (
    Bar("spirit_replay.cli.seconds", Sense.AT_MOST, 40, "s", "the replay by one CLI call, checks included"),
    Bar(
        "spirit_replay.backfill.running_seconds",
        Sense.AT_MOST,
        40,
        "s",
        "the replay by a backfill's runs, checks included (without the daemon's polling, up to 30 s each)",
    ),
    Bar("spirit_replay.share_of_raw_read", Sense.AT_LEAST, 0.6, "x", "the replay's rate, relative to the raw read's"),
    Bar(
        "peers.against_postgresql_function",
        Sense.AT_LEAST,
        1.0,
        "x",
        "the replay's rate, relative to postgresql() into MergeTree with the same rows",
    ),
    Bar("peers.seeds.ratio", Sense.AT_LEAST, 200, "x", "the replay's rate, relative to the seeds' algorithm"),
    Bar("noop.unchanged.share", Sense.AT_MOST, 0.03, "x", "the replay again, nothing changed: share of the full run"),
    Bar(
        "noop.changed.share", Sense.AT_MOST, 0.10, "x", "again, 0.1 % changed on 5 % of the days: share of the full run"
    ),
    Bar(
        "noop.after_deletions.share",
        Sense.AT_MOST,
        0.05,
        "x",
        "again, nothing changed since a run that deleted rows: share of the full run",
    ),
    Bar("window_cost.per_partition_ms", Sense.AT_MOST, 50, "ms", "overhead of a customer-day in the backfill of 4,845"),
    Bar("window_cost.seconds", Sense.AT_MOST, 300, "s", "the whole backfill of 4,845 partitions"),
    Bar("memory.run.peak_mb", Sense.AT_MOST, 400, "MB", "peak memory of a run's process"),
    Bar(
        "memory.run.growth",
        Sense.AT_MOST,
        1.10,
        "x",
        "that peak over 1, 10 and 51 days: the largest, relative to the smallest",
    ),
    Bar(
        "verify.fingerprint.seconds_per_million_scores", Sense.AT_MOST, 1.5, "s", "the fingerprint of a million scores"
    ),
    Bar("verify.rows.seconds_per_million_scores", Sense.AT_MOST, 5, "s", "the full depth of rows of a million scores"),
    Bar(
        "limits.connections.of_limit",
        Sense.AT_MOST,
        1.0,
        "x",
        "connections that read at once, relative to max_connections",
    ),
    Bar(
        "limits.rate.of_limit", Sense.AT_MOST, 1.05, "x", "rows per second of a limited extract, relative to its limit"
    ),
    Bar("fleet_load.reload.seconds", Sense.AT_MOST, 10, "s", "loading the code location of 8 clusters, 95 customers"),
    Bar("fleet_load.partitions_page.seconds", Sense.AT_MOST, 2, "s", "the partitions page of its largest asset"),
    Bar("growth.rows.linearity", Sense.AT_MOST, 1.10, "x", "growth over 1x, 4x and 16x rows, relative to linear"),
)


def judge(figures: Iterable[Figure], size_name: str) -> list[Verdict]:
    """Judges the figures by every bar."""
    by_name = {figure.name: figure for figure in figures}
    return [bar.judge(by_name.get(bar.figure), size_name) for bar in BARS]
