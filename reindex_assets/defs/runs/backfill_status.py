"""The progress of a backfill over the fleet, per customer, read from nothing but the Dagster instance.

What lives here: adding up windows, rows and times. What does not: what is done (defs/runs/backfill_progress.py), and the table
(cli/render/backfill.py).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from dagster import AssetRecordsFilter, DagsterInstance, DagsterRunStatus

from reindex_assets.backfill.forecast import PlannedRun, expected_seconds
from reindex_assets.defs.history.past_runs import limits_of
from reindex_assets.defs.keys.names import asset_key_of
from reindex_assets.defs.runs.backfill_progress import FleetBackfill, PartitionRef, RunOfBackfill, is_under_way
from reindex_assets.model import Slice, Step


class WindowState(StrEnum):
    """The state of a window.

    FAILED: some of its days are not done, and no run is going to do them. Launching the same backfill again does.
    LEFT: it waits for its turn.
    """

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    LEFT = "left"


@dataclass(frozen=True, kw_only=True)
class CustomerStatus:
    """The progress of one customer and kind.

    Attributes:
        windows: how many are in each state.
        slices, slices_done: customer-days.
        rows: scorecards and scores of the days that are done, whether they were read or skipped as unchanged.
        written, deleted: the rows that were written and deleted.
        busy_seconds: the time that its runs have taken.
        seconds_left: expected time of its unfinished work; None if there is no rate to judge by, 0 if nothing is left.
    """

    cluster_name: str
    customer: str
    kind_name: str
    windows: Mapping[str, int]
    slices: int
    slices_done: int
    rows: int
    written: int
    deleted: int
    busy_seconds: float
    seconds_left: float | None

    @property
    def rows_per_second(self) -> float | None:
        return self.rows / self.busy_seconds if self.busy_seconds else None


@dataclass(frozen=True)
class BackfillStatus:
    """The progress of a backfill over the fleet.

    Attributes:
        elapsed_seconds: since its first launch, until now or until its last run ended.
        seconds_left: expected time until all running and waiting windows are done, within the limits; None if there is no rate to judge by.
    """

    name: str
    begun: float
    customers: tuple[CustomerStatus, ...]
    elapsed_seconds: float
    seconds_left: float | None

    @property
    def windows(self) -> Mapping[str, int]:
        return sum((Counter(customer.windows) for customer in self.customers), Counter[str]())

    @property
    def ended(self) -> bool:
        """Whether no window is running or waiting any more, whether all are done or not."""
        return not self.windows[WindowState.RUNNING] and not self.windows[WindowState.LEFT]


def backfill_status(backfill: FleetBackfill, now: float) -> BackfillStatus:
    """The status of a backfill, at `now` in epoch seconds."""
    states = _states(backfill)
    written: dict[_Whose, list[_Written]] = defaultdict(list)
    for partition, rows in _rows(backfill.instance, backfill.done_ids, backfill.asked).items():
        written[_whose(partition)].append(rows)
    windows = _windows(backfill)
    busy = _busy_seconds(backfill.runs, now)
    whose = sorted({_whose(partition) for partition in backfill.asked})
    slices = Counter(_whose(partition) for partition in backfill.asked)
    done = Counter(_whose(partition) for partition in backfill.asked if states[partition] is WindowState.DONE)
    counted: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    work: list[PlannedRun] = []
    left: Counter[tuple[str, str, str]] = Counter()
    pace = _Pace(busy, done)
    for (who, _), partitions in windows.items():
        state = _window_state([states[partition] for partition in partitions])
        counted[who][state] += 1
        if state in (WindowState.RUNNING, WindowState.LEFT):
            to_do = sum(states[partition] is not WindowState.DONE for partition in partitions)
            left[who] += to_do
            work.append(PlannedRun(who[0], who[2], to_do * (pace.seconds_a_slice(who) or 0.0)))
    customers = []
    for who in whose:
        cluster_name, kind_name, customer = who
        seconds = pace.seconds_a_slice(who)
        read = written[who]
        customers.append(
            CustomerStatus(
                cluster_name=cluster_name,
                customer=customer,
                kind_name=kind_name,
                windows=counted[who],
                slices=slices[who],
                slices_done=done[who],
                rows=sum(slice_rows.rows for slice_rows in read),
                written=sum(slice_rows.written for slice_rows in read),
                deleted=sum(slice_rows.deleted for slice_rows in read),
                busy_seconds=busy[who],
                seconds_left=left[who] * seconds if seconds is not None else None if left[who] else 0.0,
            )
        )
    ends = [run.ended for run in backfill.runs if run.ended is not None]
    until = now if work or not ends else max(ends)
    is_known = not work or pace.is_known
    return BackfillStatus(
        backfill.name,
        backfill.begun,
        tuple(customers),
        until - backfill.begun,
        expected_seconds(work, limits_of(backfill.instance)) if is_known else None,
    )


_Whose = tuple[str, str, str]


def _whose(partition: PartitionRef) -> _Whose:
    return partition.cluster_name, partition.kind_name, partition.slice.customer


def _states(backfill: FleetBackfill) -> dict[PartitionRef, WindowState]:
    running = {
        partition
        for run in backfill.runs
        if is_under_way(run) and run.status in _AT_WORK
        for partition in run.partitions
    }

    def state(partition: PartitionRef) -> WindowState:
        if partition in backfill.done_ids:
            return WindowState.DONE
        if partition in running:
            return WindowState.RUNNING
        return WindowState.LEFT if partition in backfill.under_way else WindowState.FAILED

    return {partition: state(partition) for partition in backfill.asked}


_AT_WORK = (DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING)


def _window_state(states: Iterable[WindowState]) -> WindowState:
    present = set(states)
    for state in (WindowState.RUNNING, WindowState.LEFT, WindowState.FAILED):
        if state in present:
            return state
    return WindowState.DONE


def _windows(backfill: FleetBackfill) -> dict[tuple[_Whose, str], set[PartitionRef]]:
    """The slices of each customer's windows; a second launch adds to those of the first."""
    windows: dict[tuple[_Whose, str], set[PartitionRef]] = defaultdict(set)
    for request in backfill.requests:
        for partition in request.partitions(request.asked):
            windows[_whose(partition), request.window].add(partition)
    return windows


def _busy_seconds(runs: Iterable[RunOfBackfill], now: float) -> dict[_Whose, float]:
    seconds: dict[_Whose, float] = defaultdict(float)
    for run in runs:
        if run.began is not None:
            for who in {_whose(partition) for partition in run.partitions}:
                seconds[who] += max(0.0, (run.ended or now) - run.began)
    return seconds


class _Pace:
    """How long a customer-day takes: that customer's average, else the average over all."""

    def __init__(self, busy: Mapping[_Whose, float], done: Mapping[_Whose, int]) -> None:
        self._own = {who: busy[who] / count for who, count in done.items() if count and busy.get(who)}
        counted = sum(done[who] for who in self._own)
        self._of_all = sum(busy[who] for who in self._own) / counted if counted else None

    @property
    def is_known(self) -> bool:
        return self._of_all is not None

    def seconds_a_slice(self, who: _Whose) -> float | None:
        return self._own.get(who, self._of_all)


@dataclass(frozen=True)
class _Written:
    """How many rows a slice has, and how many of them a run wrote and deleted."""

    rows: int
    written: int
    deleted: int


def _rows(
    instance: DagsterInstance, ids: Mapping[PartitionRef, int], asked: Iterable[PartitionRef]
) -> dict[PartitionRef, _Written]:
    """What was written to each slice that is done."""
    wanted: dict[tuple[str, str], list[int]] = defaultdict(list)
    for partition in asked:
        if partition in ids:
            wanted[partition.cluster_name, partition.kind_name].append(ids[partition])
    written_rows: dict[PartitionRef, _Written] = {}
    for (cluster_name, kind_name), numbers in wanted.items():
        key = asset_key_of(cluster_name, kind_name, Step.WRITE)
        for start in range(0, len(numbers), _EVENTS):
            some = numbers[start : start + _EVENTS]
            records = instance.fetch_materializations(AssetRecordsFilter(asset_key=key, storage_ids=some), len(some))
            for record in records.records:
                written = record.asset_materialization
                assert written is not None
                assert record.partition_key is not None
                number = {name: int(str(written.metadata[name].value)) for name in _NUMBERS if name in written.metadata}
                # A skipped partition has only unchanged rows, and none that were read.
                rows = number["rows_read"] or number["rows_unchanged"]
                partition = PartitionRef(cluster_name, kind_name, Slice.of(record.partition_key))
                written_rows[partition] = _Written(rows, number["rows_written"], number["rows_deleted"])
    return written_rows


#: Events that are read at once.
_EVENTS = 1_000
_NUMBERS = ("rows_read", "rows_unchanged", "rows_written", "rows_deleted")
