"""A session's settings are ours, whatever the role's are; a reader who may not see every row sees none; and only UTF-8 is read.

What lives here: what a role, a policy and a database can do to what is read. What does not: every setting of the server one by one
(sweeps/test_settings.py), and the session's limits (postgres/test_session.py).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.config.engines import Relations
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ConfigurationError
from reindex_assets.local.oracle.compare import assert_equal
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets.postgres.session import SourceSession
from reindex_assets.postgres.session_settings import connection_uri, settings_of
from reindex_assets_tests.support.comparing import compare
from reindex_assets_tests.support.hand_made_rows import add_scorecard, reindex, succeeded, with_postgres
from reindex_assets_tests.support.readers import READER, reader, set_for_reader
from reindex_assets_tests.support.running import content

DAY = date(2026, 1, 5)
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SLICE = Slice("acme", DAY)

pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture
def rows(source: Connection) -> None:
    for seconds in range(8):
        add_scorecard(source, NOON + timedelta(seconds=seconds), scores=({"comment": "Grüße 'ß' \\ \U0001f600"}, {}))


@pytest.fixture
def reading(fleet: Fleet, source: Connection) -> Iterator[Fleet]:
    with reader(fleet, source) as changed:
        yield changed


@contextlib.contextmanager
def policy(source: Connection, table: str, condition: str) -> Iterator[None]:
    with source.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        cursor.execute(f"CREATE POLICY some_rows ON {table} USING ({condition})")
        try:
            yield
        finally:
            cursor.execute(f"DROP POLICY some_rows ON {table}")
            cursor.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")


# --- policies


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    "table",
    [
        "director.scorecards",
        "director.scorecard_template_revisions",
        "historic.scorecard_scores",
    ],
)
@pytest.mark.parametrize("condition", ["false", "customer <> 'acme'", "true"])
def test_a_reader_whom_a_policy_restricts_is_told_and_nothing_is_deleted(
    fleet: Fleet, reading: Fleet, source: Connection, shard_clients: list[Client], table: str, condition: str
) -> None:
    succeeded(reindex(fleet, [SLICE]))
    before = content(shard_clients)

    with policy(source, table, condition):
        for act in (lambda: reindex(reading, [SLICE]), lambda: compare(reading.dataset(CLUSTER, PROCESS), [SLICE])):
            with pytest.raises(ConfigurationError) as refused:
                act()
            assert f"table {table.partition('.')[2]} from user '{READER}'" in str(refused.value)
            assert f"ALTER ROLE {READER} BYPASSRLS" in str(refused.value)
        assert content(shard_clients) == before
        # One whom no policy restricts goes on.
        succeeded(reindex(fleet, [SLICE]))

    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("rows")
def test_a_policy_below_a_view_is_seen_too(
    fleet: Fleet, reading: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    succeeded(reindex(fleet, [SLICE]))
    before = content(shard_clients)
    changed = with_postgres(reading, relations=Relations(scores="director.historic_scorecard_scores"))
    with source.cursor() as cursor:
        cursor.execute("CREATE VIEW director.historic_scorecard_scores AS SELECT * FROM historic.scorecard_scores")
        cursor.execute(f"ALTER VIEW director.historic_scorecard_scores OWNER TO {READER}")
        try:
            with (
                policy(source, "historic.scorecard_scores", "false"),
                pytest.raises(ConfigurationError, match="BYPASSRLS"),
            ):
                reindex(changed, [SLICE])
        finally:
            cursor.execute("DROP VIEW director.historic_scorecard_scores")
    assert content(shard_clients) == before


# --- settings

HOSTILE = {
    "client_encoding": "LATIN1",
    "search_path": "hostile",
    "quote_all_identifiers": "on",
    "bytea_output": "escape",
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "German",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "-15",
    "transform_null_equals": "on",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "idle_session_timeout": "1s",
    "idle_in_transaction_session_timeout": "1ms",
    "lock_timeout": "1ms",
    "statement_timeout": "1ms",
    "row_security": "on",
    "gin_fuzzy_search_limit": "1",
}


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("is_pooled", [False, True], ids=["straight", "by a pooler that drops the options"])
def test_what_a_role_sets_changes_nothing(
    reading: Fleet,
    source: Connection,
    shard_clients: list[Client],
    monkeypatch: pytest.MonkeyPatch,
    is_pooled: bool,
) -> None:
    hostile = dict(HOSTILE)
    if is_pooled:
        monkeypatch.setattr(
            "reindex_assets.postgres.session.connection_uri",
            lambda *arguments: connection_uri(*arguments).partition("&options=")[0],
        )
        # They hold until the first statement; by the driver's own, at connecting, it learns the names of types, unquoted ones.
        hostile["statement_timeout"] = "1s"
        del hostile["quote_all_identifiers"]
    for name, value in hostile.items():
        set_for_reader(source, name, value)
    postgres = reading.clusters[CLUSTER].postgres

    with SourceSession(postgres) as session:
        [found] = session.rows("SELECT json_object_agg(name, current_setting(name))::text AS settings FROM pg_settings")
    settings = json.loads(found["settings"])
    wanted = {name: value for name, value in settings_of(postgres).items() if name in settings}
    assert hostile.keys() <= wanted.keys()
    # Of times Postgres shows the largest unit.
    assert {name: settings[name] for name in wanted} == wanted | {
        "statement_timeout": "15min",
        "idle_in_transaction_session_timeout": "15min",
    }

    succeeded(reindex(reading, [SLICE]))
    assert_equal(source, shard_clients, kind="process")
    [parity] = compare(reading.dataset(CLUSTER, PROCESS), [SLICE])
    assert parity.sums_agree


def test_a_relation_without_a_schema_is_found_where_the_role_looks(reading: Fleet, source: Connection) -> None:
    set_for_reader(source, "search_path", "director")
    changed = with_postgres(reading, relations=Relations(scorecards="scorecards"))
    succeeded(reindex(changed, [SLICE]))


# --- databases


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_is_not_utf8_is_refused(fleet: Fleet, source: Connection, encoding: str) -> None:
    with source.cursor() as cursor:
        cursor.execute(
            f"CREATE DATABASE other TEMPLATE template0 ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C'"
        )
        try:
            changed = with_postgres(fleet, database="other")
            for act in (lambda: reindex(changed, [SLICE]), lambda: compare(changed.dataset(CLUSTER, PROCESS), [SLICE])):
                with pytest.raises(ConfigurationError, match=f"encoding {encoding}, but only UTF8 is supported"):
                    act()
        finally:
            cursor.execute("DROP DATABASE other WITH (FORCE)")
