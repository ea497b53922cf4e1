"""The comparison: it sees each kind of drift where it is and nowhere else, and keeps quiet when nothing differs.

What lives here: compare and explain against drift planted by others' SQL, and against data loaded by a loader of its own. What does not:
the bits of the digest and rows in flight (comparison/test_parity_details.py).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.parity import SliceParity, explain
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ConfigurationError, ShardUnreachableError, SourceUnreachableError
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets_tests.support.comparing import compare
from reindex_assets_tests.support.hand_made_rows import silent_port, with_postgres, with_shard_port
from reindex_assets_tests.support.plain_loader import load_plainly

FIRST_DAY = date(2026, 1, 28)
PLAN = DataPlan(
    {"acme": ("main", "voice"), "globex": ("main",), "initech": ("main",)}, FIRST_DAY, days=9, scale=0.0008, seed=6
)
SLICES = [Slice(customer, day) for customer in PLAN.customers for day in PLAN.all_days]


@pytest.fixture
def equal(clean: None, source: Connection, shard_clients: list[Client]) -> None:
    make_source(source, PLAN)
    load_plainly(source, shard_clients)


def different(found: list[SliceParity]) -> dict[Slice, str]:
    return {parity.slice: words for parity in found if (words := explain(parity)) is not None}


@pytest.mark.usefixtures("equal")
def test_equal_data_are_equal_and_counted(fleet: Fleet, source: Connection) -> None:
    found = compare(fleet.dataset(CLUSTER, PROCESS), SLICES)

    assert different(found) == {}
    assert [parity.slice for parity in found] == sorted(SLICES)
    assert all(parity.is_equal for parity in found)
    counted = {parity.slice: (parity.scorecards.clickhouse_rows, parity.scores.clickhouse_rows) for parity in found}
    with source.cursor() as cursor:
        cursor.execute(
            """
            SELECT customer, (process_interaction_at AT TIME ZONE 'UTC')::date,
                count(DISTINCT (profile, scorecard_id)), count(*)
            FROM director.scorecards
            JOIN director.scorecard_template_revisions USING (customer, profile, template_id, template_revision_id)
            JOIN historic.scorecard_scores USING (customer, profile, scorecard_id)
            WHERE template_type = 2 AND scorecard_type IS DISTINCT FROM 1 AND scorecard_type IS DISTINCT FROM 2
                AND scorecard_type IS DISTINCT FROM 3
            GROUP BY 1, 2
            """
        )
        assert counted == {Slice(customer, day): (cards, scores) for customer, day, cards, scores in cursor.fetchall()}
    for parity in found:
        for table in (parity.scorecards, parity.scores):
            assert sum(table.by_shard) == table.clickhouse_rows == table.postgres_rows == table.distinct_rows
            assert len(table.by_shard) == 2


@pytest.mark.usefixtures("equal")
def test_everything_on_empty_shards_is_missing_and_in_an_empty_source_extra(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    with source.cursor() as cursor:
        cursor.execute("DELETE FROM director.scorecards WHERE customer = 'acme'")
    for client in shard_clients:
        client.command("DELETE FROM scorecard WHERE customer = 'globex'", settings={"lightweight_deletes_sync": 2})
        client.command("DELETE FROM score WHERE customer = 'globex'", settings={"lightweight_deletes_sync": 2})

    found = {parity.slice: parity for parity in compare(fleet.dataset(CLUSTER, PROCESS), SLICES)}

    for item, parity in found.items():
        for table in parity.tables.values():
            assert (table.postgres_rows == 0) == (item.customer == "acme")
            assert (table.clickhouse_rows == 0) == (item.customer == "globex")
    assert {item.customer for item in different(list(found.values()))} == {"acme", "globex"}


@pytest.mark.usefixtures("clean")
def test_two_empty_sides_are_equal_and_no_slices_are_no_question(fleet: Fleet) -> None:
    found = compare(fleet.dataset(CLUSTER, PROCESS), SLICES[:3])
    assert [parity.is_equal for parity in found] == [True] * 3
    assert {table.postgres_rows for parity in found for table in parity.tables.values()} == {0}
    assert compare(fleet.dataset(CLUSTER, PROCESS), []) == []


def test_an_engine_that_cannot_be_asked_is_an_error_and_never_a_mismatch(fleet: Fleet) -> None:
    port = silent_port()
    with pytest.raises(ShardUnreachableError) as shard_error:
        compare(with_shard_port(fleet, 1, port).dataset(CLUSTER, PROCESS), SLICES)
    assert f"shard 1 (127.0.0.1:{port})" in str(shard_error.value)
    assert "shard 0 " not in str(shard_error.value)

    with pytest.raises(SourceUnreachableError, match=f"Postgres 127.0.0.1:{port}"):
        compare(with_postgres(fleet, port=port).dataset(CLUSTER, PROCESS), SLICES)


def test_a_customer_that_no_cluster_has_is_named(fleet: Fleet) -> None:
    with pytest.raises(ConfigurationError, match=r"unknown customer 'nobody'.*acme"):
        compare(fleet.dataset(CLUSTER, PROCESS), [Slice("nobody", FIRST_DAY)])


@pytest.mark.usefixtures("equal")
def test_rows_of_a_profile_that_the_fleet_file_does_not_list_are_none_of_our_business(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    with source.cursor() as cursor:
        cursor.execute(
            "UPDATE director.scorecards SET score = score + 1, profile = 'elsewhere' WHERE profile = 'voice'"
        )
    shard_clients[0].command(
        "INSERT INTO scorecard SELECT * REPLACE ('unlisted' AS profile) FROM scorecard WHERE customer = 'globex'"
    )

    found = different(compare(fleet.dataset(CLUSTER, PROCESS), SLICES))

    # What left the profile 'voice' is still in ClickHouse there; what came to other profiles is not looked at.
    assert {item.customer for item in found} == {"acme"}
    assert all(words.startswith("+") for words in found.values()), found


@pytest.mark.usefixtures("equal")
def test_the_first_and_the_last_microsecond_of_a_day_belong_to_it(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    midnight = datetime(2026, 1, 31, tzinfo=UTC)
    with source.cursor() as cursor:
        cursor.execute(
            """
            UPDATE director.scorecards SET process_interaction_at = %s
            WHERE (customer, profile, scorecard_id) IN (
                SELECT customer, profile, scorecard_id
                FROM director.scorecards
                JOIN director.scorecard_template_revisions USING (customer, profile, template_id, template_revision_id)
                WHERE customer = 'acme' AND template_type = 2 AND coalesce(scorecard_type, 0) = 0
                    AND process_interaction_at >= %s AND process_interaction_at < %s
            )
            """,
            (midnight - timedelta(microseconds=1), midnight, midnight + timedelta(days=1)),
        )
        moved = cursor.rowcount
    assert moved > 0

    found = {
        parity.slice.day: parity for parity in compare(fleet.dataset(CLUSTER, PROCESS), SLICES) if not parity.is_equal
    }

    assert set(found) == {date(2026, 1, 30), date(2026, 1, 31)}
    assert found[date(2026, 1, 31)].scorecards.postgres_rows == 0
    missing = found[date(2026, 1, 30)].scorecards
    assert missing.postgres_rows - missing.clickhouse_rows == moved
