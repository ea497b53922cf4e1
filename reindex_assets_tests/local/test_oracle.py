"""The oracle itself: silent on equal data, and not blind to anything by which two rows can differ."""

from __future__ import annotations

import ast
from datetime import date, timedelta
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.config.default_tables import SCORE, SCORECARD
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.oracle import rows as oracle_rows
from reindex_assets.local.oracle.compare import assert_equal, differences
from reindex_assets_tests.support import plain_loader
from reindex_assets_tests.support.plain_loader import load_plainly

FIRST_DAY = date(2026, 1, 30)
PLAN = DataPlan({"acme": ("main", "voice"), "globex": ("main",)}, FIRST_DAY, days=3, scale=0.002, seed=3)


@pytest.fixture
def equal(clean: None, source: Connection, shard_clients: list[Client]) -> None:
    make_source(source, PLAN)
    load_plainly(source, shard_clients)


def test_the_oracle_and_its_loader_import_nothing_of_the_product() -> None:
    for module in (oracle, oracle_rows, plain_loader):
        tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
        imported = {
            name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        }
        ours = {name for name in imported if name.startswith("reindex_assets")}
        assert ours <= {"reindex_assets.local.oracle.rows"}


def test_the_oracle_compares_every_column_there_is() -> None:
    for table in (SCORECARD, SCORE):
        assert sorted(name for name, _, _ in oracle_rows.COLUMNS[table.name]) == sorted(table.column_names)


@pytest.mark.usefixtures("equal")
def test_equal_data_have_no_difference(source: Connection, shard_clients: list[Client]) -> None:
    assert_equal(source, shard_clients, kind="process")
    assert sum(client.query("SELECT count() FROM score").result_rows[0][0] for client in shard_clients) > 1_000


@pytest.mark.usefixtures("equal")
def test_everything_is_missing_from_empty_shards_and_extra_for_an_empty_source(
    source: Connection, shard_clients: list[Client]
) -> None:
    rows = _rows(source)
    for client in shard_clients:
        client.command("TRUNCATE TABLE scorecard")
        client.command("TRUNCATE TABLE score")
    assert [line.split(":")[0] for line in differences(source, shard_clients, kind="process")] == ["missing"] * rows

    load_plainly(source, shard_clients)
    with source.cursor() as cursor:
        cursor.execute("TRUNCATE director.scorecards, historic.scorecard_scores")
    assert [line.split(":")[0] for line in differences(source, shard_clients, kind="process")] == ["extra"] * rows


def _rows(source: Connection) -> int:
    with source.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(DISTINCT (customer, profile, scorecard_id)) + count(*)
            FROM director.scorecards
            JOIN director.scorecard_template_revisions USING (customer, profile, template_id, template_revision_id)
            JOIN historic.scorecard_scores USING (customer, profile, scorecard_id)
            WHERE template_type = 2 AND coalesce(scorecard_type, 0) = 0
            """
        )
        row = cursor.fetchone()
    assert row is not None
    return int(row[0])


#: (edit, table, words by which the oracle names the difference)
EDITS = [
    ("score = '-0' WHERE score = 0", "director.scorecards", "score: Postgres -0.0 (0x8000000000000000)"),
    ("score = score + 1e-13 WHERE score BETWEEN 50 AND 90", "director.scorecards", "score: Postgres"),
    ("creator_user_id = '' WHERE creator_user_id IS NULL", "director.scorecards", "Postgres '', ClickHouse NULL"),
    ("submitted_at = NULL", "director.scorecards", "submitted_at: Postgres NULL, ClickHouse 17"),
    ("created_at = created_at + interval '1 microsecond'", "director.scorecards", "created_at: Postgres 17"),
    ("text_value = NULL WHERE text_value = ''", "historic.scorecard_scores", "Postgres NULL, ClickHouse ''"),
    (
        "text_value = normalize(text_value, NFC)",
        "historic.scorecard_scores",
        "text_value: Postgres 'café and café'",
    ),
    ("comment = comment || ' '", "historic.scorecard_scores", "comment: Postgres '"),
    ("ai_value = 'Infinity' WHERE ai_value IS NULL", "historic.scorecard_scores", "Postgres inf (0x7ff0"),
    ("auto_failed = NOT auto_failed", "historic.scorecard_scores", "auto_failed: Postgres 1, ClickHouse 0"),
]


@pytest.mark.usefixtures("equal")
def test_an_edit_that_clickhouse_has_not_seen_is_a_change_of_that_column(
    source: Connection, shard_clients: list[Client]
) -> None:
    source.autocommit = False
    for edit, table, words in EDITS:
        with source.cursor() as cursor:
            cursor.execute(f"UPDATE {table} SET {edit}")

        found = differences(source, shard_clients, kind="process")

        source.rollback()
        assert {line.split(":")[0] for line in found} == {"changed"}, edit
        assert any(words in line for line in found), (edit, found[:10])
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("equal")
def test_a_scorecard_that_moved_in_postgres_is_stale_where_it_was(
    source: Connection, shard_clients: list[Client]
) -> None:
    scores = _update_one(
        source, "process_interaction_at = process_interaction_at + interval '1 day'", "process_interaction_at"
    )
    found = differences(source, shard_clients, kind="process")
    assert [line.split(":")[0] for line in found] == ["stale"] * (1 + scores)
    assert all("though Postgres has it on" in line and "where it is missing" in line for line in found)


@pytest.mark.usefixtures("equal")
def test_a_scorecard_that_became_an_appeal_is_named_one(source: Connection, shard_clients: list[Client]) -> None:
    scores = _update_one(source, "scorecard_type = 2", "scorecard_type")
    found = differences(source, shard_clients, kind="process")
    assert [line.split(":")[0] for line in found] == ["appeal"] * (1 + scores)


@pytest.mark.usefixtures("equal")
def test_unplaceable_and_foreign_rows_of_postgres_are_not_expected(
    source: Connection, shard_clients: list[Client]
) -> None:
    scores = 0
    for value in ("NULL", "'infinity'", "'-infinity'", "'1899-12-31 23:59:59.999999+00'", "'2300-01-01 00:00:00+00'"):
        # Each leaves the day on which the next is looked for.
        scores += _update_one(source, f"process_interaction_at = {value}", "process_interaction_at")

    found = differences(source, shard_clients, kind="process")

    assert [line.split(":")[0] for line in found] == ["extra"] * (5 + scores)
    assert len({line.split()[3] for line in found}) == 5


def _update_one(source: Connection, edit: str, column: str) -> int:
    """Edits one process scorecard of the middle day; returns how many scores it has."""
    with source.cursor() as cursor:
        cursor.execute(
            f"""
            UPDATE director.scorecards AS c
            SET {edit}
            FROM (
                SELECT customer, profile, scorecard_id
                FROM director.scorecards
                JOIN director.scorecard_template_revisions USING (customer, profile, template_id, template_revision_id)
                WHERE template_type = 2 AND coalesce(scorecard_type, 0) = 0
                    AND (process_interaction_at AT TIME ZONE 'UTC')::date = %s
                ORDER BY scorecard_id
                LIMIT 1
            ) AS chosen
            WHERE (c.customer, c.profile, c.scorecard_id) = (chosen.customer, chosen.profile, chosen.scorecard_id)
            RETURNING (
                SELECT count(*) FROM historic.scorecard_scores AS s
                WHERE (s.customer, s.profile, s.scorecard_id) = (c.customer, c.profile, c.scorecard_id)
            ), c.{column}
            """,
            (FIRST_DAY + timedelta(days=1),),
        )
        [(scores, _)] = cursor.fetchall()
    return int(scores)


@pytest.mark.usefixtures("equal")
def test_a_superseded_row_is_named_as_seen_without_final_only(source: Connection, shard_clients: list[Client]) -> None:
    client = shard_clients[0]
    client.command("SYSTEM STOP MERGES scorecard")
    try:
        client.command(
            "INSERT INTO scorecard SELECT * REPLACE (version - 1 AS version, 'somebody' AS creator_user_id)"
            " FROM scorecard ORDER BY scorecard_id LIMIT 1"
        )
        [found] = differences(source, shard_clients, kind="process")
    finally:
        client.command("SYSTEM START MERGES scorecard")
    assert found.startswith("changed: ")
    assert "beside the right row" in found
    assert found.endswith("(without FINAL only)")


@pytest.mark.usefixtures("equal")
def test_the_comparison_can_be_restricted_to_customers_and_days(
    source: Connection, shard_clients: list[Client]
) -> None:
    with source.cursor() as cursor:
        cursor.execute(
            "UPDATE director.scorecards SET score = 1e9 WHERE customer = 'acme' AND process_interaction_at >= %s"
            " AND process_interaction_at < %s",
            (f"{FIRST_DAY + timedelta(days=1)} 00:00:00+00", f"{FIRST_DAY + timedelta(days=2)} 00:00:00+00"),
        )
    assert_equal(source, shard_clients, customers=["globex"], kind="process")
    assert_equal(source, shard_clients, last_day=FIRST_DAY, kind="process")
    assert_equal(source, shard_clients, first_day=FIRST_DAY + timedelta(days=2), kind="process")
    with pytest.raises(
        AssertionError, match=r"differs from Postgres in \d+ rows: {'changed': \d+}\nchanged: scorecard"
    ):
        assert_equal(
            source,
            shard_clients,
            ["acme"],
            FIRST_DAY + timedelta(days=1),
            FIRST_DAY + timedelta(days=1),
            kind="process",
        )


@pytest.mark.usefixtures("equal")
def test_shards_in_another_order_hold_everything_on_the_wrong_shard(
    source: Connection, shard_clients: list[Client]
) -> None:
    found = differences(source, shard_clients[1:] + shard_clients[:1], kind="process")
    assert [line.split(":")[0] for line in found] == ["wrong_shard"] * _rows(source)


@pytest.mark.usefixtures("equal")
def test_conversation_rows_are_not_judged(source: Connection, shard_clients: list[Client]) -> None:
    shard_clients[1].command(
        "INSERT INTO scorecard SELECT * REPLACE (1 AS template_type) FROM scorecard ORDER BY scorecard_id LIMIT 5"
    )
    assert_equal(source, shard_clients, kind="process")
