"""The sensor that finds drift and requests its repair: it looks, decides, requests runs for just the drifted partitions, and reports.

What lives here: one tick and its message. What does not: looking (drift/watch.py), the rules of repairs (drift/repair_policy.py), which
runs are under way (defs/history/runs_in_flight.py), and the repair itself, which is an ordinary run (defs/assets/reindex.py).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime

from dagster import (
    DagsterEventType,
    DefaultSensorStatus,
    EventRecordsFilter,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)

from reindex_assets.comparison.parity import SliceParity, explain
from reindex_assets.config.dataset import Dataset
from reindex_assets.defs.automation.check_results import report_result
from reindex_assets.defs.checks.rules import given_up_result
from reindex_assets.defs.checks.specs import LEFT_FAILED, ROWS_AGREE, evaluation
from reindex_assets.defs.dagster_private import UnresolvedAssetJobDefinition
from reindex_assets.defs.history.repairs import RepairCursor, ResultsRead, asked_for_again, read_cursor
from reindex_assets.defs.history.runs_in_flight import slices_in_flight
from reindex_assets.defs.keys.names import REPAIR_TAG, asset_key, repair_sensor_name
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.drift.repair_policy import Decision, Drift, Ledger, Repair, decide, requested
from reindex_assets.drift.watch import WatchResult, look
from reindex_assets.drift.watch_state import WatchStore
from reindex_assets.model import CHILD, MICROSECONDS, Slice, Step
from reindex_assets.placement.layout import layout_problem
from reindex_assets.selection.rectangles import Rectangle, cover

#: Results that one tick reads; the next one goes on from there.
_VERDICTS_A_TICK = 3_000
_NAMED = 5
#: Dagster aborts a tick after 60 s. With a shorter wait, the tick can report that Postgres had no connection to spare.
_CONNECTION_WAIT_SECONDS = 20


def build_repair_sensor(dataset: Dataset, job: UnresolvedAssetJobDefinition) -> SensorDefinition:
    """The repair sensor of a dataset. Off until somebody switches it on, because it writes to ClickHouse on its own."""
    watch = dataset.rules.watch

    @sensor(
        name=repair_sensor_name(dataset),
        job=job,
        minimum_interval_seconds=watch.interval_seconds,
        default_status=DefaultSensorStatus.STOPPED,
        description=(
            f"Every {watch.interval_seconds} s, asks both engines of {dataset.cluster_name} what has been touched in the last "
            f"{dataset.rules.look_back_days} days, compares that to the bit, and requests runs that reindex drifted partitions, oldest "
            f"first, at most {watch.slices_a_tick} at once. A difference younger than {watch.settle_seconds:g} s is a row in flight, not "
            "drift. Partitions that a queued or running run covers are left alone. If the same drift outlasts "
            f"{watch.attempts} repairs, or can't be repaired, the partition is given up: the check nothing_left_failed turns red, because "
            "a person has to act."
        ),
    )
    def repair(context: SensorEvaluationContext) -> SensorResult | SkipReason:
        return _Tick(context, dataset).run()

    return repair


class _Tick:
    def __init__(self, context: SensorEvaluationContext, dataset: Dataset) -> None:
        self._context = context
        self._instance = context.instance
        self._dataset = dataset
        self._asset = asset_key(dataset, Step.WRITE)
        self._watch = dataset.rules.watch

    def run(self) -> SensorResult | SkipReason:
        # Otherwise every run would be refused, and count as a failed repair.
        refusal = layout_problem(self._dataset.cluster_name, self._dataset.cluster)
        if refusal is not None:
            if not refusal.is_moving:
                raise refusal
            return SkipReason(f"nothing is looked at or repaired meanwhile: {refusal}")
        now = time.time()
        cursor = read_cursor(self._context.cursor)
        days = self._dataset.watched_days(datetime.now(UTC).date())
        ledger = cursor.ledger.watched(set(self._dataset.slices(*days)))
        ledger = ledger.asked_for(asked_for_again(self._instance, self._asset, ledger.given_up), now)
        suspect, results = self._red_results(cursor.results)
        # Read before the look: a run that ends during the look may have changed what the look saw earlier.
        busy = self._in_flight()
        report = self._look(days, suspect, busy, ledger, now)
        decision = decide(ledger, _drifts(report.drifted), report.equal, now, self._watch)
        rectangles = self._rectangles(decision, busy, report)
        asked = {item for rectangle in rectangles for item in rectangle.slices} & set(decision.request)
        ledger = requested(decision.ledger, asked, now)
        self._report_given_up(decision, ledger)
        message = _message(report, decision, asked, busy)
        self._context.log.info(message)
        state = RepairCursor(ledger=ledger, results=results).model_dump_json()
        if not rectangles:
            self._context.update_cursor(state)
            return SkipReason(message)
        return SensorResult(
            run_requests=[self._run_request(rectangle, decision, report.drifted) for rectangle in rectangles],
            cursor=state,
        )

    def _look(
        self,
        days: tuple[date, date],
        suspect: Collection[Slice],
        busy: Collection[Slice],
        ledger: Ledger,
        now: float,
    ) -> WatchResult:
        store = WatchStore(self._dataset)
        hasty = self._dataset.with_connection_wait(_CONNECTION_WAIT_SECONDS)
        before = store.load()
        # Both at once can't be true: a tick was lost after it had stored what it saw, and before its cursor was.
        repaired = {item for item in ledger.by_slice() if item in before.slices and before.slices[item].is_equal}
        paused = ledger.paused(now, self._watch)
        report = look(hasty, days, before, suspect={*suspect, *repaired}, in_flight=busy, paused=paused)
        store.save(report.state)
        return report

    def _in_flight(self) -> frozenset[Slice]:
        repository = self._context.repository_def
        assert repository is not None, "Dagster gives a sensor its repository"
        return slices_in_flight(self._instance, repository.asset_graph, self._dataset)

    def _red_results(self, read: ResultsRead | None) -> tuple[set[Slice], ResultsRead]:
        """Partitions in which a check has found differing rows since the last tick: they are compared, whatever the watch remembers."""
        if read is None:
            last = self._instance.event_log_storage.get_maximum_record_id() or 0
            return set(), ResultsRead(until=last, since=last)
        # Read the last tick's results again: an event may be committed after one with a higher id.
        records = self._instance.event_log_storage.get_event_records(
            EventRecordsFilter(event_type=DagsterEventType.ASSET_CHECK_EVALUATION, after_cursor=read.since),
            limit=2 * _VERDICTS_A_TICK,
            ascending=True,
        )
        different: dict[Slice, int] = {}
        for record in records:
            event = record.event_log_entry.dagster_event
            assert event is not None
            result = event.asset_check_evaluation_data
            # Any drift at all makes this check red.
            if result.asset_key == self._asset and result.partition and result.check_name == ROWS_AGREE.name:
                item = Slice.of(result.partition)
                different.pop(item, None)
                if not result.passed:
                    different[item] = record.storage_id
        suspect = {item for item, storage_id in different.items() if storage_id not in read.red}
        until = records[-1].storage_id if records else read.until
        return suspect, ResultsRead(until=until, since=min(read.until, until), red=tuple(different.values()))

    def _rectangles(self, decision: Decision, busy: Collection[Slice], report: WatchResult) -> list[Rectangle]:
        """The runs to request. Partitions that don't fit into `runs_a_tick` runs stay drifted, and are requested by a later tick."""
        avoid = {*busy, *decision.waiting, *decision.ledger.given_up} - set(decision.request)
        watched = report.state.slices
        # One run if that is cheap: starting another one costs as much as comparing hundreds of thousands of rows.
        return cover(
            self._dataset,
            decision.request,
            avoid,
            1,
            lambda item: watched[item].rows(CHILD) if item in watched else 0,
        )[: self._watch.runs_a_tick]

    def _run_request(
        self, rectangle: Rectangle, decision: Decision, drifted: Mapping[Slice, SliceParity]
    ) -> RunRequest:
        covered = set(rectangle.slices)
        mine = [item for item in decision.request if item in covered]
        words = "; ".join(f"{item}: {explain(drifted[item])}" for item in mine[:_NAMED])
        more = f"; and {len(mine) - _NAMED} more" if len(mine) > _NAMED else ""
        return RunRequest(
            tags={
                **range_tags(rectangle.customers, rectangle.first_day, rectangle.last_day),
                "cluster": self._dataset.cluster_name,
                "kind": self._dataset.kind.name,
                # Ahead of queued backfills.
                "dagster/priority": "10",
                REPAIR_TAG: f"{len(mine)} drifted: {words}{more}"[:250],
            }
        )

    def _report_given_up(self, decision: Decision, ledger: Ledger) -> None:
        """Stores results of the check `nothing_left_failed` for repairs newly given up or recovered: no run will follow to do it."""
        repairs: dict[Slice, Repair | None] = {
            item: None for item, repair in decision.recovered.items() if repair.given_up_at
        }
        repairs |= decision.given_up
        for item, repair in repairs.items():
            of_customer = [given_up for given_up in ledger.given_up.values() if given_up.customer == item.customer]
            result = evaluation(LEFT_FAILED, self._asset, item, given_up_result(repair, of_customer), target=None)
            report_result(self._instance, result, self._dataset)


def _drifts(drifted: Mapping[Slice, SliceParity]) -> dict[Slice, Drift]:
    drifts = {}
    for item, parity in drifted.items():
        differences = parity.differences
        assert differences is not None
        ahead = None if differences.first_ahead is None else differences.first_ahead / MICROSECONDS
        drifts[item] = Drift(
            explain(parity) or "", differences.evidence, impossible_until=None if differences.evidence.size else ahead
        )
    return drifts


def _message(report: WatchResult, decision: Decision, asked: Collection[Slice], busy: Collection[Slice]) -> str:
    """What a tick saw, requested and left, and why."""
    parts = [
        f"{report.watched:,} partitions watched, {report.touched:,} touched since the last look, "
        f"{len(report.equal) + len(report.drifted):,} compared to the bit"
    ]
    if report.waiting:
        parts.append(f"{report.waiting:,} not proved equal yet, left for later ticks")
    parts.append(_named("drifted", report.drifted) if report.drifted else "nothing has drifted")
    if asked:
        parts.append(_named("repair requested", asked))
    left = {item: "runs_a_tick allows no more runs" for item in decision.request if item not in asked}
    for item, reason in list({**decision.waiting, **left}.items())[:_NAMED]:
        parts.append(f"{item} has to wait: {reason}")
    if busy:
        parts.append(f"{len(busy):,} left to queued or running runs")
    if decision.recovered:
        parts.append(_named("repaired", decision.recovered))
    if decision.given_up:
        parts.append(_named("GIVEN UP in this tick", decision.given_up))
    if decision.ledger.given_up:
        parts.append(_named("given up", decision.ledger.given_up))
    if report.oldest:
        item, compared_at = report.oldest
        parts.append(f"the oldest comparison is of {item}, {(time.time() - compared_at) / 3600:.1f} h ago")
    parts.append(
        f"{sum(report.seconds.values()):.1f} s ({', '.join(f'{name} {took:.1f}' for name, took in report.seconds.items())})"
    )
    return "; ".join(parts)


def _named(what: str, slices: Collection[Slice]) -> str:
    named = ", ".join(str(item) for item in list(slices)[:_NAMED])
    more = f" and {len(slices) - _NAMED:,} more" if len(slices) > _NAMED else ""
    return f"{what}: {len(slices):,} ({named}{more})"
