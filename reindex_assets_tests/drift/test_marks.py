"""Marks of ClickHouse: whatever changes the rows of a slice on a shard is reported with that slice, on real shards.

What lives here: operations on the tables of the shards, each judged by plain SQL over the raw rows. What does not: lists of parts that
are made up (clickhouse/test_parts.py), marks of Postgres (postgres/test_row_versions.py), and what a look makes of marks
(drift/test_watch.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import date

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse.checksums import read_shard_checksums, read_shard_counts
from reindex_assets.clickhouse.parts import PartChanges, compare_parts, read_parts, slices_in_parts
from reindex_assets.clickhouse.schema import create_table
from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.config.default_tables import SCORE, TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets.selection.groups import SliceGroup, group_slices
from reindex_assets_tests.support import application
from reindex_assets_tests.support.plain_loader import load_plainly
from reindex_assets_tests.support.session_stack import CUSTOMERS

#: Across the end of a month: rows of two partitions of the tables.
PLAN = DataPlan(CUSTOMERS, date(2026, 1, 30), days=4, scale=0.0008, seed=6)
SLICES = [Slice(customer, day) for customer in PLAN.customers for day in PLAN.all_days]
JANUARY = {item for item in SLICES if item.day.month == 1}


@pytest.fixture
def equal(clean: None, source: Connection, shard_clients: list[Client]) -> None:
    make_source(source, PLAN)
    load_plainly(source, shard_clients)


@pytest.fixture
def group(fleet: Fleet) -> SliceGroup:
    [group] = group_slices(SLICES, fleet.dataset(CLUSTER, PROCESS), {}, 1)
    return group


@pytest.fixture
def shards(fleet: Fleet) -> Iterator[ShardSet]:
    with ShardSet(fleet.clusters[CLUSTER]) as shards:
        yield shards


class Witness:
    """The shards as they were when it was made, by the raw rows and by their marks."""

    def __init__(self, shards: ShardSet, clients: Sequence[Client], group: SliceGroup) -> None:
        self._shards, self._clients, self._group = shards, clients, group
        self._rows = self._read_rows()
        self._parts = read_parts(shards, PROCESS)
        self._marks = read_shard_checksums(shards, group)
        self._counts = read_shard_counts(shards, group)

    def _read_rows(self) -> dict[Slice, list[str]]:
        """A digest of all the rows of a slice on a shard; the text of a tuple keeps NULL apart from every text."""
        sql = " UNION ALL ".join(
            f"SELECT customer, day, hex(SHA256(toString(arraySort(groupArray(toString(({columns}, version))))))) FROM {name} "
            "WHERE template_type = 2 GROUP BY customer, day"
            for name, columns in ((table.name, ", ".join(table.column_names)) for table in TABLES)
        )
        rows: dict[Slice, list[str]] = {item: [] for item in SLICES}
        for shard, client in enumerate(self._clients):
            for customer, day, digest in client.query(sql).result_rows:
                rows[Slice(customer, day)].append(f"{shard} {digest}")
        return {item: sorted(digests) for item, digests in rows.items()}

    def changed(self) -> set[Slice]:
        """By the raw rows."""
        now = self._read_rows()
        return {item for item in SLICES if now[item] != self._rows[item]}

    def changes(self) -> PartChanges:
        return compare_parts(self._parts, read_parts(self._shards, PROCESS))

    def reported(self) -> set[Slice]:
        """Where the parts say that something may have happened: by sums of hashes; where they were but merged, by counts."""
        changes = self.changes()
        marks, counts = read_shard_checksums(self._shards, self._group), read_shard_counts(self._shards, self._group)

        def of(months: frozenset[tuple[int, int] | None]) -> set[Slice]:
            return {item for item in SLICES if None in months or (item.day.year, item.day.month) in months}

        in_doubt = slices_in_parts(self._shards, self._group, changes.inserted) | of(changes.rewritten)
        return {item for item in in_doubt if marks[item] != self._marks[item]} | {
            item for item in of(changes.merged) if counts[item] != self._counts[item]
        }


def rows_of(scorecard: application.Scorecard) -> str:
    # Other customers have scorecards of the same id.
    return "customer = '{}' AND profile = '{}' AND scorecard_id = '{}'".format(*scorecard.key)


class Shards:
    """What may happen to the tables of the shards, each by its own statement."""

    def __init__(self, clients: list[Client], source: Connection) -> None:
        self.clients, self.source = clients, source
        self.victims = (application.scorecards_of(source, item)[0] for item in (*SLICES, *SLICES))

    def everywhere(self, *statements: str, **settings: object) -> None:
        for client, table, statement in itertools.product(self.clients, TABLES, statements):
            client.command(statement.format(table=table.name, create=create_table(table)), settings=settings)

    def one(self, statement: str) -> None:
        """A statement about the rows of one scorecard that stands in ClickHouse, on its shard."""
        where = rows_of(next(self.victims))
        for client in self.clients:
            if client.query(f"SELECT count() FROM score WHERE {where}").result_rows[0][0]:
                client.command(statement.format(where=where), settings={"mutations_sync": 2, "insert_deduplicate": 0})

    def write_new(self) -> None:
        scorecard = application.copy_as_new(self.source, next(self.victims))
        application.write_as_application(self.source, self.clients, scorecard)

    def write_again(self) -> None:
        application.write_as_application(self.source, self.clients, next(self.victims))

    def move_to_another_shard(self) -> None:
        where = rows_of(next(self.victims))
        for table, (shard, client) in itertools.product(TABLES, list(enumerate(self.clients))):
            columns = f"SELECT * EXCEPT version, version FROM {table.name} WHERE {where}"
            rows = client.raw_query(columns, fmt="Native")
            if rows:
                client.command(f"DELETE FROM {table.name} WHERE {where}", settings={"lightweight_deletes_sync": 2})
                target = self.clients[(shard + 1) % len(self.clients)]
                target.raw_insert(table.name, insert_block=rows, fmt="Native", settings={"insert_deduplicate": 0})
                break

    def drop_a_part_and_merge(self) -> None:
        """The merged part has the blocks of the dropped one in its name, and none of its rows."""
        self.everywhere("SYSTEM STOP MERGES {table}")
        for _ in range(2):
            self.write_new()
        [[name]] = self.busiest.query(
            "SELECT name FROM system.parts WHERE active AND table = 'score' AND partition_id = '202601'"
            " ORDER BY min_block_number LIMIT 1 OFFSET 1"
        ).result_rows
        self.busiest.command(f"ALTER TABLE score DROP PART '{name}'")
        self.everywhere("SYSTEM START MERGES {table}")
        self.everywhere("OPTIMIZE TABLE {table} FINAL")

    @property
    def busiest(self) -> Client:
        return max(self.clients, key=lambda client: _parts(client))

    def reload(self) -> None:
        load_plainly(self.source, self.clients)

    def recreate(self) -> None:
        self.everywhere("DROP TABLE {table} SYNC", "{create}")
        self.reload()

    def recreate_with_other_rows(self) -> None:
        application.update(self.source, next(self.victims), "agent_user_id = 'somebody else'")
        self.recreate()


def _parts(client: Client) -> int:
    sql = "SELECT count() FROM system.parts WHERE active AND table = 'score' AND partition_id = '202601'"
    return int(client.query(sql).result_rows[0][0])


def operations(shards: Shards) -> Iterator[tuple[str, Callable[[], object]]]:
    """Name, and what is done."""

    def everywhere(statement: str) -> Callable[[], None]:
        return lambda: shards.everywhere(statement, mutations_sync=2)

    def one(statement: str) -> Callable[[], None]:
        return lambda: shards.one(statement)

    yield "nothing", lambda: None
    yield "merge", everywhere("OPTIMIZE TABLE {table} FINAL")
    yield "a new scorecard", shards.write_new
    yield "a new version", shards.write_again
    yield "merge with what is new", everywhere("OPTIMIZE TABLE {table} FINAL")
    yield "lightweight delete", one("DELETE FROM score WHERE {where}")
    yield "the merge after it", everywhere("OPTIMIZE TABLE {table} FINAL")
    yield "delete", one("ALTER TABLE scorecard DELETE WHERE {where}")
    yield "another value, same version", one("ALTER TABLE score UPDATE weight = weight + 1 WHERE {where}")
    yield "a text for NULL", one("ALTER TABLE score UPDATE comment = 'new' WHERE {where}")
    changed = "SELECT * EXCEPT version REPLACE (-1 AS score), version FROM scorecard WHERE {where}"
    yield "the same version with another value", one(f"INSERT INTO scorecard {changed}")
    yield "another shard", shards.move_to_another_shard
    yield "delete of nothing", everywhere("ALTER TABLE {table} DELETE WHERE customer = 'nobody'")
    yield "update to the same", everywhere("ALTER TABLE {table} UPDATE agent_user_id = agent_user_id WHERE 1")
    yield "drop of a part, and a merge over the gap", shards.drop_a_part_and_merge
    yield "detach", everywhere("ALTER TABLE {table} DETACH PARTITION 202601")
    yield "attach", everywhere("ALTER TABLE {table} ATTACH PARTITION 202601")
    yield "drop partition", everywhere("ALTER TABLE {table} DROP PARTITION 202602")
    yield "truncate", everywhere("TRUNCATE TABLE {table}")
    yield "load", shards.reload
    yield "another table with the same rows", shards.recreate
    yield "another table with other rows", shards.recreate_with_other_rows


@pytest.mark.usefixtures("equal")
def test_every_change_of_rows_on_a_shard_is_reported_with_its_slices(
    source: Connection, shard_clients: list[Client], shards: ShardSet, group: SliceGroup
) -> None:
    found = {}
    for name, operation in operations(Shards(shard_clients, source)):
        witness = Witness(shards, shard_clients, group)
        operation()
        found[name] = changed = witness.changed()
        reported = witness.reported()
        assert changed <= reported, (name, changed - reported)
        # ClickHouse may have merged in between, by itself.
        if reported != changed:
            assert reported <= changed | witness.changed(), (name, reported - changed)
    # Each operation did what its name says.
    silent = {"nothing", "merge", "the merge after it", "delete of nothing", "update to the same"}
    silent |= {"another table with the same rows"}
    assert {name for name, changed in found.items() if not changed} == silent
    assert found["detach"] == found["attach"] == JANUARY
    assert found["drop partition"] == set(SLICES) - JANUARY


@pytest.mark.usefixtures("equal")
def test_a_patch_part_is_seen_although_its_rows_stand_in_another_part(
    source: Connection, shard_clients: list[Client], shards: ShardSet, group: SliceGroup
) -> None:
    [victim] = application.scorecards_of(source, SLICES[2])
    on = "ALTER TABLE score MODIFY SETTING enable_block_number_column = {0}, enable_block_offset_column = {0}"
    for client in shard_clients:
        client.command(on.format(1))
    try:
        witness = Witness(shards, shard_clients, group)
        for client in shard_clients:
            client.command(
                f"UPDATE score SET weight = 77 WHERE {rows_of(victim)}",
                settings={"enable_lightweight_update": 1, "allow_experimental_lightweight_update": 1},
            )
        patches = sum(
            int(client.query("SELECT count() FROM system.parts WHERE active AND name LIKE 'patch-%'").result_rows[0][0])
            for client in shard_clients
        )
        assert patches
        assert witness.changed() == witness.reported() == {victim.slice}
    finally:
        for client in shard_clients:
            client.command("DROP TABLE score SYNC")
            client.command(create_table(SCORE))
