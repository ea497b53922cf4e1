"""The data maker: what a plan makes, and what a round of changes does. Speed is measured in benchmarks, not here."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from reindex_assets.local.made_data import (
    DEFAULT_CUSTOMERS,
    ChangedScorecard,
    DataPlan,
    SourceChanges,
    change_source,
    make_source,
)
from reindex_assets.local.made_plan import LARGEST_DAY, SMALLEST_DAY, day_size
from reindex_assets.local.phrases import PHRASES

pytestmark = pytest.mark.usefixtures("clean")

PLAN = DataPlan(DEFAULT_CUSTOMERS, first_day=date(2026, 2, 27), days=4, scale=0.003, seed=11)

_SCORECARDS = """
SELECT c.*, r.template_type, (c.process_interaction_at AT TIME ZONE 'UTC')::date AS day
FROM director.scorecards AS c
JOIN director.scorecard_template_revisions AS r USING (customer, profile, template_id, template_revision_id)
"""
_PROCESS = f"SELECT * FROM ({_SCORECARDS}) AS c WHERE template_type = 2 AND coalesce(scorecard_type, 0) = 0"


def rows_of(source: Connection, query: str, *parameters: object) -> list[tuple[Any, ...]]:
    with source.cursor() as cursor:
        cursor.execute(query, parameters or None)
        return cursor.fetchall()


def one(source: Connection, query: str, *parameters: object) -> Any:
    [[value]] = rows_of(source, query, *parameters)
    return value


def fingerprint(source: Connection) -> list[Any]:
    return [
        one(source, f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {relation} AS t")
        for relation in (
            "director.scorecard_templates",
            "director.scorecard_template_revisions",
            "director.scorecards",
            "historic.scorecard_scores",
            "app.chats",
        )
    ]


def empty(source: Connection) -> None:
    with source.cursor() as cursor:
        cursor.execute(
            """TRUNCATE director.scorecard_templates, director.scorecard_template_revisions, director.scorecards,
            historic.scorecard_scores, app.chats"""
        )


def test_the_same_plan_makes_the_same_rows_and_another_seed_makes_others(source: Connection) -> None:
    make_source(source, PLAN)
    change_source(source, PLAN, seed=1)
    first = fingerprint(source)
    empty(source)
    with source.cursor() as cursor:
        # Neither the session's settings nor the plan of the query may show in the data.
        cursor.execute("SET timezone = 'Asia/Kathmandu'; SET datestyle = 'SQL, DMY'; SET enable_hashjoin = off")
    make_source(source, PLAN)
    change_source(source, PLAN, seed=1)
    with source.cursor() as cursor:
        cursor.execute("RESET timezone; RESET datestyle; RESET enable_hashjoin")
    assert fingerprint(source) == first

    empty(source)
    other = DataPlan(PLAN.customers, PLAN.first_day, PLAN.days, PLAN.scale, seed=12)
    make_source(source, other)
    change_source(source, other, seed=1)
    assert not set(fingerprint(source)) & set(first)


def test_the_summary_counts_what_is_there(source: Connection) -> None:
    summary = make_source(source, PLAN)

    by_kind = rows_of(
        source,
        f"""
        SELECT
            CASE WHEN scorecard_type > 0 THEN 'appeal' WHEN template_type = 2 THEN 'process' ELSE 'conversation' END,
            count(DISTINCT (customer, profile, scorecard_id)),
            count(*)
        FROM ({_SCORECARDS}) AS c
        JOIN historic.scorecard_scores AS s USING (customer, profile, scorecard_id)
        GROUP BY 1
        """,
    )
    assert {kind: counts for kind, *counts in by_kind} == {
        "process": [summary.process_scorecards, summary.process_scores],
        "conversation": [summary.conversation_scorecards, summary.conversation_scores],
        "appeal": [summary.appeal_scorecards, summary.appeal_scores],
    }
    assert one(source, "SELECT count(*) FROM director.scorecards") == summary.scorecards
    assert one(source, "SELECT count(*) FROM historic.scorecard_scores") == summary.scores
    assert one(source, "SELECT count(*) FROM app.chats") == summary.chats
    assert one(source, "SELECT count(*) FROM director.scorecard_templates") == summary.templates
    assert one(source, "SELECT count(*) FROM director.scorecard_template_revisions") == summary.template_revisions


def test_every_profile_has_37_templates_with_several_revisions(source: Connection) -> None:
    make_source(source, PLAN)

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
    assert one(source, f"SELECT count(DISTINCT (customer, template_id)) FROM ({_PROCESS}) AS c") == 8 * 3


def test_a_day_is_as_large_as_the_plan_says_and_no_day_is_empty(source: Connection) -> None:
    make_source(source, PLAN)

    found = {
        (customer, day): count
        for customer, day, count in rows_of(
            source, f"SELECT customer, day, count(*) FROM ({_PROCESS}) AS c GROUP BY customer, day"
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


@pytest.mark.parametrize("scale", [0.0, 0.00001])
def test_the_smallest_plan_still_has_a_scorecard_every_day(source: Connection, scale: float) -> None:
    plan = DataPlan(DEFAULT_CUSTOMERS, first_day=date(2026, 1, 1), days=2, scale=scale)

    summary = make_source(source, plan)

    assert summary.process_scorecards == 2 * len(DEFAULT_CUSTOMERS)
    assert change_source(source, plan, seed=1).added


def test_every_scorecard_has_as_many_scores_as_its_template_asks_for(source: Connection) -> None:
    make_source(source, PLAN)

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


def test_all_appeal_types_stand_on_every_day_beside_normal_scorecards(source: Connection) -> None:
    make_source(source, PLAN)

    types = rows_of(
        source, f"SELECT DISTINCT customer, day, scorecard_type FROM ({_SCORECARDS}) AS c WHERE template_type = 2"
    )
    assert set(types) == {
        (customer, day, scorecard_type)
        for customer in DEFAULT_CUSTOMERS
        for day in PLAN.all_days
        for scorecard_type in (None, 0, 1, 2, 3)
    }


def test_every_profile_has_scorecards_at_both_edges_of_every_day(source: Connection) -> None:
    make_source(source, PLAN)

    edges = rows_of(
        source,
        f"SELECT customer, profile, day, min(process_interaction_at), max(process_interaction_at) FROM ({_PROCESS}) AS c"
        " GROUP BY customer, profile, day",
    )
    assert len(edges) == 4 * PLAN.days
    for _, _, day, first, last in edges:
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        assert first == midnight
        assert last == midnight + timedelta(days=1) - timedelta(microseconds=1)


def test_half_of_the_times_would_go_to_another_shard_if_they_were_rounded(source: Connection) -> None:
    make_source(source, PLAN)

    rounded_up = one(
        source,
        f"""
        SELECT avg((extract(epoch FROM process_interaction_at)::bigint
            <> floor(extract(epoch FROM process_interaction_at)))::int)
        FROM ({_PROCESS}) AS c
        """,
    )
    assert 0.35 < rounded_up < 0.55


def test_times_follow_each_other(source: Connection) -> None:
    make_source(source, PLAN)

    for earlier, later in pairwise(["process_interaction_at", "created_at", "updated_at"]):
        assert one(source, f"SELECT count(*) FROM director.scorecards WHERE {later} < {earlier}") == 0
    edited, untouched = rows_of(
        source,
        "SELECT count(*) FILTER (WHERE updated_at > created_at), count(*) FILTER (WHERE updated_at = created_at)"
        " FROM director.scorecards",
    )[0]
    assert 0.1 < edited / untouched < 0.6


def test_process_scorecards_have_no_conversation_and_the_others_have_one_with_a_chat(source: Connection) -> None:
    make_source(source, PLAN)

    texts = rows_of(source, f"SELECT DISTINCT conversation_id FROM ({_SCORECARDS}) AS c WHERE template_type = 2")
    assert set(texts) == {(None,), ("",)}
    without_chat = one(
        source,
        f"""
        SELECT count(*)
        FROM ({_SCORECARDS}) AS c
        LEFT JOIN app.chats AS chat USING (customer, profile, conversation_id)
        WHERE c.template_type = 1 AND chat.conversation_start_time IS NULL
        """,
    )
    assert without_chat == 0
    assert one(source, f"SELECT count(*) FROM ({_SCORECARDS}) AS c WHERE template_type = 1 AND day IS NOT NULL") > 0


def test_ids_are_unique_within_a_profile_only(source: Connection) -> None:
    make_source(source, PLAN)

    shared = rows_of(source, "SELECT scorecard_id FROM director.scorecards GROUP BY 1 HAVING count(*) > 1")
    assert len(shared) == PLAN.days


def test_texts_and_numbers_hold_what_breaks_careless_code(source: Connection) -> None:
    make_source(source, PLAN)

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


def places(source: Connection) -> dict[tuple[str, str, str], tuple[date, Any]]:
    """Where each process scorecard stands, and all of its content and its scores'."""
    return {
        (customer, profile, scorecard_id): (day, content)
        for customer, profile, scorecard_id, day, content in rows_of(
            source,
            f"""
            SELECT customer, profile, scorecard_id::text, day, c::text || (
                SELECT string_agg(s::text, '|' ORDER BY score_id) FROM historic.scorecard_scores AS s
                WHERE (s.customer, s.profile, s.scorecard_id) = (c.customer, c.profile, c.scorecard_id))
            FROM ({_PROCESS}) AS c
            """,
        )
    }


def named(changes: tuple[ChangedScorecard, ...]) -> set[tuple[str, str, str]]:
    return {(change.customer, change.profile, str(change.scorecard_id)) for change in changes}


def scores(source: Connection) -> dict[str, str]:
    return dict(
        rows_of(
            source,
            "SELECT concat_ws('|', customer, profile, scorecard_id, score_id), s::text FROM historic.scorecard_scores AS s",
        )
    )


def test_a_round_of_changes_did_exactly_what_it_says(source: Connection) -> None:
    make_source(source, PLAN)
    before, scores_before = places(source), scores(source)

    changes = change_source(source, PLAN, seed=5)

    after, scores_after = places(source), scores(source)
    assert named(changes.added) == after.keys() - before.keys()
    assert named(changes.deleted + changes.appealed) == before.keys() - after.keys()
    both = before.keys() & after.keys()
    assert named(changes.moved) == {key for key in both if before[key][0] != after[key][0]}
    touched = changes.edited + changes.rescored + changes.moved + changes.retimed
    assert named(touched) == {key for key in both if before[key] != after[key]}
    for change in changes.scorecards:
        key = (change.customer, change.profile, str(change.scorecard_id))
        assert change.day_before == (before[key][0] if key in before else None)
        assert change.day_after == (after[key][0] if key in after else None)
    assert len(changes.scorecards) == len(named(changes.scorecards))
    assert changes.scores_added == len(scores_after.keys() - scores_before.keys())
    assert changes.scores_deleted == len(scores_before.keys() - scores_after.keys())
    assert changes.scores_changed == sum(
        scores_before[key] != scores_after[key] for key in scores_before.keys() & scores_after.keys()
    )
    assert {(change.customer, day) for change in changes.scorecards for day in days_of(change)} == changes.slices
    for name in SourceChanges.__dataclass_fields__:
        assert getattr(changes, name), name


def days_of(change: ChangedScorecard) -> set[date]:
    return {day for day in (change.day_before, change.day_after) if day is not None}


def test_a_rescored_scorecard_keeps_its_updated_at_and_a_retimed_one_its_day(source: Connection) -> None:
    make_source(source, PLAN)
    query = "SELECT concat_ws('|', customer, profile, scorecard_id), c::text, process_interaction_at FROM director.scorecards AS c"
    before = {key: rest for key, *rest in rows_of(source, query)}

    changes = change_source(source, PLAN, seed=6)

    after = {key: rest for key, *rest in rows_of(source, query)}
    for key in map("|".join, named(changes.rescored)):
        assert before[key] == after[key]
    for key in map("|".join, named(changes.retimed)):
        assert abs(after[key][1] - before[key][1]) == timedelta(seconds=1)
        assert after[key][1].date() == before[key][1].date()


def test_rounds_with_seeds_of_their_own_follow_each_other_and_leave_no_stray_scores(source: Connection) -> None:
    make_source(source, PLAN)

    for seed in range(3):
        change_source(source, PLAN, seed)

    strays = one(
        source,
        """
        SELECT count(*) FROM historic.scorecard_scores AS s
        LEFT JOIN director.scorecards AS c USING (customer, profile, scorecard_id)
        WHERE c.created_at IS NULL
        """,
    )
    assert strays == 0


def test_a_plan_of_one_day_is_changed_without_moves(source: Connection) -> None:
    plan = DataPlan({"acme": ("main",)}, first_day=date(2026, 1, 1), days=1)
    make_source(source, plan)

    changes = change_source(source, plan, seed=1)

    assert not changes.moved
    assert changes.retimed
    assert changes.slices == {("acme", plan.first_day)}


def test_what_is_made_is_committed_on_a_connection_that_does_not_commit_by_itself(source: Connection) -> None:
    plan = DataPlan({"acme": ("main",)}, first_day=date(2026, 1, 1), days=1, scale=0.0)
    source.autocommit = False
    try:
        make_source(source, plan)
        source.rollback()
        assert one(source, "SELECT count(*) > 0 FROM director.scorecards")
    finally:
        source.rollback()
        source.autocommit = True
