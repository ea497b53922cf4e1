"""Marks of Postgres: whatever touches a row moves the mark of its slices and of no other; what makes no row version moves none.

What lives here: statements of the application and of the housekeeping, on the real Postgres. What does not: marks of ClickHouse
(drift/test_marks.py), and what a look makes of marks (drift/test_watch.py).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import date, timedelta

import pytest
from psycopg2.extensions import connection as Connection

from reindex_assets.config.default_tables import SCORE, SCORECARD, TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice, Table
from reindex_assets.postgres.join_plan import group_snapshot
from reindex_assets.postgres.row_versions import RowVersions, read_row_versions
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup, group_slices
from reindex_assets_tests.support import application
from reindex_assets_tests.support.session_stack import CUSTOMERS

PLAN = DataPlan(CUSTOMERS, date(2026, 1, 30), days=4, scale=0.0008, seed=6)
SLICES = [Slice(customer, day) for customer in PLAN.customers for day in PLAN.all_days]


@pytest.fixture
def made(clean: None, source: Connection) -> None:
    make_source(source, PLAN)


@pytest.fixture
def group(fleet: Fleet) -> SliceGroup:
    [group] = group_slices(SLICES, fleet.dataset(CLUSTER, PROCESS), {}, 1)
    return group


class SourceWitness:
    """Postgres as it was when it was made, by its marks."""

    def __init__(self, session: SourceSession, group: SliceGroup) -> None:
        self._session, self._group = session, group
        self._marks = self._read()

    def _read(self) -> dict[tuple[str, Slice], RowVersions]:
        with group_snapshot(self._session, self._group):
            return {
                (table.name, item): mark
                for table in TABLES
                for item, mark in read_row_versions(self._session, self._group, table).items()
            }

    def moved(self, table: Table | None = None) -> set[Slice]:
        """Since then, and what is asked next is since now."""
        now = self._read()
        moved = {place for place in now if now[place] != self._marks[place]}
        self._marks = now
        return {item for name, item in moved if table is None or table.name == name}


@pytest.fixture
def session(fleet: Fleet) -> Iterator[SourceSession]:
    with SourceSession(fleet.clusters[CLUSTER].postgres) as session:
        yield session


@pytest.mark.usefixtures("made")
def test_whatever_touches_a_row_in_postgres_moves_the_mark_of_its_slices_and_no_other(
    source: Connection, session: SourceSession, group: SliceGroup
) -> None:
    item = SLICES[1]
    one, *others = application.scorecards_of(source, item, 4)
    marks = SourceWitness(session, group)
    with source.cursor() as cursor:
        cursor.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'scorecards'"
            " AND column_name NOT IN ('customer', 'profile', 'scorecard_id')"
        )
        for (column,) in cursor.fetchall():
            # The value that it has: another version of the row all the same.
            application.update(source, one, f"{column} = {column}")
            assert marks.moved() == {item}, column
        for name in ("numeric_value", "comment", "not_applicable"):
            cursor.execute(
                f"UPDATE historic.scorecard_scores SET {name} = {name} WHERE (customer, profile, scorecard_id) = (%s, %s, %s::uuid)",
                one.key,
            )
            moved = marks.moved()
            assert moved == {item}, name
            assert marks.moved(SCORECARD) == set()

    application.update(source, others[0], "process_interaction_at = process_interaction_at + interval '1 day'")
    assert marks.moved() == {item, Slice(item.customer, item.day + timedelta(days=1))}
    application.update(source, others[1], "scorecard_type = 1")
    assert marks.moved() == {item}
    application.update(source, others[1], "scorecard_type = 0")
    assert marks.moved() == {item}
    application.copy_as_new(source, others[1])
    assert marks.moved() == {item}
    application.delete(source, others[2])
    assert marks.moved() == {item}


@pytest.mark.usefixtures("made")
def test_a_change_to_scores_alone_moves_the_mark_of_the_scores(
    source: Connection, session: SourceSession, group: SliceGroup
) -> None:
    [one] = application.scorecards_of(source, SLICES[1])
    where = "WHERE (customer, profile, scorecard_id) = (%s, %s, %s::uuid)"
    for statement in (
        f"UPDATE historic.scorecard_scores SET comment = 'new' {where}",
        f"INSERT INTO historic.scorecard_scores SELECT customer, profile, scorecard_id, gen_random_uuid(), criterion_id"
        f" FROM historic.scorecard_scores {where} LIMIT 1",
        f"DELETE FROM historic.scorecard_scores {where}",
    ):
        for table, moved in ((SCORE, {one.slice}), (SCORECARD, set[Slice]())):
            marks = SourceWitness(session, group)
            with source.cursor() as cursor:
                cursor.execute("BEGIN")
                cursor.execute(statement, one.key)
                # Not yet.
                assert marks.moved() == set()
                cursor.execute("ROLLBACK" if table is SCORECARD else "COMMIT")
            assert marks.moved() == moved, statement


@pytest.mark.usefixtures("made")
def test_a_revision_that_changes_its_type_moves_the_marks_of_all_its_scorecards(
    source: Connection, session: SourceSession, group: SliceGroup
) -> None:
    with source.cursor() as cursor:
        cursor.execute(
            """
            SELECT c.customer, (c.process_interaction_at AT TIME ZONE 'UTC')::date, c.template_revision_id::text
            FROM director.scorecards AS c
            JOIN director.scorecard_template_revisions AS r USING (customer, profile, template_id, template_revision_id)
            WHERE r.template_type = 2 AND coalesce(c.scorecard_type, 0) = 0
            """
        )
        of_revision: dict[str, set[Slice]] = {}
        for customer, day, revision in cursor.fetchall():
            of_revision.setdefault(revision, set()).add(Slice(customer, day))
        revision, slices = min(of_revision.items(), key=lambda pair: (len(pair[1]), pair[0]))
        for template_type in (1, 2, 2):
            marks = SourceWitness(session, group)
            cursor.execute(
                "UPDATE director.scorecard_template_revisions SET template_type = %s WHERE template_revision_id = %s::uuid",
                (template_type, revision),
            )
            # The last one changes nothing, and can't be told from a change.
            assert marks.moved() == slices


@pytest.mark.usefixtures("made")
def test_what_changes_no_row_version_moves_no_mark_in_postgres(
    source: Connection, session: SourceSession, group: SliceGroup
) -> None:
    one, other = application.scorecards_of(source, SLICES[1], 2)
    application.delete(source, other)
    marks = SourceWitness(session, group)
    with contextlib.closing(source.cursor()) as cursor:
        cursor.execute("BEGIN")
        application.update(source, one, "score = -1")
        application.copy_as_new(source, one)
        cursor.execute("ROLLBACK")
        cursor.execute("SELECT FROM director.scorecards FOR UPDATE")
        cursor.execute("SELECT FROM historic.scorecard_scores FOR UPDATE")
        for table in ("director.scorecards", "historic.scorecard_scores", "director.scorecard_template_revisions"):
            cursor.execute(f"VACUUM (FREEZE, ANALYZE) {table}")
    assert marks.moved() == set()
    # The deleted row's place is free now, and is taken by the next version.
    application.update(source, one, "score = score")
    assert marks.moved() == {one.slice}
    with source.cursor() as cursor:
        cursor.execute("VACUUM FULL director.scorecards")
    # Superfluous, and nothing is lost by it.
    assert marks.moved(SCORE) == set()
