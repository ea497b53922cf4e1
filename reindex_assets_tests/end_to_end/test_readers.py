"""No hole: whoever reads a shard while runs are under way misses no row that is right before and after.

What lives here: readers that sample every shard without a pause, and what they must never see. What does not: what stands
there once a run has ended (end_to_end/test_invariants.py).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

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
from reindex_assets_tests.support.session_stack import CUSTOMERS, FIRST_DAY, connect_shards, empty_shards

PLAN = DataPlan(CUSTOMERS, FIRST_DAY, days=3, scale=0.003, seed=13)
SLICES = slices_of(PLAN)
SMALL_INSERTS = ReindexOptions(write=WriteOptions(batch_rows=50))
ROUNDS = 2

#: A scorecard where dashboards look for it: customer, profile, id, day.
Place = tuple[object, ...]

_PLACE = "customer, profile, toString(scorecard_id), toString(day)"
_ROWS = "SELECT sipHash64(toString(tuple(* EXCEPT version))) FROM {table} {final}"
_SCORECARDS = f"SELECT DISTINCT {_PLACE} FROM scorecard"
_SCORES = f"SELECT {_PLACE}, uniqExact(score_id) FROM score GROUP BY ALL"


def rows_of(client: Client, table: str, final: bool = False) -> frozenset[int]:
    """The digests of a table's rows, all columns but the version."""
    found = client.query(_ROWS.format(table=table, final="FINAL" if final else "")).result_rows
    return frozenset(row[0] for row in found)


def shown_scorecards(client: Client) -> set[Place]:
    return {tuple(row) for row in client.query(_SCORECARDS).result_rows}


def bare_scorecards(client: Client, scores_of: dict[Place, int]) -> set[Place]:
    """Scorecards of a shard that show fewer scores than they have; the scores are read after the scorecards."""
    shown = shown_scorecards(client)
    scores: dict[Place, int] = {tuple(row[:-1]): row[-1] for row in client.query(_SCORES).result_rows}
    return {place for place in shown if scores.get(place, 0) < scores_of.get(place, 0)}


class Reader:
    """Samples one shard, over and over, with a client of its own.

    Attributes:
        samples: readings of every table that were begun and ended while a run was under way.
        missed: rows that were there at the beginning, and not in some sample.
        bare: scorecards that were seen without (all) their scores, before and after the look at the scores.
    """

    def __init__(self, client: Client, scores_of: dict[Place, int]) -> None:
        self._client = client
        self._scores_of = scores_of
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._failure: BaseException | None = None
        self.before = {table: rows_of(client, table) for table in ("scorecard", "score")}
        self.missed: Counter[tuple[str, int]] = Counter()
        self.bare: Counter[Place] = Counter()
        self.samples = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _read(self) -> None:
        try:
            while not self._stop.is_set():
                self._sample(final=self.samples % 2 == 1)
                self.samples += 1
        except BaseException as failure:  # noqa: BLE001 - raised again in the thread that waits
            self._failure = failure

    def _sample(self, final: bool) -> None:
        for table, before in self.before.items():
            self.missed.update((table, row) for row in before - rows_of(self._client, table, final))
        # Two tables cannot be read at one instant: a scorecard counts as seen when it is there before and after its scores.
        bare = bare_scorecards(self._client, self._scores_of)
        if bare:
            self.bare.update(bare & shown_scorecards(self._client))


def count_scores(source: Connection) -> dict[Place, int]:
    """How many scores each scorecard has in Postgres; one that has none is not there."""
    with source.cursor() as cursor:
        cursor.execute(
            """
            SELECT c.customer, c.profile, c.scorecard_id::text, (c.process_interaction_at AT TIME ZONE 'UTC')::date::text,
                count(*)
            FROM director.scorecards AS c
            JOIN historic.scorecard_scores USING (customer, profile, scorecard_id)
            GROUP BY 1, 2, 3, 4
            """
        )
        return {row[:-1]: row[-1] for row in cursor.fetchall()}


@contextmanager
def reading(fleet: Fleet, source: Connection) -> Iterator[list[Reader]]:
    """A reader on each shard, at work."""
    scores_of = count_scores(source)
    clients = connect_shards(fleet)
    readers = [Reader(client, scores_of) for client in clients]
    for reader in readers:
        reader.start()
    try:
        yield readers
    finally:
        for reader in readers:
            reader.stop()
        for client in clients:
            client.close()


def assert_no_hole(readers: list[Reader], shard_clients: list[Client]) -> int:
    """Returns how many samples were taken."""
    for shard, (reader, client) in enumerate(zip(readers, shard_clients, strict=True)):
        after = {table: rows_of(client, table) for table in reader.before}
        holes = {row: times for row, times in reader.missed.items() if row[1] in after[row[0]]}
        assert holes == {}, f"shard {shard}"
        assert reader.bare == {}, f"shard {shard}"
    return sum(reader.samples for reader in readers)


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
