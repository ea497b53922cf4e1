"""After an upgrade the files and cursors of the version before are taken up as they stand: nothing is read, told or repaired again for it.

What lives here: state files, origins, the slice store, cursors, and every name that Dagster stores. What does not: history in Dagster's
database and on the shards (test_stored_history.py).

A failure here means: a deployment loses its state by this change. Keep what is stored, by an alias if need be. The fixtures are never
changed; what must be forgotten on purpose gets another version (`_VERSION` of the file), and the test says so.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from reindex_assets.alerts.cursor import from_cursor, to_cursor
from reindex_assets.alerts.delivery import parse_targets
from reindex_assets.config.default_tables import TABLES
from reindex_assets.defs.history.repairs import read_cursor
from reindex_assets.defs.keys.names import repair_sensor_name
from reindex_assets.drift.checkpoint_store import CheckpointStore
from reindex_assets.drift.watch_state import WatchState, WatchStore
from reindex_assets.model import KINDS, Kind
from reindex_assets.storage.slice_store import EXTRACT, ROWS, SliceStore
from reindex_assets_tests.upgrade.record import record_names
from reindex_assets_tests.upgrade.recorded import FIXTURES, VERSIONS, Recorded

EVERY_KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture(params=VERSIONS)
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Recorded:
    folder = FIXTURES / request.param
    shutil.copytree(folder / "slices", tmp_path / "slices")
    return Recorded(folder, tmp_path / "slices")


def content(path: str) -> bytes:
    """Of a state file, without the line of its version and checksum."""
    return Path(path).read_bytes().partition(b"\n")[2]


@EVERY_KIND
def test_checkpoints_and_the_state_of_the_watch_are_forgotten_on_purpose(recorded: Recorded, kind: Kind) -> None:
    """Those of 0.1 do not say how the relations were defined, nor which transaction was the last: everything is compared once more."""
    dataset = recorded.fleet.dataset("local", kind)
    checkpoints, watch = CheckpointStore(dataset), WatchStore(dataset)
    for store in (checkpoints, watch):
        assert content(store.path)
    assert checkpoints.load() == ()
    assert watch.load() == WatchState()


@EVERY_KIND
def test_the_slice_store_is_whole_and_is_read_row_by_row(recorded: Recorded, kind: Kind) -> None:
    store = SliceStore(recorded.fleet.dataset("local", kind))
    shards = len(recorded.cluster.clickhouse.shards)
    slices = recorded.stored_slices(kind.name)
    assert slices
    for item in slices:
        assert store.is_whole(item, shards), item
        info = store.extract_info(item, ROWS, shards)
        for table in TABLES:
            extract, rows = (pq.read_table(store.path(item, step, table)) for step in (EXTRACT, ROWS))
            metadata = extract.schema.metadata
            assert str(info.snapshot).encode() == metadata[b"reindex_assets.snapshot_microseconds"]
            assert extract.schema.remove_metadata() == table.arrow_schema
            found = pa.Table.from_batches(list(store.read(item, ROWS, table)))
            assert found.drop_columns("shard").equals(extract.replace_schema_metadata(None))
            assert found["shard"].equals(rows["shard"])


@EVERY_KIND
def test_the_repair_sensor_takes_up_its_cursor(recorded: Recorded, kind: Kind) -> None:
    text = recorded.cursor(repair_sensor_name(recorded.fleet.dataset("local", kind)))
    cursor = read_cursor(text)
    assert _holds(json.loads(cursor.model_dump_json()), json.loads(text))
    said = [one for one in recorded.said["repairs"] if one["kind"] == kind.name]
    assert [repair.customer for repair in cursor.ledger.given_up.values()] == [one["customer"] for one in said]
    assert said
    assert cursor.results is not None
    assert cursor.results.until == json.loads(text)["verdicts"]["until"]


def _holds(now: Any, before: Any) -> bool:
    """Whether everything that was written before is written now, with the same name; there may be more."""
    if isinstance(before, dict):
        return all(name in now and _holds(now[name], value) for name, value in before.items())
    if isinstance(before, list):
        return len(now) == len(before) and all(map(_holds, now, before))
    return bool(now == before)


def test_the_alerts_take_up_their_cursor_and_know_whom_they_have_told(recorded: Recorded) -> None:
    text = recorded.cursor("alerts")
    state = from_cursor(text)
    assert state is not None
    assert to_cursor(state) == text
    [target] = parse_targets(SecretStr(recorded.said["alert_urls"]))
    assert state.open_checks.keys() == state.target_states[target.fingerprint].told.keys() != set()


def test_no_name_that_dagster_stores_has_changed(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """New ones may have come."""
    monkeypatch.setenv("REINDEX_FLEET", str(recorded.folder / "fleet.yaml"))
    # As the local stack sets it.
    monkeypatch.setenv("REINDEX_MODE", "process")
    names = record_names()
    assert {what: sorted(set(before) - set(names[what])) for what, before in recorded.names.items()} == {
        what: [] for what in recorded.names
    }
