"""Which runs are dead, ending them, and which run waits for which: one rule, for the janitor and for whoever waits for a slot.

What lives here: the rule, and the pool's slots. What does not: the evidence (defs/history/run_process.py), the janitor's sensor
(defs/automation/stalled_runs.py), and the command that waits (defs/runs/launch.py).

A run is dead when its process is known to be gone; or, when nobody here can see its process, when it has given no sign of life for too
long. A run whose process lives is never dead, however slow. A killed run keeps its slot of the pool until somebody ends it: Dagster's
daemon knows only of runs that it launched, and there may be no daemon.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus

from reindex_assets.defs.history.run_process import ProcessState, process_of

#: Runs that a process works on, or is about to.
WITH_PROCESS = (
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)
#: Of these, the ones that give signs of life.
_AT_WORK = (DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING)
#: A run that waits inside for a slot of the pool says so only every five minutes (Dagster 1.13).
_WAITING_SECONDS = 300
#: How long a run that has ended may keep its slots, where its process can't be seen: as long as dagster.yaml lets the daemon wait.
_ENDED_SECONDS = 60
_SAFE = "Its partitions are free again; rerunning them is safe, no matter how far it got."


def end_if_dead(instance: DagsterInstance, run: DagsterRun, silent_seconds: float) -> str | None:
    """Ends a run that is dead, and frees its slots. Returns why it is dead; None if it is not, or has ended by itself.

    Args:
        silent_seconds: how long a run may be silent whose process can't be seen from here.
    """
    cause = _cause_of_death(instance, run, silent_seconds)
    if cause is None:
        return None
    # Only what it stored before its process was seen to be gone counts: it may have ended in between.
    latest = instance.get_run_by_id(run.run_id)
    if latest is None or latest.is_finished:
        return None
    if latest.status is DagsterRunStatus.CANCELING:
        instance.report_run_canceled(latest, f"{cause} {_SAFE}")
    else:
        instance.report_run_failed(latest, f"{cause} {_SAFE}")
    instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return cause


def _cause_of_death(instance: DagsterInstance, run: DagsterRun, silent_seconds: float) -> str | None:
    if run.status not in WITH_PROCESS:
        return None
    process = process_of(run)
    state = process.state() if process is not None else ProcessState.UNKNOWN
    if state is ProcessState.GONE:
        return f"The process of this run ({process}) is gone: it was killed, or its machine stopped it."
    if state is ProcessState.ALIVE or run.status not in _AT_WORK:
        return None
    records = instance.get_records_for_run(run.run_id, limit=1, ascending=False).records
    if not records:
        return None
    event = records[0].event_log_entry
    waits = (
        event.dagster_event is not None
        and event.dagster_event.event_type is DagsterEventType.ENGINE_EVENT
        and "pool" in event.dagster_event.engine_event_data.metadata
    )
    limit = silent_seconds + (_WAITING_SECONDS if waits else 0)
    silent = time.time() - event.timestamp
    if silent <= limit:
        return None
    return (
        f"No sign of life for {silent:.0f} s (limit {limit:g} s): the machine of this run is dead, cut off, or hangs."
    )


class PoolQueue:
    """What a run that waits for a slot of its pool waits for.

    Args:
        on_note: called with a sentence when the run begins to wait, when those change for which it waits, and when a slot of a dead run
            was freed.
    """

    def __init__(
        self, instance: DagsterInstance, pool: str, run_id: str, silent_seconds: float, on_note: Callable[[str], None]
    ) -> None:
        self._instance = instance
        self._pool = pool
        self._run_id = run_id
        self._silent_seconds = silent_seconds
        self._on_note = on_note
        self._noted = ""

    def is_full(self) -> bool:
        """Whether a run that asks now has to wait."""
        info = self._instance.event_log_storage.get_concurrency_info(self._pool)
        return info.limit is not None and len(info.active_run_ids | info.assigned_run_ids) >= info.limit

    def look(self) -> bool:
        """Frees the slots of dead runs, and says for whom the run waits. False once it has its slot: there is no need to look again."""
        info = self._instance.event_log_storage.get_concurrency_info(self._pool)
        if self._run_id in info.active_run_ids:
            return False
        if self._run_id not in {step.run_id for step in info.pending_steps}:
            # It has not asked yet, or has ended.
            return True
        # Those that wait as well: a dead one among them would be given the next slot.
        others = info.active_run_ids | {step.run_id for step in info.pending_steps} - {self._run_id}
        holders = [words for run_id in sorted(others) if (words := self._holder(run_id, run_id in info.active_run_ids))]
        if info.limit != 0 and (not holders or info.active_slot_count < (info.limit or 0)):
            return True
        held = f"held by {'; '.join(holders)}" if holders else "of which nobody gets one until the limit is raised"
        note = f"waiting for one of the {info.limit} slots of pool {self._pool}, {held}"
        if note != self._noted:
            self._noted = note
            self._on_note(note)
        return True

    def _holder(self, run_id: str, has_slot: bool) -> str:
        """A run that stands in the way, in words; "" if it only waits as well, or was in the way no longer."""
        instance = self._instance
        record = instance.get_run_record_by_id(run_id)
        if record is None:
            # It was deleted, with all that it did.
            self._free(run_id, "has been deleted")
            return ""
        run = record.dagster_run
        process = process_of(run)
        state = process.state() if process is not None else ProcessState.UNKNOWN
        if run.is_finished:
            ended = time.time() - (record.end_time or time.time())
            if state is ProcessState.GONE or (state is ProcessState.UNKNOWN and ended > _ENDED_SECONDS):
                self._free(run_id, f"has ended ({run.status.value})")
                return ""
        elif cause := end_if_dead(instance, run, self._silent_seconds):
            self._on_note(f"run {run_id} was marked as failed, and its slot is free. {cause}")
            return ""
        if not has_slot:
            return ""
        since = (
            "" if record.start_time is None else time.strftime(" since %H:%M:%S UTC", time.gmtime(record.start_time))
        )
        where = f", {process}" if process is not None else ""
        unseen = (
            f", whose process can't be seen from here: it counts as dead after {self._silent_seconds:g} s without a sign of life"
            if state is ProcessState.UNKNOWN and not run.is_finished
            else ""
        )
        return f"run {run_id} ({run.job_name}, {run.status.value}{since}{where}){unseen}"

    def _free(self, run_id: str, why: str) -> None:
        self._instance.event_log_storage.free_concurrency_slots_for_run(run_id)
        self._on_note(f"run {run_id} {why}, and its slot is free")
