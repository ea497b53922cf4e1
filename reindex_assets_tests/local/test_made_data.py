"""The data maker: what a plan makes, asked of one making. Speed is measured in benchmarks, not here.

What lives here: questions that change nothing. What does not: rounds of changes, and other plans (local/test_made_changes.py).
"""

from __future__ import annotations

import contextlib
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import load_fleet
from reindex_assets.local.data.made_data import (
    DEFAULT_CUSTOMERS,
    DataPlan,
    SourceSummary,
    make_source,
)
from reindex_assets.local.data.made_plan import LARGEST_DAY, SMALLEST_DAY, day_size
from reindex_assets.local.data.phrases import PHRASES
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets_tests.support.made_rows import PLAN, PROCESS, SCORECARDS, one, rows_of
from reindex_assets_tests.support.session_stack import connect_source, empty_source


@pytest.fixture(scope="module")
def made(stack: LocalStack) -> SourceSummary:
    """The plan, made once for all that only look at it."""
    with contextlib.closing(connect_source(load_fleet(stack.fleet_path))) as source:
        empty_source(source)
        return make_source(source, PLAN)


def test_the_summary_counts_what_is_there(source: Connection, made: SourceSummary) -> None:
    by_kind = rows_of(
        source,
        f"""
        SELECT
            CASE WHEN scorecard_type > 0 THEN 'appeal' WHEN template_type = 2 THEN 'process' ELSE 'conversation' END,
            count(DISTINCT (customer, profile, scorecard_id)),
            count(*)
        FROM ({SCORECARDS}) AS c
        JOIN historic.scorecard_scores AS s USING (customer, profile, scorecard_id)
        GROUP BY 1
        """,
    )
    assert {kind: counts for kind, *counts in by_kind} == {
        "process": [made.process_scorecards, made.process_scores],
        "conversation": [made.conversation_scorecards, made.conversation_scores],
        "appeal": [made.appeal_scorecards, made.appeal_scores],
    }
    assert one(source, "SELECT count(*) FROM director.scorecards") == made.scorecards
    assert one(source, "SELECT count(*) FROM historic.scorecard_scores") == made.scores
    assert one(source, "SELECT count(*) FROM app.chats") == made.chats
    assert one(source, "SELECT count(*) FROM director.scorecard_templates") == made.templates
    assert one(source, "SELECT count(*) FROM director.scorecard_template_revisions") == made.template_revisions


@pytest.mark.usefixtures("made")
def test_every_profile_has_37_templates_with_several_revisions(source: Connection) -> None:
    assert set(
        rows_of(
            source,
            """
            SELECT customer, profile, template_type, count(DISTINCT template_id), min(revisions), max(revisions)
            FROM (
                SELECT customer, profile, template_id, template_type, count(*) AS revisions
                FROM director.scorecard_template_revisions
                GROUP BY customer, profile, template_id, template_type
            ) AS templates
            GROUP BY customer, profile, template_type
            """,
        )
    ) == {
        (customer, profile, template_type, count, 2, 4)
        for customer, profiles in DEFAULT_CUSTOMERS.items()
        for profile in profiles
        for template_type, count in ((1, 29), (2, 8))
    }
    assert one(source, f"SELECT count(DISTINCT (customer, template_id)) FROM ({PROCESS}) AS c") == 8 * 3


@pytest.mark.usefixtures("made")
def test_a_day_is_as_large_as_the_plan_says_and_no_day_is_empty(source: Connection) -> None:
    found = {
        (customer, day): count
        for customer, day, count in rows_of(
            source, f"SELECT customer, day, count(*) FROM ({PROCESS}) AS c GROUP BY customer, day"
        )
    }
    assert found == {
        (customer, day): day_size(PLAN, customer, day) for customer in DEFAULT_CUSTOMERS for day in PLAN.all_days
    }


def test_days_at_full_scale_have_15000_to_57000_scorecards_and_differ() -> None:
    plan = DataPlan(DEFAULT_CUSTOMERS, first_day=date(2026, 1, 1), days=90, scale=1.0)

    sizes = [day_size(plan, customer, day) for customer in plan.customers for day in plan.all_days]

    assert SMALLEST_DAY <= min(sizes) < SMALLEST_DAY + 2_000
    assert LARGEST_DAY - 2_000 < max(sizes) <= LARGEST_DAY
    assert len(set(sizes)) > 250


@pytest.mark.usefixtures("made")
def test_every_scorecard_has_as_many_scores_as_its_template_asks_for(source: Connection) -> None:
    counts = rows_of(
        source,
        """
        SELECT template_id, array_agg(DISTINCT scores)
        FROM (
            SELECT template_id, scorecard_id, customer, profile,
                (SELECT count(*) FROM historic.scorecard_scores AS s
                WHERE (s.customer, s.profile, s.scorecard_id) = (c.customer, c.profile, c.scorecard_id)) AS scores
            FROM director.scorecards AS c
        ) AS scorecards
        GROUP BY template_id
        """,
    )
    assert all(len(distinct) == 1 for _, distinct in counts)
    assert {distinct[0] for _, distinct in counts} == set(range(3, 10))


@pytest.mark.usefixtures("made")
def test_all_appeal_types_stand_on_every_day_beside_normal_scorecards(source: Connection) -> None:
    types = rows_of(
        source, f"SELECT DISTINCT customer, day, scorecard_type FROM ({SCORECARDS}) AS c WHERE template_type = 2"
    )
    assert set(types) == {
        (customer, day, scorecard_type)
        for customer in DEFAULT_CUSTOMERS
        for day in PLAN.all_days
        for scorecard_type in (None, 0, 1, 2, 3)
    }


@pytest.mark.usefixtures("made")
def test_every_profile_has_scorecards_at_both_edges_of_every_day(source: Connection) -> None:
    edges = rows_of(
        source,
        f"SELECT customer, profile, day, min(process_interaction_at), max(process_interaction_at) FROM ({PROCESS}) AS c"
        " GROUP BY customer, profile, day",
    )
    assert len(edges) == 4 * PLAN.days
    for _, _, day, first, last in edges:
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        assert first == midnight
        assert last == midnight + timedelta(days=1) - timedelta(microseconds=1)


@pytest.mark.usefixtures("made")
def test_half_of_the_times_would_go_to_another_shard_if_they_were_rounded(source: Connection) -> None:
    rounded_up = one(
        source,
        f"""
        SELECT avg((extract(epoch FROM process_interaction_at)::bigint
            <> floor(extract(epoch FROM process_interaction_at)))::int)
        FROM ({PROCESS}) AS c
        """,
    )
    assert 0.35 < rounded_up < 0.55


@pytest.mark.usefixtures("made")
def test_times_follow_each_other(source: Connection) -> None:
    for earlier, later in pairwise(["process_interaction_at", "created_at", "updated_at"]):
        assert one(source, f"SELECT count(*) FROM director.scorecards WHERE {later} < {earlier}") == 0
    edited, untouched = rows_of(
        source,
        "SELECT count(*) FILTER (WHERE updated_at > created_at), count(*) FILTER (WHERE updated_at = created_at)"
        " FROM director.scorecards",
    )[0]
    assert 0.1 < edited / untouched < 0.6


@pytest.mark.usefixtures("made")
def test_process_scorecards_have_no_conversation_and_the_others_have_one_with_a_chat(source: Connection) -> None:
    texts = rows_of(source, f"SELECT DISTINCT conversation_id FROM ({SCORECARDS}) AS c WHERE template_type = 2")
    assert set(texts) == {(None,), ("",)}
    without_chat = one(
        source,
        f"""
        SELECT count(*)
        FROM ({SCORECARDS}) AS c
        LEFT JOIN app.chats AS chat USING (customer, profile, conversation_id)
        WHERE c.template_type = 1 AND chat.conversation_start_time IS NULL
        """,
    )
    assert without_chat == 0
    assert one(source, f"SELECT count(*) FROM ({SCORECARDS}) AS c WHERE template_type = 1 AND day IS NOT NULL") > 0


@pytest.mark.usefixtures("made")
def test_ids_are_unique_within_a_profile_only(source: Connection) -> None:
    shared = rows_of(source, "SELECT scorecard_id FROM director.scorecards GROUP BY 1 HAVING count(*) > 1")
    assert len(shared) == PLAN.days


@pytest.mark.usefixtures("made")
def test_texts_and_numbers_hold_what_breaks_careless_code(source: Connection) -> None:
    texts = {text for (text,) in rows_of(source, "SELECT DISTINCT text_value FROM historic.scorecard_scores")}
    assert texts == {None, "", *PHRASES}
    assert len(set(PHRASES)) == 32
    comments = {text for (text,) in rows_of(source, "SELECT DISTINCT comment FROM historic.scorecard_scores")}
    assert {None, ""} < comments
    assert max(len(text) for text in comments if text) > 10_000
    bits = {
        column: {
            bits
            for (bits,) in rows_of(
                source, f"SELECT DISTINCT encode(float8send({column}), 'hex') FROM historic.scorecard_scores"
            )
        }
        for column in ("numeric_value", "ai_value", "weight", "percentage")
    }
    for column, values in bits.items():
        assert None in values, column
        # The mantissa of 1/3 does not end: the lower half of the bits is in use.
        assert any(value and value[8:] != "0" * 8 for value in values), column
    assert {"0000000000000000", "8000000000000000"} <= bits["numeric_value"]
    names = {name for (name,) in rows_of(source, "SELECT DISTINCT agent_user_id FROM director.scorecards")}
    assert {None, ""} < names
    assert any(name and not name.isascii() for name in names)
