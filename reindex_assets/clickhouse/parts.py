"""The parts of ClickHouse's tables: what two lists of them say about the rows in between.

What lives here: reading the list, the comparison of two lists, and the slices that have rows in certain parts. What does not: who keeps
lists (drift/watch.py, drift/unchanged.py), and checksums of the rows themselves (clickhouse/checksums.py).

A data part never changes. A part that was not there before holds new rows, or rows that a mutation has rewritten, or is merged of parts
that were there. So the list of parts tells where nothing happened without reading a row. A merge may leave rows out (a part
between was dropped, a TTL, DEDUPLICATE) but makes none up: there a count tells.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from reindex_assets.clickhouse.schema import CONVERSATION
from reindex_assets.clickhouse.shards import ShardConnection, ShardSet, results
from reindex_assets.model import Kind, Slice
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.shard_sql import IN_SLICES, OF_CUSTOMERS, shard_scope

#: partition, first and last block, level, and the mutation if there was one. Patch parts ("patch-...") have other names: their rows
#: show under the names of the parts that they patch.
_PART_NAME = re.compile(r"(?P<partition>\d+)_(?P<first>\d+)_(?P<last>\d+)_\d+(_(?P<mutation>\d+))?")

#: Where parts of a table stand: shard, table, table uuid and partition (a month).
PartitionPlace = tuple[int, str, str, str]
#: In the table's place: what is known of the server itself, and at which address it was asked. Blocks may be numbered anew after a start
#: (after a dropped part, or when its disk was restored), and are no proof across one.
_SERVER = "(server)"
#: Seconds by which the same start differs from question to question: both of its parts are cut to whole seconds.
_START_JITTER = 2
#: How often new parts are asked for that are merged before they answer.
_LISTINGS = 4
#: The active parts of each place: name -> hash of its files.
Parts = Mapping[PartitionPlace, Mapping[str, str]]


def read_parts(shards: ShardSet, kind: Kind) -> dict[PartitionPlace, dict[str, str]]:
    """The active parts of both tables on every shard, and of the conversations that say where rows of a kind belong: no data are read."""

    tables = [*(table.clickhouse for table in shards.tables), *([CONVERSATION] if kind.is_of_conversations else [])]

    def ask(shard: ShardConnection) -> list[dict[str, object]]:
        rows = shard.rows(
            "SELECT p.table AS table, toString(t.uuid) AS table_uuid, p.partition_id AS partition, p.name AS name, "
            "p.hash_of_all_files AS hash FROM system.parts AS p "
            "JOIN system.tables AS t ON t.database = p.database AND t.name = p.table "
            "WHERE p.active AND p.rows > 0 AND p.database = {database:String} AND p.table IN {tables:Array(String)} "
            "UNION ALL SELECT {server:String}, '', '', 'start', toString(toUnixTimestamp(now()) - uptime()) FROM system.one",
            {"database": shard.database, "tables": tables, "server": _SERVER},
        )
        return [*rows, {"table": _SERVER, "table_uuid": "", "partition": "", "name": "replica", "hash": shard.replica}]

    parts: dict[PartitionPlace, dict[str, str]] = {}
    for shard, rows in enumerate(shards.map(ask)):
        for row in rows:
            place = (shard, str(row["table"]), str(row["table_uuid"]), str(row["partition"]))
            parts.setdefault(place, {})[str(row["name"])] = str(row["hash"])
    return parts


@dataclass(frozen=True, kw_only=True)
class PartChanges:
    """What happened to the parts of a cluster between two lists.

    Attributes:
        inserted: parts that hold rows of new inserts (and perhaps old ones), by shard and table.
        rewritten: months in which rows may have changed or vanished anywhere, as (year, month); None among them means all.
        merged: months in which parts were merged: no row has changed there, but some may have been left out.
        has_moved_conversations: conversations may have left their shard: rows of any month may belong elsewhere now.
    """

    inserted: Mapping[tuple[int, str], tuple[str, ...]]
    rewritten: frozenset[tuple[int, int] | None]
    merged: frozenset[tuple[int, int] | None] = frozenset()
    has_moved_conversations: bool = False

    @property
    def nothing(self) -> bool:
        return not self.inserted and not self.rewritten and not self.merged and not self.has_moved_conversations

    def are_still_there(self, now: Parts) -> bool:
        """Whether all the `inserted` parts are in a later list: then they were there in between, and could be asked for."""
        names = {(shard, table): set[str]() for shard, table in self.inserted}
        for (shard, table, _, _), parts in now.items():
            if (shard, table) in names:
                names[shard, table].update(parts)
        return all(names[place].issuperset(inserted) for place, inserted in self.inserted.items())


def compare_parts(before: Parts, now: Parts) -> PartChanges:
    """Compares two lists of parts. Superfluous looks are possible (a merge across the gap of a failed insert), missed ones are not."""
    inserted: dict[tuple[int, str], list[str]] = {}
    rewritten: set[tuple[int, int] | None] = set()
    merged: set[tuple[int, int] | None] = set()
    has_moved_conversations = False
    for place in {*before, *now}:
        old, new = before.get(place, {}), now.get(place, {})
        if old == new:
            continue
        shard, table, _, partition = place
        if table == _SERVER:
            # A shard without a start is one that was not listed before: its parts say the rest. Of another replica nothing is known: its
            # parts may bear the same names.
            if (
                old
                and new
                and (
                    old.get("replica") != new.get("replica")
                    or abs(int(old["start"]) - int(new["start"])) > _START_JITTER
                )
            ):
                rewritten.add(None)
            continue
        touched = _touched_parts(old, new)
        if touched is None:
            if table == CONVERSATION:
                has_moved_conversations = True
            else:
                rewritten.add(_month(partition))
            continue
        if touched:
            inserted.setdefault((shard, table), []).extend(touched)
        if table != CONVERSATION and not new.keys() >= old.keys():
            merged.add(_month(partition))
    names = {key: tuple(sorted(names)) for key, names in inserted.items()}
    return PartChanges(
        inserted=names,
        rewritten=frozenset(rewritten),
        merged=frozenset(merged - rewritten),
        has_moved_conversations=has_moved_conversations,
    )


def _touched_parts(old: Mapping[str, str], new: Mapping[str, str]) -> list[str] | None:
    """The new parts with rows of blocks that were not there; None when old rows may have been rewritten or have gone."""
    old_ranges, new_ranges = [_range(name) for name in old], [_range(name) for name in new]
    if None in old_ranges or None in new_ranges:
        return None
    before = sorted((part for part in old_ranges if part is not None), key=lambda part: part.first)
    after = [part for part in new_ranges if part is not None]
    if not all(any(_unchanged(old_part, new_part) for new_part in after) for old_part in before):
        return None
    # A mutation takes the number of a block: that gap is no insert. A part without one says 0, which a replicated table gives to its first
    # block.
    mutations = {part.mutation for part in (*before, *after) if part.mutation}
    old_blocks = sorted([*((part.first, part.last) for part in before), *((number, number) for number in mutations)])
    touched = []
    for name, part in zip(new, after, strict=True):
        if old.get(name) == new[name]:
            continue
        # The same name with other files.
        if name in old:
            return None
        if not _covered((part.first, part.last), old_blocks):
            touched.append(name)
    return touched


@dataclass(frozen=True)
class _Range:
    first: int
    last: int
    mutation: int


def _unchanged(old: _Range, new: _Range) -> bool:
    """Whether the rows of an old part stand in a new one as they were.

    A mutation has a block number too, and rewrites the parts of blocks before it, one after the other: what counts is the part's
    own last mutation, not that of its neighbours.

    >>> _unchanged(_Range(1, 2, 5), _Range(1, 7, 5)), _unchanged(_Range(1, 2, 0), _Range(1, 2, 5))
    (True, False)
    >>> _unchanged(_Range(7, 7, 0), _Range(1, 7, 5)), _unchanged(_Range(1, 2, 0), _Range(2, 3, 0))
    (True, False)
    """
    return new.first <= old.first and old.last <= new.last and new.mutation <= max(old.mutation, old.first)


def _range(name: str) -> _Range | None:
    match = _PART_NAME.fullmatch(name)
    return match and _Range(int(match["first"]), int(match["last"]), int(match["mutation"] or 0))


def _covered(wanted: tuple[int, int], ranges: Sequence[tuple[int, int]]) -> bool:
    """Whether every block of a range is in one of the sorted ranges.

    >>> _covered((1, 5), [(1, 2), (3, 7)]), _covered((1, 5), [(1, 2), (4, 7)])
    (True, False)
    """
    block = wanted[0]
    for first, last in ranges:
        if first <= block <= last:
            block = last + 1
    return block > wanted[1]


def _month(partition: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"(?:patch-[0-9a-f]+-)?(\d{4})(\d{2})", partition)
    return match and (int(match[1]), int(match[2]))


def of_months(parts: Parts, slices: Iterable[Slice]) -> dict[PartitionPlace, Mapping[str, str]]:
    """The part of a list in which rows of some slices may stand: a table's partition holds the days of a month."""
    months = {None, *((item.day.year, item.day.month) for item in slices)}
    return {place: names for place, names in parts.items() if place[1] == CONVERSATION or _month(place[3]) in months}


@dataclass(frozen=True, kw_only=True)
class SliceChanges:
    """What has happened to the rows of some slices since a list of parts.

    Attributes:
        parts: the list to compare with the next time.
        in_doubt: slices in which rows may have come, changed or gone.
        merged: others, where parts were merged: no row has changed there, but some may have been left out.
        placement_in_doubt: those in doubt whose rows may belong on another shard now, though none of them has changed: a conversation has
            come to a shard or left one.
    """

    parts: Parts
    in_doubt: frozenset[Slice]
    merged: frozenset[Slice]
    placement_in_doubt: frozenset[Slice] = frozenset()


def changes_of_slices(
    shards: ShardSet, kind: Kind, groups: Collection[SliceGroup], before: Parts, listed: Parts
) -> SliceChanges:
    """Which slices of `groups` something has happened to between two lists of parts.

    Parts are merged at any time: whoever asks for a part's rows looks afterwards whether it was still there to answer. If it was not, the
    later list is compared instead.
    """
    slices = {item for group in groups for item in group.slices}
    in_doubt: set[Slice] = set()
    placement_in_doubt: set[Slice] = set()
    for _ in range(_LISTINGS):
        changes = compare_parts(of_months(before, slices), of_months(listed, slices))
        if not changes.inserted:
            break
        for group in groups:
            in_doubt |= slices_in_parts(shards, group, changes.inserted)
            placement_in_doubt |= slices_in_parts(shards, group, changes.inserted, of_conversations=True)
        later = read_parts(shards, kind)
        if changes.are_still_there(later):
            break
        listed = later
    else:
        changes = PartChanges(
            inserted={}, rewritten=frozenset({None}), has_moved_conversations=kind.is_of_conversations
        )
    placement_in_doubt = slices if changes.has_moved_conversations else placement_in_doubt & slices
    in_doubt = (in_doubt | placement_in_doubt) & slices
    in_doubt |= {item for item in slices if changes.rewritten & {None, (item.day.year, item.day.month)}}
    merged = {item for item in slices - in_doubt if changes.merged & {None, (item.day.year, item.day.month)}}
    return SliceChanges(
        parts=listed,
        in_doubt=frozenset(in_doubt),
        merged=frozenset(merged),
        placement_in_doubt=frozenset(placement_in_doubt),
    )


def slices_in_parts(
    shards: ShardSet,
    group: SliceGroup,
    inserted: Mapping[tuple[int, str], Iterable[str]],
    *,
    of_conversations: bool = False,
) -> set[Slice]:
    """The slices of a group that rows in certain parts are of; of conversations, those whose scorecards may belong on their shard now."""
    if of_conversations:
        of_rows = f"toDate32(conversation_start_time) AS day FROM {CONVERSATION}\nWHERE {OF_CUSTOMERS}"
        slices = {CONVERSATION: of_rows}
    else:
        slices = {table.clickhouse: f"day FROM {table.clickhouse}\nWHERE {IN_SLICES}" for table in group.tables}

    def ask(table: str, names: Iterable[str]) -> Callable[[ShardConnection], list[dict[str, object]]]:
        return lambda shard: shard.rows(
            f"SELECT DISTINCT customer, {slices[table]}\n  AND _part IN {{parts:Array(String)}}",
            {**shard_scope(group), "parts": list(names)},
        )

    futures = [shards.submit(shard, ask(table, names)) for (shard, table), names in inserted.items() if table in slices]
    return {Slice.of_row(row) for rows in results(futures) for row in rows}
