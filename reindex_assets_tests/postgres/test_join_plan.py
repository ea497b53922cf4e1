"""How Postgres is asked for a group: values reach the statements as they are, and the plan suits the group's size.

What lives here: the settings of a snapshot as literals, and the choice between looking scores up and reading their table. What does
not: what comes out of the statements (end_to_end/test_invariants.py and others), and how fast it is (benchmarks).
"""

from __future__ import annotations

from datetime import date

import pytest
from psycopg2.extensions import connection as Connection

from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets.postgres.extract import read_rows
from reindex_assets.postgres.join_plan import group_snapshot
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup, group_slices
from reindex_assets.selection.source_sql import source_scope
from reindex_assets_tests.support.session_stack import CUSTOMERS

#: Forty days in which one day is a small part of the table.
PLAN = DataPlan(CUSTOMERS, date(2026, 1, 1), days=40, scale=0.0005, seed=3)

HOSTILE = ["it's", "'; DROP TABLE director.scorecards; --", "back\\slash", "E'\\x1f'", "\x1f", "ä\n{time}", "$1 %s", ""]


def group_of(fleet: Fleet, days: int) -> SliceGroup:
    slices = [Slice(customer, day) for customer in PLAN.customers for day in PLAN.all_days[:days]]
    [group] = group_slices(slices, fleet.dataset(CLUSTER, PROCESS), {}, 1)
    return group


@pytest.mark.parametrize("value", HOSTILE)
def test_a_setting_reaches_a_statement_exactly_as_it_is(fleet: Fleet, value: str) -> None:
    with (
        SourceSession(fleet.clusters[CLUSTER].postgres) as session,
        session.snapshot({"reindex.value": value, "reindex.other": "current_setting('reindex.value')"}),
    ):
        sql = "SELECT current_setting('reindex.value') AS value, current_setting('reindex.other') AS other"
        expected = [{"value": value, "other": "current_setting('reindex.value')"}]
        assert session.rows(sql) == expected
        assert [row for batch in session.stream(sql) for row in batch.to_pylist()] == expected


def test_a_setting_is_gone_with_its_snapshot(fleet: Fleet) -> None:
    with SourceSession(fleet.clusters[CLUSTER].postgres) as session:
        with session.snapshot({"reindex.value": "one"}):
            pass
        with session.snapshot({"reindex.other": "two"}):
            assert session.rows("SELECT current_setting('reindex.value', true) AS value") == [{"value": None}]


@pytest.mark.usefixtures("clean")
def test_a_wide_group_reads_the_score_table_and_a_narrow_one_looks_scores_up(fleet: Fleet, source: Connection) -> None:
    make_source(source, PLAN)
    loops = {}
    rows = {}
    for days in (1, PLAN.days):
        group = group_of(fleet, days)
        with SourceSession(fleet.clusters[CLUSTER].postgres) as session:
            for name, snapshot in (
                ("chosen", group_snapshot(session, group)),
                ("as the planner likes", session.snapshot(source_scope(group))),
            ):
                with snapshot:
                    loops[days, name] = session.rows("SELECT current_setting('enable_nestloop') AS loops")[0]["loops"]
                    rows[days, name] = [
                        sorted(
                            map(repr, (row for batch in read_rows(session, table, group) for row in batch.to_pylist()))
                        )
                        for table in TABLES
                    ]
            # What was set was set for the snapshot alone.
            assert session.rows("SELECT current_setting('enable_nestloop') AS loops") == [{"loops": "on"}]
        assert rows[days, "chosen"] == rows[days, "as the planner likes"]
    assert loops[1, "chosen"] == "on"
    assert loops[PLAN.days, "chosen"] == "off"
