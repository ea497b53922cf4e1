"""Tables that a fleet file declares: other names, conditions, further columns and columns of somebody else, from the first run to a repair.

What lives here: one pair of tables unlike the default one, as another team may have it, on real engines. What does not: what is refused
(config/test_tables.py), and types (column_types/).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse.schema import apply_schema
from reindex_assets.comparison.differences import Difference
from reindex_assets.comparison.verification import Depth, Verification, verify
from reindex_assets.config.cluster import Deletions, Watch
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.tables import DeclaredTables
from reindex_assets.drift.watch import look
from reindex_assets.drift.watch_state import WatchState
from reindex_assets.errors import SchemaMismatchError
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack import connections
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import CHILD, PARENT, PROCESS
from reindex_assets_tests.support import running
from reindex_assets_tests.support.datasets import watched_by
from reindex_assets_tests.support.hand_made_rows import with_clickhouse
from reindex_assets_tests.support.proving import prove
from reindex_assets_tests.support.running import slices_of
from reindex_assets_tests.support.session_stack import CUSTOMERS

PLAN = DataPlan(CUSTOMERS, date(2026, 1, 30), days=4, scale=0.0008, seed=6)
SLICES = slices_of(PLAN)
DATABASE = "qa"
#: What the oracle sees under the names that it knows.
EYES = "qa_eyes"
LANGUAGE, GRADER = "coalesce(c.language, 'none')", "upper(s.grader)"
TABLES = DeclaredTables.model_validate(
    {
        "scorecard": {
            "name": "qa_cards",
            "where": "NOT c.archived AND c.tags <> '{hidden}'",
            "columns": {
                "languageCode": {"type": "LowCardinality(String)", "source": LANGUAGE},
                "minutes": {"type": "Nullable(Int32)", "source": "c.minutes"},
            },
            "ignore": ["note"],
        },
        "score": {
            "name": "qa_marks",
            "where": "s.is_current",
            "copies": ["languageCode"],
            "columns": {"grader": {"type": "Nullable(String)", "source": GRADER}},
        },
    }
)
#: As their owner made them: other names and orders, an index, codecs, columns of the owner's own.
QA_CARDS = f"""
CREATE TABLE {DATABASE}.qa_cards
(
    customer LowCardinality(String), profile LowCardinality(String), languageCode LowCardinality(String), scorecard_id UUID,
    usecase_id LowCardinality(String) DEFAULT 'unset', note String, template_type UInt8, template_id UUID, template_revision_id UUID,
    conversation_id String CODEC(ZSTD), agent_user_id LowCardinality(Nullable(String)), creator_user_id LowCardinality(Nullable(String)),
    submission_source Nullable(Int16), scorecard_time DateTime64(6, 'UTC'), created_at DateTime64(6, 'UTC'),
    updated_at DateTime64(6, 'UTC'), submitted_at Nullable(DateTime64(6, 'UTC')), score Nullable(Float64), minutes Nullable(Int32),
    day Date32 MATERIALIZED toDate32(scorecard_time), version UInt64 DEFAULT toUnixTimestamp64Micro(now64(6)),
    INDEX by_agent agent_user_id TYPE bloom_filter GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(scorecard_time)
ORDER BY (customer, template_type, day, profile, scorecard_id)"""
QA_MARKS = f"""
CREATE TABLE {DATABASE}.qa_marks
(
    score_id UUID, grader Nullable(String), customer LowCardinality(String), profile LowCardinality(String), template_type UInt8,
    scorecard_id UUID, template_id UUID, template_revision_id UUID, conversation_id String,
    agent_user_id LowCardinality(Nullable(String)), scorecard_time DateTime64(6, 'UTC'), criterion_id LowCardinality(String),
    numeric_value Nullable(Float64), ai_value Nullable(Float64), text_value Nullable(String), weight Nullable(Float64),
    percentage Nullable(Float64), not_applicable Bool, auto_failed Bool, comment Nullable(String), languageCode LowCardinality(String),
    day Date32 MATERIALIZED toDate32(scorecard_time), version UInt64 DEFAULT toUnixTimestamp64Micro(now64(6))
)
ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(scorecard_time)
ORDER BY (customer, template_type, day, profile, scorecard_id, score_id)"""
SOURCE_COLUMNS = {
    "director.scorecards": (
        "language text",
        "minutes integer",
        "archived boolean NOT NULL DEFAULT false",
        "tags text NOT NULL DEFAULT ''",
    ),
    "historic.scorecard_scores": ("grader text", "is_current boolean NOT NULL DEFAULT true"),
}


@dataclass(frozen=True)
class Pair:
    """The declared tables, and what is behind them."""

    fleet: Fleet
    source: Connection
    clients: Sequence[Client]
    eyes: Sequence[Client]

    def write(self, statement: str) -> None:
        with self.source.cursor() as cursor:
            cursor.execute(statement)

    def on_shards(self, statement: str) -> None:
        for client in self.clients:
            client.command(statement, settings={"mutations_sync": 2})

    def notes(self) -> dict[str, tuple[str, str]]:
        """What stands in the columns of the owner, by scorecard."""
        return {
            str(row[0]): (row[1], row[2])
            for client in self.clients
            for row in client.query("SELECT scorecard_id, usecase_id, note FROM qa_cards").result_rows
        }

    def verified(self) -> Verification:
        return verify(
            self.fleet, [], PLAN.first_day, PLAN.last_day, kind=PROCESS, depth=Depth.ROWS, settle_seconds=0, samples=3
        )

    def assert_exact(self) -> None:
        """By the oracle, to which hidden rows do not exist, and by own questions for the columns that it does not know."""
        with self._without_hidden_rows():
            oracle.assert_equal(self.source, self.eyes, kind="process")
            for table, columns, statement in (
                ("qa_cards", "languageCode, minutes", f"SELECT c.scorecard_id, {LANGUAGE}, c.minutes FROM {_CARDS}"),
                (
                    "qa_marks",
                    "score_id, grader, languageCode",
                    f"SELECT c.scorecard_id, s.score_id, {GRADER}, {LANGUAGE} FROM {_CARDS} JOIN historic.scorecard_scores AS s "
                    "USING (customer, profile, scorecard_id)",
                ),
            ):
                with self.source.cursor() as cursor:
                    cursor.execute(statement)
                    expected = sorted(tuple(map(str, row)) for row in cursor.fetchall())
                shown = [
                    tuple(map(str, row))
                    for client in self.clients
                    for row in client.query(f"SELECT scorecard_id, {columns} FROM {table}").result_rows
                ]
                assert sorted(shown) == expected

    @contextmanager
    def _without_hidden_rows(self) -> Iterator[None]:
        self.write("BEGIN")
        try:
            self.write(
                "DELETE FROM historic.scorecard_scores AS s USING director.scorecards AS c WHERE (s.customer, s.profile, s.scorecard_id)"
                " = (c.customer, c.profile, c.scorecard_id) AND (c.archived OR c.tags = '{hidden}' OR NOT s.is_current)"
            )
            self.write("DELETE FROM director.scorecards WHERE archived OR tags = '{hidden}'")
            yield
        finally:
            self.write("ROLLBACK")


_CARDS = (
    "director.scorecards AS c JOIN director.scorecard_template_revisions AS r"
    " USING (customer, profile, template_id, template_revision_id)"
    " WHERE r.template_type = 2 AND coalesce(c.scorecard_type, 0) = 0"
)
_CARDS = f"(SELECT c.* FROM {_CARDS}) AS c"


@pytest.fixture
def pair(clean: None, fleet: Fleet, source: Connection, shard_clients: list[Client]) -> Iterator[Pair]:
    """Data in Postgres, a fifth of it hidden; the tables of both shards empty."""
    make_source(source, PLAN)
    changed = with_clickhouse(fleet, database=DATABASE)
    cluster = changed.clusters[CLUSTER].model_copy(update={"tables": TABLES})
    changed = changed.model_copy(update={"clusters": {**changed.clusters, CLUSTER: cluster}})
    seen = with_clickhouse(fleet, database=EYES).clusters[CLUSTER]
    with source.cursor() as cursor, ExitStack() as stack:
        for relation, columns in SOURCE_COLUMNS.items():
            for column in columns:
                cursor.execute(f"ALTER TABLE {relation} ADD COLUMN {column}")
                stack.callback(cursor.execute, f"ALTER TABLE {relation} DROP COLUMN {column.partition(' ')[0]}")
        cursor.execute(
            "UPDATE director.scorecards SET minutes = nullif(abs(hashtext(scorecard_id::text)) % 50, 0),"
            " language = (ARRAY['de', 'it', 'pt-BR', NULL])[1 + abs(hashtext(scorecard_id::text)) % 4],"
            " archived = abs(hashtext(scorecard_id::text || 'a')) % 6 = 0,"
            " tags = CASE WHEN abs(hashtext(scorecard_id::text || 't')) % 9 = 0 THEN '{hidden}' ELSE '' END"
        )
        cursor.execute(
            "UPDATE historic.scorecard_scores SET grader = (ARRAY['ada', 'bob', NULL])[1 + abs(hashtext(score_id::text)) % 3],"
            " is_current = abs(hashtext(score_id::text || 'c')) % 7 > 0"
        )
        for client in shard_clients:
            for database in (DATABASE, EYES):
                client.command(f"CREATE DATABASE {database}")
                stack.callback(client.command, f"DROP DATABASE {database} SYNC")
            for statement in (QA_CARDS, QA_MARKS):
                client.command(statement)
            for name, table in (("scorecard", "qa_cards"), ("score", "qa_marks")):
                client.command(
                    f"CREATE TABLE {EYES}.{name} AS {DATABASE}.{table} ENGINE = Merge('{DATABASE}', '^{table}$')"
                )
        clients = [stack.enter_context(client) for client in connections.connect_shards(changed.clusters[CLUSTER])]
        eyes = [stack.enter_context(client) for client in connections.connect_shards(seen)]
        yield Pair(changed, source, clients, eyes)


def test_a_declared_pair_is_filled_proved_and_repaired(pair: Pair) -> None:
    assert all(
        "up to date" in line or "reindex_layout created" in line for line in apply_schema(pair.fleet.clusters[CLUSTER])
    )

    written = running.reported(running.reindex(pair.fleet, SLICES))
    assert written.missing == written.read > 100
    pair.assert_exact()
    report = pair.verified()
    assert report.agrees
    assert "columns note, usecase_id of qa_cards" in report.sentence
    assert "outside 'where'" in report.sentence
    assert running.reported(running.reindex(pair.fleet, SLICES)).written == 0
    assert prove(pair.fleet, SLICES) == set(SLICES)
    assert all(outcome.unchanged for outcome in running.reindex(pair.fleet, SLICES))

    watched, days = (
        watched_by(pair.fleet.dataset(CLUSTER, PROCESS), Watch(settle_seconds=0)),
        (PLAN.first_day, PLAN.last_day),
    )
    seen = look(watched, days, WatchState())
    assert not seen.drifted
    assert look(watched, days, seen.state).touched == 0

    # The owner writes into its columns, and rows in Postgres change, hide and come back.
    pair.on_shards("ALTER TABLE qa_cards UPDATE usecase_id = 'billing', note = toString(scorecard_id) WHERE true")
    noted = pair.notes()
    pair.assert_exact()
    assert pair.verified().agrees
    pair.write("UPDATE director.scorecards SET language = 'fr' WHERE language = 'de'")
    pair.write(
        "UPDATE director.scorecards SET archived = NOT archived WHERE abs(hashtext(scorecard_id::text)) % 11 = 0"
    )
    pair.write("UPDATE historic.scorecard_scores SET grader = 'eve' WHERE grader = 'ada'")
    pair.write(
        "UPDATE historic.scorecard_scores SET is_current = true WHERE abs(hashtext(score_id::text || 'b')) % 5 = 0"
    )

    report = pair.verified()
    found = {key for day in report.days if day.parity and day.parity.differences for key in day.parity.differences.rows}
    assert {(name, kind) for name in (PARENT, CHILD) for kind in (Difference.MISSING, Difference.CHANGED)} <= found
    assert (PARENT, Difference.EXTRA) in found

    # The repair sensor has seen it, too.
    assert set(look(watched, days, seen.state).drifted) == {day.slice for day in report.different}

    repaired = running.reported(running.reindex(pair.fleet, SLICES))
    assert repaired.changed
    assert repaired.deleted
    pair.assert_exact()
    assert pair.verified().agrees
    # What a repair has written again keeps what the owner wrote; new rows have the defaults.
    kept = pair.notes()
    assert {scorecard: kept[scorecard] for scorecard in kept.keys() & noted.keys()} == {
        scorecard: noted[scorecard] for scorecard in kept.keys() & noted.keys()
    }
    assert {kept[scorecard] for scorecard in kept.keys() - noted.keys()} == {("unset", "")}


def test_a_wrong_value_in_a_declared_column_is_found_named_and_repaired(pair: Pair) -> None:
    apply_schema(pair.fleet.clusters[CLUSTER])
    running.reindex(pair.fleet, SLICES)
    pair.on_shards("ALTER TABLE qa_cards UPDATE minutes = minutes + 1, languageCode = 'xx' WHERE languageCode = 'it'")
    pair.on_shards("ALTER TABLE qa_marks UPDATE grader = NULL WHERE grader = 'BOB'")
    report = pair.verified()
    samples = [
        sample
        for day in report.days
        if day.parity and day.parity.differences
        for sample in day.parity.differences.samples
    ]
    named = {(sample.table, column.column) for sample in samples for column in sample.columns}
    assert named == {(PARENT, "minutes"), (PARENT, "languageCode"), (CHILD, "grader")}
    running.reindex(pair.fleet, SLICES)
    pair.assert_exact()
    assert pair.verified().agrees


def test_a_scorecard_whose_value_does_not_fit_stays_in_postgres_and_is_reported(pair: Pair) -> None:
    apply_schema(pair.fleet.clusters[CLUSTER])
    columns = {"wide": {"type": "Int8", "source": "c.minutes"}}
    narrow = with_tables(pair.fleet, {"scorecard": {"columns": columns}, "score": {"copies": []}})
    with pytest.raises(SchemaMismatchError, match="column wide Int8 is absent"):
        apply_schema(narrow.clusters[CLUSTER])
    pair.on_shards("ALTER TABLE qa_cards ADD COLUMN wide Int8, DROP COLUMN languageCode, DROP COLUMN minutes")
    pair.on_shards("ALTER TABLE qa_marks DROP COLUMN languageCode")
    pair.write("UPDATE director.scorecards SET minutes = 300 WHERE minutes = 7")
    outcomes = running.reindex(narrow, SLICES)
    reasons = {row.reason for outcome in outcomes for row in outcome.quarantined}
    assert reasons
    assert all("wide" in reason for reason in reasons)
    assert verify(narrow, [], PLAN.first_day, PLAN.last_day, kind=PROCESS, settle_seconds=0).agrees


def test_columns_of_the_default_tables_may_be_absent_or_of_another_type(pair: Pair) -> None:
    pair.on_shards("ALTER TABLE qa_cards DROP COLUMN creator_user_id, MODIFY COLUMN score Nullable(Float32)")
    pair.on_shards("ALTER TABLE qa_marks DROP COLUMN ai_value, DROP COLUMN comment, DROP COLUMN weight")
    pair.on_shards("ALTER TABLE qa_marks ADD COLUMN weight Float64")
    columns = TABLES.scorecard.model_dump()["columns"] | {
        "score": {"type": "Nullable(Float32)", "source": "c.score * 2"}
    }
    of_score = TABLES.score.model_dump()["columns"] | {
        "weight": {"type": "Float64", "source": "coalesce(s.weight, -1)"}
    }
    changed = with_tables(
        pair.fleet,
        {
            "scorecard": {"absent": ["creator_user_id"], "columns": columns},
            "score": {"absent": ["ai_value", "comment"], "columns": of_score},
        },
    )
    apply_schema(changed.clusters[CLUSTER])

    def verified() -> Verification:
        return verify(
            changed, [], PLAN.first_day, PLAN.last_day, kind=PROCESS, depth=Depth.ROWS, settle_seconds=0, samples=3
        )

    def shown(table: str, columns: str) -> dict[str, float | None]:
        rows = [row for client in pair.clients for row in client.query(f"SELECT {columns} FROM {table}").result_rows]
        return {str(key): value for key, value in rows}

    running.reindex(changed, SLICES)
    assert verified().agrees
    pair.write("UPDATE director.scorecards SET score = 12.25")
    pair.write("UPDATE historic.scorecard_scores SET weight = NULL")
    pair.on_shards("ALTER TABLE qa_cards UPDATE agent_user_id = 'nobody' WHERE customer = 'acme'")
    assert not verified().agrees
    running.reindex(changed, SLICES)
    assert verified().agrees
    assert set(shown("qa_cards", "scorecard_id, score").values()) == {24.5}
    assert set(shown("qa_marks", "score_id, weight").values()) == {-1}


def test_a_column_that_the_owner_adds_with_a_default_stops_nothing(pair: Pair) -> None:
    apply_schema(pair.fleet.clusters[CLUSTER])
    running.reindex(pair.fleet, SLICES)
    pair.on_shards("ALTER TABLE qa_marks ADD COLUMN usecase_id LowCardinality(String) DEFAULT 'none'")
    pair.write("UPDATE historic.scorecard_scores SET grader = 'eve' WHERE grader = 'ada'")
    assert running.reported(running.reindex(pair.fleet, SLICES)).changed
    pair.assert_exact()
    # Nothing compares it, and the verdict says so.
    assert "and column usecase_id of qa_marks" in pair.verified().sentence
    lines = apply_schema(pair.fleet.clusters[CLUSTER])
    assert any("qa_marks" in line and "usecase_id" in line for line in lines)
    pair.on_shards("ALTER TABLE qa_marks ADD COLUMN other String")
    with pytest.raises(SchemaMismatchError, match="column other String is unknown and has no default"):
        apply_schema(pair.fleet.clusters[CLUSTER])


def test_another_condition_makes_checkpoints_void_and_what_it_hides_is_extra(pair: Pair) -> None:
    apply_schema(pair.fleet.clusters[CLUSTER])
    running.reindex(pair.fleet, SLICES)
    assert prove(pair.fleet, SLICES) == set(SLICES)
    narrower = with_tables(pair.fleet, {"scorecard": {"where": "NOT c.archived AND c.language IS NOT NULL"}})
    outcomes = running.reindex(narrower, SLICES)
    assert not any(outcome.unchanged for outcome in outcomes)
    assert running.reported(outcomes).deleted
    shown = [row for client in pair.clients for row in client.query("SELECT languageCode FROM qa_cards").result_rows]
    assert ("none",) not in shown
    # The same condition for all of a partition would empty it: a question to a person.
    none = with_tables(pair.fleet, {"scorecard": {"where": "c.minutes > 1000"}})
    strict = none.model_copy(update={"deletions": Deletions(rows=1, emptied_rows=1)})
    refused = running.errors(running.attempt(strict, SLICES))
    assert refused
    assert all("delete" in error for error in refused)


def with_tables(fleet: Fleet, changes: dict[str, dict[str, object]]) -> Fleet:
    """The fleet with other keys of some tables."""
    declared = TABLES.model_dump()
    tables = {name: {**keys, **changes.get(name, {})} for name, keys in declared.items()}
    cluster = fleet.clusters[CLUSTER].model_copy(update={"tables": DeclaredTables.model_validate(tables)})
    return fleet.model_copy(update={"clusters": {**fleet.clusters, CLUSTER: cluster}})
