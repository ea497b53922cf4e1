"""Before a run writes, each shard proves that it shows and deletes what it should, and that nobody hides rows of its tables.

What lives here: row policies, deletes that are not done, and what must not be taken for one of them. What does not: settings
(clickhouse/test_session_settings.py), and the evidence of each write (reindex/test_evidence.py).
"""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse import canary
from reindex_assets.clickhouse.schema import apply_schema
from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ConfigurationError
from reindex_assets.local.oracle.compare import assert_equal
from reindex_assets.local.stack import files_of_stack
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import CONVERSATION, Slice
from reindex_assets.reindex.job import Reindex, ReindexOptions
from reindex_assets.reindex.writer import WriteOptions
from reindex_assets.retry import EVIDENCE
from reindex_assets_tests.support.faulty_shard import Fault, faulty_shard
from reindex_assets_tests.support.hand_made_rows import add_scorecard, reindex, succeeded, update_scorecard
from reindex_assets_tests.support.profiles import Serve
from reindex_assets_tests.support.running import content, staging_tables

CONVERSATION_SQL = Path(files_of_stack.__file__).with_name("conversation.sql")
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SLICE = Slice("acme", date(2026, 1, 5))
EVERYTHING = ReindexOptions(attempts=1, everything=True)

pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture
def ids(source: Connection) -> list[str]:
    return [add_scorecard(source, NOON + timedelta(seconds=seconds), score=float(seconds)) for seconds in range(8)]


# --- rows that are hidden


@pytest.mark.parametrize("table", ["scorecard", "score"])
@pytest.mark.parametrize("condition", ["0", "customer != 'acme'", "toSecond(scorecard_time) != 3"])
def test_a_row_policy_on_a_live_table_stops_a_run_before_it_writes(
    serve: Serve, source: Connection, ids: list[str], table: str, condition: str
) -> None:
    with serve() as (fleet, client):
        apply_schema(fleet.clusters[CLUSTER])
        succeeded(reindex(fleet, [SLICE]))
        before = content([client])
    update_scorecard(source, ids[0], score=99.5)

    policies = f"<default><{table}><filter>{condition}</filter></{table}></default>"
    hidden = pytest.raises(ConfigurationError, match=f"rows in some parts of table {table}: a row policy")
    with serve(policies=policies) as (fleet, _), hidden:
        reindex(fleet, [SLICE])

    with serve() as (fleet, client):
        assert content([client]) == before
        succeeded(reindex(fleet, [SLICE]))
        assert_equal(source, [client], kind="process")


@pytest.mark.parametrize("condition", ["0", "customer != 'acme'"])
def test_a_row_policy_on_conversations_stops_runs_and_comparisons(serve: Serve, condition: str) -> None:
    """A scorecard whose conversation is hidden would be moved to another shard, and comparisons would find it right there."""
    with serve() as (fleet, client):
        apply_schema(fleet.clusters[CLUSTER])
        client.command(CONVERSATION_SQL.read_text(encoding="utf-8"))
        client.command("INSERT INTO conversation (customer, conversation_id) VALUES ('acme', 'c1'), ('globex', 'c2')")

    policies = f"<default><conversation><filter>{condition}</filter></conversation></default>"
    with serve(policies=policies) as (fleet, _):
        dataset = fleet.dataset(CLUSTER, CONVERSATION)
        hidden = "rows in some parts of table conversation: a row policy"
        with pytest.raises(ConfigurationError, match=hidden), Comparison(dataset):
            pass
        with pytest.raises(ConfigurationError, match=hidden):
            Reindex(dataset).run([SLICE])

    with serve() as (fleet, _), Comparison(fleet.dataset(CLUSTER, CONVERSATION)):
        pass


@pytest.mark.parametrize("hidden", ["parts", "mutations"])
def test_a_row_policy_on_the_servers_own_accounts_stops_a_run_before_it_writes(
    serve: Serve, ids: list[str], hidden: str
) -> None:
    with serve(policies=f"<system><{hidden}><filter>0</filter></{hidden}></system>") as (fleet, client):
        apply_schema(fleet.clusters[CLUSTER])
        with pytest.raises(ConfigurationError, match=rf"in system\.{hidden}: a row policy"):
            reindex(fleet, [SLICE])
        assert content([client]) == []


def test_a_row_policy_is_seen_where_the_most_rows_are(
    serve: Serve, source: Connection, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that came last are in small parts, and may all be of other customers."""
    with serve() as (fleet, client):
        apply_schema(fleet.clusters[CLUSTER])
        succeeded(reindex(fleet, [SLICE]))
        client.command("OPTIMIZE TABLE scorecard FINAL")
        client.command("INSERT INTO scorecard SELECT * REPLACE ('globex' AS customer) FROM scorecard LIMIT 1")
        before = content([client])
    monkeypatch.setattr(canary, "_COUNTED_PARTS", 1)

    policies = "<default><scorecard><filter>customer != 'acme'</filter></scorecard></default>"
    with serve(policies=policies) as (fleet, _), pytest.raises(ConfigurationError, match="of table scorecard"):
        reindex(fleet, [SLICE], options=EVERYTHING)

    with serve() as (_, client):
        assert content([client]) == before


def test_rows_that_were_deleted_are_not_hidden_ones(
    fleet: Fleet, source: Connection, shard_clients: list[Client], ids: list[str]
) -> None:
    succeeded(reindex(fleet, [SLICE]))
    for client in shard_clients:
        client.command("DELETE FROM scorecard WHERE toSecond(scorecard_time) < 6")
    succeeded(reindex(fleet, [SLICE]))
    assert_equal(source, shard_clients, kind="process")


def test_parts_that_come_and_are_merged_meanwhile_raise_no_alarm(
    fleet: Fleet, shard_clients: list[Client], ids: list[str]
) -> None:
    succeeded(reindex(fleet, [SLICE]))
    is_over = threading.Event()

    def write_and_merge() -> None:
        [client, *_] = shard_clients
        while not is_over.is_set():
            client.command("INSERT INTO score SELECT * REPLACE (version + 1 AS version) FROM score LIMIT 5")
            client.command("OPTIMIZE TABLE score FINAL")

    writer = threading.Thread(target=write_and_merge)
    writer.start()
    try:
        with ShardSet(fleet.clusters[CLUSTER]) as shards:
            for _ in range(10):
                shards.map(lambda shard: canary.prove(shard, 1, [SLICE.day]))
    finally:
        is_over.set()
        writer.join()


# --- what is not done


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("INSERT INTO `reindex_staging", "has acknowledged two rows of a canary table"),
        ("DELETE FROM reindex_staging", "has acknowledged the deletion of one of two rows of a canary table"),
    ],
)
def test_a_shard_that_does_not_do_what_it_acknowledges_is_not_written(
    fleet: Fleet,
    shard_clients: list[Client],
    ids: list[str],
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    words: str,
) -> None:
    monkeypatch.setattr("reindex_assets.clickhouse.canary.EVIDENCE", replace(EVIDENCE, attempts=2))
    with faulty_shard(fleet) as (changed, shard):
        shard.decide = lambda sent: Fault.NOT_DONE if statement in sent and "_canary" in sent else None
        outcome = reindex(changed, [SLICE], options=EVERYTHING)[SLICE]
        assert outcome.error is not None
        assert words in outcome.error
        assert shard.seen[Fault.NOT_DONE]
    assert content(shard_clients) == []
    assert staging_tables(shard_clients) == []


def test_a_run_that_writes_nothing_needs_no_proof(fleet: Fleet, ids: list[str]) -> None:
    sent: list[str] = []
    with faulty_shard(fleet) as (changed, shard):
        shard.decide = lambda statement: sent.append(statement)
        succeeded(reindex(changed, [SLICE], options=ReindexOptions(write=WriteOptions(dry_run=True))))
        assert not any("_canary" in statement for statement in sent)
        succeeded(reindex(changed, [SLICE]))
        # Creating, writing, reading twice, deleting, asking for two accounts, dropping twice: once a run.
        assert sum("_canary" in statement for statement in sent) == 9


def test_what_an_attempt_has_left_is_no_contradiction(fleet: Fleet, shard_clients: list[Client]) -> None:
    with ShardSet(fleet.clusters[CLUSTER]) as shards:
        for client in shard_clients:
            client.command("CREATE TABLE reindex_staging_1_0_canary AS scorecard")
            client.command("INSERT INTO reindex_staging_1_0_canary (scorecard_id) VALUES (generateUUIDv4())")
        shards.map(lambda shard: canary.prove(shard, 1, [SLICE.day]))
    assert staging_tables(shard_clients) == []
