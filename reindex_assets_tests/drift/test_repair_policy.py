"""The ledger of repairs: patience, giving up, and taking up again, as pure functions of time.

What lives here: its rules, one by one and as properties. What does not: looks and runs (defs/test_repair_sensor.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from datetime import date, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reindex_assets.config.cluster import Watch
from reindex_assets.drift.repair_policy import Drift, Ledger, decide, requested
from reindex_assets.model import Slice

A, B = Slice("acme", date(2026, 1, 2)), Slice("globex", date(2026, 1, 1))
RULES = Watch(attempts=3, cool_down_seconds=10, slices_a_tick=5)


def drift(*rows: int, words: str = "1 scorecard missing") -> Drift:
    return Drift(words, np.array(rows, dtype=np.uint64))


class Story:
    """Ticks one after the other, each with what its look found."""

    def __init__(self, rules: Watch = RULES) -> None:
        self.rules = rules
        self.ledger = Ledger()
        self.now = 1_000.0

    def tick(
        self, drifted: dict[Slice, Drift], equal: Collection[Slice] = (), after: float = 0.0
    ) -> tuple[tuple[Slice, ...], set[Slice], set[Slice]]:
        """Slices whose repair is asked for, given up now, and recovered."""
        self.now += after
        decision = decide(self.ledger, drifted, equal, self.now, self.rules)
        self.ledger = requested(decision.ledger, decision.request, self.now)
        # As it is stored between two ticks.
        self.ledger = Ledger.model_validate_json(self.ledger.model_dump_json())
        return decision.request, set(decision.given_up), set(decision.recovered)


def test_new_drift_is_repaired_at_once_oldest_day_first() -> None:
    assert Story().tick({A: drift(1), B: drift(2)}) == ((B, A), set(), set())


def test_a_repaired_slice_leaves_the_ledger_and_may_drift_again_at_once() -> None:
    story = Story()
    story.tick({A: drift(1)})
    assert story.tick({}, [A], after=1) == ((), set(), {A})
    assert story.ledger.repairs == ()
    assert story.tick({A: drift(1)}, after=1)[0] == (A,)


def test_other_drift_in_a_slice_that_was_just_repaired_is_no_failure() -> None:
    story = Story()
    for number in range(20):
        request, given_up, _ = story.tick({A: drift(number)}, after=11)
        assert request == (A,)
        assert not given_up


def test_drift_that_outlasts_its_repairs_is_repaired_ever_more_rarely_and_given_up() -> None:
    story = Story()
    asked_at, given_up_at = [], []
    for _ in range(300):
        request, given_up, _ = story.tick({A: drift(1, 2)}, after=1)
        asked_at += [story.now] * (request == (A,))
        given_up_at += [story.now] * (given_up == {A})
    # 10 s, doubled by each failed repair.
    assert [second - first for first, second in itertools.pairwise(asked_at)] == [20, 40]
    assert len(given_up_at) == 1
    assert given_up_at[0] == asked_at[-1] + 1
    assert story.ledger.given_up[A].failed == 3


def test_a_given_up_slice_is_told_as_recovered_once_it_is_equal() -> None:
    story = Story(Watch(attempts=1, cool_down_seconds=0))
    story.tick({A: drift(1)})
    assert story.tick({A: drift(1)}, after=1)[1] == {A}
    assert story.tick({}, after=1) == ((), set(), set())
    assert story.tick({}, [A], after=1)[2] == {A}
    assert not story.ledger.given_up


def test_a_given_up_slice_is_tried_again_when_its_drift_changes_with_growing_pauses_and_stays_given_up() -> None:
    story = Story(Watch(attempts=2, cool_down_seconds=10))
    asked_at = []
    for second in range(4_000):
        # A busy slice: another row is missing every second, and the first one goes on missing.
        request, given_up, recovered = story.tick({A: drift(1, 100 + second)}, after=1)
        asked_at += [story.now] * bool(request)
        assert not recovered
        if given_up:
            assert len(asked_at) == 2
    pauses = [second - first for first, second in itertools.pairwise(asked_at)]
    assert pauses == [20, 40, 80, 160, 320, 640, 1280]
    assert A in story.ledger.given_up


def test_a_given_up_slice_is_left_alone_while_nothing_changes_until_an_operator_asks() -> None:
    story = Story(Watch(attempts=1, cool_down_seconds=1))
    story.tick({A: drift(1)})
    assert story.tick({A: drift(1)}, after=60)[1] == {A}
    assert A in story.ledger.paused(story.now, story.rules)
    assert [story.tick({A: drift(1)}, after=3_600)[0] for _ in range(5)] == [()] * 5

    story.ledger = story.ledger.asked_for([A], story.now)
    assert A not in story.ledger.paused(story.now, story.rules)
    assert story.tick({A: drift(1)}, after=1)[0] == (A,)
    # It is still the drift that a person was called for: nobody is called twice.
    assert story.tick({A: drift(1)}, after=60)[1] == set()
    assert A in story.ledger.given_up


def ahead(until: float) -> Drift:
    """Rows whose versions lie ahead of the clock, and nothing else."""
    return Drift("1 scorecard with a version ahead of the clock", np.array([], dtype=np.uint64), impossible_until=until)


def test_what_no_repair_can_mend_before_a_time_far_away_is_told_at_once_and_repaired_when_it_has_come() -> None:
    story = Story()
    until = story.now + 86_400
    assert story.tick({A: ahead(until)}) == ((), {A}, set())
    assert story.ledger.given_up[A].failed == 0
    # Nobody is told twice, no repair is tried, and nobody need look again, even when an operator asks.
    assert [story.tick({A: ahead(until)}, after=3_600) for _ in range(5)] == [((), set(), set())] * 5
    story.ledger = story.ledger.asked_for([A], story.now)
    assert A in story.ledger.paused(story.now, story.rules)
    assert story.tick({A: ahead(until)}, after=60) == ((), set(), set())
    # Its time has come. By the other clock it may be a little later, but no repair is tried before.
    story.now = until + 1
    assert A not in story.ledger.paused(story.now, story.rules)
    assert story.tick({A: ahead(until)})[0] == ()
    assert story.tick({A: drift(1)}, after=1) == ((A,), set(), {A})
    assert story.tick({}, [A], after=1)[2] == {A}


def test_what_can_be_repaired_soon_waits_without_a_word_and_what_can_be_repaired_now_does_not_wait() -> None:
    story = Story()
    assert story.tick({A: ahead(story.now + 60)}) == ((), set(), set())
    assert story.tick({A: drift(1)}, after=61)[0] == (A,)
    # The rows that could be repaired are; what is left is no failure of that repair.
    assert story.tick({A: ahead(story.now + 86_400)}, after=1) == ((), {A}, set())
    assert story.ledger.given_up[A].failed == 0


def test_what_nobody_looks_at_any_more_leaves_the_ledger() -> None:
    story = Story(Watch(attempts=1, cool_down_seconds=0))
    story.tick({A: drift(1), B: drift(2)})
    assert story.tick({A: drift(1), B: drift(2)}, after=1)[1] == {A, B}
    assert story.ledger.watched([B]).given_up.keys() == {B}
    assert story.ledger.watched([A, B]) == story.ledger


def test_a_request_whose_run_never_came_counts_as_a_failed_one() -> None:
    # Dagster could not launch it: the drift is there as before, and nothing is at work.
    story = Story()
    story.tick({A: drift(1)})
    story.tick({A: drift(1)}, after=60)
    assert story.ledger.by_slice()[A].failed == 1


def test_more_slices_than_a_tick_may_ask_for_wait_without_counting_as_failed() -> None:
    days = {Slice("acme", date(2026, 1, 1) + timedelta(days=number)): drift(number) for number in range(8)}
    story = Story()
    first, _, _ = story.tick(days)
    assert first == tuple(sorted(days)[:5])
    rest = {item: days[item] for item in days if item not in first}
    second, _, _ = story.tick(rest, first, after=1)
    assert second == tuple(sorted(rest))
    assert all(repair.failed == 0 for repair in story.ledger.repairs)


@given(
    st.lists(
        st.tuples(
            st.floats(0.1, 500),
            st.sampled_from(["same", "other", "more", "equal", "unseen", "asked"]),
        ),
        max_size=60,
    ),
    st.integers(1, 4),
)
def test_a_slice_is_never_asked_for_more_often_than_the_pauses_allow(
    ticks: list[tuple[float, str]], attempts: int
) -> None:
    rules = Watch(attempts=attempts, cool_down_seconds=10)
    story = Story(rules)
    rows = [1]
    last_asked: float | None = None
    for number, (after, event) in enumerate(ticks):
        if event == "asked":
            story.ledger = story.ledger.asked_for(list(story.ledger.given_up), story.now)
            last_asked = None
        rows = {"other": [1_000 + number], "more": [*rows, 1_000 + number]}.get(event, rows)
        drifted = {} if event in ("equal", "unseen") else {A: drift(*rows)}
        was_known = A in story.ledger.by_slice()
        request, _, recovered = story.tick(drifted, [A] if event == "equal" else [], after)
        if request:
            assert last_asked is None or story.now - last_asked >= rules.cool_down_seconds
            last_asked = story.now
        if event == "equal":
            assert story.ledger.repairs == ()
            assert bool(recovered) == was_known
            last_asked = None
        for repair in story.ledger.repairs:
            assert (repair.given_up_at is not None) or repair.failed < attempts
            assert len(repair.evidence) <= 16
