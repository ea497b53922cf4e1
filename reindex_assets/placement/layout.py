"""The layout: records on the shards themselves of which shard is which, so that a wrong fleet file is noticed.

What lives here: comparing the records with a fleet file, and writing the first ones (adoption). What does not: the record itself
(placement/records.py), changing a layout (reshard/transition.py), and the rule of placement (selection/shard_rule.py).

Each shard has a table `reindex_layout` with the shard number that its rows were placed by, and the number of shards. Every writer reads
it from all shards while it holds the locks of its slices (`assert_layout`), so a changed number or order of shards, or a shard of another
cluster, is noticed before anything is written. During a reshard each record has the old and the new layout, and only the reshard may write.
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
from reindex_assets.model import KINDS, LAYOUT_TABLE, Kind
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

# --- comparing the records with a fleet file


def assert_layout(shards: ShardSet, cluster_name: str, *, resharding: bool = False) -> None:
    """Makes sure that the shards are those of the fleet file, in its order and number, and that no other reshard is under way.

    Costs one small query on each shard. Call it while holding the locks of the slices to write: a reshard waits for those.

    Args:
        resharding: the caller is the reshard to this fleet file, and may continue while it is under way.

    Raises:
        LayoutError: they are not, or one is.
        ShardUnreachableError: a shard could not be asked.
    """
    error = contradiction(shards, cluster_name, read_records(shards), resharding=resharding)
    if error is not None:
        raise error


def contradiction(
    shards: ShardSet, cluster_name: str, records: Records, *, resharding: bool = False
) -> LayoutError | None:
    """Why these shards must not be written to; None if they may be."""
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
            f"nothing else is written there. {command} continues and finishes it{hint}",
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
                f"cluster {cluster_name}: the shards are in another order than the rows were placed by: {label} was {was}. Nothing was "
                f"written. Put 'shards' in the fleet file back in order; if the order really was changed, {command} moves the rows"
            )
    version = max(record.version for record in valid)
    for label, record in list(zip(labels, records, strict=True))[: len(shards)]:
        if record is not None and record.version != version:
            return LayoutError(
                f"cluster {cluster_name}: {label} was left out when the shards' records were last written: another machine has its "
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
    """The error about a shard that belongs to another cluster or another layout; None if there is none."""
    ids = Counter(record.layout_id for record in records if record is not None and record.counts)
    for label, record in zip(labels, records, strict=True):
        if record is None or not record.counts:
            continue
        if record.cluster != cluster_name:
            return LayoutError(
                f"cluster {cluster_name}: {label} belongs to cluster {record.cluster} by its own record. Nothing was written. Correct "
                f"'shards' in the fleet file; if the cluster was renamed, rename it on each of its shards: ALTER TABLE {LAYOUT_TABLE} "
                f"UPDATE cluster = '{cluster_name}' WHERE true"
            )
        if record.layout_id != ids.most_common(1)[0][0]:
            return LayoutError(
                f"cluster {cluster_name}: {label} has another layout id than most shards, so it belongs to another cluster of that name. "
                "Nothing was written. Correct 'shards' in the fleet file"
            )
    return None


def layout_problem(cluster_name: str, cluster: Cluster) -> LayoutError | None:
    """Why nobody may write to a cluster; None if they may. Connects to the shards to find out.

    Raises:
        ShardUnreachableError: a shard could not be asked.
    """
    with ShardSet(cluster, "reindex_assets layout") as shards:
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
    """Writes the first records of a cluster, unless its live rows contradict the fleet file. Does nothing if there are records.

    Args:
        dataset: of the first run. The other kinds are checked too, where possible.
        dry_run: check, and write nothing.

    Raises:
        PlacementError: too many rows are on other shards.
        SliceBusyError: another process is writing the records.
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
    """Runs `check_placement` for every kind of scorecards, beginning with `asked`.

    Without the product's table of conversations, it can't check their scorecards: it leaves them out unless they are `asked` for.
    """
    for kind in sorted(KINDS, key=lambda kind: kind != asked):
        with suppress(SchemaMismatchError) if kind.is_of_conversations and kind != asked else nullcontext():
            check_placement(shards, kind)


def adopt(shards: ShardSet, cluster_name: str, cluster: Cluster, count: int, version: int) -> None:
    """Writes the first records: the first `count` shards are the layout, any others are new.

    Writes them twice: a record is `settled` only when every shard has one. So a shard without a record is never the result of a crash here.
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
    return any(shard.rows(f"SELECT 1 AS found FROM {table.clickhouse} LIMIT 1") for table in shard.tables)
