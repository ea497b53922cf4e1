"""Does a run's work in a background thread, so that the run can give signs of life meanwhile.

What lives here: the thread, the signs of life, and ending both. What does not: the work (reindex/job.py).
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextvars import ContextVar
from typing import TypeVar

from dagster import AssetExecutionContext

from reindex_assets.config.dataset import Dataset
from reindex_assets.defs.assets.run_config import ReindexConfig
from reindex_assets.defs.keys.names import REPAIR_TAG
from reindex_assets.model import Slice, Step
from reindex_assets.reindex.job import Progress, Reindex
from reindex_assets.reindex.pipeline import SliceOutcome

T = TypeVar("T")
H = TypeVar("H")

#: Seconds between two signs of life of a run.
HEARTBEAT_SECONDS = 10.0
_EVENTS_AT_ONCE = 100


#: Between two looks at whether the run is to end.
_LOOK_SECONDS = 1.0

#: Set by a command that runs assets in its own process, to have the run end after the statements that are under way.
STOP: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


def end_if_asked() -> None:
    """Ends the run of an interrupted command, as Dagster ends a run that is cancelled."""
    stop = STOP.get()
    if stop is not None and stop.is_set():
        raise KeyboardInterrupt


def in_background(call: Callable[[], T], heartbeat: Callable[[], H]) -> Generator[H, None, T]:
    """Runs `call` in a background thread and returns its result. Yields a heartbeat every `HEARTBEAT_SECONDS` until then."""
    with ThreadPoolExecutor(1, thread_name_prefix="compare") as worker:
        future = worker.submit(call)
        beat = time.monotonic()
        while not wait([future], _LOOK_SECONDS).done:
            end_if_asked()
            if time.monotonic() - beat >= HEARTBEAT_SECONDS:
                beat = time.monotonic()
                yield heartbeat()
        return future.result()


class _CancelledError(BaseException):
    """Ends the background thread of a cancelled run. Not an `Exception`, so that it does not count as a failure of the current slice."""


class BackgroundRun:
    """A reindex in a background thread, so that the run gives signs of life even during a long statement."""

    def __init__(
        self,
        context: AssetExecutionContext,
        dataset: Dataset,
        config: ReindexConfig,
        slices: list[Slice],
        steps: list[Step],
    ) -> None:
        self._events: queue.Queue[SliceOutcome | str | None] = queue.Queue()
        self._progress = Progress(0, 0, len(slices), 0)
        self._log = context.log
        self._error: BaseException | None = None
        self._cancelled = threading.Event()
        self._reindex = Reindex(
            dataset,
            config.options(is_repair=REPAIR_TAG in context.run.tags),
            run_id=context.run.run_id,
            on_outcome=self._events.put,
            on_progress=self._on_progress,
            on_retry=self._events.put,
        )
        self._thread = threading.Thread(target=self._work, args=(slices, steps), name="reindex", daemon=True)

    def _work(self, slices: list[Slice], steps: list[Step]) -> None:
        try:
            self._reindex.run(slices, steps)
        except BaseException as error:  # noqa: BLE001 - raised again in the run's own thread, by `outcomes`
            self._error = error
        finally:
            self._events.put(None)

    def _on_progress(self, progress: Progress) -> None:
        if self._cancelled.is_set():
            raise _CancelledError
        self._progress = progress

    def outcomes(self) -> Iterator[list[SliceOutcome] | Progress]:
        """Starts the work. Yields the outcomes of slices as they arrive, and the progress every `HEARTBEAT_SECONDS`."""
        # A run that was interrupted while it waited for its slot begins nothing.
        end_if_asked()
        self._thread.start()
        beat = time.monotonic()
        yield self._progress
        try:
            ended = False
            while not ended:
                end_if_asked()
                outcomes = []
                for event in self._next_events():
                    if event is None:
                        ended = True
                    elif isinstance(event, SliceOutcome):
                        outcomes.append(event)
                    else:
                        self._log.warning(event)
                if outcomes:
                    yield outcomes
                if not ended and time.monotonic() - beat >= HEARTBEAT_SECONDS:
                    beat = time.monotonic()
                    yield self._progress
        finally:
            # Reached early when the run is cancelled: the worker stops at its next batch and drops its staging tables.
            self._cancelled.set()
            self._thread.join()
        if self._error is not None:
            raise self._error
        yield self._progress

    def _next_events(self) -> list[SliceOutcome | str | None]:
        """The events that have arrived, after a short wait if there are none; few enough to be stored between two heartbeats."""
        events: list[SliceOutcome | str | None] = []
        with contextlib.suppress(queue.Empty):
            events.append(self._events.get(timeout=HEARTBEAT_SECONDS / 10))
            while len(events) < _EVENTS_AT_ONCE:
                events.append(self._events.get_nowait())
        return events
