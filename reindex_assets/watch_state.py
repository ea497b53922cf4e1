"""What the watch knows from one look to the next: the marks of slices that were proved equal, in one file beside the slices.

What lives here: its shape, loading and saving. What does not: what is made of it (watch.py).

The file is a memory, never a proof: without it, or with a damaged one, every slice is compared to the bit again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.parquet as pq

from reindex_assets.fleet import Fleet
from reindex_assets.marks import PartitionPlace, SourceMark
from reindex_assets.model import SCORE, SCORECARD, Kind, Slice
from reindex_assets.store import SliceStore

#: Raise it whenever the meaning of a mark changes: memories of another version are forgotten.
_VERSION = "1"
_META = b"reindex_assets.watch"
_SCHEMA = pa.schema(
    [
        ("slice", pa.string()),
        ("scorecard_rows", pa.int64()),
        ("scorecard_mark", pa.uint64()),
        ("score_rows", pa.int64()),
        ("score_mark", pa.uint64()),
        ("shard_mark", pa.uint64()),
        ("is_equal", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class SliceMarks:
    """The marks of a slice when it was last compared.

    Attributes:
        is_equal: it was equal to the bit, and nothing has been seen to touch it since.
    """

    source: Mapping[str, SourceMark] = field(default_factory=dict)
    shard_mark: int = 0
    is_equal: bool = False

    def rows(self, table: str) -> int:
        return self.source.get(table, SourceMark()).rows

    def doubted(self) -> SliceMarks:
        return replace(self, is_equal=False)


@dataclass(frozen=True)
class WatchState:
    """Everything that the watch of one cluster and kind remembers.

    Attributes:
        parts: the parts of every shard as they were listed before the last look.
        looked: when each day's marks of each table were last read in Postgres, seconds since the epoch, by table name and day.
    """

    slices: Mapping[Slice, SliceMarks] = field(default_factory=dict)
    parts: Mapping[PartitionPlace, Mapping[str, str]] = field(default_factory=dict)
    looked: Mapping[tuple[str, str], float] = field(default_factory=dict)


class WatchStore:
    """The file of one cluster and kind."""

    def __init__(self, fleet: Fleet, cluster_name: str, kind: Kind) -> None:
        self._store = SliceStore(fleet.slices, cluster_name, kind)
        self.path = self._store.watch_path()

    def load(self) -> WatchState:
        """The state; an empty one where there is none that can be used."""
        try:
            with self._store.open(self.path) as file:
                table = pq.read_table(file)
            meta = json.loads((table.schema.metadata or {})[_META])
            if meta["version"] != _VERSION:
                return WatchState()
            parts = {
                (int(shard), name, uuid, partition): dict(names)
                for shard, name, uuid, partition, names in meta["parts"]
            }
            looked = {(name, day): float(time) for name, day, time in meta["looked"]}
            return WatchState({Slice.of(row["slice"]): _marks(row) for row in table.to_pylist()}, parts, looked)
        except (FileNotFoundError, KeyError, ValueError, TypeError, pa.ArrowException):
            return WatchState()

    def save(self, state: WatchState) -> None:
        """Replaces the file, all or nothing."""
        meta = {
            "version": _VERSION,
            "parts": [[*place, names] for place, names in state.parts.items()],
            "looked": [[*place, time] for place, time in state.looked.items()],
        }
        rows = [_row(item, marks) for item, marks in sorted(state.slices.items())]
        table = pa.Table.from_pylist(rows, _SCHEMA.with_metadata({_META: json.dumps(meta).encode()}))
        name, file = self._store.create(self.path)
        with file:
            pq.write_table(table, file)
        self._store.publish(name, self.path)


def _row(item: Slice, marks: SliceMarks) -> dict[str, object]:
    return {
        "slice": item.partition_key,
        **{f"{name}_{part}": getattr(mark, part) for name, mark in marks.source.items() for part in ("rows", "mark")},
        "shard_mark": marks.shard_mark,
        "is_equal": marks.is_equal,
    }


def _marks(row: Mapping[str, object]) -> SliceMarks:
    source = {
        name: SourceMark(int(str(row[f"{name}_rows"])), int(str(row[f"{name}_mark"])))
        for name in (SCORECARD.name, SCORE.name)
        if row[f"{name}_mark"] is not None
    }
    return SliceMarks(source, int(str(row["shard_mark"])), bool(row["is_equal"]))
