"""When a drifted slice is repaired, when it has to wait, and when it is given up.

What lives here: the rules, as pure functions of the ledger, the time and the result of a look. What does not: looking (drift/watch.py),
and starting runs (defs/automation/repair_sensor.py).

Drift is identified by its rows. If some of the same rows are still wrong in the same way after a repair, that repair has failed; other
rows are new drift. A slice that was given up is tried again when its drift changes in any way, with growing pauses because a busy slice
changes all the time, or when an operator asks for it.

Rows whose versions lie ahead of the clock can't be repaired before that time: no run may touch what is newer than its snapshot. Where only
such rows are left, no repair is tried. If their time is far away, a person is told at once; when it has come, they are repaired.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from reindex_assets.comparison.samples import version_text
from reindex_assets.config.cluster import Watch
from reindex_assets.config.dataset import Dataset
from reindex_assets.model import MICROSECONDS, Slice

#: How many rows of a slice's drift the ledger keeps.
_EVIDENCE_KEPT = 16
#: The longest pause between two repairs of a slice.
_LONGEST_PAUSE_SECONDS = 3_600.0
#: A longer wait than this for a repair to be possible at all is a person's business: a clock was wrong.
_LONGEST_WAIT_SECONDS = 600.0


def pause_seconds(rules: Watch, failed: int) -> float:
    """Seconds until the next repair of a slice after `failed` failed ones: at most an hour.

    >>> [pause_seconds(Watch(cool_down_seconds=10), failed) for failed in (0, 1, 2, 30)]
    [10.0, 20.0, 40.0, 3600.0]
    """
    return float(min(_LONGEST_PAUSE_SECONDS, rules.cool_down_seconds * 2 ** min(failed, 20)))


class Repair(BaseModel):
    """What has been done about one drifted slice. Times are seconds since the epoch.

    Attributes:
        seen_at: when this drift was first seen.
        differs: what differs, in words.
        evidence: hashes that identify some of the drifted rows and their state (SliceDifferences.evidence in comparison/parity.py).
        state: one hash over all drifted rows as last seen; `tried` is the same when the latest repair was requested.
        requested_at: when the latest repair was requested; None before the first.
        awaited: the latest repair was requested and its result has not been seen yet.
        failed: consecutive repairs that left the drift in place.
        given_up_at: when the slice was given up; None again once it is equal.
        asked_at: when an operator last asked for another try.
        impossible_until: no repair can succeed before, as all drifted rows have versions ahead of the clock.
    """

    model_config = ConfigDict(frozen=True)

    customer: str
    day: date
    seen_at: float
    differs: str
    evidence: tuple[int, ...]
    state: int
    tried: int | None = None
    requested_at: float | None = None
    awaited: bool = False
    failed: int = 0
    given_up_at: float | None = None
    asked_at: float | None = None
    impossible_until: float | None = None

    @property
    def heard_at(self) -> float:
        """Requests of operators up to this time have been answered, or came before the slice was given up."""
        return max(self.given_up_at or 0.0, self.asked_at or 0.0)

    @property
    def slice(self) -> Slice:
        return Slice(self.customer, self.day)

    def next_at(self, rules: Watch) -> float:
        """When the slice may be repaired again."""
        return 0.0 if self.requested_at is None else self.requested_at + pause_seconds(rules, self.failed)

    def seen_again(self, drift: Drift, now: float) -> Repair:
        """This repair after the slice was found different again."""
        update: dict[str, object] = {"differs": drift.differs, "state": drift.state, "awaited": False}
        update["impossible_until"] = drift.impossible_until
        both_impossible = None not in (drift.impossible_until, self.impossible_until)
        is_same = both_impossible or bool(np.isin(np.array(self.evidence, dtype=np.uint64), drift.evidence).any())
        if not is_same:
            # The old drift is gone, and this is new drift.
            update |= {"seen_at": now, "evidence": drift.kept, "failed": 0, "given_up_at": None}
        elif self.awaited and not both_impossible:
            update["failed"] = self.failed + 1
        return self.model_copy(update=update)


@dataclass(frozen=True, kw_only=True)
class GivenUp:
    """A repair that was given up, with its dataset."""

    dataset: Dataset
    repair: Repair


class Ledger(BaseModel):
    """All repairs of one dataset that are not finished."""

    model_config = ConfigDict(frozen=True)

    repairs: tuple[Repair, ...] = ()

    def by_slice(self) -> dict[Slice, Repair]:
        return {repair.slice: repair for repair in self.repairs}

    @property
    def given_up(self) -> dict[Slice, Repair]:
        return {repair.slice: repair for repair in self.repairs if repair.given_up_at is not None}

    def paused(self, now: float, rules: Watch) -> set[Slice]:
        """Slices that are known to differ and need no comparison until they change: given up, or waiting."""
        return {
            repair.slice
            for repair in self.repairs
            if (repair.impossible_until or 0.0) > now
            or (
                repair.failed
                and not repair.awaited
                and (repair.failed >= rules.attempts or repair.next_at(rules) > now)
            )
        }

    def watched(self, slices: Collection[Slice]) -> Ledger:
        """The ledger without slices that are no longer watched, because their day or their customer has left the look-back or the fleet."""
        return Ledger(repairs=tuple(repair for repair in self.repairs if repair.slice in slices))

    def asked_for(self, slices: Collection[Slice], now: float) -> Ledger:
        """The ledger after an operator asked for another try of given-up slices: their attempts start again from zero."""
        again = {"failed": 0, "requested_at": None, "awaited": False, "asked_at": now}
        return Ledger(
            repairs=tuple(
                repair.model_copy(update=again) if repair.slice in slices else repair for repair in self.repairs
            )
        )


@dataclass(frozen=True)
class Drift:
    """A drifted slice as seen by one look.

    Attributes:
        differs: what differs, in words.
        evidence: a hash of every drifted row that can be repaired now (uint64).
        impossible_until: when the first row can be repaired, if none can be now.
    """

    differs: str
    evidence: np.ndarray[Any, np.dtype[np.uint64]] = field(compare=False)
    impossible_until: float | None = None

    @property
    def kept(self) -> tuple[int, ...]:
        """The smallest hashes, so that the same drift always keeps the same ones."""
        return tuple(int(number) for number in np.sort(self.evidence)[:_EVIDENCE_KEPT])

    @property
    def state(self) -> int:
        """One hash for the whole drift. It changes as soon as any drifted row comes, goes or changes."""
        return (int(self.evidence.sum(dtype=np.uint64)) + len(self.evidence) * 0x9E3779B97F4A7C15) % 2**64


@dataclass(frozen=True)
class Decision:
    """What to do after a look.

    Attributes:
        ledger: the ledger after the look.
        request: slices to repair now, oldest day first. Pass those for which a run is requested to `requested`.
        given_up: slices given up by this decision.
        recovered: slices whose earlier drift is gone, including those that had been given up.
        waiting: drifted slices that are not repaired now, each with the reason.
    """

    ledger: Ledger
    request: tuple[Slice, ...] = ()
    given_up: Mapping[Slice, Repair] = field(default_factory=dict)
    recovered: Mapping[Slice, Repair] = field(default_factory=dict)
    waiting: Mapping[Slice, str] = field(default_factory=dict)


def decide(
    ledger: Ledger, drifted: Mapping[Slice, Drift], equal: Collection[Slice], now: float, rules: Watch
) -> Decision:
    """Decides what to do about the slices that a look has compared.

    Args:
        drifted: slices that differ and have no repair under way (a look leaves those out).
        equal: slices that were compared and are equal.
    """
    repairs = ledger.by_slice()
    recovered = {item: repairs.pop(item) for item in equal if item in repairs}
    given_up: dict[Slice, Repair] = {}
    waiting: dict[Slice, str] = {}
    request: list[Slice] = []
    for item, drift in sorted(drifted.items(), key=lambda entry: (entry[0].day, entry[0].customer)):
        before = repairs.get(item)
        if before is None:
            repair = Repair(
                customer=item.customer,
                day=item.day,
                seen_at=now,
                differs=drift.differs,
                evidence=drift.kept,
                state=drift.state,
                impossible_until=drift.impossible_until,
            )
        else:
            repair = before.seen_again(drift, now)
            if before.given_up_at is not None and repair.given_up_at is None:
                recovered[item] = before
        is_hopeless = repair.failed >= rules.attempts or (repair.impossible_until or 0.0) > now + _LONGEST_WAIT_SECONDS
        if is_hopeless and repair.given_up_at is None:
            repair = given_up[item] = repair.model_copy(update={"given_up_at": now})
        reason = reason_to_wait(repair, now, rules)
        if reason is None and len(request) >= rules.slices_a_tick:
            reason = f"more than {rules.slices_a_tick} partitions at once"
        if reason is None:
            request.append(item)
        else:
            waiting[item] = reason
        repairs[item] = repair
    return Decision(
        Ledger(repairs=tuple(repairs[item] for item in sorted(repairs))), tuple(request), given_up, recovered, waiting
    )


def requested(ledger: Ledger, slices: Collection[Slice], now: float) -> Ledger:
    """The ledger after repairs of these slices were requested."""
    return Ledger(
        repairs=tuple(
            repair.model_copy(update={"requested_at": now, "awaited": True, "tried": repair.state})
            if repair.slice in slices
            else repair
            for repair in ledger.repairs
        )
    )


def reason_to_wait(repair: Repair, now: float, rules: Watch) -> str | None:
    """Why the slice is not repaired now; None when it may be."""
    if repair.impossible_until is not None:
        return f"no repair can succeed before {version_text(round(repair.impossible_until * MICROSECONDS))}"
    if repair.failed >= rules.attempts and repair.state == repair.tried:
        return f"given up after {repair.failed} repairs, and nothing has changed since"
    if repair.next_at(rules) > now:
        until = datetime.fromtimestamp(repair.next_at(rules), UTC)
        return f"pause until {until:%H:%M:%S} UTC after {repair.failed} failed repairs"
    return None
