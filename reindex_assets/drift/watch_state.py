"""What the watch remembers from one look to the next: the state of every slice when it was last compared, in one state file.

What lives here: the state, loading and saving it. What does not: how it is used (drift/watch.py), and the file (storage/state_file.py).

The file only saves work: if it is absent or damaged, every slice is compared again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from reindex_assets.clickhouse.parts import PartitionPlace
from reindex_assets.comparison.origin import Origin
from reindex_assets.config.dataset import Dataset
from reindex_assets.model import CHILD, PARENT, Slice
from reindex_assets.postgres.row_versions import RowVersions
from reindex_assets.storage.slice_store import SliceStore
from reindex_assets.storage.state_file import StateFile

#: Raise it whenever the shape or the meaning of a column changes: files of other versions are ignored.
_VERSION = "6"
_META = b"reindex_assets.watch"
_ORIGIN = TypeAdapter(Origin)
_SCHEMA = pa.schema(
    [
        ("slice", pa.string()),
        ("scorecard_rows", pa.int64()),
        ("scorecard_mark", pa.uint64()),
        ("score_rows", pa.int64()),
        ("score_mark", pa.uint64()),
        ("shard_mark", pa.uint64()),
        ("is_equal", pa.bool_()),
        ("is_touched", pa.bool_()),
        ("turn", pa.int64()),
        ("compared_at", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class SliceState:
    """A slice when it was last compared: its row versions in Postgres by table name, and the checksum of its rows on the shards.

    Attributes:
        is_equal: it was equal to the bit, and no change has been seen since.
        is_touched: a change has been seen since, and it has not been compared again. Versions and checksums show a change only once.
        turn: a counter of comparisons: the higher, the later it was compared; 0 if it never was.
        compared_at: the Postgres snapshot of the last comparison, seconds since the epoch; 0 if there was none.
    """

    row_versions: Mapping[str, RowVersions] = field(default_factory=dict)
    shard_checksum: int = 0
    is_equal: bool = False
    is_touched: bool = False
    turn: int = 0
    compared_at: float = 0.0

    def rows(self, table: str) -> int:
        return self.row_versions.get(table, RowVersions()).rows

    def as_touched(self) -> SliceState:
        return replace(self, is_equal=False, is_touched=True)


@dataclass(frozen=True)
class WatchState:
    """Everything that the watch of one dataset remembers.

    Attributes:
        parts: the parts of every shard as they were listed before the last look.
        looked: when each day's row versions of each table were last read in Postgres, seconds since the epoch, by table name and day.
        origin: where the row versions are from.
    """

    slices: Mapping[Slice, SliceState] = field(default_factory=dict)
    parts: Mapping[PartitionPlace, Mapping[str, str]] = field(default_factory=dict)
    looked: Mapping[tuple[str, str], float] = field(default_factory=dict)
    origin: Origin = field(default_factory=Origin)

    def slices_of(self, origin: Origin) -> dict[Slice, SliceState]:
        """The slices whose row versions can be compared with those of `origin`."""
        customers = origin.customers_of(self.origin)
        return {item: state for item, state in self.slices.items() if item.customer in customers}


class WatchStore:
    """The file of one dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self._file = StateFile(SliceStore(dataset), "watch", _VERSION)
        self.path = self._file.path

    def load(self) -> WatchState:
        """The state; an empty one if there is no usable file.

        Raises:
            OSError: the file exists, and the storage does not deliver it.
        """
        content = self._file.load()
        return WatchState() if content is None else _read(content)

    def save(self, state: WatchState) -> None:
        """Replaces the file, all or nothing."""
        meta = {
            "parts": [[*place, names] for place, names in state.parts.items()],
            "looked": [[*place, time] for place, time in state.looked.items()],
            "origin": _ORIGIN.dump_python(state.origin),
        }
        rows = [_row(item, slice_state) for item, slice_state in sorted(state.slices.items())]
        content = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, _SCHEMA.with_metadata({_META: json.dumps(meta).encode()})), content)
        self._file.save(content.getvalue())


def _read(content: bytes) -> WatchState:
    table = pq.read_table(pa.BufferReader(content))
    meta = json.loads(table.schema.metadata[_META])
    parts = {(int(shard), name, uuid, partition): dict(names) for shard, name, uuid, partition, names in meta["parts"]}
    looked = {(name, day): float(time) for name, day, time in meta["looked"]}
    slices = {Slice.of(row["slice"]): _state(row) for row in table.to_pylist()}
    return WatchState(slices, parts, looked, _ORIGIN.validate_python(meta["origin"]))


def _row(item: Slice, state: SliceState) -> dict[str, object]:
    row = dict.fromkeys(_SCHEMA.names)
    stored = {f"{name}_rows": versions.rows for name, versions in state.row_versions.items()}
    stored |= {f"{name}_mark": versions.checksum for name, versions in state.row_versions.items()}
    return {
        **row,
        **stored,
        "slice": item.partition_key,
        "shard_mark": state.shard_checksum,
        "is_equal": state.is_equal,
        "is_touched": state.is_touched,
        "turn": state.turn,
        "compared_at": state.compared_at,
    }


def _state(row: Mapping[str, object]) -> SliceState:
    row_versions = {
        name: RowVersions(rows=int(str(row[f"{name}_rows"])), checksum=int(str(row[f"{name}_mark"])))
        for name in (PARENT, CHILD)
        if row[f"{name}_mark"] is not None
    }
    shard_checksum, turn = int(str(row["shard_mark"])), int(str(row["turn"]))
    return SliceState(
        row_versions=row_versions,
        shard_checksum=shard_checksum,
        is_equal=bool(row["is_equal"]),
        is_touched=bool(row["is_touched"]),
        turn=turn,
        compared_at=float(str(row["compared_at"])),
    )
