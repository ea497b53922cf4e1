"""Two lists of parts compared: whatever may have happened to the rows in between, the answer says so.

What lives here: `compare_parts` against a small simulator of a MergeTree partition. What does not: real parts (drift/test_marks.py).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reindex_assets.clickhouse.parts import Parts, compare_parts

MONTH = (2026, 1)
Row = tuple[int, int, int]  # block, number, value


@dataclass(frozen=True)
class Part:
    """Blocks `first` to `last`, rewritten by `mutation` (0: by none)."""

    first: int
    last: int
    level: int
    mutation: int
    rows: frozenset[Row]

    @property
    def name(self) -> str:
        return f"202601_{self.first}_{self.last}_{self.level}{f'_{self.mutation}' if self.mutation else ''}"


@dataclass
class Partition:
    """A month of a table on one shard, as the documentation and the sources of MergeTree have it."""

    parts: list[Part] = field(default_factory=list)
    table: int = 1
    start: int = 1_000
    next_block: int = 1
    mutations: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)
    serial: int = 0

    def listed(self) -> Parts:
        place = (0, "scorecard", f"uuid-{self.table}", "202601")
        names = {
            part.name: hashlib.sha256(repr(sorted(part.rows)).encode()).hexdigest() for part in self.parts if part.rows
        }
        # The server tells the second of its start now a little earlier, now a little later.
        server = {(0, "(server)", "", ""): {"start": str(self.start + self.serial % 2)}}
        return {**server, place: names} if names else {**server}

    @property
    def rows(self) -> frozenset[Row]:
        return frozenset().union(*(part.rows for part in self.parts))

    def _block(self) -> int:
        self.next_block += 1
        return self.next_block - 1

    def _commit(self, block: int, count: int) -> None:
        rows = frozenset((block, number, self._value()) for number in range(count + 1))
        self.parts = sorted([*self.parts, Part(block, block, 0, 0, rows)], key=lambda part: part.first)

    def _value(self) -> int:
        self.serial += 1
        return self.serial

    def insert(self, choice: int) -> None:
        self._commit(self._block(), choice % 3)

    def begin_insert(self, choice: int) -> None:
        self.pending.append(self._block())

    def end_insert(self, choice: int) -> None:
        """A block whose number was given out earlier is committed, or given up: a hole remains."""
        if self.pending:
            block = self.pending.pop(choice % len(self.pending))
            if choice % 3:
                self._commit(block, choice % 2)

    def _waits(self, part: Part) -> int:
        """How many mutations are still to rewrite a part."""
        return sum(mutation > (part.mutation or part.first) for mutation in self.mutations)

    def merge(self, choice: int, fold: bool = False) -> None:
        """Neighbours become one part. What is still being inserted between them stands in the way, and so do mutations."""
        if len(self.parts) < 2:
            return
        at = choice % (len(self.parts) - 1)
        left, right = self.parts[at : at + 2]
        if self._waits(left) != self._waits(right) or any(left.first < block < right.last for block in self.pending):
            return
        rows = sorted(left.rows | right.rows)
        level, mutation = max(left.level, right.level) + 1, max(left.mutation, right.mutation)
        merged = Part(left.first, right.last, level, mutation, frozenset(rows[1:] if fold else rows))
        self.parts[at : at + 2] = [merged]

    def merge_and_leave_out(self, choice: int) -> None:
        self.merge(choice, fold=True)

    def mutate(self, choice: int) -> None:
        """A mutation is asked for; parts are rewritten one by one, later."""
        self.mutations.append(self._block())

    def rewrite(self, choice: int) -> None:
        waiting = [at for at, part in enumerate(self.parts) if self._waits(part)]
        if not waiting:
            return
        at = waiting[choice % len(waiting)]
        part = self.parts[at]
        mutation = min(one for one in self.mutations if one > (part.mutation or part.first))
        rows = sorted(part.rows)
        if choice % 3 == 0:
            rows = rows[1:]
        elif choice % 3 == 1:
            rows = [(block, number, self._value()) for block, number, _ in rows]
        self.parts[at] = Part(part.first, part.last, part.level, mutation, frozenset(rows))

    def drop(self, choice: int) -> None:
        if self.parts:
            self.parts.pop(choice % len(self.parts))

    def truncate(self, choice: int) -> None:
        self.parts = []

    def recreate(self, choice: int) -> None:
        """With the same names of parts, and perhaps the same rows."""
        old = self.parts
        self.table += 1
        self.parts, self.mutations, self.pending = [], [], []
        self.next_block = 1
        if choice % 2:
            self.parts = old
            self.next_block = max((part.last for part in old), default=0) + 1

    def restart(self, choice: int) -> None:
        """Numbers go on after the highest block that is there."""
        self.start += 60
        self.pending = []
        self.next_block = max((max(part.last, part.mutation) for part in self.parts), default=0) + 1
        self.mutations = [mutation for mutation in self.mutations if mutation < self.next_block]


Story = list[tuple[str, int]]
STEPS = (
    *("merge", "merge_and_leave_out", "mutate", "rewrite", "begin_insert", "end_insert"),
    *("drop", "truncate", "recreate", "restart"),
)


@st.composite
def two_stories(draw: st.DrawFn) -> tuple[Story, Story]:
    """What happened before the first list and after it. Of a few kinds of steps each time: of all of them at once few go together."""
    kinds = draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=3, unique=True))
    kinds += [
        {"begin_insert": "end_insert", "mutate": "rewrite"}[kind]
        for kind in kinds
        if kind in ("begin_insert", "mutate")
    ]
    steps = st.tuples(st.sampled_from(["insert", *kinds]), st.integers(0, 11))
    return [("insert", 1)] * 2 + draw(st.lists(steps, max_size=8)), draw(st.lists(steps, max_size=8))


def tell(partition: Partition, story: Story) -> None:
    for step, choice in story:
        getattr(partition, step)(choice)


@settings(max_examples=700, deadline=None)
@given(stories=two_stories(), first_block=st.sampled_from([0, 1]))
# A mutation that has come half way; a block whose number was given to another after a start; the first block of a replicated table.
@example(stories=([("insert", 1), ("insert", 1), ("mutate", 0), ("rewrite", 4)], [("rewrite", 4)]), first_block=1)
@example(
    stories=([("insert", 1), ("insert", 1)], [("drop", 1), ("restart", 0), ("insert", 2), ("merge", 0)]), first_block=1
)
@example(stories=([("insert", 1)] * 3, [("drop", 1), ("merge", 0)]), first_block=1)
@example(stories=([], [("insert", 1)]), first_block=0)
def test_no_change_of_rows_goes_without_a_word(stories: tuple[Story, Story], first_block: int) -> None:
    before, after = stories
    partition = Partition(next_block=first_block)
    tell(partition, before)
    known, listed = partition.rows, partition.listed()
    tell(partition, after)

    changes = compare_parts(listed, partition.listed())

    if {MONTH, None} & changes.rewritten:
        return
    inserted = set(changes.inserted.get((0, "scorecard"), ()))
    for part in partition.parts:
        assert part.rows <= known or part.name in inserted, part
    if known - partition.rows:
        assert MONTH in changes.merged


@settings(max_examples=300, deadline=None)
@given(
    inserts=st.integers(0, 8),
    before=st.lists(st.integers(0, 11), max_size=3),
    after=st.lists(st.integers(0, 11), max_size=6),
)
def test_a_merge_of_known_neighbours_is_no_change_and_nothing_is_none(
    inserts: int, before: list[int], after: list[int]
) -> None:
    partition = Partition()
    tell(partition, [("insert", 1)] * inserts + [("merge", choice) for choice in before])
    listed = partition.listed()
    tell(partition, [("merge", choice) for choice in after])
    changes = compare_parts(listed, partition.listed())
    assert not changes.inserted
    assert not changes.rewritten
    assert compare_parts(listed, listed).nothing


@pytest.mark.parametrize(
    ("before", "after", "inserted", "rewritten"),
    [
        # A mutation that had come as far as the first of two parts when they were listed.
        (["202601_1_1_0_3", "202601_2_2_0"], ["202601_1_1_0_3", "202601_2_2_0_3"], False, True),
        (["202601_1_1_0_3", "202601_2_2_0"], ["202601_1_2_1_3"], False, True),
        # A part of after the mutation is merged with one that it has rewritten: its own number is no gap.
        (["202601_1_1_0_2", "202601_3_3_0"], ["202601_1_3_1_2"], False, False),
        # Any other gap may be an insert that ended late.
        (["202601_1_1_0_2", "202601_4_4_0"], ["202601_1_4_1_2"], True, False),
        # A replicated table gives the number 0 to its first block, and a part without a mutation says 0.
        ([], ["202601_0_0_0"], True, False),
        (["202601_1_1_0"], ["202601_0_0_0", "202601_1_1_0"], True, False),
        # A lightweight UPDATE: its rows show under the name of the part that they patch.
        (["202601_1_1_0"], ["202601_1_1_0", "patch-b933d9231352fd18ab1268083758ce66-202601_3_3_0_2"], False, True),
        (["202601_1_1_0"], ["202601_1_1_0", "202601_2_2_0_3_strange"], False, True),
    ],
)
def test_names_of_parts_as_the_engine_gives_them(
    before: list[str], after: list[str], inserted: bool, rewritten: bool
) -> None:
    def listed(names: list[str]) -> Parts:
        found: dict[tuple[int, str, str, str], dict[str, str]] = {}
        for name in names:
            found.setdefault((0, "score", "uuid", name.split("_")[0]), {})[name] = "same"
        return found

    changes = compare_parts(listed(before), listed(after))
    assert bool(changes.inserted) == inserted
    assert changes.rewritten == ({MONTH} if rewritten else frozenset())
