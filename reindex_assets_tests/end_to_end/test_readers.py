"""No hole: whoever reads a shard while runs are under way misses no row that is right before and after.

What lives here: runs, with readers beside them. What does not: the readers (support/shard_readers.py), runs whose statements fail
(end_to_end/test_writing.py), and what stands there once a run has ended (end_to_end/test_invariants.py).
"""

from __future__ import annotations

import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse.insert_block import ArrowStream
from reindex_assets.clickhouse.shards import ShardConnection
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_data import DataPlan, change_source, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle.compare import assert_equal
from reindex_assets.model import PROCESS
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.reindex.writer import WriteOptions
from reindex_assets_tests.support.running import reindex, slices_of
from reindex_assets_tests.support.session_stack import CUSTOMERS, FIRST_DAY, empty_shards
from reindex_assets_tests.support.shard_readers import Place, assert_no_hole, bare_scorecards, count_scores, reading

PLAN = DataPlan(CUSTOMERS, FIRST_DAY, days=3, scale=0.003, seed=13)
SLICES = slices_of(PLAN)
SMALL_INSERTS = ReindexOptions(write=WriteOptions(batch_rows=50))
ROUNDS = 2


@pytest.fixture
def loaded(clean: None, source: Connection, fleet: Fleet) -> None:
    make_source(source, PLAN)
    reindex(fleet, SLICES)


@pytest.mark.usefixtures("loaded")
def test_no_reader_misses_a_row_while_unchanged_slices_are_reindexed(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    with reading(fleet, source) as readers:
        rounds = 0
        # How often a reader looks during a run is the machine's affair.
        while rounds < ROUNDS or sum(reader.samples for reader in readers) < 20:
            reindex(fleet, SLICES)
            rounds += 1
    assert_no_hole(readers, shard_clients)
    # Nothing changed, so not even for an instant may another row have been seen.
    assert all(not reader.missed for reader in readers)


@pytest.mark.usefixtures("loaded")
def test_no_reader_misses_a_row_while_changed_slices_are_reindexed(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    samples = changed = seed = 0
    # The readers must see rows go that have to: they look while it happens.
    while seed < ROUNDS or samples < 40 or changed == 0:
        seed += 1
        change_source(source, PLAN, seed)
        for number, drift in enumerate((Drift.CHANGED, Drift.DUPLICATED, Drift.EXTRA, Drift.WRONG_SHARD)):
            plant(
                drift, shard_clients, "acme", PLAN.all_days[number % PLAN.days], seed=seed, source=source, kind=PROCESS
            )
        with reading(fleet, source) as readers:
            reindex(fleet, SLICES)
        samples += assert_no_hole(readers, shard_clients)
        changed += sum(len(reader.missed) for reader in readers)
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("clean")
def test_every_insert_of_scorecards_finds_their_scores_there(
    fleet: Fleet, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_source(source, PLAN)
    expected = count_scores(source)
    insert = ShardConnection.insert
    bare: list[Place] = []
    seen = 0

    def looking(shard: ShardConnection, table: str, rows: ArrowStream) -> None:
        nonlocal seen
        insert(shard, table, rows)
        if table == "scorecard":
            bare.extend(bare_scorecards(shard.client, expected))
            seen += pa.ipc.open_stream(rows.body).read_all().num_rows

    monkeypatch.setattr(ShardConnection, "insert", looking)
    # Many small batches, so that some rows always wait for their insert.
    monkeypatch.setattr("reindex_assets.postgres.session.BATCH_BYTES", 4_096)
    reindex(fleet, SLICES, SMALL_INSERTS)

    assert seen > 0
    assert bare == []


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("options", [None, SMALL_INSERTS], ids=["at once", "in small inserts"])
def test_no_reader_sees_a_scorecard_without_its_scores_during_a_first_load(
    fleet: Fleet, source: Connection, shard_clients: list[Client], options: ReindexOptions | None
) -> None:
    make_source(source, PLAN)
    samples = 0
    while samples < 8:
        empty_shards(shard_clients)
        with reading(fleet, source) as readers:
            reindex(fleet, SLICES, options)
        samples += assert_no_hole(readers, shard_clients)
        assert_equal(source, shard_clients, kind="process")
