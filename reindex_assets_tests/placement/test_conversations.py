"""Scorecards of conversations: the second kind, through the same code.

What lives here: what is its own: the time out of the chats, the shard that holds the conversation, and the reasons to hold rows back. What
does not: what both kinds share, which the other files test with process scorecards.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from uuid import uuid4

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.count_queries import count_both_sides
from reindex_assets.comparison.differences import Difference
from reindex_assets.config.cluster import Customer
from reindex_assets.config.default_tables import SCORE, SCORECARD
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import PlacementError, SchemaMismatchError
from reindex_assets.local.data.made_data import change_source
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import CONVERSATION, PROCESS, Slice, Step
from reindex_assets.reindex.job import Reindex
from reindex_assets_tests.support import running
from reindex_assets_tests.support.conversations import (
    CHAT,
    COLUMNS,
    ITEM,
    PLAN,
    SLICES,
    compare,
    conversations,
    reindex,
    scorecard_of,
    shards_of,
    start_later,
)
from reindex_assets_tests.support.merges import merge_all


@pytest.mark.usefixtures("held")
def test_every_scorecard_stands_on_the_shard_of_its_conversation_and_again_nothing_is_written(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    first = reindex(fleet)
    assert running.reported(first).written > 2_000
    oracle.assert_equal(source, shard_clients, kind="conversation")
    # Process scorecards are another kind's business.
    assert running.count_rows(shard_clients, "scorecard", "template_type != 1") == [0, 0]
    again = reindex(fleet)
    assert (running.reported(again).written, running.reported(again).deleted) == (0, 0)
    assert all(parity.sums_agree for parity in compare(fleet).values())
    # Those whose conversation is nowhere are placed by its time, and told.
    told = sum(outcome.scorecards_without_conversation_shard or 0 for outcome in first)
    with source.cursor() as cursor:
        cursor.execute("SELECT customer, profile, conversation_id FROM app.chats")
        chats = set(cursor.fetchall())
    there = {
        row
        for client in shard_clients
        for row in client.query("SELECT customer, profile, conversation_id FROM conversation").result_rows
    }
    nowhere = chats - there
    placed = [
        row
        for client in shard_clients
        for row in client.query("SELECT customer, profile, conversation_id FROM scorecard").result_rows
    ]
    assert told == sum(row in nowhere for row in placed) > 0


@pytest.mark.usefixtures("held")
def test_after_changes_in_postgres_only_these_are_written(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    reindex(fleet)
    change_source(source, PLAN, seed=3)
    start_later(source, ITEM, "1 day")
    written = running.reported(reindex(fleet)).written
    assert 0 < written < 200
    merge_all(shard_clients)
    oracle.assert_equal(source, shard_clients, kind="conversation")


#: How a scorecard loses its place, and what is said of it.
WITHOUT_A_PLACE = [
    (
        "UPDATE director.scorecards SET conversation_id = 'gone' WHERE scorecard_id = %(card)s::uuid",
        "is not in app.chats",
    ),
    (
        "UPDATE director.scorecards SET conversation_id = NULL WHERE scorecard_id = %(card)s::uuid",
        "is not in app.chats",
    ),
    (
        f"DELETE FROM app.chats WHERE {CHAT}",
        "is not in app.chats",
    ),
    (
        f"UPDATE app.chats SET conversation_start_time = NULL WHERE {CHAT}",
        "conversation_start_time is NULL",
    ),
    (
        f"UPDATE app.chats SET conversation_start_time = 'infinity' WHERE {CHAT}",
        "conversation_start_time is infinite",
    ),
    (
        "UPDATE director.scorecards SET template_revision_id = gen_random_uuid() WHERE scorecard_id = %(card)s::uuid",
        "does not exist",
    ),
]


@pytest.mark.usefixtures("held")
def test_a_scorecard_that_has_no_place_is_told_and_leaves_clickhouse(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    reindex(fleet)
    # Each in a slice of its own.
    slices = SLICES[: len(WITHOUT_A_PLACE)]
    lost = [scorecard_of(source, item) for item in slices]
    for item, (customer, profile, card, chat), (edit, _) in zip(slices, lost, WITHOUT_A_PLACE, strict=True):
        with source.cursor() as cursor:
            cursor.execute(
                "UPDATE director.scorecards SET created_at = %s WHERE scorecard_id = %s::uuid",
                (f"{item.day} 23:00Z", card),
            )
            cursor.execute(edit, {"card": card, "chat": chat, "customer": customer, "profile": profile})
            assert cursor.rowcount == 1
    outcomes = reindex(fleet)
    # The other kind says nothing of them.
    others = [
        row.scorecard_id
        for outcome in Reindex(fleet.dataset(CLUSTER, PROCESS)).run(slices)
        for row in outcome.quarantined
    ]
    for item, (_, _, card, _), (_, reason) in zip(slices, lost, WITHOUT_A_PLACE, strict=True):
        [told] = [row for outcome in outcomes for row in outcome.quarantined if row.scorecard_id == card]
        assert reason in told.reason
        assert told.slice == item
        assert shards_of(shard_clients, card) == []
        assert card not in others
    merge_all(shard_clients)
    oracle.assert_equal(source, shard_clients, kind="conversation")


@pytest.mark.usefixtures("held")
def test_a_row_beside_another_shards_conversation_is_on_a_wrong_shard_and_comes_home(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    reindex(fleet)
    _, _, card, conversation = scorecard_of(source, ITEM, 1)
    [shard] = shards_of(shard_clients, card)
    # The conversation wanders, and nobody has moved its scorecards.
    other = (shard + 1) % len(shard_clients)
    [row] = conversations(shard_clients[shard], conversation)
    shard_clients[shard].command(f"DELETE FROM conversation WHERE conversation_id = '{conversation}'")
    shard_clients[other].insert("conversation", [row], column_names=COLUMNS)

    parity = compare(fleet)[ITEM]
    assert parity.scorecards.misplaced_rows >= 1
    assert parity.differences is not None
    assert parity.differences.of(Difference.WRONG_SHARD, SCORECARD) == parity.scorecards.misplaced_rows
    assert parity.differences.of(Difference.WRONG_SHARD, SCORE) == parity.scores.misplaced_rows > 0
    with Comparison(fleet.dataset(CLUSTER, CONVERSATION)) as comparison:
        assert ITEM in count_both_sides(comparison, SLICES).disagreeing()

    reindex(fleet, [ITEM])
    assert shards_of(shard_clients, card) == [other]
    oracle.assert_equal(source, shard_clients, kind="conversation")
    assert all(parity.sums_agree for parity in compare(fleet).values())


@pytest.mark.usefixtures("held")
def test_of_several_shards_with_the_same_conversation_the_first_one_counts(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    _, _, _, conversation = scorecard_of(source, ITEM)
    rows = [row for client in shard_clients for row in conversations(client, conversation)]
    for client in shard_clients[1:]:
        client.insert("conversation", rows[:1], column_names=COLUMNS)
    reindex(fleet)
    oracle.assert_equal(source, shard_clients, kind="conversation")
    assert all(parity.sums_agree for parity in compare(fleet).values())
    # One more, before all of them: everything of it moves there.
    shard_clients[0].insert("conversation", rows[:1], column_names=COLUMNS)
    assert not compare(fleet)[ITEM].is_equal
    reindex(fleet)
    oracle.assert_equal(source, shard_clients, kind="conversation")


@pytest.mark.usefixtures("held")
def test_the_shard_of_a_conversation_is_the_same_whichever_days_are_asked_for(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    reindex(fleet)
    # One that the second shard holds, and the first one too, on a day far outside.
    [row] = (
        shard_clients[1]
        .query(
            f"SELECT {', '.join(COLUMNS)} FROM conversation WHERE (customer, profile, conversation_id) IN"
            f" (SELECT customer, profile, conversation_id FROM scorecard WHERE customer = 'acme' AND day = '{ITEM.day}') LIMIT 1"
        )
        .result_rows
    )
    far = (*row[:3], datetime(2026, 1, 31, tzinfo=UTC) - timedelta(days=200), *row[4:])
    shard_clients[0].insert("conversation", [far], column_names=COLUMNS)
    wide = [Slice("acme", ITEM.day - timedelta(days=days)) for days in range(210)]
    earlier = fleet.model_copy(update={"first_day": wide[-1].day})

    narrow = compare(fleet, [ITEM])[ITEM]
    assert narrow.differences is not None
    assert narrow.differences.of(Difference.WRONG_SHARD, SCORECARD) == narrow.scorecards.misplaced_rows >= 1
    assert compare(earlier, wide)[ITEM].differences == narrow.differences
    with Comparison(fleet.dataset(CLUSTER, CONVERSATION)) as comparison:
        assert count_both_sides(comparison, [ITEM]).disagreeing() == [ITEM]

    reindex(fleet, [ITEM])
    oracle.assert_equal(source, shard_clients, kind="conversation")
    assert compare(fleet, [ITEM])[ITEM].sums_agree
    assert compare(earlier, wide)[ITEM].sums_agree


#: Two conversations (profile and id) that any separator between the two makes one.
LOOK_ALIKE = [("main\x1fa", "b"), ("main", "a\x1fb"), ("main:1", "2"), ("main", "1:2")]


@pytest.mark.usefixtures("held")
def test_conversations_whose_names_look_alike_keep_their_own_shards(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    cluster = fleet.clusters[CLUSTER]
    every_profile = cluster.model_copy(update={"customers": {**cluster.customers, "acme": Customer()}})
    fleet = fleet.model_copy(update={"clusters": {**fleet.clusters, CLUSTER: every_profile}})
    start = datetime.combine(ITEM.day, time(12), UTC)
    cards = []
    for number, (profile, conversation) in enumerate(LOOK_ALIKE):
        ids = {"profile": profile, "chat": conversation, "card": str(uuid4()), "template": str(uuid4()), "start": start}
        with source.cursor() as cursor:
            cursor.execute(
                "INSERT INTO director.scorecard_template_revisions"
                " VALUES ('acme', %(profile)s, %(template)s, %(template)s, 1)",
                ids,
            )
            cursor.execute("INSERT INTO app.chats VALUES ('acme', %(profile)s, %(chat)s, NULL, %(start)s)", ids)
            cursor.execute(
                "INSERT INTO director.scorecards (customer, profile, scorecard_id, template_id, template_revision_id,"
                " conversation_id, created_at, updated_at)"
                " VALUES ('acme', %(profile)s, %(card)s, %(template)s, %(template)s, %(chat)s, %(start)s, %(start)s)",
                ids,
            )
        held = ("acme", profile, conversation, start, None, 1)
        shard_clients[number % 2].insert("conversation", [held], column_names=COLUMNS)
        cards.append(ids["card"])
    reindex(fleet)
    assert [shards_of(shard_clients, str(card)) for card in cards] == [[0], [1], [0], [1]]
    oracle.assert_equal(source, shard_clients, kind="conversation")
    assert compare(fleet, [ITEM])[ITEM].sums_agree


@pytest.mark.usefixtures("held")
def test_each_step_alone_places_rows_in_the_same_way(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    for step in Step:
        reindex(fleet, steps=[step])
    oracle.assert_equal(source, shard_clients, kind="conversation")


@pytest.mark.usefixtures("held")
def test_without_the_products_conversations_nothing_is_written(fleet: Fleet, shard_clients: list[Client]) -> None:
    shard_clients[1].command("RENAME TABLE conversation TO elsewhere")
    try:
        with pytest.raises(SchemaMismatchError, match=r"shard 1 .* has no table conversation"):
            reindex(fleet)
    finally:
        shard_clients[1].command("RENAME TABLE elsewhere TO conversation")
    assert running.count_rows(shard_clients, "scorecard") == [0, 0]


@pytest.mark.usefixtures("held")
def test_shards_in_another_order_are_noticed_by_the_conversations_they_hold(
    fleet: Fleet, shard_clients: list[Client]
) -> None:
    reindex(fleet)
    for client in shard_clients:
        client.command("TRUNCATE TABLE reindex_layout")
    # Scorecards and conversations move together, so another order is as right as this one; but not when the conversations are gone.
    reindex(running.with_shards(fleet, [1, 0]))
    for client in shard_clients:
        client.command("TRUNCATE TABLE reindex_layout")
        client.command("TRUNCATE TABLE conversation")
    with pytest.raises(PlacementError, match="live conversation scorecards"):
        reindex(fleet)


@pytest.mark.usefixtures("held")
def test_a_scorecard_that_becomes_one_of_the_other_kind_leaves_this_one(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    reindex(fleet)
    Reindex(fleet.dataset(CLUSTER, PROCESS)).run(SLICES)
    _, _, card, _ = scorecard_of(source, ITEM)
    revision = uuid4()
    with source.cursor() as cursor:
        cursor.execute(
            "INSERT INTO director.scorecard_template_revisions (customer, profile, template_id, template_revision_id, template_type)"
            " SELECT customer, profile, template_id, %s, 2 FROM director.scorecards WHERE scorecard_id = %s::uuid",
            (str(revision), card),
        )
        cursor.execute(
            "UPDATE director.scorecards SET template_revision_id = %s, process_interaction_at = %s, conversation_id = NULL"
            " WHERE scorecard_id = %s::uuid",
            (str(revision), datetime(2026, 1, 31, 12, tzinfo=UTC), card),
        )
    reindex(fleet)
    assert shards_of(shard_clients, card) == []
    Reindex(fleet.dataset(CLUSTER, PROCESS)).run(SLICES)
    merge_all(shard_clients)
    oracle.assert_equal(source, shard_clients, kind="conversation")
    oracle.assert_equal(source, shard_clients, kind="process")
