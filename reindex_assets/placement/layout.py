"""The layout: what the shards themselves say of their places, so that no fleet file can be wrong about them unnoticed.

What lives here: what the records say against a fleet file, and their first writing (adoption). What does not: the record itself
(placement/records.py), how one layout becomes another (reshard/transition.py), and the rule of placement (selection/shard_rule.py).

Each shard holds a table `reindex_layout` with the number that its rows were placed by, and how many shards there were. Whoever writes
rows asks all shards for it under the locks of its slices (`assert_layout`), so a changed count, another order, or the shard of another
cluster is seen before anything is written. During a reshard each record says from where to where; then only the reshard may write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from uuid import uuid4

from reindex_assets.clickhouse.shards import ShardConnection, ShardSet
from reindex_assets.config.cluster import Cluster
from reindex_assets.config.dataset import Dataset
from reindex_assets.errors import LayoutError, SchemaMismatchError
from reindex_assets.model import KINDS, LAYOUT_TABLE, TABLES, Kind
from reindex_assets.placement.guard import check_placement
from reindex_assets.placement.locks import changing_layout
from reindex_assets.placement.records import (
    NOWHERE,
    LayoutRecord,
    LayoutState,
    Records,
    is_unknown,
    later,
    read_records,
    write_records,
)
from reindex_assets.postgres.session import SourceSession

# --- what the records say against a fleet file


def assert_layout(shards: ShardSet, cluster_name: str, *, resharding: bool = False) -> None:
    """Makes sure that the shards are those of the fleet file, in its order and number, and that nothing moves them just now.

    Costs one small query on each shard. Called with the locks of the slices that are going to be written: a reshard waits for those.

    Args:
        resharding: the caller is the reshard to just this fleet file, and goes on when it is under way.

    Raises:
        LayoutError: they are not.
        ShardUnreachableError: a shard could not be asked.
    """
    error = contradiction(shards, cluster_name, read_records(shards), resharding=resharding)
    if error is not None:
        raise error


def contradiction(
    shards: ShardSet, cluster_name: str, records: Records, *, resharding: bool = False
) -> LayoutError | None:
    """What speaks against writing to these shards; None when nothing does."""
    labels = [connection.label for connection in shards.connections]
    stranger = foreign(cluster_name, labels, records)
    if stranger is not None:
        return stranger
    valid = [record for record in records if record is not None and record.counts]
    moving = [record for record in valid if record.state is LayoutState.MOVING]
    command = f"'reindex-assets reshard --cluster {cluster_name}'"
    if resharding and _is_of_this_reshard(records, len(shards)):
        return None
    if moving:
        latest = max(moving, key=lambda record: record.version)
        hint = (
            ""
            if latest.next_shards == len(shards)
            else f"; this fleet file has {len(shards)} shards, use the one of the reshard"
        )
        return LayoutError(
            f"cluster {cluster_name}: a reshard from {latest.shards} to {latest.next_shards} shards is under way, and until it has ended "
            f"nothing else is written there. {command} goes on with it and ends it{hint}",
            is_moving=True,
        )
    counts = sorted(
        {record.shards for record in valid if record.shard != NOWHERE} or {record.shards for record in valid}
    )
    if not counts:
        return LayoutError(
            f"cluster {cluster_name}: no shard has a record of where its rows belong (table {LAYOUT_TABLE}). Nothing was written. "
            "Run again: the first run writes it"
        )
    if counts != [len(shards)]:
        return LayoutError(
            f"cluster {cluster_name}: the fleet file lists {len(shards)} shards, but the rows are placed on "
            f"{' or '.join(map(str, counts))}. Nothing was written. If the shards really were changed, {command} moves the rows (name "
            "those that go under 'retiring' in the fleet file); if not, correct 'shards' there"
        )
    for index, (label, record) in enumerate(zip(labels, records, strict=True)):
        if record is None or not record.counts:
            return LayoutError(
                f"cluster {cluster_name}: {label} has no record of where its rows belong, and the other shards have. Nothing was written. "
                f"If it takes the place of a shard that was lost, {command} --lost fills it from Postgres; if not, correct 'shards' in the "
                "fleet file"
            )
        expected = index if index < len(shards) else NOWHERE
        if record.shard != expected:
            was = "an emptied one" if record.shard == NOWHERE else f"number {record.shard}"
            return LayoutError(
                f"cluster {cluster_name}: the shards stand in another order than the rows were placed by: {label} was {was}. Nothing was "
                f"written. Put 'shards' in the fleet file back in order; if the order really was changed, {command} moves the rows"
            )
    version = max(record.version for record in valid)
    for label, record in list(zip(labels, records, strict=True))[: len(shards)]:
        if record is not None and record.version != version:
            return LayoutError(
                f"cluster {cluster_name}: {label} was left out when the shards were last told which is which: another machine has its "
                "number now. Nothing was written. Correct 'shards' in the fleet file; if it is to take the number back, "
                f"{command} --lost fills it from Postgres"
            )
    return None


def _is_of_this_reshard(records: Records, count: int) -> bool:
    return all(
        record is not None
        and record.state is LayoutState.MOVING
        and record.next_shards == count
        and record.next_shard == (index if index < count else NOWHERE)
        for index, record in enumerate(records)
    )


def foreign(cluster_name: str, labels: Sequence[str], records: Records) -> LayoutError | None:
    """Shards of another cluster, or of another layout."""
    ids = Counter(record.layout_id for record in records if record is not None and record.counts)
    for label, record in zip(labels, records, strict=True):
        if record is None or not record.counts:
            continue
        if record.cluster != cluster_name:
            return LayoutError(
                f"cluster {cluster_name}: {label} says that it belongs to cluster {record.cluster}. Nothing was written. Correct 'shards' "
                f"in the fleet file; if the cluster was renamed, say so on each of its shards: ALTER TABLE {LAYOUT_TABLE} UPDATE cluster = "
                f"'{cluster_name}' WHERE true"
            )
        if record.layout_id != ids.most_common(1)[0][0]:
            return LayoutError(
                f"cluster {cluster_name}: {label} is of another {cluster_name} than most of its shards (their layouts have different ids). "
                "Nothing was written. Correct 'shards' in the fleet file"
            )
    return None


def layout_problem(cluster_name: str, cluster: Cluster) -> LayoutError | None:
    """What keeps every writer from a cluster; None when nothing does. Connects for it.

    Raises:
        ShardUnreachableError: a shard could not be asked.
    """
    with ShardSet(cluster.clickhouse, "reindex_assets layout") as shards:
        records = read_records(shards)
        return None if is_unknown(records) else contradiction(shards, cluster_name, records)


# --- adoption


def settle_layout(
    shards: ShardSet,
    session: Callable[[], SourceSession],
    dataset: Dataset,
    *,
    dry_run: bool,
) -> None:
    """Writes the records of a cluster that has none yet, where its live rows don't speak against the fleet file. Otherwise does nothing.

    Args:
        dataset: of the run that comes first; the other kinds are asked too, where they can be.
        dry_run: only look.

    Raises:
        PlacementError: too many rows stand elsewhere.
        SliceBusyError: another process is writing them.
    """
    if not is_unknown(read_records(shards)):
        return
    check_every_kind(shards, dataset.kind)
    if dry_run:
        return
    with changing_layout(session(), dataset.cluster_name):
        records = read_records(shards)
        if is_unknown(records):
            adopt(shards, dataset.cluster_name, dataset.cluster, len(shards), later(records))


def check_every_kind(shards: ShardSet, asked: Kind | None = None) -> None:
    """Runs `check_placement` for every kind of scorecards, that of the run first.

    Without the product's table of conversations nobody knows where their scorecards belong: they are left out, unless they were asked for.
    """
    for kind in sorted(KINDS, key=lambda kind: kind != asked):
        with suppress(SchemaMismatchError) if kind.is_of_conversations and kind != asked else nullcontext():
            check_placement(shards, kind)


def adopt(shards: ShardSet, cluster_name: str, cluster: Cluster, count: int, version: int) -> None:
    """Writes the first records: the first `count` shards are the layout, any others are new.

    Twice: what says `settled` on one shard is on its way on all of them. So a shard without a record is never a crash of this.
    """
    layout_id = str(uuid4())
    for state in (LayoutState.ADOPTING, LayoutState.SETTLED):
        records = [
            LayoutRecord(
                layout_id=layout_id,
                cluster=cluster_name,
                state=state,
                shard=index if index < count else NOWHERE,
                shards=count,
                version=version,
            )
            for index in range(len(shards.connections))
        ]
        write_records(shards, cluster, records)
        version += 1


def holds_rows(shard: ShardConnection) -> bool:
    """Whether a shard has any row of ours."""
    return any(shard.rows(f"SELECT 1 AS found FROM {table.name} LIMIT 1") for table in TABLES)
