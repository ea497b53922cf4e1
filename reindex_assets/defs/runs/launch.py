"""Runs the assets from the command line, in the same Dagster instance that the UI shows.

What lives here: running a rectangle, and reading the run's progress and report from the instance. What does not: output.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from dagster import (
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    Definitions,
    LoggerDefinition,
    TableMetadataValue,
)

from reindex_assets.comparison.count_queries import count_clickhouse
from reindex_assets.defs.assets.background import STOP
from reindex_assets.defs.assets.reindex import build_assets
from reindex_assets.defs.assets.run_config import ReindexConfig
from reindex_assets.defs.automation.schedules import build_checks_job, build_job
from reindex_assets.defs.history.dead_runs import PoolQueue
from reindex_assets.defs.history.run_process import process_tags
from reindex_assets.defs.instance.opening import hold_connections
from reindex_assets.defs.keys.names import asset_key, op_name, pool_name
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.defs.keys.run_tags import CUSTOMER_TAG
from reindex_assets.defs.runs.interruption import Interruption
from reindex_assets.errors import ReindexError
from reindex_assets.model import Step
from reindex_assets.reindex.job import Progress, refuse
from reindex_assets.reindex.run_report import RunReport
from reindex_assets.selection.rectangles import Rectangle

POLL_SECONDS = 0.25
#: Between two looks at whom a run waits for.
_LOOK_SECONDS = 1.0

#: Totals of a report, each with its names in the metadata: a dry run has names of its own.
_TOTALS = {
    "rows_read": ("rows_read",),
    "rows_written": ("rows_written", "rows_to_write"),
    "rows_deleted": ("rows_deleted", "rows_to_delete"),
    "rows_unchanged": ("rows_unchanged",),
    "rows_left_newer": ("rows_left_newer",),
}


def launch(
    instance: DagsterInstance,
    rectangle: Rectangle,
    config: Mapping[str, object],
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_note: Callable[[str], None] = lambda note: None,
    *,
    checks_only: bool = False,
) -> RunReport:
    """Runs the assets of a rectangle in this process; returns when the run has ended, successfully or not.

    Args:
        on_note: called with a sentence when the run waits for others, or tries something again.
        checks_only: run the checks and write nothing. The rows before and after are then not counted.

    Raises:
        ReindexError: the run would have to wait, and then be refused: it was not begun.
    """
    dataset = rectangle.dataset
    # Instead of Dagster's own logger, which prints every event.
    interruption = Interruption(on_note)
    # After an interruption, Dagster's words about its end would only hide what is waited for.
    loggers = {"notes": _warnings_to(lambda note: None if interruption.asked.is_set() else on_note(note))}
    asset_job = build_checks_job(dataset) if checks_only else build_job(dataset)
    definitions = Definitions(assets=[build_assets(dataset)], jobs=[asset_job], loggers=loggers)
    job = definitions.resolve_job_def(asset_job.name)
    hold_connections(instance)
    run_id = str(uuid.uuid4())
    write_key = asset_key(dataset, Step.WRITE)
    silent_seconds = dataset.rules.watch.silent_seconds
    queue = PoolQueue(instance, pool_name(dataset.cluster_name), run_id, silent_seconds, on_note)
    if queue.is_full() and not checks_only:
        refuse(dataset, ReindexConfig.model_validate(config).options(is_repair=False))
    before = None if checks_only else _counted(rectangle)
    begun = time.monotonic()
    outcome: list[bool] = []
    errors: list[BaseException] = []

    # Not `thread.join`: when that is interrupted, Python 3.11 takes the thread for dead.
    ended = threading.Event()

    def work() -> None:
        STOP.set(interruption.asked)
        try:
            result = job.execute_in_process(
                run_config={
                    "ops": {op_name(dataset): {"config": dict(config)}},
                    "loggers": {"notes": {}},
                },
                instance=instance,
                run_id=run_id,
                tags={**_tags(rectangle), **process_tags(run_id)},
                raise_on_error=False,
            )
            outcome.append(result.success)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that waits
            errors.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=work, name="dagster-run", daemon=True)
    thread.start()
    reader = _ProgressReader(instance, run_id, write_key, len(rectangle.slices))
    may_wait = True
    next_look = begun + _LOOK_SECONDS
    # The second Ctrl-C may come at any instant, also while the first one is being stored.
    with suppress(KeyboardInterrupt):
        while not ended.is_set():
            try:
                ended.wait(POLL_SECONDS)
                if interruption.asked.is_set():
                    interruption.remind()
                    continue
                on_progress(reader.read())
                if may_wait and time.monotonic() >= next_look:
                    may_wait = queue.look()
                    next_look = time.monotonic() + _LOOK_SECONDS
            except KeyboardInterrupt:
                if interruption.asked.is_set():
                    raise
                interruption.begin()
                running = instance.get_run_by_id(run_id)
                if running is not None and not running.is_finished:
                    # Otherwise Dagster takes the interruption for a failure, which would be told, and tried again.
                    instance.report_run_canceling(running, "Interrupted on the command line.")
    if interruption.asked.is_set():
        # If the thread is still at work, it dies with this process. Without this, the run would look alive for ever.
        unfinished = instance.get_run_by_id(run_id)
        if unfinished is not None and not unfinished.is_finished:
            instance.report_run_canceled(unfinished, "Interrupted on the command line. Run it again to continue.")
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)
        raise KeyboardInterrupt
    if errors:
        raise errors[0]
    on_progress(reader.read())
    report = _report(instance, run_id, rectangle, success=outcome[0], seconds=time.monotonic() - begun)
    return report if checks_only else replace(report, before=before, after=_counted(rectangle))


def _warnings_to(on_note: Callable[[str], None]) -> LoggerDefinition:
    """A logger that passes on the warnings of a run: what it tries again, and why."""

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            on_note(str(getattr(record, "dagster_meta", {}).get("orig_message", record.getMessage())))

    def notes(context: object) -> logging.Logger:
        log = logging.Logger("notes", logging.WARNING)
        log.addHandler(Notes(logging.WARNING))
        return log

    return LoggerDefinition(notes)


def _tags(rectangle: Rectangle) -> dict[str, str]:
    """The tags of a run that bypasses the queue, which would set its customer's tag."""
    customer = {CUSTOMER_TAG: rectangle.customers[0]} if len(rectangle.customers) == 1 else {}
    return {**range_tags(rectangle.customers, rectangle.first_day, rectangle.last_day), **customer}


def _counted(rectangle: Rectangle) -> Mapping[str, int] | None:
    try:
        return count_clickhouse(rectangle.dataset, rectangle.slices)
    except ReindexError:
        # The run itself reports what is wrong with a shard, and may succeed once that is over.
        return None


class _ProgressReader:
    """Reads a run's progress from its events, each time from where it stopped before."""

    def __init__(self, instance: DagsterInstance, run_id: str, asset: AssetKey, total: int) -> None:
        self._instance = instance
        self._run_id = run_id
        self._asset = asset
        self._cursor: str | None = None
        self._progress = Progress(0, 0, total, 0)
        self._materialized = 0

    def read(self) -> Progress:
        while True:
            page = self._instance.get_records_for_run(
                self._run_id,
                cursor=self._cursor,
                of_type={DagsterEventType.ASSET_OBSERVATION, DagsterEventType.ASSET_MATERIALIZATION},
                limit=1000,
            )
            self._cursor = page.cursor
            for record in page.records:
                observed = record.event_log_entry.asset_observation
                written = record.event_log_entry.asset_materialization
                if observed is not None and observed.partition is None:
                    numbers = {name: int(str(value.value)) for name, value in observed.metadata.items()}
                    self._progress = Progress(
                        numbers["processed"], numbers["failed"], numbers["total"], numbers["rows"]
                    )
                elif written is not None and written.asset_key == self._asset:
                    self._materialized += 1
            if not page.has_more:
                # Between two heartbeats, the partitions materialized meanwhile are more up to date.
                return replace(self._progress, processed=max(self._progress.processed, self._materialized))


def _report(
    instance: DagsterInstance, run_id: str, rectangle: Rectangle, *, success: bool, seconds: float
) -> RunReport:
    asset = asset_key(rectangle.dataset, Step.WRITE)
    totals = dict.fromkeys(_TOTALS, 0)
    red: list[str] = []
    results = 0
    failed: dict[str, str] = {}
    error: str | None = None
    cursor: str | None = None
    while True:
        page = instance.get_records_for_run(
            run_id,
            cursor=cursor,
            of_type={
                DagsterEventType.ASSET_OBSERVATION,
                DagsterEventType.ASSET_MATERIALIZATION,
                DagsterEventType.ASSET_CHECK_EVALUATION,
                DagsterEventType.STEP_FAILURE,
            },
            limit=1000,
        )
        cursor = page.cursor
        for record in page.records:
            event = record.event_log_entry.dagster_event
            assert event is not None
            written = record.event_log_entry.asset_materialization or record.event_log_entry.asset_observation
            if written is not None and written.asset_key == asset and written.partition is not None:
                for total, names in _TOTALS.items():
                    totals[total] += sum(
                        int(str(written.metadata[name].value)) for name in names if name in written.metadata
                    )
            elif event.event_type is DagsterEventType.ASSET_CHECK_EVALUATION:
                results += 1
                result = event.asset_check_evaluation_data
                if not result.passed:
                    red.append(f"{result.check_name}: {result.description}")
            elif event.event_type is DagsterEventType.STEP_FAILURE:
                failure = event.step_failure_data
                data = failure.user_failure_data
                error = data.description if data is not None else _last_line(failure.error_display_string)
                table = data.metadata.get("partitions") if data is not None else None
                if isinstance(table, TableMetadataValue):
                    failed |= {str(row.data["partition"]): str(row.data["error"]) for row in table.records}
        if not page.has_more:
            break
    return RunReport(
        run_id=run_id,
        rectangle=rectangle,
        success=success,
        seconds=seconds,
        rows=totals,
        red_checks=red,
        check_results=results,
        failed=failed,
        error=None if success else error,
    )


def _last_line(text: str) -> str:
    """The cause of a stack trace: the last exception's own line."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith((" ", "Stack Trace"))]
    return lines[-1] if lines else text
