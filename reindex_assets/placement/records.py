"""The layout record of a shard: its table, and reading and writing it.

What lives here: the record and its statements. What does not: comparing records with a fleet file, and deciding when to write them
(placement/layout.py, reshard/transition.py).

The latest row of the table counts; the others are the shard's history.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from reindex_assets.clickhouse.schema import create_layout_table, has_layout_table
from reindex_assets.clickhouse.shards import ShardConnection, ShardSet
from reindex_assets.config.cluster import Cluster
from reindex_assets.errors import LayoutError, SchemaMismatchError
from reindex_assets.model import LAYOUT_TABLE

#: The number of a shard without one: it is new, or has been emptied.
NOWHERE = -1


class LayoutState(StrEnum):
    """The state of the records. `ADOPTING` ones, from the first round of the first writing, don't count yet."""

    ADOPTING = "adopting"
    SETTLED = "settled"
    MOVING = "moving"


@dataclass(frozen=True, kw_only=True)
class LayoutRecord:
    """A shard's place in the layout.

    Attributes:
        layout_id: the same on all shards of a cluster, and on no other.
        cluster: its name in the fleet file.
        shard: the number that its rows are placed by.
        shards: how many shards they are placed on.
        next_shard: its number after the reshard that is under way.
        next_shards: how many there will be after it; 0 while none is under way.
        members: how many shards take part in the reshard, including those that it empties.
        version: the latest one counts. Records that are written together share it.
    """

    layout_id: str
    cluster: str
    state: LayoutState
    shard: int
    shards: int
    next_shard: int = NOWHERE
    next_shards: int = 0
    members: int = 0
    version: int = 0

    @property
    def counts(self) -> bool:
        return self.state is not LayoutState.ADOPTING


Records = Sequence[LayoutRecord | None]

_COLUMNS = ("layout_id", "cluster", "state", "shard", "shards", "next_shard", "next_shards", "members", "version")
_SELECT = (
    f"SELECT {', '.join(('toString(layout_id) AS layout_id', *_COLUMNS[1:]))} FROM {LAYOUT_TABLE} "
    "ORDER BY reindex_layout.version DESC LIMIT 1"
)


def read_records(shards: ShardSet) -> list[LayoutRecord | None]:
    """Each shard's record; None if it has none.

    Raises:
        ShardUnreachableError: a shard could not be asked.
    """

    def read(shard: ShardConnection) -> LayoutRecord | None:
        try:
            # A replica that has been away must not answer with an old record.
            rows = shard.rows(f"{_SELECT} SETTINGS select_sequential_consistency = 1")
        except SchemaMismatchError:
            if has_layout_table(shard):
                raise
            return None
        return LayoutRecord(**{**rows[0], "state": LayoutState(str(rows[0]["state"]))}) if rows else None

    return _decided(shards.map(read))


def write_records(
    shards: ShardSet, cluster: Cluster, records: Sequence[LayoutRecord], *, last_first: bool = False
) -> None:
    """Writes a record on each shard, one after the other, and reads them back.

    Args:
        last_first: begin with the last shard.

    Raises:
        LayoutError: two addresses of the fleet file lead to one server.
    """
    clickhouse = cluster.clickhouse
    quorum = " SETTINGS insert_quorum = 'auto', insert_quorum_parallel = 0" if clickhouse.replicated else ""
    columns = ", ".join(f"{{{name}:{kind}}}" for name, kind in zip(_COLUMNS, _TYPES, strict=True))
    pairs = list(zip(shards.connections, records, strict=True))
    for connection, record in reversed(pairs) if last_first else pairs:
        values = {**asdict(record), "state": record.state.value}

        def write(shard: ShardConnection, values: dict[str, object] = values) -> None:
            shard.command(create_layout_table(clickhouse))
            shard.command(f"INSERT INTO {LAYOUT_TABLE} ({', '.join(_COLUMNS)}){quorum} SELECT {columns}", values)

        shards.submit(connection.index, write).result()
    if read_records(shards) != list(records):
        raise LayoutError(
            f"cluster {records[0].cluster}: a shard does not return the record that was just written to it. Do two addresses of the "
            "fleet file lead to the same server? Nothing else was written"
        )


_TYPES = ("UUID", "String", "String", "Int32", "Int32", "Int32", "Int32", "Int32", "UInt64")


def is_unknown(records: Records) -> bool:
    """Whether no shard has a record that counts."""
    return not any(record is not None and record.counts for record in records)


def _decided(records: Records) -> list[LayoutRecord | None]:
    """The records, in which those of the first round of the first writing (`adopt`) are as the second round will write them.

    Once the second round has reached any shard, all shards have the same layout: a run in the meantime, or after a crash, need not wait.
    """
    settled = {(r.layout_id, r.shards, r.version) for r in records if r is not None and r.state is LayoutState.SETTLED}
    return [
        replace(record, state=LayoutState.SETTLED, version=record.version + 1)
        if record is not None
        and record.state is LayoutState.ADOPTING
        and (record.layout_id, record.shards, record.version + 1) in settled
        else record
        for record in records
    ]


def later(records: Records) -> int:
    """A version that is later than all of these."""
    return max(time.time_ns() // 1000, *(record.version + 1 for record in records if record is not None), 0)


def same_tables(shards: ShardSet) -> list[str]:
    """The shards that share a table with another: two addresses of one server."""

    def ask(shard: ShardConnection) -> str:
        rows = shard.rows(
            "SELECT concat(toString(serverUUID()), hostName(), toString(uuid)) AS id FROM system.tables "
            "WHERE database = {database:String} AND name = {table:String}",
            {"database": shard.database, "table": shard.tables.parent.clickhouse},
        )
        return str(rows[0]["id"]) if rows else ""

    ids = shards.map(ask)
    return [
        connection.label
        for connection, table_id in zip(shards.connections, ids, strict=True)
        if table_id and ids.count(table_id) > 1
    ]
