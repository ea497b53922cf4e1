"""How one layout becomes another: the records on the shards, from the first that says `moving` to the last that says `settled`.

What lives here: the beginning and the end of a reshard, and their refusals. What does not: what has to move (reshard/survey.py), the moving
itself (an ordinary run, with `allow_reshard`), and the record (placement/records.py).

All that a reshard knows stands in the records: killed at any moment and begun again, it goes on. Records that were written together share
a version, so a beginning that broke off (the latest say `moving`) can be told from an end that did (the latest say `settled`).
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
        is_needed: the records do not say already that the rows are placed so.
        is_begun: they say that it is under way.
        is_ending: they say of some shards that it has ended, and of the others that it is under way.
        records: what they will say while it is, a record for each shard, those that are being emptied last.
        labels: of the shards, in the same order.
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
    """What the records say, and would say during the reshard; writes nothing.

    Args:
        from_shards: how many shards there must be by the records; of shards without records, how many there were.
        to_shards: how many the fleet file must have.
        lost: a shard of the old layout is gone for good; what it held is written again from Postgres.

    Raises:
        LayoutError: this is no reshard of these shards.
        ConfigurationError: from_shards or to_shards are others.
    """
    with ShardSet(cluster.clickhouse, _COMMENT, with_retiring=True) as shards:
        return _plan(shards, cluster_name, cluster, from_shards, to_shards, lost=lost)


def begin_reshard(
    cluster_name: str,
    cluster: Cluster,
    from_shards: int | None = None,
    to_shards: int | None = None,
    *,
    lost: bool = False,
) -> Reshard:
    """The same, and says on every shard that it is under way; when this returns, nobody else is writing any more.

    Raises:
        SliceBusyError: another process is writing the records.
    """
    with (
        SourceSession(cluster.postgres) as session,
        ShardSet(cluster.clickhouse, _COMMENT, with_retiring=True) as shards,
    ):
        with changing_layout(session, cluster_name):
            found = _plan(shards, cluster_name, cluster, from_shards, to_shards, lost=lost)
            if not found.is_needed:
                return found
            if found.is_ending:
                # Everything had been proved.
                _settle(shards, cluster, found.records)
                return replace(found, is_needed=False)
            if not found.is_begun:
                # Twice: what names its members on one shard is on its way on all of them. So no member is missed that may hold rows,
                # and before that those of the reshard that this one takes the place of.
                write_records(shards, cluster, found.records)
                members = [
                    replace(record, members=len(found.records), version=record.version + 1) for record in found.records
                ]
                write_records(shards, cluster, members)
        # Whoever writes now has asked before these records were there, or is of this reshard.
        wait_for_writers(session, cluster_name)
        return replace(found, is_begun=True)


def finish_reshard(reshard: Reshard, cluster: Cluster) -> None:
    """Says on every shard that the rows are placed as the fleet file has it. The caller has made sure of it.

    Raises:
        LayoutError: it is no longer this reshard that is under way.
    """
    with (
        SourceSession(cluster.postgres) as session,
        ShardSet(cluster.clickhouse, _COMMENT, with_retiring=True) as shards,
        changing_layout(session, reshard.cluster_name),
    ):
        if contradiction(shards, reshard.cluster_name, read_records(shards), resharding=True) is not None:
            raise LayoutError(
                f"cluster {reshard.cluster_name}: another reshard has begun meanwhile. It is the one to end",
                is_moving=True,
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
    # Those that are being emptied first: nobody asks them once the others are settled.
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
    known = [record for record in records if record is not None and record.counts]
    moving = [record for record in known if record.state is LayoutState.MOVING]
    latest = max(known, key=lambda record: record.version)
    if moving and latest.state is LayoutState.SETTLED and not _is_being_finished(records, count):
        raise LayoutError(
            f"cluster {cluster_name}: a reshard to {latest.shards} shards was about to end. End it with the fleet file of that reshard, "
            "then begin another one",
            is_moving=True,
        )
    base = max(moving, key=lambda record: record.version) if moving else latest
    if from_shards not in (None, base.shards):
        raise ConfigurationError(
            f"--from-shards {from_shards}: the rows of cluster {cluster_name} are placed on {base.shards} shards by the shards' own records"
        )
    settled = max((record.version for record in known if record.state is LayoutState.SETTLED), default=0)
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
    """The number that a shard's rows were placed by, before the reshard.

    Args:
        settled: the version of the latest records that say so: what was left out then is no shard of the layout.
    """
    if record is None or not record.counts:
        return NOWHERE
    if record.state is LayoutState.SETTLED and (record.version != settled or record.shards != base.shards):
        return NOWHERE
    return record.shard


def _is_being_finished(records: Records, count: int) -> bool:
    """Whether these are the records of a reshard to `count` shards whose end was broken off."""
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
        "behind. Name it under 'retiring'; if it was lost for good, say --lost: what it held is written again from Postgres"
    )


def _refuse_strangers(shards: ShardSet, cluster_name: str, records: Records) -> None:
    """Shards without a record are new, and so empty."""
    holding = shards.map(holds_rows)
    for connection, record, holds in zip(shards.connections, records, holding, strict=True):
        if holds and (record is None or not record.counts):
            raise LayoutError(
                f"cluster {cluster_name}: {connection.label} has no record of where its rows belong, as a new shard has none, but it holds "
                "rows. Correct its address in the fleet file, or empty its tables scorecard and score"
            )


def _former(
    shards: ShardSet, cluster_name: str, cluster: Cluster, from_shards: int | None
) -> list[LayoutRecord | None]:
    """The records that shards without one would have, had they been adopted before the fleet file was changed."""
    if from_shards is None:
        raise LayoutError(
            f"cluster {cluster_name}: no shard has a record of where its rows belong yet. If nothing was changed, any run writes it; if "
            "shards were added at the end of 'shards', or its last ones moved to 'retiring', say how many there were: --from-shards N"
        )
    addresses = (*cluster.clickhouse.shards, *cluster.clickhouse.retiring)
    if not 1 <= from_shards <= len(addresses):
        raise ConfigurationError(
            f"--from-shards {from_shards}: the fleet file has {len(addresses)} shards, retiring ones included"
        )
    former = cluster.clickhouse.model_copy(update={"shards": addresses[:from_shards], "retiring": ()})
    with ShardSet(former, _COMMENT) as old:
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
