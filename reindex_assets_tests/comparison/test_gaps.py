"""Gaps in days: by the counts around them, and in real engines."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.gaps import MANY, Gap, find_gaps, gap
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets_tests.support.hand_made_rows import add_scorecard, reindex, succeeded

#: Days that are unknown, empty, almost busy, busy.
ROWS = st.sampled_from([None, 0, 0, 1, MANY - 1, MANY, MANY + 1])


@given(st.lists(ROWS, min_size=28, max_size=28), st.integers(0, 27))
def test_a_gap_is_an_empty_day_between_days_with_many_that_is_not_empty_every_week(
    rows: list[int | None], offset: int
) -> None:
    offsets = {number: count for number, count in enumerate(rows) if count is not None}
    first = date(2026, 3, 1)
    counts = {first + timedelta(days=number): count for number, count in offsets.items()}
    found = gap(counts, first + timedelta(days=offset))

    def nearest(day: int, sign: int) -> int | None:
        near = [day + sign * step for step in (1, 2, 3) if offsets.get(day + sign * step, 0) >= MANY]
        return near[0] if near else None

    def is_hole(day: int) -> bool:
        return offsets.get(day, 0) == 0 and nearest(day, -1) is not None and nearest(day, 1) is not None

    weekly = any(other in offsets and is_hole(other) for other in (offset - 7, offset + 7))
    if not is_hole(offset) or weekly:
        assert found is None
        return
    before, after = nearest(offset, -1), nearest(offset, 1)
    assert before is not None
    assert after is not None
    assert found == Gap(
        before=first + timedelta(days=before),
        before_rows=offsets[before],
        after=first + timedelta(days=after),
        after_rows=offsets[after],
    )


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_same_day_of_the_week_before_and_of_the_week_after_explain_an_empty_day(sign: int) -> None:
    day = date(2026, 3, 14)
    busy = {day + timedelta(days=distance): MANY for distance in range(-13, 14)}
    assert gap(busy | {day: 0}, day) is not None
    assert gap(busy | {day: 0, day + timedelta(days=7 * sign): 0}, day) is None
    # What is unknown explains nothing.
    known = {other: rows for other, rows in busy.items() if other != day + timedelta(days=7 * sign)}
    assert gap(known | {day: 0}, day) is not None


# --- in real engines

#: Far enough from the fleet's first day for a week before, and the days around that.
DAY = date(2026, 1, 20)
ITEM = Slice("acme", DAY)


def fill(source: Connection, rows: Mapping[int, int], customer: str = "acme", day: date = DAY) -> None:
    """Scorecards on days around one."""
    for distance, count in rows.items():
        noon = datetime.combine(day + timedelta(days=distance), time(12), UTC)
        for number in range(count):
            add_scorecard(source, noon + timedelta(seconds=number), customer=customer, scores=())


def gaps_of(fleet: Fleet, *slices: Slice) -> dict[Slice, Gap]:
    with Comparison(fleet.dataset(CLUSTER, PROCESS)) as comparison:
        return find_gaps(comparison, comparison.sums(slices))


def around(before: int, after: int, rows: int = MANY) -> Gap:
    return Gap(
        before=DAY - timedelta(days=before), before_rows=rows, after=DAY + timedelta(days=after), after_rows=rows
    )


@pytest.mark.usefixtures("clean")
def test_a_day_that_is_empty_in_clickhouse_is_a_gap_by_the_days_of_postgres(fleet: Fleet, source: Connection) -> None:
    # Postgres has some, and ClickHouse none of them yet.
    fill(source, {-3: MANY, 0: 2, 3: MANY})
    assert gaps_of(fleet, ITEM) == {ITEM: around(3, 3)}
    # The next day is between them, too; the one before them isn't.
    others = [Slice("acme", DAY + timedelta(days=distance)) for distance in (1, -4)]
    assert list(gaps_of(fleet, ITEM, *others)) == [ITEM]

    succeeded(reindex(fleet, [ITEM]))
    assert gaps_of(fleet, ITEM) == {}


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_day_that_is_empty_every_week_is_no_gap_in_real_engines(fleet: Fleet, source: Connection, sign: int) -> None:
    fill(source, {-1: MANY, 1: MANY})
    assert gaps_of(fleet, ITEM) == {ITEM: around(1, 1)}
    # The week's day is empty between the farthest days that count.
    fill(source, {7 * sign - 3: MANY, 7 * sign + 3: MANY})
    assert gaps_of(fleet, ITEM) == {}


@pytest.mark.usefixtures("clean")
def test_the_days_of_another_customer_before_the_first_day_and_to_come_count_for_nothing(
    fleet: Fleet, source: Connection
) -> None:
    fill(source, {-1: MANY}, customer="acme")
    fill(source, {1: MANY}, customer="globex")
    assert gaps_of(fleet, ITEM, Slice("globex", DAY)) == {}

    fill(source, {-1: MANY, 1: MANY}, day=fleet.first_day)
    assert gaps_of(fleet, Slice("acme", fleet.first_day)) == {}

    today = datetime.now(UTC).date()
    fill(source, {-1: MANY, 1: MANY}, day=today)
    assert gaps_of(fleet, Slice("acme", today)) == {}
