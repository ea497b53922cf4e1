"""The slice store: files appear whole or not at all, on any path that fsspec knows, and are never read across snapshots.

What lives here: SliceStore and SliceWriter on a directory and in memory, and the steps run alone. What does not: what the rows mean.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.config.cluster import Cluster
from reindex_assets.config.default_tables import SCORE, SCORECARD, TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ConfigurationError, MissingSliceError
from reindex_assets.local.oracle.compare import assert_equal
from reindex_assets.model import PROCESS, SHARD, Slice, Step
from reindex_assets.storage.slice_store import EXTRACT, ROWS, ExtractInfo, SliceStore
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.hand_made_rows import add_scorecard, reindex, succeeded

ONE = Slice("acme", date(2026, 1, 5))
OTHER = Slice("acme", date(2026, 1, 6))
SNAPSHOT = ExtractInfo.new(1_767_600_000_000_000)
LATER = ExtractInfo.new(SNAPSHOT.snapshot + 1)


def store_at(root: object) -> SliceStore:
    return SliceStore(replace(dataset_named("here", PROCESS), slices_root=str(root)))


def score_rows(count: int) -> pa.RecordBatch:
    """Rows of the score table with a value in the columns that need one."""
    columns = []
    for field in SCORE.arrow_schema:
        value: object = None
        if not field.nullable:
            value = {pa.string(): "x", pa.bool_(): False, pa.uint8(): 2}.get(field.type, b"0" * 16)
            value = datetime(2026, 1, 5, tzinfo=UTC) if pa.types.is_timestamp(field.type) else value
        columns.append(pa.array([value] * count, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=SCORE.arrow_schema)


def files_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


def write_slice(store: SliceStore, item: Slice, mark: ExtractInfo, step: str = EXTRACT, shards: int = 4) -> None:
    for table in TABLES:
        with store.writer(step, table, mark, shards) as writer:
            writer.finish([item])


DECLARED = {
    "another condition": replace(TABLES, parent=replace(SCORECARD, where="NOT c.archived")),
    "another condition on scores": replace(TABLES, child=replace(SCORE, where="s.weight > 0")),
    "another source": replace(
        TABLES,
        parent=replace(SCORECARD, columns=(*SCORECARD.columns[:-1], replace(SCORECARD.columns[-1], source="c.other"))),
    ),
    "a column less": replace(TABLES, child=replace(SCORE, columns=SCORE.columns[:-1])),
}


@pytest.mark.parametrize("what", DECLARED)
def test_files_that_were_read_under_another_declaration_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Rows that another condition left out would be taken for deleted ones."""
    dataset = replace(dataset_named("here", PROCESS), slices_root=str(tmp_path))
    store = SliceStore(dataset)
    for step in (EXTRACT, ROWS):
        write_slice(store, ONE, SNAPSHOT, step)
    assert store.is_whole(ONE, 4)
    monkeypatch.setattr(Cluster, "clickhouse_tables", DECLARED[what])
    other = SliceStore(dataset)
    with pytest.raises(MissingSliceError, match="declared other tables, columns or conditions: run scorecard_extract"):
        other.extract_info(ONE, EXTRACT, 4)
    assert not other.is_whole(ONE, 4)


def test_files_appear_at_the_finish_and_not_before(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    with store.writer(EXTRACT, SCORE, SNAPSHOT, 4) as writer:
        for _ in range(3):
            # More than one row group, so that rows are on disk before the finish.
            writer.write(ONE, score_rows(20_000))
        writer.write(OTHER, score_rows(5))
        assert not any(name.endswith(".parquet") for name in files_in(tmp_path))
        assert files_in(tmp_path)
        done = writer.finish([ONE, OTHER])

    assert files_in(tmp_path) == ["extract-score.parquet"] * 2
    assert {item: file.rows for item, file in done.items()} == {ONE: 60_000, OTHER: 5}
    for file in done.values():
        assert Path(file.path).stat().st_size == file.bytes
    assert sum(batch.num_rows for batch in store.read(ONE, EXTRACT, SCORE)) == 60_000
    [batch] = store.read(OTHER, EXTRACT, SCORE)
    assert batch.equals(score_rows(5))
    assert batch.schema.equals(SCORE.arrow_schema, check_metadata=True)


def test_what_a_killed_run_has_left_goes_with_the_next_run_of_the_slice(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    left_over = Path(store.path(ONE, EXTRACT, SCORE) + ".0123abcd.tmp")
    left_over.parent.mkdir(parents=True)
    left_over.write_bytes(b"PAR1 and no end")
    write_slice(store, ONE, SNAPSHOT)
    assert files_in(tmp_path) == ["extract-score.parquet", "extract-scorecard.parquet"]


def test_a_run_that_breaks_off_leaves_nothing_and_what_was_there_stays_readable(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    with store.writer(EXTRACT, SCORE, SNAPSHOT, 4) as writer:
        writer.write(ONE, score_rows(7))
        writer.finish([ONE])

    def break_off() -> None:
        with store.writer(EXTRACT, SCORE, LATER, 4) as writer:
            for _ in range(3):
                writer.write(ONE, score_rows(20_000))
            writer.write(OTHER, score_rows(1))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        break_off()

    assert files_in(tmp_path) == ["extract-score.parquet"]
    assert sum(batch.num_rows for batch in store.read(ONE, EXTRACT, SCORE)) == 7


def test_a_slice_without_rows_has_empty_files_and_one_that_never_ran_has_none(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    write_slice(store, ONE, SNAPSHOT)

    assert store.extract_info(ONE, EXTRACT, 4) == SNAPSHOT
    assert sum(batch.num_rows for table in TABLES for batch in store.read(ONE, EXTRACT, table)) == 0
    with pytest.raises(MissingSliceError, match=r"no extract files of acme 2026-01-06.*scorecard_extract"):
        store.extract_info(OTHER, EXTRACT, 4)
    with pytest.raises(MissingSliceError, match=r"no rows files of acme 2026-01-05.*score_rows"):
        store.extract_info(ONE, ROWS, 4)


def test_files_of_two_snapshots_are_refused(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    write_slice(store, ONE, SNAPSHOT)
    with store.writer(EXTRACT, SCORE, LATER, 4) as writer:
        writer.finish([ONE])

    with pytest.raises(MissingSliceError, match=r"different extracts.*scorecard_extract"):
        store.extract_info(ONE, EXTRACT, 4)
    with store.writer(EXTRACT, SCORECARD, LATER, 4) as writer:
        writer.finish([ONE])
    assert store.extract_info(ONE, EXTRACT, 4) == LATER


#: A standby where nothing happens has the same snapshot for long, and reads its rows in another order each time.
@pytest.mark.parametrize("later", [LATER, ExtractInfo.new(SNAPSHOT.snapshot)], ids=["later", "of the same snapshot"])
def test_the_shards_of_an_older_extract_are_refused(tmp_path: Path, later: ExtractInfo) -> None:
    store = store_at(tmp_path)
    write_slice(store, ONE, SNAPSHOT, EXTRACT)
    write_slice(store, ONE, SNAPSHOT, ROWS)
    assert store.extract_info(ONE, ROWS, 4) == SNAPSHOT
    write_slice(store, ONE, later, EXTRACT)

    with pytest.raises(MissingSliceError, match=r"another extract than its extract files.*score_rows"):
        store.extract_info(ONE, ROWS, 4)
    write_slice(store, ONE, later, ROWS)
    assert store.extract_info(ONE, ROWS, 4) == later


def test_files_of_before_the_extract_had_a_number_are_refused(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    write_slice(store, ONE, SNAPSHOT)
    path = store.path(ONE, EXTRACT, SCORE)
    table = pq.read_table(path)
    marks = {key: value for key, value in table.schema.metadata.items() if key != b"reindex_assets.extract"}
    assert len(marks) < len(table.schema.metadata)
    pq.write_table(table.replace_schema_metadata(marks), path)

    with pytest.raises(MissingSliceError, match=r"older version.*scorecard_extract"):
        store.extract_info(ONE, EXTRACT, 4)


def test_each_row_is_read_with_its_own_shard_whatever_the_row_groups_are(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    rows = score_rows(50_000)
    shards = pa.array(range(rows.num_rows), pa.uint16())
    with (
        store.writer(EXTRACT, SCORE, SNAPSHOT, 4) as extract,
        store.writer(ROWS, SCORE, SNAPSHOT, 4) as placed,
    ):
        for start in range(0, rows.num_rows, 7_000):
            extract.write(ONE, rows.slice(start, 7_000))
        for start in range(0, rows.num_rows, 9_000):
            placed.write(ONE, pa.RecordBatch.from_arrays([shards.slice(start, 9_000)], names=[SHARD]))
        extract.finish([ONE])
        placed.finish([ONE])

    read = pa.Table.from_batches(list(store.read(ONE, ROWS, SCORE)))
    assert read.column(SHARD).combine_chunks().equals(shards)
    assert read.drop_columns([SHARD]).equals(pa.Table.from_batches([rows]))


def test_many_slices_at_once_keep_few_rows_in_memory_and_lose_none(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    slices = [Slice("acme", date(2026, 1, day)) for day in range(1, 21)]
    with store.writer(EXTRACT, SCORE, SNAPSHOT, 4) as writer:
        for _ in range(5):
            for item in slices:
                writer.write(item, score_rows(5_000))
                assert writer.waiting_bytes <= 16 * 1024 * 1024
        writer.close_files()
        assert writer.waiting_bytes == 0
        done = writer.finish(slices)

    assert [file.rows for file in done.values()] == [25_000] * len(slices)
    assert sum(batch.num_rows for item in slices for batch in store.read(item, EXTRACT, SCORE)) == 500_000


def test_rows_placed_for_another_number_of_shards_are_refused_and_an_extract_is_not(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    write_slice(store, ONE, SNAPSHOT, EXTRACT, shards=4)
    write_slice(store, ONE, SNAPSHOT, ROWS, shards=4)

    assert store.extract_info(ONE, EXTRACT, 5) == SNAPSHOT
    assert store.extract_info(ONE, ROWS, 4) == SNAPSHOT
    with pytest.raises(MissingSliceError, match=r"placed on 4 shards, the fleet file has 5.*score_rows"):
        store.extract_info(ONE, ROWS, 5)


def test_a_path_in_memory_works_as_a_directory_does() -> None:
    store = store_at("memory://reindex-store-test")
    with store.writer(EXTRACT, SCORE, SNAPSHOT, 4) as writer:
        writer.write(ONE, score_rows(40_000))
        done = writer.finish([ONE, OTHER])
    assert [done[item].rows for item in (ONE, OTHER)] == [40_000, 0]
    assert sum(batch.num_rows for batch in store.read(ONE, EXTRACT, SCORE)) == 40_000


def test_a_path_that_nothing_can_open_is_an_error_of_the_fleet_file() -> None:
    with pytest.raises(ConfigurationError, match="slices: gopher://x"):
        store_at("gopher://x")


@pytest.mark.usefixtures("clean")
def test_each_step_can_be_run_alone_from_the_files_of_the_one_before(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    memory = fleet.model_copy(update={"slices": "memory://steps"})
    for second in range(6):
        add_scorecard(source, datetime(2026, 1, 5, 12, 0, second, 1, UTC), score="NaN")
    # The second slice is empty: its files say so.
    both = [ONE, OTHER]

    missing = reindex(memory, both, [Step.ROWS])
    assert all("scorecard_extract" in str(outcome.error) for outcome in missing.values())
    extracted = succeeded(reindex(memory, both, [Step.EXTRACT]))
    assert {key: file.rows for key, file in extracted[ONE].files.items()} == {
        (Step.EXTRACT, "scorecard"): 6,
        (Step.EXTRACT, "score"): 12,
    }
    # What happens in Postgres from here on is none of the next steps' business.
    with source.cursor() as cursor:
        cursor.execute("UPDATE director.scorecards SET score = 1")
    placed = succeeded(reindex(memory, both, [Step.ROWS]))
    assert {item: outcome.snapshot for item, outcome in placed.items()} == {
        item: outcome.snapshot for item, outcome in extracted.items()
    }
    [rows] = SliceStore(memory.dataset("local", PROCESS)).read(ONE, ROWS, SCORECARD)
    assert set(rows.column(SHARD).to_pylist()) <= {0, 1, 2, 3}
    written = succeeded(reindex(memory, both, [Step.WRITE]))
    assert sum(write.written for write in written[ONE].writes.values()) == 18
    with source.cursor() as cursor:
        cursor.execute("UPDATE director.scorecards SET score = 'NaN'")
    assert_equal(source, shard_clients, kind="process")


def test_steps_that_do_not_follow_each_other_are_refused(fleet: Fleet) -> None:
    with pytest.raises(ConfigurationError, match="score_rows lies between"):
        reindex(fleet, [ONE], [Step.EXTRACT, Step.WRITE])
