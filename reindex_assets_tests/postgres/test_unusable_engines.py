"""Engines that are away, refuse, or have other tables than they should: a clear error that names the one at fault, and nothing lost.

What lives here: wrong ports, passwords, relations, tables and requests. What does not: strange rows (config/test_bad_input.py) and kills.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.config.engines import Relations, SecretRef
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import (
    ConfigurationError,
    ReindexError,
    SchemaMismatchError,
    ShardUnreachableError,
    SourceUnreachableError,
)
from reindex_assets.local.oracle.compare import assert_equal
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets.selection.rectangles import plan_rectangles
from reindex_assets_tests.support.comparing import compare
from reindex_assets_tests.support.hand_made_rows import (
    add_scorecard,
    reindex,
    silent_port,
    succeeded,
    with_clickhouse,
    with_postgres,
    with_shard_port,
)

DAY = date(2026, 1, 5)
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SLICE = Slice("acme", DAY)
WRONG = SecretRef(env="REINDEX_TEST_WRONG_PASSWORD")
SECRET = "hunter2/@:%&"

pytestmark = pytest.mark.usefixtures("four_shards", "clean")


@pytest.fixture
def rows(source: Connection) -> None:
    for seconds in range(8):
        add_scorecard(source, NOON + timedelta(seconds=seconds))


@pytest.fixture
def wrong_password(monkeypatch: pytest.MonkeyPatch) -> SecretRef:
    monkeypatch.setenv(WRONG.env, SECRET)
    return WRONG


def nothing_written(shard_clients: list[Client]) -> bool:
    return not any(
        client.query(f"SELECT count() FROM {table}").result_rows[0][0]
        for client in shard_clients
        for table in ("scorecard", "score")
    )


@pytest.mark.usefixtures("rows")
def test_a_shard_out_of_reach_is_named_alone_and_the_next_run_mends_all(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    port = silent_port()

    with pytest.raises(ShardUnreachableError) as error:
        reindex(with_shard_port(fleet, 3, port), [SLICE])

    assert f"shard 3 (127.0.0.1:{port})" in str(error.value)
    assert not any(f"shard {number} " in str(error.value) for number in (0, 1, 2))
    succeeded(reindex(fleet, [SLICE]))
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("rows")
def test_postgres_out_of_reach_is_named_with_its_address_and_nothing_is_written(
    fleet: Fleet, shard_clients: list[Client]
) -> None:
    port = silent_port()
    with pytest.raises(SourceUnreachableError, match=f"Postgres 127.0.0.1:{port}"):
        reindex(with_postgres(fleet, port=port), [SLICE])
    assert nothing_written(shard_clients)


@pytest.mark.usefixtures("rows")
def test_a_wrong_password_is_said_without_the_password(
    fleet: Fleet, wrong_password: SecretRef, shard_clients: list[Client]
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        reindex(with_clickhouse(fleet, password=wrong_password), [SLICE])
    assert WRONG.env in str(refused.value)
    assert "shard 0" in str(refused.value)

    with pytest.raises(ReindexError) as unknown:
        compare(with_postgres(fleet, password=wrong_password).dataset(CLUSTER, PROCESS), [SLICE])
    assert "password" in str(unknown.value)
    assert f"user '{fleet.clusters[CLUSTER].postgres.user}'" in str(unknown.value)

    for error in (refused.value, unknown.value):
        # Quoted for a URL neither.
        assert "hunter2" not in f"{error!r} {error} {error.__cause__!r} {error.__context__!r}"
    assert nothing_written(shard_clients)


def test_a_password_variable_that_is_not_set_is_named(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WRONG.env, raising=False)
    for changed in (with_clickhouse(fleet, password=WRONG), with_postgres(fleet, password=WRONG)):
        with pytest.raises(ConfigurationError, match=f"environment variable {WRONG.env} is not set"):
            compare(changed.dataset(CLUSTER, PROCESS), [SLICE])


@pytest.mark.usefixtures("rows")
def test_missing_tables_on_one_shard_stop_the_run_before_any_shard_is_written(
    fleet: Fleet, shard_clients: list[Client]
) -> None:
    shard_clients[2].command("RENAME TABLE score TO score_put_aside")
    try:
        for act in (lambda: reindex(fleet, [SLICE]), lambda: compare(fleet.dataset(CLUSTER, PROCESS), [SLICE])):
            with pytest.raises(SchemaMismatchError, match="schema apply") as error:
                act()
            assert "shard 2" in str(error.value)
            assert "score" in str(error.value)
            assert not any(f"shard {number} " in str(error.value) for number in (0, 1, 3))
    finally:
        shard_clients[2].command("RENAME TABLE score_put_aside TO score")
    assert nothing_written(shard_clients)


def test_a_database_that_does_not_exist_is_named(fleet: Fleet) -> None:
    with pytest.raises(ReindexError, match="nowhere"):
        compare(with_clickhouse(fleet, database="nowhere").dataset(CLUSTER, PROCESS), [SLICE])


@pytest.mark.usefixtures("rows")
def test_a_relation_that_postgres_does_not_have_is_named_with_the_remedy(
    fleet: Fleet, shard_clients: list[Client]
) -> None:
    changed = with_postgres(fleet, relations=Relations(scores="director.historic_scorecard_scores"))
    with pytest.raises(ReindexError, match="relations") as error:
        compare(changed.dataset(CLUSTER, PROCESS), [SLICE])
    assert "director.historic_scorecard_scores" in str(error.value)

    outcome = reindex(changed, [SLICE])[SLICE]
    assert outcome.error is not None
    assert "director.historic_scorecard_scores" in outcome.error
    assert nothing_written(shard_clients)


def test_another_name_of_a_relation_is_configuration(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    add_scorecard(source, NOON)
    with source.cursor() as cursor:
        cursor.execute("CREATE VIEW director.historic_scorecard_scores AS SELECT * FROM historic.scorecard_scores")
    try:
        succeeded(
            reindex(with_postgres(fleet, relations=Relations(scores="director.historic_scorecard_scores")), [SLICE])
        )
    finally:
        with source.cursor() as cursor:
            cursor.execute("DROP VIEW director.historic_scorecard_scores")
    assert_equal(source, shard_clients, kind="process")


def test_requests_that_make_no_sense_are_refused_in_words(fleet: Fleet) -> None:
    with pytest.raises(ConfigurationError, match="unknown customer 'nobody'"):
        reindex(fleet, [Slice("nobody", DAY)])
    with pytest.raises(ConfigurationError, match=r"unknown customer 'nobody'.*acme"):
        plan_rectangles(fleet, [PROCESS], ["nobody"], DAY, DAY)
    with pytest.raises(ConfigurationError, match="runs backwards"):
        plan_rectangles(fleet, [PROCESS], [], DAY, DAY - timedelta(days=1))
    with pytest.raises(ConfigurationError, match="the first day of the fleet file"):
        plan_rectangles(fleet, [PROCESS], [], fleet.first_day - timedelta(days=1), DAY)
    assert reindex(fleet, []) == {}
