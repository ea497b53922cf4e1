"""The ClickHouse tables: created on every shard, left alone when they are right, refused by name when they are not.

What lives here: `apply_schema` and `check_schema` in databases of these tests' own. What does not: rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from reindex_assets.clickhouse.schema import SCHEMA_VERSION, apply_schema, check_schema, create_table
from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.config.cluster import Cluster
from reindex_assets.config.default_tables import SCORE, SCORECARD
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import SchemaMismatchError, ShardUnreachableError
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets_tests.support.hand_made_rows import silent_port, with_clickhouse, with_shard_port

pytestmark = pytest.mark.usefixtures("four_shards")

DATABASE = "schema_tests"
MADE = ["reindex_layout", "score", "scorecard"]


@pytest.fixture
def cluster(fleet: Fleet, shard_clients: list[Client]) -> Iterator[Cluster]:
    """The stack's cluster in an empty database of its own."""
    for client in shard_clients:
        client.command(f"DROP DATABASE IF EXISTS {DATABASE} SYNC")
        client.command(f"CREATE DATABASE {DATABASE}")
    yield with_clickhouse(fleet, database=DATABASE).clusters[CLUSTER]
    for client in shard_clients:
        client.command(f"DROP DATABASE IF EXISTS {DATABASE} SYNC")


def check(cluster: Cluster) -> None:
    with ShardSet(cluster) as shards:
        check_schema(shards)


def shapes(shard_clients: list[Client]) -> list[list[tuple[str, ...]]]:
    """Everything that names the tables' shape and identity, by shard."""
    return [
        [
            tuple(map(str, row))
            for row in client.query(
                f"SELECT name, uuid, create_table_query FROM system.tables WHERE database = '{DATABASE}' ORDER BY name"
            ).result_rows
        ]
        for client in shard_clients
    ]


def test_the_tables_are_created_on_every_shard_and_the_second_time_nothing_happens(
    cluster: Cluster, shard_clients: list[Client]
) -> None:
    first = apply_schema(cluster)
    assert len(first) == 4 * len(MADE)
    assert all("created" in line for line in first)
    for number in range(4):
        assert sum(f"shard {number} " in line for line in first) == len(MADE)
    made = shapes(shard_clients)
    assert [[row[0] for row in rows] for rows in made] == [MADE] * 4

    second = apply_schema(cluster)
    assert all("up to date" in line for line in second)
    assert shapes(shard_clients) == made
    check(cluster)


def test_the_tables_carry_their_version_and_materialize_day_and_version(
    cluster: Cluster, shard_clients: list[Client]
) -> None:
    apply_schema(cluster)
    for client in shard_clients:
        found = client.query(
            f"SELECT name, comment, engine, sorting_key FROM system.tables WHERE database = '{DATABASE}' "
            "AND name != 'reindex_layout' ORDER BY name"
        ).result_rows
        assert found == [
            (table.name, f"reindex_assets schema {SCHEMA_VERSION}", "ReplacingMergeTree", ", ".join(table.key))
            for table in (SCORE, SCORECARD)
        ]
    # What a writer doesn't say fills itself: the day from the time, the version from the clock.
    client = shard_clients[0]
    client.command(
        f"INSERT INTO {DATABASE}.scorecard (customer, scorecard_time) VALUES ('acme', '1969-12-31 23:59:59.999999')"
    )
    [[day, age]] = client.query(
        f"SELECT toString(day), toUnixTimestamp64Micro(now64(6)) - version FROM {DATABASE}.scorecard"
    ).result_rows
    assert day == "1969-12-31"
    assert 0 <= age < 60_000_000


def test_what_is_missing_on_one_shard_is_created_there_alone(cluster: Cluster, shard_clients: list[Client]) -> None:
    apply_schema(cluster)
    shard_clients[1].command(f"DROP TABLE {DATABASE}.score SYNC")
    with pytest.raises(SchemaMismatchError, match=r"shard 1 .* has no table score .*schema apply"):
        check(cluster)

    [created] = [line for line in apply_schema(cluster) if "created" in line]

    assert "shard 1 " in created
    assert "score " in created
    check(cluster)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("score Nullable(Float64)", "score Float64", "column score is Float64, not Nullable(Float64)"),
        ("    created_at DateTime64(6, 'UTC'),\n", "", "column created_at DateTime64(6, 'UTC') is absent"),
        ("    score Nullable", "    note String,\n    score Nullable", "column note String is unknown"),
        (
            "day, profile, scorecard_id",
            "profile, day, scorecard_id",
            "its sorting key is (customer, template_type, pro",
        ),
        ("ReplacingMergeTree(version)", "MergeTree", "its engine is MergeTree"),
        ("ReplacingMergeTree(version)", "ReplacingMergeTree", "its engine is ReplacingMergeTree"),
        ("toYYYYMM(scorecard_time)", "toYYYYMM(created_at)", "its partition key is (toYYYYMM(created_at))"),
        ("MATERIALIZED toDate32(scorecard_time)", "DEFAULT toDate32(scorecard_time)", "column day is Date32 DEFAULT"),
        ("version UInt64 DEFAULT toUnixTimestamp64Micro(now64(6))", "version UInt64", "column version is UInt64, not"),
    ],
)
def test_a_table_of_another_shape_is_refused_and_its_difference_named(
    cluster: Cluster, shard_clients: list[Client], old: str, new: str, words: str
) -> None:
    statement = create_table(SCORECARD)
    assert old in statement
    shard_clients[2].command(statement.replace(old, new).replace("EXISTS scorecard", f"EXISTS {DATABASE}.scorecard"))
    before = shapes(shard_clients[2:3])

    with pytest.raises(SchemaMismatchError) as error:
        apply_schema(cluster)

    assert words in str(error.value)
    assert "table scorecard" in str(error.value)
    assert "shard 2 " in str(error.value)
    assert not any(f"shard {number} " in str(error.value) for number in (0, 1, 3))
    # On that shard nothing was done, and every other one has its tables.
    assert shapes(shard_clients[2:3]) == before
    assert [len(rows) for rows in shapes(shard_clients)] == [3, 3, 1, 3]


def test_every_difference_of_every_table_is_named_at_once(cluster: Cluster, shard_clients: list[Client]) -> None:
    apply_schema(cluster)
    for statement in (
        "ALTER TABLE scorecard ADD COLUMN note String",
        "ALTER TABLE scorecard MODIFY COLUMN score Nullable(Float32)",
        "ALTER TABLE score DROP COLUMN comment",
    ):
        shard_clients[3].command(statement.replace("TABLE ", f"TABLE {DATABASE}."))
    for act in (lambda: apply_schema(cluster), lambda: check(cluster)):
        with pytest.raises(SchemaMismatchError) as error:
            act()
        for words in (
            "column note",
            "column score is Nullable(Float32)",
            "column comment",
            "table scorecard",
            "table score:",
        ):
            assert words in str(error.value)


def test_a_column_that_fills_itself_and_an_index_are_the_owners_business(
    cluster: Cluster, shard_clients: list[Client]
) -> None:
    apply_schema(cluster)
    for client in shard_clients:
        for statement in (
            "ALTER TABLE scorecard ADD COLUMN month UInt32 MATERIALIZED toYYYYMM(scorecard_time)",
            "ALTER TABLE scorecard ADD COLUMN agent Nullable(String) ALIAS agent_user_id",
            "ALTER TABLE scorecard ADD INDEX by_agent agent_user_id TYPE bloom_filter GRANULARITY 1",
            "ALTER TABLE scorecard MODIFY COMMENT 'ours'",
        ):
            client.command(statement.replace("TABLE ", f"TABLE {DATABASE}."))
    assert all("up to date" in line for line in apply_schema(cluster))
    check(cluster)


def test_a_shard_out_of_reach_is_an_error_and_the_others_have_their_tables(
    cluster: Cluster, fleet: Fleet, shard_clients: list[Client]
) -> None:
    changed = with_clickhouse(with_shard_port(fleet, 0, silent_port()), database=DATABASE)
    with pytest.raises(ShardUnreachableError, match="shard 0 "):
        apply_schema(changed.clusters[CLUSTER])
    assert [len(rows) for rows in shapes(shard_clients)] == [0, 3, 3, 3]
    assert len(apply_schema(cluster)) == 12
