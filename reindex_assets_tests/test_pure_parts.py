"""Properties of the parts that do no I/O: grouping, placement, cutting, ranges, names, and what a comparison says.

What lives here: hypothesis against the plainest independent computation of each. What does not: engines (placement/test_placement.py
asks them).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reindex_assets.clickhouse.shards import quoted
from reindex_assets.comparison.gaps import gap
from reindex_assets.comparison.parity import SliceParity, TableParity, explain
from reindex_assets.config.engines import ClickHouse, Postgres, SecretRef, Shard
from reindex_assets.config.fleet import Cluster, Customer, Fleet
from reindex_assets.defs.keys.partitions import ended_days, range_tags, slices_of_run
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import SCORE, SCORECARD, SHARD, Slice, days_between
from reindex_assets.reindex.rows import count_by_slice_and_shard, cut_by_shard, cut_by_slice, non_finite, with_shards
from reindex_assets.selection.groups import group_slices
from reindex_assets.selection.rectangles import cover, neighbours, plan_rectangles
from reindex_assets.selection.shard_rule import shards_by_time

NAMES = [f"customer-{letter}" for letter in "abcdefg"]
FIRST_DAY = date(2026, 1, 1)
SECRET = SecretRef(env="UNUSED")
CLUSTER = Cluster(
    postgres=Postgres(host="db", database="app", user="reader", password=SECRET),
    clickhouse=ClickHouse(password=SECRET, shards=(Shard(host="shard"),)),
    customers={name: Customer() for name in NAMES},
)
FLEET = Fleet(first_day=FIRST_DAY, clusters={"here": CLUSTER})

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
days = st.integers(0, 60).map(lambda offset: FIRST_DAY + timedelta(days=offset))
slices = st.builds(Slice, st.sampled_from(NAMES), days)
times = st.datetimes(datetime(1900, 1, 1), datetime(2299, 12, 31, 23, 59, 59, 999_999), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds
shard_counts = st.integers(1, 64)


# --- grouping


@given(
    st.sets(slices, max_size=120),
    st.dictionaries(slices, st.integers(0, 50), max_size=120),
    st.integers(1, 200),
    st.integers(1, 40),
)
def test_groups_cover_exactly_the_slices_asked_for_within_both_limits(
    asked: set[Slice], rows: dict[Slice, int], max_rows: int, max_slices: int
) -> None:
    groups = group_slices(asked, CLUSTER, FIRST_DAY, rows, max_rows, max_slices=max_slices)

    covered = Counter(item for group in groups for item in group.slices)
    assert set(covered) == asked
    assert set(covered.values()) <= {1}
    for group in groups:
        assert len(group.slices) <= max_slices
        assert sum(rows.get(item, 0) for item in group.slices) <= max_rows or len(group.slices) == 1
        assert group.floor_day == FIRST_DAY


@given(st.sets(st.sampled_from(NAMES), min_size=1), days, st.integers(0, 20))
def test_a_rectangle_without_limits_is_one_group(customers: set[str], first: date, length: int) -> None:
    span = days_between(first, first + timedelta(days=length))
    asked = [Slice(customer, day) for customer in customers for day in span]
    [group] = group_slices(asked, CLUSTER, FIRST_DAY, {}, 1_000_000)
    assert (list(group.days), set(group.customer_names)) == (span, customers)


@given(st.sets(st.sampled_from(NAMES), min_size=1), st.sets(days, min_size=1, max_size=20))
def test_days_that_lie_apart_are_one_group_too(customers: set[str], chosen: set[date]) -> None:
    asked = [Slice(customer, day) for customer in customers for day in chosen]
    [group] = group_slices(asked, CLUSTER, FIRST_DAY, {}, 1_000_000)
    assert (list(group.days), set(group.customer_names)) == (sorted(chosen), customers)
    covered = [day for first, last in group.spans for day in days_between(first, last)]
    assert covered == sorted(chosen)
    assert all(after > before + timedelta(days=1) for (_, before), (after, _) in itertools.pairwise(group.spans))


def test_a_group_has_no_more_runs_of_days_than_a_statement_should_name() -> None:
    asked = [Slice(NAMES[0], FIRST_DAY + timedelta(days=2 * number)) for number in range(45)]
    groups = group_slices(asked, CLUSTER, FIRST_DAY, {}, 1_000_000)
    assert [len(group.spans) for group in groups] == [20, 20, 5]


def by_time(batch: pa.RecordBatch, shard_count: int) -> pa.RecordBatch:
    """The batch with the shards of its times."""
    return with_shards(batch, shards_by_time(batch, shard_count))


def test_an_unknown_customer_in_a_group_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown customer 'nobody'.*customer-a"):
        group_slices([Slice("nobody", FIRST_DAY)], CLUSTER, FIRST_DAY, {}, 1)


@given(st.lists(st.sampled_from(NAMES), max_size=10))
def test_neighbours_hold_each_chosen_customer_once_in_longest_runs(chosen: list[str]) -> None:
    runs = neighbours(CLUSTER, chosen)

    assert [name for run in runs for name in run] == [name for name in NAMES if name in chosen]
    positions = [[NAMES.index(name) for name in run] for run in runs]
    assert all(run == list(range(run[0], run[-1] + 1)) for run in positions)
    # Two runs that touch would be one.
    assert all(after[0] > before[-1] + 1 for before, after in itertools.pairwise(positions))


@given(st.lists(st.sampled_from(NAMES), max_size=5), days, days)
def test_a_plan_covers_what_was_named_and_refuses_a_range_that_runs_backwards(
    chosen: list[str], first: date, last: date
) -> None:
    if first > last:
        with pytest.raises(ConfigurationError, match="runs backwards"):
            plan_rectangles(FLEET, chosen, first, last)
        return
    planned = Counter(item for rectangle in plan_rectangles(FLEET, chosen, first, last) for item in rectangle.slices)
    assert planned == Counter({Slice(name, day): 1 for name in chosen or NAMES for day in days_between(first, last)})


@given(st.integers(1, 10_000))
def test_days_before_the_first_day_are_refused(before: int) -> None:
    with pytest.raises(ConfigurationError, match="the first day of the fleet file"):
        plan_rectangles(FLEET, [], FIRST_DAY - timedelta(days=before), FIRST_DAY)


# --- partitions


@given(st.text(min_size=1), st.dates())
def test_a_slice_comes_back_from_its_partition_key(customer: str, day: date) -> None:
    item = Slice(customer, day)
    assert Slice.of(item.partition_key) == item


@given(st.integers(0, 6), st.integers(0, 6), days, st.integers(0, 9), st.data())
def test_a_run_that_was_given_less_or_other_than_its_range_is_refused(
    one: int, other: int, first: date, length: int, data: st.DataObject
) -> None:
    customers = NAMES[min(one, other) : max(one, other) + 1]
    span = days_between(first, first + timedelta(days=length))
    tags = range_tags(customers, span[0], span[-1])
    keys = [Slice(customer, day).partition_key for customer in customers for day in span]

    assert {item.partition_key for item in slices_of_run(CLUSTER, keys, tags)} == set(keys)
    subset = data.draw(st.sets(st.sampled_from(keys), max_size=len(keys) - 1))
    outside = Slice("customer-a", span[-1] + timedelta(days=1)).partition_key
    for wrong in (sorted(subset), [*keys, outside], [*keys[1:], outside]):
        with pytest.raises(ConfigurationError, match="nothing was done"):
            slices_of_run(CLUSTER, wrong, tags)


@given(st.lists(slices, min_size=1, max_size=5))
def test_a_run_without_a_range_does_the_partitions_that_it_was_given(given_slices: list[Slice]) -> None:
    assert slices_of_run(CLUSTER, [item.partition_key for item in given_slices], {}) == given_slices


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(1, 366), st.dates(date(2000, 1, 1), date(2100, 1, 1)))
def test_the_days_that_have_ended_are_the_last_ones_before_today(today: date, look_back: int, first_day: date) -> None:
    found = ended_days(today, look_back, first_day)
    expected = [
        day for back in range(look_back, 0, -1) if (day := today - timedelta(days=back)) >= first_day
    ]  # fmt: skip
    assert found == ((expected[0], expected[-1]) if expected else None)


# --- placement and cutting


def batch_of(rows: list[tuple[str, datetime]]) -> pa.RecordBatch:
    """Rows as far as placement looks at them, each with a number of its own."""
    return pa.RecordBatch.from_arrays(
        [
            pa.array([customer for customer, _ in rows], pa.string()),
            pa.array([(time - EPOCH) // MICROSECOND for _, time in rows], pa.int64()).cast(pa.timestamp("us", "UTC")),
            pa.array(range(len(rows)), pa.int64()),
        ],
        names=["customer", "scorecard_time", "number"],
    )


def exact_shard(time: datetime, shard_count: int) -> int:
    """floor(epoch) mod N in exact arithmetic."""
    seconds = math.floor(Fraction((time - EPOCH) // MICROSECOND, 1_000_000))
    return seconds - shard_count * math.floor(Fraction(seconds, shard_count))


rows_lists = st.lists(st.tuples(st.sampled_from(NAMES), times), min_size=1, max_size=60)


@given(rows_lists, shard_counts)
def test_each_row_gets_the_shard_of_its_floored_second(rows: list[tuple[str, datetime]], shard_count: int) -> None:
    placed = by_time(batch_of(rows), shard_count)
    assert placed.column(SHARD).to_pylist() == [exact_shard(time, shard_count) for _, time in rows]
    assert placed.schema.field(SHARD).type == pa.uint16()


@given(rows_lists)
def test_cutting_by_slice_loses_nothing_doubles_nothing_and_names_the_right_day(
    rows: list[tuple[str, datetime]],
) -> None:
    parts = list(cut_by_slice(batch_of(rows)))

    assert len({part.slice for part in parts}) == len(parts)
    found = {number: part.slice for part in parts for number in part.rows.column("number").to_pylist()}
    assert sum(part.rows.num_rows for part in parts) == len(rows)
    assert found == {number: Slice(customer, time.date()) for number, (customer, time) in enumerate(rows)}


@given(rows_lists, shard_counts)
def test_cutting_by_shard_loses_nothing_and_doubles_nothing(rows: list[tuple[str, datetime]], shard_count: int) -> None:
    batch = batch_of(rows)
    found: dict[int, int] = {}
    total = 0
    for shard, part in cut_by_shard(by_time(batch, shard_count), shard_count):
        assert part.schema == batch.schema
        assert part.num_rows
        total += part.num_rows
        found |= dict.fromkeys(part.column("number").to_pylist(), shard)
    assert total == len(rows)
    assert found == {number: exact_shard(time, shard_count) for number, (_, time) in enumerate(rows)}


@given(rows_lists, shard_counts)
def test_counts_by_slice_and_shard_are_those_of_the_rows(rows: list[tuple[str, datetime]], shard_count: int) -> None:
    assert count_by_slice_and_shard(by_time(batch_of(rows), shard_count)) == Counter(
        (Slice(customer, time.date()), exact_shard(time, shard_count)) for customer, time in rows
    )


@given(st.lists(st.tuples(*[st.one_of(st.none(), st.floats())] * 2), max_size=30))
def test_values_that_are_no_number_are_counted(values: list[tuple[float | None, float | None]]) -> None:
    columns = [pa.array([row[position] for row in values], pa.float64()) for position in range(2)]
    batch = pa.RecordBatch.from_arrays([*columns, pa.array(range(len(values)))], names=["one", "two", "number"])
    assert non_finite(batch) == sum(value is not None and not math.isfinite(value) for row in values for value in row)


# --- names and words


@given(st.text())
def test_a_quoted_identifier_ends_where_it_should_and_says_what_it_said(name: str) -> None:
    text = quoted(name)
    assert text[0] == text[-1] == "`"
    read, characters = "", iter(text[1:-1])
    for character in characters:
        # A bare backquote inside would end the identifier.
        assert character != "`"
        read += next(characters) if character == "\\" else character
    assert read == name


tables = st.builds(
    TableParity,
    postgres_rows=st.integers(0, 3),
    clickhouse_rows=st.integers(0, 3),
    distinct_rows=st.integers(0, 3),
    misplaced_rows=st.integers(0, 1),
    digests_agree=st.booleans(),
)


@given(tables, tables)
def test_an_explanation_is_absent_exactly_when_both_tables_are_right(
    scorecards: TableParity, scores: TableParity
) -> None:
    parity = SliceParity(Slice("acme", FIRST_DAY), {SCORECARD.name: scorecards, SCORE.name: scores})
    right = all(
        table.postgres_rows == table.clickhouse_rows == table.distinct_rows
        and table.misplaced_rows == 0
        and table.digests_agree
        for table in (scorecards, scores)
    )
    assert (explain(parity) is None) == right == parity.is_equal


# --- repairs are put together into few runs


@given(
    st.sets(st.tuples(st.integers(0, 7), st.integers(0, 20)), min_size=1, max_size=25),
    st.sets(st.tuples(st.integers(0, 7), st.integers(0, 20)), max_size=40),
    st.integers(1, 4),
    st.integers(0, 100_000),
)
def test_rectangles_cover_what_is_wanted_avoid_what_is_not_and_are_few_where_that_is_cheap(
    wanted_places: set[tuple[int, int]], avoid_places: set[tuple[int, int]], most: int, rows: int
) -> None:
    names = [f"customer-{number}" for number in range(8)]
    cluster = CLUSTER.model_copy(update={"customers": {name: Customer() for name in names}})
    first = date(2026, 1, 1)

    def slices(places: set[tuple[int, int]]) -> set[Slice]:
        return {Slice(names[number], first + timedelta(days=offset)) for number, offset in places}

    wanted, avoid = slices(wanted_places), slices(avoid_places - wanted_places)
    found = cover("c", cluster, wanted, avoid, most, lambda item: rows)
    covered = [item for rectangle in found for item in rectangle.slices]
    assert set(covered) >= wanted
    assert not avoid & set(covered)
    assert [rectangle.first_day for rectangle in found] == sorted(rectangle.first_day for rectangle in found)
    if not avoid and rows == 0 and len(wanted) > 1:
        # 8 x 21 empty slices are worth two starts of a run at the most.
        assert len(found) <= max(most, 3)
    if rows > 60_000 or most >= len(wanted):
        # Too dear, or not needed: nothing is taken along but what lies within others' rectangles.
        assert len(set(covered)) <= len(wanted) + 5 * len(found)


def test_a_day_of_every_customer_and_all_days_of_one_are_a_run_each() -> None:
    day = date(2026, 1, 5)
    everyone = {Slice(name, day) for name in NAMES}
    [found] = cover("c", CLUSTER, everyone, set(), 1)
    assert set(found.slices) == everyone
    [found] = cover("c", CLUSTER, {Slice(NAMES[1], day + timedelta(days=offset)) for offset in range(9)}, set(), 1)
    assert (found.customers, found.first_day, found.last_day) == ((NAMES[1],), day, day + timedelta(days=8))


# --- gaps


@given(st.dictionaries(st.integers(0, 27), st.integers(0, 60), max_size=28), st.integers(0, 27))
def test_a_gap_is_an_empty_day_between_days_with_many_that_is_not_empty_every_week(
    offsets: dict[int, int], offset: int
) -> None:
    first = date(2026, 3, 1)
    counts = {first + timedelta(days=number): count for number, count in offsets.items()}
    found = gap(counts, first + timedelta(days=offset))

    def is_hole(day: int) -> bool:
        around = [[offsets.get(day + sign * step, 0) >= 20 for step in (1, 2, 3)] for sign in (-1, 1)]
        return offsets.get(day, 0) == 0 and all(any(side) for side in around)

    weekly = any(other in offsets and is_hole(other) for other in (offset - 7, offset + 7))
    assert (found is not None) == (is_hole(offset) and not weekly)
