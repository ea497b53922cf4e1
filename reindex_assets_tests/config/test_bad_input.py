"""Bad input: a row that can't be placed is quarantined with a reason in words, an odd value is copied to the bit, and nothing is lost.

What lives here: strange rows in Postgres. What does not: engines that are away or refuse (postgres/test_unusable_engines.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.parity import explain
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.oracle.compare import assert_equal, differences
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import CONVERSATION, PROCESS, Slice
from reindex_assets.reindex.job import Reindex
from reindex_assets_tests.support.comparing import compare
from reindex_assets_tests.support.hand_made_rows import CREATED_AT, add_scorecard, reindex, succeeded, update_scorecard

DAY = CREATED_AT.date()
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SLICE = Slice("acme", DAY)

pytestmark = pytest.mark.usefixtures("clean")


def of(column: str, value: str | None) -> dict[str, Any]:
    return {column: value}


def add_good_rows(source: Connection) -> None:
    for seconds in range(8):
        add_scorecard(source, NOON + timedelta(seconds=seconds))


def test_a_scorecard_without_a_usable_time_is_quarantined_under_the_day_of_its_creation(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    add_good_rows(source)
    words = {
        add_scorecard(source, time, profile="voice"): expected
        for time, expected in (
            (None, "is NULL"),
            ("infinity", "is infinite"),
            ("-infinity", "is infinite"),
            ("2025-12-31 23:59:59.999999+00", "before the first day of the fleet file"),
            ("1899-12-31 23:59:59.999999+00", "before the first day of the fleet file"),
            ("2300-01-01 00:00:00+00", "beyond 2299"),
            ("9999-12-31 00:00:00+00", "beyond 2299"),
        )
    }

    outcome = succeeded(reindex(fleet, [SLICE]))[SLICE]

    assert {row.scorecard_id for row in outcome.quarantined} == set(words)
    for row in outcome.quarantined:
        assert (row.customer, row.profile, row.day) == ("acme", "voice", DAY)
        assert "process_interaction_at" in row.reason
        assert words[row.scorecard_id] in row.reason
    assert_equal(source, shard_clients, first_day=fleet.first_day, kind="process")
    assert sum(write.written for write in outcome.writes.values()) == 8 + 16
    [parity] = compare(fleet.dataset(CLUSTER, PROCESS), [SLICE])
    assert parity.quarantined == outcome.quarantined
    assert parity.is_equal


def test_a_scorecard_without_a_time_that_was_created_before_the_first_day_is_reported_under_the_first_day(
    fleet: Fleet, source: Connection
) -> None:
    first = Slice("acme", fleet.first_day)
    long_ago = of("created_at", "2019-05-05 12:00:00+00")
    lost = add_scorecard(source, None, **long_ago)
    # Work of that time, which the fleet leaves out on purpose.
    add_scorecard(source, "2019-05-05 11:00:00+00", **long_ago)

    outcomes = succeeded(reindex(fleet, [first, SLICE]))

    assert [row.scorecard_id for row in outcomes[first].quarantined] == [lost]
    assert not outcomes[SLICE].quarantined


def test_a_scorecard_whose_template_revision_does_not_exist_is_quarantined_under_its_own_day(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    add_good_rows(source)
    revision = str(uuid4())
    next_day = Slice("acme", DAY + timedelta(days=1))
    bad = add_scorecard(source, NOON + timedelta(days=1), template_revision_id=revision)
    # Without a revision its kind is not known; one with a conversation is surely none of ours.
    add_scorecard(source, NOON, template_revision_id=revision, conversation_id="conversation-1")

    outcomes = succeeded(reindex(fleet, [SLICE, next_day]))

    [quarantined] = outcomes[next_day].quarantined
    assert quarantined.scorecard_id == bad
    assert revision in quarantined.reason
    assert "does not exist" in quarantined.reason
    assert not outcomes[SLICE].quarantined
    assert_equal(source, shard_clients, kind="process")


def test_a_scorecard_of_an_unknown_type_or_template_type_is_quarantined_with_the_type(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    add_good_rows(source)
    words = {
        add_scorecard(source, NOON, scorecard_type=number): f"its scorecard_type {number} is unknown"
        for number in (4, -1)
    }
    # Without a time, too.
    words[add_scorecard(source, None, scorecard_type=4)] = "its scorecard_type 4 is unknown"
    for number in (0, 3):
        for time in (NOON, None):
            revision = str(uuid4())
            with source.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO director.scorecard_template_revisions VALUES ('acme', 'main', %s, %s, %s)",
                    (revision, revision, number),
                )
            card = add_scorecard(source, time, template_id=revision, template_revision_id=revision)
            words[card] = f"its template type {number} is unknown"

    outcome = succeeded(reindex(fleet, [SLICE]))[SLICE]

    assert {row.scorecard_id for row in outcome.quarantined} == set(words)
    for row in outcome.quarantined:
        assert row.reason.startswith(words[row.scorecard_id])
    assert sum(write.written for write in outcome.writes.values()) == 8 + 16
    # The other kind is not told of them.
    assert not any(outcome.quarantined for outcome in Reindex(fleet.dataset(CLUSTER, CONVERSATION)).run([SLICE]))


def test_what_lies_in_the_future_is_quarantined_until_its_day_has_come(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    add_good_rows(source)
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    come = add_scorecard(source, today + timedelta(hours=23, minutes=59), created_at=today)
    later = {
        add_scorecard(source, time): DAY
        for time in (today + timedelta(days=1), today + timedelta(days=400), "2299-12-31 00:00:00+00")
    }
    # Created when it is to happen, or never: it counts today.
    later |= {
        add_scorecard(source, time, created_at=created): today.date()
        for time, created in (
            (today + timedelta(days=9), today + timedelta(days=9)),
            (None, "infinity"),
            ("infinity", "infinity"),
            (None, today + timedelta(days=1)),
        )
    }
    # One without a time that was created for ever in the past.
    later[add_scorecard(source, None, created_at="-infinity")] = fleet.first_day

    wanted = [SLICE, Slice("acme", today.date()), Slice("acme", fleet.first_day)]
    outcomes = succeeded(reindex(fleet, wanted))

    told = {row.scorecard_id: row.day for outcome in outcomes.values() for row in outcome.quarantined}
    assert told == later
    assert all(outcome.slice == row.slice for outcome in outcomes.values() for row in outcome.quarantined)
    assert shard_ids(shard_clients) >= {come}
    assert shard_ids(shard_clients).isdisjoint(later)


def shard_ids(shard_clients: Sequence[Client]) -> set[str]:
    """The scorecards in ClickHouse."""
    return {
        str(row[0])
        for client in shard_clients
        for row in client.query("SELECT scorecard_id FROM scorecard").result_rows
    }


def test_a_time_that_clickhouse_cannot_hold_is_quarantined_and_never_clamped(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    add_good_rows(source)
    bad = {
        add_scorecard(source, NOON, **of(column, value))
        for column, value in (
            ("submitted_at", "9999-12-31 00:00:00+00"),
            ("submitted_at", "-infinity"),
            ("updated_at", "2300-01-01 00:00:00+00"),
            ("created_at", "1899-12-31 23:59:59.999999+00"),
            ("created_at", "infinity"),
        )
    }

    outcome = succeeded(reindex(fleet, [SLICE]))[SLICE]

    assert {row.scorecard_id for row in outcome.quarantined} == bad
    assert all("outside the years 1900 to 2299" in row.reason for row in outcome.quarantined)
    # Those five and the two scores of each, which the oracle does not excuse; and nothing else.
    found = differences(source, shard_clients, kind="process")
    assert [line.split(":")[0] for line in found] == ["missing"] * 15
    assert {line.split()[3] for line in found} == bad


@pytest.mark.parametrize("column", ["created_at", "updated_at"])
def test_a_time_that_a_product_without_our_constraints_leaves_out_is_quarantined(
    fleet: Fleet, source: Connection, column: str
) -> None:
    add_good_rows(source)
    with source.cursor() as cursor:
        cursor.execute(f"ALTER TABLE director.scorecards ALTER {column} DROP NOT NULL")
    try:
        bad = add_scorecard(source, NOON, **of(column, None))
        [row] = succeeded(reindex(fleet, [SLICE]))[SLICE].quarantined
        assert row.scorecard_id == bad
        assert "created_at or updated_at is NULL" in row.reason
    finally:
        with source.cursor() as cursor:
            cursor.execute(f"DELETE FROM director.scorecards WHERE {column} IS NULL")
            cursor.execute(f"ALTER TABLE director.scorecards ALTER {column} SET NOT NULL")


def test_the_first_and_the_last_microsecond_that_clickhouse_can_hold_arrive(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    for column in ("submitted_at", "updated_at", "created_at"):
        add_scorecard(source, NOON, **of(column, "2299-12-31 23:59:59.999999+00"))
        add_scorecard(source, NOON, **of(column, "1900-01-01 00:00:00+00"))
    # The slice's own time too.
    early = fleet.model_copy(update={"first_day": date(1900, 1, 1)})
    ends = [Slice("acme", date(1900, 1, 1)), Slice("acme", date(2299, 12, 31))]
    for time in ("1900-01-01 00:00:00+00", "1900-01-01 23:59:59.999999+00", "2299-12-31 23:59:59.999999+00"):
        add_scorecard(source, time)

    outcomes = succeeded(reindex(early, [SLICE, *ends]))

    assert not any(outcome.quarantined for outcome in outcomes.values())
    assert_equal(source, shard_clients, kind="process")
    assert [explain(parity) for parity in compare(early.dataset(CLUSTER, PROCESS), [SLICE, *ends])] == [None] * 3


def test_a_scorecard_that_loses_its_time_leaves_clickhouse_and_is_reported(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    add_good_rows(source)
    lost = add_scorecard(source, NOON)
    succeeded(reindex(fleet, [SLICE]))
    update_scorecard(source, lost, process_interaction_at=None)

    outcome = succeeded(reindex(fleet, [SLICE]))[SLICE]

    assert [row.scorecard_id for row in outcome.quarantined] == [lost]
    assert sum(write.deleted for write in outcome.writes.values()) == 3
    assert sum(write.written for write in outcome.writes.values()) == 0
    assert_equal(source, shard_clients, kind="process")


def test_appeals_and_conversations_with_bad_times_are_not_reported(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    add_good_rows(source)
    for scorecard_type in (1, 2, 3):
        add_scorecard(source, None, scorecard_type=scorecard_type)
    add_scorecard(source, None, customer="globex")

    outcome = succeeded(reindex(fleet, [SLICE]))[SLICE]

    assert not outcome.quarantined
    assert_equal(source, shard_clients, kind="process")


def test_nan_infinity_and_minus_zero_are_copied_bit_for_bit_and_counted(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    add_scorecard(
        source,
        NOON,
        score="NaN",
        scores=[
            {"numeric_value": "NaN", "weight": "Infinity"},
            {"ai_value": "-Infinity", "percentage": "-0"},
            {"numeric_value": 5e-324, "weight": 1.7976931348623157e308, "percentage": 0.1},
        ],
    )
    add_scorecard(source, NOON, score="-0")
    add_scorecard(source, NOON, score=0)

    outcome = succeeded(reindex(fleet, [SLICE]))[SLICE]

    assert outcome.non_finite_values == 4
    assert_equal(source, shard_clients, kind="process")
    assert compare(fleet.dataset(CLUSTER, PROCESS), [SLICE])[0].is_equal
    again = succeeded(reindex(fleet, [SLICE]))[SLICE]
    assert sum(write.written + write.deleted for write in again.writes.values()) == 0


def test_a_zero_that_became_minus_zero_is_a_change(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    scorecard = add_scorecard(source, NOON, score=0)
    succeeded(reindex(fleet, [SLICE]))
    update_scorecard(source, scorecard, score="-0")
    assert not compare(fleet.dataset(CLUSTER, PROCESS), [SLICE])[0].is_equal

    outcome = succeeded(reindex(fleet, [SLICE]))[SLICE]

    assert sum(write.changed for write in outcome.writes.values()) == 1
    assert_equal(source, shard_clients, kind="process")


def test_times_before_1970_stand_on_the_right_day_and_shard_and_are_repaired_there(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    old = fleet.model_copy(update={"first_day": date(1969, 12, 25)})
    last_1969 = "1969-12-31 23:59:59.999999+00"
    times = [
        "1969-12-25 00:00:00+00",
        *(f"1969-12-31 23:59:{second}+00" for second in ("56", "57.000001", "58.5", "58.999999", "59")),
        last_1969,
        *(f"1970-01-01 00:00:0{second}+00" for second in ("0", "0.000001", "1", "2", "3")),
    ]
    ids = [add_scorecard(source, time) for time in times]
    slices = [Slice("acme", date(1969, 12, 25) + timedelta(days=offset)) for offset in range(8)]

    succeeded(reindex(old, slices))

    assert_equal(source, shard_clients, kind="process")
    parities = {parity.slice.day: parity for parity in compare(old.dataset(CLUSTER, PROCESS), slices)}
    assert all(parity.is_equal for parity in parities.values())
    assert parities[date(1969, 12, 31)].scorecards.postgres_rows == 6

    # Changed, moved over the turn of 1970, and gone.
    update_scorecard(source, ids[times.index(last_1969)], score=1)
    update_scorecard(source, ids[1], process_interaction_at="1970-01-01 12:00:00.5+00")
    update_scorecard(source, ids[2], scorecard_type=1)
    succeeded(reindex(old, slices))
    assert_equal(source, shard_clients, kind="process")


def test_long_texts_and_texts_of_any_script_arrive_unharmed(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    megabyte = "x€" * 262_144
    texts = [
        megabyte,
        "",
        " ",
        "日本語 — ελληνικά — العربية — 👩‍👩‍👧‍👦",
        "caf\u00e9 and cafe\u0301",
        "tab\tnew\nline\r\n\\N \\' \" ` ; -- /* */ {x:String} %s %(y)s $1",
        "\u0001\u001f\u007f\ufeff\u200b\uffff",
        "NULL",
        "~",
        "1:a,~",
    ]
    for number, text in enumerate(texts):
        add_scorecard(
            source,
            NOON + timedelta(seconds=number),
            profile=text[:100],
            agent_user_id=text,
            creator_user_id=text[:1000],
            scores=[{"criterion_id": text[:200], "text_value": text, "comment": text}],
        )

    outcome = succeeded(reindex(all_profiles(fleet), [SLICE]))[SLICE]

    assert sum(write.written for write in outcome.writes.values()) == 2 * len(texts)
    assert_equal(source, shard_clients, kind="process")
    assert compare(all_profiles(fleet).dataset(CLUSTER, PROCESS), [SLICE])[0].is_equal


def test_strange_texts_in_the_key_can_be_deleted_and_moved(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    whole = all_profiles(fleet)
    profiles = ["it's", "back\\slash", 'dou"ble', "`tick`", "日本", "a, b", "per%cent %s", "tab\t", "{a:String}", ""]
    ids = [add_scorecard(source, NOON, profile=profile) for profile in profiles]
    succeeded(reindex(whole, [SLICE]))
    for number, scorecard in enumerate(ids):
        change = {"scorecard_type": 1} if number % 2 else {"process_interaction_at": NOON + timedelta(days=1)}
        update_scorecard(source, scorecard, **change)

    succeeded(reindex(whole, [SLICE, Slice("acme", DAY + timedelta(days=1))]))

    assert_equal(source, shard_clients, kind="process")


def all_profiles(fleet: Fleet) -> Fleet:
    """The fleet with every profile of each customer in it, not only the listed ones."""
    cluster = fleet.clusters[CLUSTER]
    customers = {name: customer.model_copy(update={"profiles": ()}) for name, customer in cluster.customers.items()}
    return fleet.model_copy(
        update={"clusters": {**fleet.clusters, CLUSTER: cluster.model_copy(update={"customers": customers})}}
    )


def test_a_scorecard_without_scores_and_scores_without_a_scorecard_harm_nothing(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    add_scorecard(source, NOON, scores=[])
    orphaned = add_scorecard(source, NOON)
    with source.cursor() as cursor:
        cursor.execute("DELETE FROM director.scorecards WHERE scorecard_id = %s", (orphaned,))

    succeeded(reindex(fleet, [SLICE]))

    assert_equal(source, shard_clients, kind="process")
    assert compare(fleet.dataset(CLUSTER, PROCESS), [SLICE])[0].is_equal
