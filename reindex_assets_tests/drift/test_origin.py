"""What row versions can't show: values that change without a new version of any row, and servers that give old numbers again.

What lives here: each such way on real engines, seen by a run and by the watch, and the limit of age that finds what nothing else does. What
does not: what row versions do show (postgres/test_row_versions.py, drift/test_unchanged.py, drift/test_watch.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.origin import Origin, read_origin
from reindex_assets.config.cluster import Watch
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.local_environment import PASSWORD_VARIABLE
from reindex_assets.drift.checkpoint_store import CheckpointStore
from reindex_assets.local.data.made_data import make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.postgres import SOURCE_DATABASE, USER, LocalPostgres
from reindex_assets.local.stack.processes import LOOPBACK, choose_port
from reindex_assets.model import PROCESS, Slice
from reindex_assets.postgres.row_versions import read_table_versions
from reindex_assets.postgres.session import SourceSession
from reindex_assets_tests.support import running
from reindex_assets_tests.support.hand_made_rows import with_postgres
from reindex_assets_tests.support.watching import PLAN, SLICES, Watching, reload

SCORES = "historic.scorecard_scores"


@dataclass(frozen=True)
class Definition:
    """A change of a relation's definition: statements before the data are proved, the change, and what takes it back."""

    change: Sequence[str]
    back: Sequence[str]
    before: Sequence[str] = ()


_PLAIN_WEIGHT = (f"ALTER TABLE {SCORES} DROP COLUMN weight", f"ALTER TABLE {SCORES} ADD COLUMN weight double precision")
_SWAP = (
    f"ALTER TABLE {SCORES} RENAME COLUMN numeric_value TO swapped",
    f"ALTER TABLE {SCORES} RENAME COLUMN ai_value TO numeric_value",
    f"ALTER TABLE {SCORES} RENAME COLUMN swapped TO ai_value",
)
DEFINITIONS = {
    "two columns swap their names": Definition(_SWAP, _SWAP),
    "a column is dropped and added with a default": Definition(
        (
            f"ALTER TABLE {SCORES} DROP COLUMN weight",
            f"ALTER TABLE {SCORES} ADD COLUMN weight double precision DEFAULT 0.5",
        ),
        _PLAIN_WEIGHT,
    ),
    "a generated column gets another expression": Definition(
        (f"ALTER TABLE {SCORES} ALTER COLUMN weight SET EXPRESSION AS (coalesce(percentage, 1) * 3)",),
        _PLAIN_WEIGHT,
        (
            f"ALTER TABLE {SCORES} DROP COLUMN weight",
            f"ALTER TABLE {SCORES} ADD COLUMN weight double precision GENERATED ALWAYS AS (coalesce(percentage, 1) * 2) VIRTUAL",
        ),
    ),
}


def execute(source: Connection, statements: Sequence[str]) -> None:
    with source.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


@contextlib.contextmanager
def defined(source: Connection, definition: Definition) -> Iterator[None]:
    execute(source, definition.before)
    try:
        yield
    finally:
        execute(source, definition.back)


def table_versions(fleet: Fleet) -> str:
    with SourceSession(fleet.clusters[CLUSTER].postgres) as session, session.snapshot({}):
        return read_table_versions(session, PROCESS)


def prove(fleet: Fleet) -> None:
    with Comparison(fleet.dataset(CLUSTER, PROCESS), with_checkpoint=True) as comparison:
        assert all(parity.sums_agree for parity in comparison.settled(SLICES, settle_seconds=0))
    CheckpointStore(fleet.dataset(CLUSTER, PROCESS)).update((), comparison.checkpoints)


def unread(fleet: Fleet) -> set[Slice]:
    """The slices that a run takes for unchanged."""
    return {outcome.slice for outcome in running.reindex(fleet, SLICES) if outcome.unchanged is not None}


@pytest.fixture
def watching(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> Watching:
    return Watching(fleet, monkeypatch)


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("what", DEFINITIONS)
def test_values_that_change_by_definition_are_read_again(
    fleet: Fleet, source: Connection, shard_clients: list[Client], watching: Watching, what: str
) -> None:
    make_source(source, PLAN)
    with defined(source, DEFINITIONS[what]):
        running.reindex(fleet, SLICES)
        prove(fleet)
        assert watching.look().equal == set(SLICES)
        watching.assert_quiet()
        assert unread(fleet) == set(SLICES)
        versions = table_versions(fleet)

        execute(source, DEFINITIONS[what].change)

        # No row version tells.
        assert table_versions(fleet) == versions
        assert len(oracle.differences(source, shard_clients, kind="process")) > len(SLICES)
        assert set(watching.look().drifted) == set(SLICES)
        assert unread(fleet) == set()
        oracle.assert_equal(source, shard_clients, kind="process")


def origin(fleet: Fleet) -> Origin:
    with SourceSession(fleet.clusters[CLUSTER].postgres) as session:
        found = read_origin(session, fleet.dataset(CLUSTER, PROCESS))
    assert found is not None
    return found


ANYTHING_ELSE = {
    "an index": ("CREATE INDEX of_a_test ON {0} (weight)", "DROP INDEX historic.of_a_test"),
    "statistics": ("ANALYZE {0}", "ANALYZE {0}"),
    "a new row": ("INSERT INTO {0} SELECT * FROM {0} LIMIT 0", "VACUUM {0}"),
    "a table of somebody else": ("CREATE TABLE of_a_test (number int)", "DROP TABLE of_a_test"),
}


@pytest.mark.parametrize("what", ANYTHING_ELSE)
def test_what_changes_no_value_leaves_the_origin_as_it_is(fleet: Fleet, source: Connection, what: str) -> None:
    before = origin(fleet)
    for statement in ANYTHING_ELSE[what]:
        execute(source, [statement.format(SCORES)])
        now = origin(fleet)
        assert now.digest == before.digest
        assert now.customers_of(before) == set(before.profiles)


PARTS = {
    "another partition": "CREATE TABLE of_a_test_2 PARTITION OF of_a_test FOR VALUES IN (2)",
    "another column of a partition": "ALTER TABLE of_a_test_1 ALTER COLUMN weight SET DEFAULT 7",
    "another label of a type": "ALTER TYPE mood RENAME VALUE 'good' TO 'bad'",
}


@pytest.mark.parametrize("what", PARTS)
def test_partitions_and_labels_are_part_of_the_definition(fleet: Fleet, source: Connection, what: str) -> None:
    relations = fleet.clusters[CLUSTER].postgres.relations.model_copy(update={"scores": "public.of_a_test"})
    changed = with_postgres(fleet, relations=relations)
    execute(
        source,
        (
            "CREATE TYPE mood AS ENUM ('good')",
            "CREATE TABLE of_a_test (kind int, weight int, mood mood) PARTITION BY LIST (kind)",
            "CREATE TABLE of_a_test_1 PARTITION OF of_a_test FOR VALUES IN (1)",
        ),
    )
    try:
        before = origin(changed)
        execute(source, (PARTS[what],))
        assert origin(changed).customers_of(before) == set()
    finally:
        execute(source, ("DROP TABLE of_a_test", "DROP TYPE mood"))


def test_numbers_that_a_server_gives_again_are_not_compared() -> None:
    earlier = Origin(digest="server", profiles={"acme": "()", "globex": "()"}, next_xid=700)
    assert replace(earlier, next_xid=701).customers_of(earlier) == {"acme", "globex"}
    assert replace(earlier, next_xid=699).customers_of(earlier) == set()
    assert replace(earlier, digest="another").customers_of(earlier) == set()
    assert replace(earlier, profiles={"acme": "('main',)", "globex": "()"}).customers_of(earlier) == {"globex"}
    assert earlier.customers_of(Origin()) == set()


def test_a_server_restored_from_a_copy_of_its_disk_has_another_origin(fleet: Fleet, stacks_directory: Path) -> None:
    """Its timeline is the same, and it gives the same numbers to other rows."""
    password = os.environ[PASSWORD_VARIABLE]
    server = LocalPostgres(stacks_directory / "restored" / "postgres")
    copy = server.directory / "copy"

    def read() -> tuple[Origin, str, list[tuple[object, ...]]]:
        here = with_postgres(fleet, host=LOOPBACK, port=port, user=USER, database=SOURCE_DATABASE)
        with contextlib.closing(connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT timeline_id, system_identifier FROM pg_control_checkpoint(), pg_control_system()")
            return origin(here), table_versions(here), cursor.fetchall()

    def connect() -> Connection:
        connection = server.connect(port, password, SOURCE_DATABASE)
        connection.autocommit = True
        return connection

    def write(template: str) -> None:
        with contextlib.closing(connect()) as connection:
            execute(
                connection,
                (
                    "INSERT INTO director.scorecard_template_revisions "
                    "(customer, profile, template_id, template_revision_id, template_type) "
                    f"VALUES ('acme', 'main', '{template}', gen_random_uuid(), 2)",
                ),
            )

    port = choose_port(None, taken=())
    try:
        server.initialise(password)
        server.start(port)
        server.prepare_databases(port, password)
        with contextlib.closing(connect()) as connection:
            # Takes no number of a transaction of its own accord then.
            execute(connection, ("ALTER SYSTEM SET autovacuum = off",))
        server.stop()
        subprocess.run(["cp", "--archive", server.data, copy], check=True)
        server.start(port)
        write("00000000-0000-0000-0000-00000000000a")
        before, versions, place = read()
        server.stop()
        shutil.rmtree(server.data)
        copy.rename(server.data)
        server.start(port)
        write("00000000-0000-0000-0000-00000000000b")
        restored, versions_now, place_now = read()
    finally:
        server.stop()
        shutil.rmtree(server.directory.parent)

    assert versions_now == versions
    assert place_now == place
    assert restored.customers_of(before) == set()


@pytest.mark.usefixtures("clean")
def test_slices_are_compared_again_in_time_whatever_their_row_versions_say(
    fleet: Fleet, source: Connection, shard_clients: list[Client], watching: Watching
) -> None:
    make_source(source, PLAN)
    reload(source, shard_clients)
    [planted] = plant(Drift.CHANGED, shard_clients, "globex", PLAN.all_days[3], 1, source=source, kind=PROCESS)
    drifted = Slice(planted.customer, planted.day)
    state = watching.look().state
    # As if both engines had said that nothing has changed.
    lying = replace(
        state, slices={**state.slices, drifted: replace(state.slices[drifted], is_equal=True, is_touched=False)}
    )

    def after(hours: float, item: Slice) -> None:
        older = replace(lying.slices[item], compared_at=lying.slices[item].compared_at - hours * 3600)
        watching.state = replace(lying, slices={**lying.slices, item: older})

    limits = Watch(settle_seconds=0, prove_every_hours=10)
    after(8.9, drifted)
    quiet = watching.look(limits)
    assert (quiet.drifted, watching.compared) == ({}, [])
    assert quiet.oldest is not None
    assert quiet.oldest[0] == drifted
    after(9.1, drifted)
    assert set(watching.look(limits).drifted) == {drifted} == set(watching.compared)
    # A comparison in the future is of a wrong clock.
    after(-1, drifted)
    assert set(watching.look(limits).drifted) == {drifted}


@pytest.mark.usefixtures("clean")
def test_a_run_reads_again_what_was_proved_too_long_ago(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    make_source(source, PLAN)
    running.reindex(fleet, SLICES)
    prove(fleet)
    assert unread(fleet) == set(SLICES)
    hasty = fleet.model_copy(update={"watch": Watch(prove_every_hours=1e-6)})
    assert unread(hasty) == set()


@pytest.mark.usefixtures("clean")
def test_where_a_relation_is_a_view_the_slices_are_compared_in_turn(
    fleet: Fleet, source: Connection, shard_clients: list[Client], watching: Watching
) -> None:
    make_source(source, PLAN)
    reload(source, shard_clients)
    execute(source, (f"CREATE VIEW historic.scores_view AS SELECT * FROM {SCORES}",))
    try:
        relations = fleet.clusters[CLUSTER].postgres.relations.model_copy(update={"scores": "historic.scores_view"})
        watching.fleet = with_postgres(fleet, relations=relations)
        few = Watch(settle_seconds=0, compared_scores=60)
        first = watching.look(few)
        assert 0 < len(first.equal) < len(SLICES)
        execute(source, (f"UPDATE {SCORES} SET weight = coalesce(weight, 0) + 1 WHERE customer = 'globex'",))
        seen: set[Slice] = set()
        for _ in range(3 * len(SLICES)):
            found = watching.look(few)
            seen |= set(found.drifted)
            if seen == {item for item in SLICES if item.customer == "globex"}:
                break
        assert seen == {item for item in SLICES if item.customer == "globex"}
    finally:
        execute(source, ("DROP VIEW historic.scores_view",))
