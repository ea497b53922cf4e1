"""The data maker: rounds of changes, and plans of other sizes and seeds.

What lives here: tests that make data of their own. What does not: what a plan makes (local/test_made_data.py).
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from reindex_assets.local.data.made_data import (
    DEFAULT_CUSTOMERS,
    ChangedScorecard,
    DataPlan,
    SourceChanges,
    change_source,
    make_source,
)
from reindex_assets_tests.support.made_rows import PLAN, PROCESS, one, rows_of
from reindex_assets_tests.support.session_stack import empty_source

pytestmark = pytest.mark.usefixtures("clean")


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


def test_the_same_plan_makes_the_same_rows_and_another_seed_makes_others(source: Connection) -> None:
    make_source(source, PLAN)
    change_source(source, PLAN, seed=1)
    first = fingerprint(source)
    empty_source(source)
    with source.cursor() as cursor:
        # Neither the session's settings nor the plan of the query may show in the data.
        cursor.execute("SET timezone = 'Asia/Kathmandu'; SET datestyle = 'SQL, DMY'; SET enable_hashjoin = off")
    make_source(source, PLAN)
    change_source(source, PLAN, seed=1)
    with source.cursor() as cursor:
        cursor.execute("RESET timezone; RESET datestyle; RESET enable_hashjoin")
    assert fingerprint(source) == first

    empty_source(source)
    other = DataPlan(PLAN.customers, PLAN.first_day, PLAN.days, PLAN.scale, seed=12)
    make_source(source, other)
    change_source(source, other, seed=1)
    assert not set(fingerprint(source)) & set(first)


@pytest.mark.parametrize("scale", [0.0, 0.00001])
def test_the_smallest_plan_still_has_a_scorecard_every_day(source: Connection, scale: float) -> None:
    plan = DataPlan(DEFAULT_CUSTOMERS, first_day=date(2026, 1, 1), days=2, scale=scale)

    summary = make_source(source, plan)

    assert summary.process_scorecards == 2 * len(DEFAULT_CUSTOMERS)
    assert change_source(source, plan, seed=1).added


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
            FROM ({PROCESS}) AS c
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

    moved_keys = one(
        source,
        """
        SELECT count(*) FROM historic.scorecard_scores AS s
        LEFT JOIN director.scorecards AS c USING (customer, profile, scorecard_id)
        WHERE c.created_at IS NULL
        """,
    )
    assert moved_keys == 0


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
