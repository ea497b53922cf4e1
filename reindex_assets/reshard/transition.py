"""The change from one layout to another: the records on the shards, from the first `moving` to the last `settled`.

What lives here: the start and the end of a reshard, and their refusals. What does not: what has to move (reshard/survey.py), the moving
itself (an ordinary run, with `allow_reshard`), and the record (placement/records.py).

A reshard keeps its whole state in the records: killed at any moment and run again, it continues. Records that were written together share
a version, which tells an interrupted start (the latest are `moving`) from an interrupted end (the latest are `settled`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from reindex_assets.clickhouse.schema import check_schema
from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.config.cluster import Cluster
from reindex_assets.errors import ConfigurationError, LayoutError, PlacementError
from reindex_assets.placement.layout import check_every_kind, contradiction, foreign, holds_rows
from reindex_assets.placement.locks import changing_layout, wait_for_writers
from reindex_assets.placement.records import (
    NOWHERE,
    LayoutRecord,
    LayoutState,
    Records,
    is_unknown,
    later,
    read_records,
    same_tables,
    write_records,
)
from reindex_assets.postgres.session import SourceSession

_COMMENT = "reindex_assets reshard"


@dataclass(frozen=True, kw_only=True)
class Reshard:
    """A reshard of a cluster to the shards of its fleet file.

    Attributes:
        from_shards: how many shards the rows were placed on.
        is_needed: the records don't yet say that the rows are on the fleet file's shards.
        is_begun: the records say that it is under way.
        is_ending: some records are settled already, the others still moving.
        records: one per shard while it is under way; those of the shards that are being emptied come last.
        labels: the shards', in the same order.
    """

    cluster_name: str
    from_shards: int
    to_shards: int
    is_needed: bool
    is_begun: bool
    is_ending: bool
    records: Sequence[LayoutRecord]
    labels: Sequence[str]


def plan_reshard(
    cluster_name: str,
    cluster: Cluster,
    from_shards: int | None = None,
    to_shards: int | None = None,
    *,
    lost: bool = False,
) -> Reshard:
    """Compares the records with the fleet file; writes nothing.

    Args:
        from_shards: how many shards the records must have; without records, how many shards there were.
        to_shards: how many the fleet file must have.
        lost: a shard of the old layout is gone for good; its rows are written again from Postgres.

    Raises:
        LayoutError: the fleet file is no reshard of these shards.
        ConfigurationError: `from_shards` or `to_shards` don't match.
    """
    with ShardSet(cluster, _COMMENT, with_retiring=True) as shards:
        return _plan(shards, cluster_name, cluster, from_shards, to_shards, lost=lost)


def begin_reshard(
    cluster_name: str,
    cluster: Cluster,
    from_shards: int | None = None,
    to_shards: int | None = None,
    *,
    lost: bool = False,
) -> Reshard:
    """Plans the reshard and records on every shard that it is under way; when this returns, nobody else is writing any more.

    Raises:
        SliceBusyError: another process is writing the records.
    """
    with (
        SourceSession(cluster.postgres) as session,
        ShardSet(cluster, _COMMENT, with_retiring=True) as shards,
    ):
        with changing_layout(session, cluster_name):
            reshard = _plan(shards, cluster_name, cluster, from_shards, to_shards, lost=lost)
            if not reshard.is_needed:
                return reshard
            if reshard.is_ending:
                # Everything has been proved.
                _settle(shards, cluster, reshard.records)
                return replace(reshard, is_needed=False)
            records = reshard.records
            if not reshard.is_begun:
                # In two rounds: once any shard's record counts the members, all shards have a record of this reshard. So no member that
                # may hold rows is missed; until then the count is that of the reshard which this one replaces.
                write_records(shards, cluster, records)
                members = [replace(record, members=len(records), version=record.version + 1) for record in records]
                write_records(shards, cluster, members)
        # Whoever is writing now read the records before these were written, or belongs to this reshard.
        wait_for_writers(session, cluster_name)
        return replace(reshard, is_begun=True)


def finish_reshard(reshard: Reshard, cluster: Cluster) -> None:
    """Records on every shard that the rows are on the fleet file's shards. The caller has proved it.

    Raises:
        LayoutError: another reshard is under way by now.
    """
    with (
        SourceSession(cluster.postgres) as session,
        ShardSet(cluster, _COMMENT, with_retiring=True) as shards,
        changing_layout(session, reshard.cluster_name),
    ):
        if contradiction(shards, reshard.cluster_name, read_records(shards), resharding=True) is not None:
            raise LayoutError(
                f"cluster {reshard.cluster_name}: another reshard has begun meanwhile. Finish that one", is_moving=True
            )
        _settle(shards, cluster, reshard.records)


def _settle(shards: ShardSet, cluster: Cluster, records: Sequence[LayoutRecord]) -> None:
    version = later(read_records(shards))
    settled = [
        replace(
            record,
            state=LayoutState.SETTLED,
            shard=record.next_shard,
            shards=record.next_shards,
            next_shard=NOWHERE,
            next_shards=0,
            members=0,
            version=version,
        )
        for record in records
    ]
    # Retiring shards first: nobody reads their records once the others are settled.
    write_records(shards, cluster, settled, last_first=True)


def _plan(
    shards: ShardSet,
    cluster_name: str,
    cluster: Cluster,
    from_shards: int | None,
    to_shards: int | None,
    *,
    lost: bool,
) -> Reshard:
    check_schema(shards)
    count = len(shards)
    if to_shards not in (None, count):
        raise ConfigurationError(
            f"--to-shards {to_shards}: the fleet file lists {count} shards in cluster {cluster_name}"
        )
    labels = [connection.label for connection in shards.connections]
    twice = same_tables(shards)
    if twice:
        raise LayoutError(f"cluster {cluster_name}: these addresses lead to the same server: {', '.join(twice)}")
    records = read_records(shards)
    if is_unknown(records):
        records = _former(shards, cluster_name, cluster, from_shards)
    alien = foreign(cluster_name, labels, records)
    if alien is not None:
        raise alien
    counted = [record for record in records if record is not None and record.counts]
    moving = [record for record in counted if record.state is LayoutState.MOVING]
    latest = max(counted, key=lambda record: record.version)
    if moving and latest.state is LayoutState.SETTLED and not _is_being_finished(records, count):
        raise LayoutError(
            f"cluster {cluster_name}: a reshard to {latest.shards} shards was about to end. Finish it with its own fleet file, "
            "then begin another one",
            is_moving=True,
        )
    base = max(moving, key=lambda record: record.version) if moving else latest
    if from_shards not in (None, base.shards):
        raise ConfigurationError(
            f"--from-shards {from_shards}: the rows of cluster {cluster_name} are placed on {base.shards} shards by the shards' own records"
        )
    settled = max((record.version for record in counted if record.state is LayoutState.SETTLED), default=0)
    numbers = [_number(record, base, settled) for record in records]
    is_ending = bool(moving) and latest.state is LayoutState.SETTLED
    members = max((record.members for record in moving), default=0)
    if not lost and not is_ending:
        _refuse_missing(cluster_name, base, numbers, members - len(moving))
    _refuse_strangers(shards, cluster_name, records)
    is_settled = not moving and contradiction(shards, cluster_name, records) is None
    is_begun = (
        len(moving) == len(records)
        and all(record.members == len(records) for record in moving)
        and contradiction(shards, cluster_name, records, resharding=True) is None
    )
    version = later(records)
    planned = [
        LayoutRecord(
            layout_id=base.layout_id,
            cluster=cluster_name,
            state=LayoutState.MOVING,
            shard=number,
            shards=base.shards,
            next_shard=index if index < count else NOWHERE,
            next_shards=count,
            members=members,
            version=version,
        )
        for index, number in enumerate(numbers)
    ]
    return Reshard(
        cluster_name=cluster_name,
        from_shards=base.shards,
        to_shards=count,
        is_needed=not is_settled,
        is_begun=is_begun or is_ending,
        is_ending=is_ending,
        records=planned,
        labels=labels,
    )


def _number(record: LayoutRecord | None, base: LayoutRecord, settled: int) -> int:
    """A shard's number in the layout before the reshard.

    Args:
        settled: the version of the latest settled records: a settled record of another version is no part of that layout.
    """
    if record is None or not record.counts:
        return NOWHERE
    if record.state is LayoutState.SETTLED and (record.version != settled or record.shards != base.shards):
        return NOWHERE
    return record.shard


def _is_being_finished(records: Records, count: int) -> bool:
    """Whether these are the records of a reshard to `count` shards whose end was interrupted."""
    for index, record in enumerate(records):
        place = index if index < count else NOWHERE
        if record is None or not record.counts:
            return False
        now, shards = (
            (record.next_shard, record.next_shards)
            if record.state is LayoutState.MOVING
            else (record.shard, record.shards)
        )
        if (now, shards) != (place, count):
            return False
    return True


def _refuse_missing(cluster_name: str, base: LayoutRecord, numbers: Sequence[int], absent: int) -> None:
    missing = [str(number) for number in range(base.shards) if number not in numbers]
    if missing:
        what = f"shard {', '.join(missing)} of the {base.shards} that its rows are placed on"
    elif absent > 0:
        what = f"{absent} of the {base.members} shards of the reshard that is under way"
    else:
        return
    raise LayoutError(
        f"cluster {cluster_name}: {what} can be found neither among 'shards' nor 'retiring' in the fleet file, and its rows would be left "
        "behind. List it under 'retiring'; if it was lost for good, add --lost: its rows are written again from Postgres"
    )


def _refuse_strangers(shards: ShardSet, cluster_name: str, records: Records) -> None:
    """Raises if a shard without a record holds rows: such a shard is new, and so must be empty."""
    holding = shards.map(holds_rows)
    for connection, record, holds in zip(shards.connections, records, holding, strict=True):
        if holds and (record is None or not record.counts):
            raise LayoutError(
                f"cluster {cluster_name}: {connection.label} has no record of where its rows belong, like a new shard, but it holds "
                "rows. Correct its address in the fleet file, or empty its tables scorecard and score"
            )


def _former(
    shards: ShardSet, cluster_name: str, cluster: Cluster, from_shards: int | None
) -> list[LayoutRecord | None]:
    """The records that the shards would have if a run had written them before the fleet file was changed."""
    if from_shards is None:
        raise LayoutError(
            f"cluster {cluster_name}: no shard has a record of where its rows belong yet. If nothing was changed, any run writes it; if "
            "shards were added at the end of 'shards', or its last ones moved to 'retiring', give the former number: --from-shards N"
        )
    addresses = (*cluster.clickhouse.shards, *cluster.clickhouse.retiring)
    if not 1 <= from_shards <= len(addresses):
        raise ConfigurationError(
            f"--from-shards {from_shards}: the fleet file has {len(addresses)} shards, retiring ones included"
        )
    former = cluster.clickhouse.model_copy(update={"shards": addresses[:from_shards], "retiring": ()})
    with ShardSet(cluster.model_copy(update={"clickhouse": former}), _COMMENT) as old:
        try:
            check_every_kind(old)
        except PlacementError as error:
            raise LayoutError(
                f"cluster {cluster_name}: the first {from_shards} shards are not the old ones: {error}"
            ) from None
    layout_id, version = str(uuid4()), later([])
    return [
        LayoutRecord(
            layout_id=layout_id,
            cluster=cluster_name,
            state=LayoutState.SETTLED,
            shard=index,
            shards=from_shards,
            version=version,
        )
        if index < from_shards
        else None
        for index in range(len(addresses))
    ]
