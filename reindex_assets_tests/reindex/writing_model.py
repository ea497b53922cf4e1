"""The writing protocol of one key, as a model that can be searched to its end.

What lives here: what Postgres, two shards and two writers may do with one row, step by step, with every fault that a statement may meet.
What does not: the statements (clickhouse/difference.py, clickhouse/deletes.py), whose decisions are written down here a second time; and
real engines (reindex/test_evidence.py).

Every order of the steps is tried, with at most a few edits, faults and attempts. Each state is looked at once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple


class Row(NamedTuple):
    """A physical row of the key."""

    shard: int
    version: int
    value: int


class Source(NamedTuple):
    """The row as Postgres has it: what is in it, and the shard that it belongs on."""

    value: int
    shard: int


@dataclass(frozen=True)
class Decision:
    """What a writer has decided about the key on one shard."""

    is_upsert: bool = False
    #: Where the newest row is right: only rows older than it go, each by its version.
    is_right: bool = False
    delete_below: int = 0
    is_changed: bool = False


@dataclass(frozen=True)
class Effect:
    """A change of one shard that a statement asks for. A delete takes `versions`, or whatever is older than `below`."""

    shard: int
    insert: Row | None = None
    below: int = 0
    versions: tuple[int, ...] | None = None

    def of(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        if self.insert is not None:
            return tuple(sorted((*rows, self.insert)))
        return tuple(row for row in rows if not self._takes(row))

    def _takes(self, row: Row) -> bool:
        if row.shard != self.shard:
            return False
        return row.version < self.below if self.versions is None else row.version in self.versions


#: The steps of a writer, in their order. Each of the last three is one statement a shard.
STEPS = ("read", "settle", "compare", "insert", "expect", "delete 0", "delete 1", "tidy 0", "tidy 1")


@dataclass(frozen=True)
class Writer:
    """A run: what it has read, and how far it is."""

    step: int = -1
    snapshot: int = 0
    read: Source | None = None
    decisions: tuple[Decision, ...] = ()
    attempts: int = 0


@dataclass(frozen=True)
class State:
    """Everything, and how many edits and faults may still come."""

    source: Source | None
    rows: tuple[Row, ...]
    writers: tuple[Writer, ...]
    edits: int
    faults: int
    clock: int = 1
    #: Acknowledged, or timed out, and still to come.
    late: tuple[Effect, ...] = ()
    #: A run has made the row right, and Postgres has had it ever since: readers must not miss it for an instant.
    is_guarded: bool = True
    edited_at: int = 0
    last: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The rules that the product keeps. Each may be left out, to see what it is for."""

    expects_upserts: bool = True
    keeps_right_rows: bool = True
    inserts_first: bool = True
    bounds_by_version: bool = True
    waits_for_late_deletes: bool = True
    locks: bool = True


def decide(protocol: Protocol, rows: tuple[Row, ...], shard: int, writer: Writer) -> Decision:
    """What has to happen to the key on a shard, by the rows that stand there now."""
    live = [row for row in rows if row.shard == shard]
    snapshot = writer.snapshot
    expected = writer.read.value if writer.read is not None and writer.read.shard == shard else None
    newest = max((row.version for row in live), default=0)
    oldest = min((row.version for row in live), default=0)
    if expected is None:
        return Decision(delete_below=snapshot if live and oldest < snapshot else 0)
    if len(live) == 1 and live[0].value == expected:
        return Decision()
    latest = [row for row in live if row.version == newest]
    is_right = protocol.keeps_right_rows and len(latest) == 1 and latest[0].value == expected
    below = min(newest, snapshot) if is_right else snapshot
    is_upsert = not is_right and (not live or newest < snapshot)
    return Decision(
        is_upsert=is_upsert,
        is_right=is_right,
        delete_below=below if live and oldest < below else 0,
        is_changed=is_upsert or newest >= snapshot,
    )


class Search:
    """Looks at every state that can be reached."""

    def __init__(self, protocol: Protocol, *, with_repeats: bool = True) -> None:
        """Args:
        with_repeats: whether statements may be done late or twice. Each is a copy more, which the next attempt can't see or can't tell
            from its twin.
        """
        self.protocol = protocol
        self.with_repeats = with_repeats
        self.before: dict[State, State | None] = {}
        self.most_copies = 0

    def run(self, start: State) -> list[str] | None:
        """How the protocol was broken, step by step; None if it can't be."""
        # The first one, one of a run, and one for each time that the application may write it.
        self.most_copies = 2 + start.edits
        self.before = {start: None}
        waiting = [start]
        while waiting:
            state = waiting.pop()
            problem = self.problem(state)
            if problem is not None:
                return [*self.trail(state), problem]
            for after in self.successors(state):
                if after not in self.before:
                    self.before[after] = state
                    waiting.append(after)
        return None

    def trail(self, state: State | None) -> list[str]:
        steps: list[str] = []
        while state is not None:
            steps.append(state.last)
            state = self.before[state]
        return steps[::-1]

    def problem(self, state: State) -> str | None:
        if state.is_guarded and not state.rows:
            return "a row is invisible that Postgres has had all the while"
        copies = {row.version for row in state.rows if (row.value, row.shard) == state.source}
        if len(copies) > self.most_copies:
            return f"{len(copies)} versions of a row that is right"
        rows = state.rows
        for effect in state.late:
            rows = effect.of(rows)
        healed = self.healed(state.source, rows, state.clock)
        right = () if state.source is None else ((state.source.shard, state.source.value),)
        if tuple((row.shard, row.value) for row in healed) != right:
            return f"after a healthy run there is {healed}, and Postgres has {state.source}"
        return None

    @functools.cache  # noqa: B019 - a search lives as long as its test
    def healed(self, source: Source | None, rows: tuple[Row, ...], clock: int) -> tuple[Row, ...]:
        """The rows after one run without faults that nothing disturbs."""
        state = State(source=source, rows=rows, writers=(Writer(attempts=1),), edits=0, faults=0, clock=clock)
        while state.writers[0].attempts or state.writers[0].step >= 0:
            [state] = self.advance(state, 0)
        return state.rows

    # --- what may happen next

    def successors(self, state: State) -> Iterator[State]:
        if state.edits:
            yield from edited(state)
        for position, effect in enumerate(state.late):
            left = state.late[:position] + state.late[position + 1 :]
            yield replace(state, rows=effect.of(state.rows), late=left, last=f"late: {effect}")
        for number in range(len(state.writers)):
            yield from self.advance(state, number)

    def advance(self, state: State, number: int) -> Iterator[State]:
        """The next step of a writer, as it should be, and with each fault."""
        writer = state.writers[number]
        step = STEPS[writer.step + 1]
        if step == "read":
            is_free = all(other.step < 0 for other in state.writers) or not self.protocol.locks
            if writer.attempts and is_free:
                begun = Writer(step=0, snapshot=state.clock, read=state.source, attempts=writer.attempts - 1)
                yield self.moved(replace(state, clock=state.clock + 1), number, begun, f"reads {state.source}")
            return
        if step == "settle":
            waits = self.protocol.waits_for_late_deletes and any(effect.insert is None for effect in state.late)
            if not waits:
                yield self.moved(state, number, replace(writer, step=writer.step + 1), "finds no delete at work")
            elif not state.faults:
                # It gives up in the end.
                yield self.ended(state, number, "waits in vain for a delete")
            return
        if step == "compare":
            decisions = tuple(decide(self.protocol, state.rows, shard, writer) for shard in range(2))
            decided = replace(writer, step=writer.step + 1, decisions=decisions)
            yield self.moved(state, number, decided, f"decides {decisions}")
            return
        if step == "expect":
            if self.is_expected(state, writer):
                yield self.moved(state, number, replace(writer, step=writer.step + 1), "sees what it has inserted")
            else:
                yield self.ended(state, number, "does not see what it has inserted")
            return
        effects = self.effects(state, writer, step)
        further = replace(writer, step=writer.step + 1)
        if step == STEPS[-1]:
            further = Writer(attempts=0)
            if state.source is not None and writer.snapshot >= state.edited_at:
                state = replace(state, is_guarded=True)
        yield self.done(state, number, effects, further, f"{step}: {effects}")
        if state.faults and effects:
            faulty = replace(state, faults=state.faults - 1)
            again = Writer(attempts=writer.attempts)
            yield self.moved(faulty, number, further, f"{step} is acknowledged and not done")
            yield self.moved(faulty, number, again, f"{step} fails before")
            yield self.done(faulty, number, effects, again, f"{step} fails after")
            if not self.with_repeats:
                return
            yield self.done(faulty, number, effects + effects, further, f"{step} is done twice")
            later = replace(faulty, late=(*faulty.late, *effects))
            yield self.moved(later, number, further, f"{step} is acknowledged and done late: {effects}")
            yield self.moved(later, number, again, f"{step} times out and is done late: {effects}")

    def is_expected(self, state: State, writer: Writer) -> bool:
        return not self.protocol.expects_upserts or all(
            any(row.shard == shard and row.version >= writer.snapshot for row in state.rows)
            for shard, decision in enumerate(writer.decisions)
            if decision.is_upsert
        )

    def effects(self, state: State, writer: Writer, step: str) -> tuple[Effect, ...]:
        """What a statement asks for, by what is visible when it is sent."""
        name, _, place = step.partition(" ")
        if not self.protocol.inserts_first:
            name = {"insert": "delete", "delete": "insert"}.get(name, name)
        shards = (0, 1) if not place else (int(place),)
        found: list[Effect] = []
        for shard in shards:
            decision = writer.decisions[shard]
            versions = [row.version for row in state.rows if row.shard == shard]
            if name == "insert" and decision.is_upsert and writer.read is not None:
                found.append(Effect(shard, insert=Row(shard, writer.snapshot, writer.read.value)))
            if name == "delete" and decision.delete_below:
                below = decision.delete_below if self.protocol.bounds_by_version else state.clock + 1
                older = tuple(sorted({version for version in versions if version < below}))
                found.append(Effect(shard, below=below, versions=older if decision.is_right else None))
            if name == "tidy" and decision.is_changed and versions:
                newest = max(versions)
                below = writer.snapshot + (newest > writer.snapshot)
                if newest >= writer.snapshot and min(versions) < below:
                    found.append(Effect(shard, below=below))
        return tuple(found)

    # --- states

    def done(self, state: State, number: int, effects: tuple[Effect, ...], writer: Writer, what: str) -> State:
        rows = state.rows
        for effect in effects:
            rows = effect.of(rows)
        return self.moved(replace(state, rows=rows), number, writer, what)

    def ended(self, state: State, number: int, what: str) -> State:
        return self.moved(state, number, Writer(attempts=state.writers[number].attempts), what)

    def moved(self, state: State, number: int, writer: Writer, what: str) -> State:
        writers = (*state.writers[:number], writer, *state.writers[number + 1 :])
        return replace(state, writers=writers, last=f"writer {number} {what}")


def edited(state: State) -> Iterator[State]:
    """What the application may do in Postgres. It may write the row to ClickHouse, too, which arrives some time later."""
    source = state.source
    if source is None:
        choices: tuple[Source | None, ...] = (Source(0, 0), Source(0, 1))
    else:
        choices = (Source(1 - source.value, source.shard), Source(source.value, 1 - source.shard), None)
    for choice in choices:
        after = replace(
            state,
            source=choice,
            edits=state.edits - 1,
            clock=state.clock + 1,
            edited_at=state.clock,
            is_guarded=state.is_guarded and choice is not None,
            last=f"Postgres: {choice}",
        )
        yield after
        if choice is not None:
            row = Row(choice.shard, state.clock, choice.value)
            yield replace(after, late=(*after.late, Effect(choice.shard, insert=row)))
