"""A whole reshard: start, move window by window with runs in Dagster, prove, finish.

What lives here: the order of these steps, and their progress and outcome. What does not: the records (reshard/transition.py), finding the
rows to move (reshard/survey.py), the comparison (comparison/comparison.py), a run (defs/runs/launch.py), and the output (cli/reshard.py).

A run of a window makes its partitions equal to Postgres on the shards of the fleet file, and inserts a moving row in its new place before
it deletes the old one. So there is no progress to store: what is left to do is what the shards still hold in the wrong place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Protocol

from reindex_assets.comparison.comparison import SETTLE_SECONDS, Comparison
from reindex_assets.config.dataset import Dataset
from reindex_assets.config.fleet import Fleet
from reindex_assets.drift.checkpoint_store import CheckpointStore
from reindex_assets.drift.watch_state import WatchState, WatchStore
from reindex_assets.model import Slice
from reindex_assets.reindex.job import Progress
from reindex_assets.reindex.run_report import RunReport
from reindex_assets.reshard.survey import LeftBehind, RowLocations, ShardSurvey
from reindex_assets.reshard.transition import Reshard, begin_reshard, finish_reshard, plan_reshard
from reindex_assets.selection.days import cut_range
from reindex_assets.selection.rectangles import Rectangle, neighbours

#: Partitions per run: the most that are processed again after a run was killed.
PARTITIONS_A_RUN = 1_000
#: Slices compared at once.
_SLICES_A_COMPARISON = 1_000
#: Rows may arrive in their old place while others are moved; after this many rounds somebody keeps writing there.
_ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class ReshardOptions:
    """An operator's choices.

    Attributes:
        first_day, last_day: the days to move; None means the fleet file's first day, and today.
        from_shards, to_shards, lost: see `plan_reshard`.
        leave_behind: finish even if rows that no run reaches are on wrong shards.
        settle_seconds: for the final comparison.
    """

    first_day: date | None = None
    last_day: date | None = None
    from_shards: int | None = None
    to_shards: int | None = None
    lost: bool = False
    leave_behind: bool = False
    settle_seconds: float = SETTLE_SECONDS


@dataclass(frozen=True, kw_only=True)
class ReshardPlan:
    """What a reshard would do.

    Attributes:
        chosen: where the rows of the chosen days are.
        left_behind: rows on wrong shards that no run reaches.
    """

    reshard: Reshard
    first_day: date
    last_day: date
    is_whole: bool
    chosen: RowLocations
    left_behind: Sequence[LeftBehind]


@dataclass(frozen=True, kw_only=True)
class ReshardOutcome:
    """What a reshard has achieved.

    Attributes:
        is_finished: the records say that the rows are on the fleet file's shards.
        reports: the runs'.
        rows_left: rows in the fleet's partitions that are still on a wrong shard.
        different: partitions that differ from Postgres even after a repair, by the name of their kind.
        retiring: rows on each retiring shard, by label and table name.
    """

    is_finished: bool
    reports: Sequence[RunReport] = ()
    rows_left: int = 0
    different: Mapping[str, Sequence[Slice]] = field(default_factory=dict)
    left_behind: Sequence[LeftBehind] = ()
    retiring: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def failed(self) -> list[RunReport]:
        return [report for report in self.reports if not report.success]


@dataclass(frozen=True)
class ReshardProgress:
    """The current activity, in words, and how many of its partitions are done."""

    doing: str
    done: int
    total: int


class WindowRun(Protocol):
    """Runs the assets over one window with a run config; returns when the run has ended."""

    def __call__(
        self,
        rectangle: Rectangle,
        config: Mapping[str, object],
        on_progress: Callable[[Progress], None],
        /,
    ) -> RunReport: ...


class ReshardWork:
    """The reshard of one cluster to the shards of its fleet file.

    Args:
        today: the last day that has partitions.
    """

    def __init__(
        self,
        fleet: Fleet,
        cluster_name: str,
        today: date,
        options: ReshardOptions,
        on_progress: Callable[[ReshardProgress], None] = lambda progress: None,
    ) -> None:
        self._cluster_name = cluster_name
        self._datasets = fleet.datasets(cluster_name)
        self._cluster = fleet.clusters[cluster_name]
        self._days = (fleet.first_day, max(fleet.first_day, today))
        self._options = options
        self._on_progress = on_progress
        self._first = max(options.first_day or self._days[0], self._days[0])
        self._last = min(options.last_day or self._days[1], self._days[1])

    def plan(self) -> ReshardPlan:
        """What a reshard would do; writes nothing.

        Raises:
            LayoutError, ConfigurationError: the fleet file is no reshard of these shards.
            ShardUnreachableError: a shard could not be asked.
        """
        options = self._options
        reshard = plan_reshard(
            self._cluster_name, self._cluster, options.from_shards, options.to_shards, lost=options.lost
        )
        return ReshardPlan(
            reshard=reshard,
            first_day=self._first,
            last_day=self._last,
            is_whole=(self._first, self._last) == self._days,
            chosen=self._locations(self._slices(self._first, self._last)) if reshard.is_needed else RowLocations(),
            left_behind=self._left_behind(),
        )

    def held_by_retiring(self) -> dict[str, dict[str, int]]:
        """Rows of each retiring shard, by label and table name."""
        with ShardSurvey(self._datasets) as survey:
            return survey.held_by_retiring()

    def run(self, run_window: WindowRun) -> ReshardOutcome:
        """Moves, proves and finishes. The outcome says what is left; run it again to continue.

        Raises:
            ReindexError: it could not start, or an engine could not be reached between the runs.
        """
        options = self._options
        reshard = begin_reshard(
            self._cluster_name, self._cluster, options.from_shards, options.to_shards, lost=options.lost
        )
        if not reshard.is_needed:
            return ReshardOutcome(is_finished=True, retiring=self.held_by_retiring())
        self._forget()
        chosen = self._slices(self._first, self._last)
        reports = self._move(run_window, chosen)
        everything = self._slices(*self._days)
        rows_left = self._locations(everything).rows_to_move
        different: dict[str, Sequence[Slice]] = {}
        if not rows_left:
            different, repairs = self._prove(run_window, everything)
            reports += repairs
            rows_left = self._locations(everything).rows_to_move if repairs else 0
        left_behind = self._left_behind()
        may_finish = not rows_left and not different and (options.leave_behind or not left_behind)
        if may_finish:
            finish_reshard(reshard, self._cluster)
        return ReshardOutcome(
            is_finished=may_finish,
            reports=reports,
            rows_left=rows_left,
            different=different,
            left_behind=left_behind,
            retiring=self.held_by_retiring(),
        )

    # --- steps

    def _forget(self) -> None:
        """Clears the stored checkpoints and watch states: they describe the shards of the old layout."""
        for dataset in self._present():
            CheckpointStore(dataset).update(self._slices(*self._days), [])
            WatchStore(dataset).save(WatchState())

    def _move(self, run_window: WindowRun, slices: Collection[Slice]) -> list[RunReport]:
        reports: list[RunReport] = []
        for _ in range(_ROUNDS):
            locations = self._locations(slices)
            if not locations.rows_to_move:
                break
            for dataset, chosen in locations.slices.items():
                reports += self._runs(run_window, dataset, chosen, "moving")
            if not all(report.success for report in reports):
                break
        return reports

    def _prove(
        self, run_window: WindowRun, slices: Sequence[Slice]
    ) -> tuple[dict[str, Sequence[Slice]], list[RunReport]]:
        """Compares every column of every row, and repairs what differs: the partitions that still differ, and the repair runs."""
        reports: list[RunReport] = []
        still_different: dict[str, Sequence[Slice]] = {}
        for dataset in self._present():
            different = self._different(dataset, slices)
            if different:
                reports += self._runs(run_window, dataset, different, "repairing")
                different = self._different(dataset, different)
            if different:
                still_different[dataset.kind.name] = different
        return still_different, reports

    def _different(self, dataset: Dataset, slices: Sequence[Slice]) -> list[Slice]:
        different: list[Slice] = []
        doing = f"comparing, {dataset.kind.name}"
        with Comparison(dataset) as comparison:
            for start in range(0, len(slices), _SLICES_A_COMPARISON):
                part = slices[start : start + _SLICES_A_COMPARISON]
                self._on_progress(ReshardProgress(doing, start, len(slices)))
                parities = comparison.settled(part, self._options.settle_seconds)
                different += [parity.slice for parity in parities if not parity.is_equal]
        self._on_progress(ReshardProgress(doing, len(slices), len(slices)))
        return different

    def _runs(
        self, run_window: WindowRun, dataset: Dataset, slices: Collection[Slice], doing: str
    ) -> Iterator[RunReport]:
        rectangles = windows(dataset, slices, PARTITIONS_A_RUN)
        doing = f"{doing}, {dataset.kind.name}"
        total = sum(len(rectangle.slices) for rectangle in rectangles)
        done = 0
        config = {"allow_reshard": True, "settle_seconds": self._options.settle_seconds}
        for rectangle in rectangles:
            self._on_progress(ReshardProgress(doing, done, total))
            report = run_window(rectangle, config, partial(self._report, doing, done, total))
            done += len(rectangle.slices)
            yield report
            if not report.success:
                return

    def _report(self, doing: str, done: int, total: int, progress: Progress) -> None:
        self._on_progress(ReshardProgress(doing, done + progress.processed + progress.failed, total))

    def _present(self) -> list[Dataset]:
        with ShardSurvey(self._datasets) as survey:
            return survey.present()

    def _locations(self, slices: Collection[Slice]) -> RowLocations:
        with ShardSurvey(self._datasets) as survey:
            return survey.find(slices)

    def _left_behind(self) -> list[LeftBehind]:
        with ShardSurvey(self._datasets) as survey:
            return survey.left_behind(*self._days)

    def _slices(self, first: date, last: date) -> list[Slice]:
        return self._datasets[0].slices(first, last)


def windows(dataset: Dataset, slices: Collection[Slice], most: int) -> list[Rectangle]:
    """Rectangles that cover `slices`, oldest days first, each of `most` partitions or of a single day."""
    if not slices:
        return []
    first, last = min(item.day for item in slices), max(item.day for item in slices)
    rectangles = []
    for begin, end in cut_range(first, last, max(1, most // len({item.customer for item in slices}))):
        inside = [item for item in slices if begin <= item.day <= end]
        for customers in neighbours(dataset.cluster, {item.customer for item in inside}):
            days = [item.day for item in inside if item.customer in customers]
            rectangles.append(Rectangle(dataset, tuple(customers), min(days), max(days)))
    return rectangles
