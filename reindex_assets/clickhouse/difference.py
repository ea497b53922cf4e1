"""The difference between staging and live rows on one shard, and what has to happen to each key that is not in order.

What lives here: the difference tables, and the statements that read them. What does not: the staging tables (clickhouse/staging.py),
deleting (clickhouse/deletes.py), and the order in which shards are written (reindex/writer.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import pyarrow as pa
import pyarrow.compute as pc

from reindex_assets.clickhouse.evidence import unconfirmed
from reindex_assets.clickhouse.foreign_columns import foreign_columns
from reindex_assets.clickhouse.keys import Key, keys_of
from reindex_assets.clickhouse.shards import ShardConnection, quoted
from reindex_assets.clickhouse.staging import StagingNames
from reindex_assets.model import Slice, Table
from reindex_assets.retry import EVIDENCE
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.row_digest import fast_digest
from reindex_assets.selection.shard_sql import ELSEWHERE, IN_SLICES, shard_scope


@dataclass(frozen=True, kw_only=True)
class SliceChange:
    """How a slice's rows on one shard differ from the expected ones, in rows.

    Attributes:
        missing: expected, and not there.
        changed: there, but not exactly once with exactly these values.
        extra: there, and not expected; or older copies of a row whose newest copy is right.
        unexpected: there, and not expected on this shard in this slice; the others of `extra` are copies.
        newer: left alone, because the live row is newer than the snapshot.
        copied: there more than once.
    """

    slice: Slice
    missing: int = 0
    changed: int = 0
    extra: int = 0
    unexpected: int = 0
    newer: int = 0
    copied: int = 0


def find_difference(
    shard: ShardConnection, names: StagingNames, table: Table, group: SliceGroup, snapshot: int
) -> list[SliceChange]:
    """Compares staging and live rows on one shard into the difference table; the counts of each slice that differs.

    The difference table holds only keys that are not in order. A key is in order when exactly one physical row stands there
    and every column but the version is equal. A live row as new as the snapshot or newer is never touched. Where several rows stand
    and the newest one is right, only the others go: an attempt that could insert and not delete must not be followed by one that
    inserts the same rows again.
    """
    place = _place(table)
    scope = {**shard_scope(group), "snapshot": snapshot}
    difference = quoted(names.difference(table))
    shard.command(
        f"""\
CREATE TABLE {difference} ENGINE = MergeTree ORDER BY tuple() AS
SELECT {place},
       max(staged) AS is_staged,
       countIf(staged = 0) AS live_rows,
       minIf(version, staged = 0) AS oldest,
       maxIf(version, staged = 0) AS newest,
       min(digest) = max(digest) AS is_equal,
       is_staged AND live_rows > 1 AS is_copied,
       is_staged AND NOT is_copied AND (live_rows = 0 OR newest < {{snapshot:UInt64}}) AS is_upsert,
       if(NOT is_copied AND live_rows > 0 AND oldest < {{snapshot:UInt64}}, {{snapshot:UInt64}}, 0) AS delete_below
FROM
(
{_both_sides(names, table)}
)
GROUP BY {place}
HAVING NOT (is_staged AND live_rows = 1 AND is_equal)""",
        scope,
    )
    changes = _changes(shard, names, table, snapshot)
    if any(change.copied for change in changes):
        _judge_copies(shard, names, table, scope)
        changes = _changes(shard, names, table, snapshot)
    return changes


def _judge_copies(shard: ShardConnection, names: StagingNames, table: Table, scope: Mapping[str, object]) -> None:
    """Adds to the difference table what has to happen to each key that is expected and stands more than once."""
    place = _place(table)
    difference = quoted(names.difference(table))
    copied = f"({place}) IN (SELECT {place} FROM {difference} WHERE is_copied)"
    below = "if(is_equal, least(newest, {snapshot:UInt64}), {snapshot:UInt64})"
    shard.command(
        f"""\
INSERT INTO {difference}
SELECT {place},
       1 AS is_staged,
       sumIf(copies, staged = 0) AS live_rows,
       minIf(version, staged = 0) AS oldest,
       maxIf(version, staged = 0) AS newest,
       argMaxIf(copies, version, staged = 0) = 1
           AND argMaxIf(a_digest, version, staged = 0) = anyIf(a_digest, staged = 1) AS is_equal,
       0 AS is_copied,
       NOT is_equal AND newest < {{snapshot:UInt64}} AS is_upsert,
       if(oldest < {below}, {below}, 0) AS delete_below
FROM
(
    SELECT {place}, version, staged, count() AS copies, any(digest) AS a_digest
    FROM
    (
{_both_sides(names, table, copied)}
    )
    GROUP BY {place}, version, staged
)
GROUP BY {place}""",
        scope,
    )


def _changes(shard: ShardConnection, names: StagingNames, table: Table, snapshot: int) -> list[SliceChange]:
    rows = shard.rows(
        f"""\
SELECT customer, day,
       countIf(is_upsert AND live_rows = 0) AS missing,
       countIf(is_upsert AND live_rows > 0) AS changed,
       countIf(delete_below > 0 AND NOT is_upsert AND (NOT is_staged OR newest < {{snapshot:UInt64}})) AS extra,
       countIf(delete_below > 0 AND NOT is_staged) AS unexpected,
       countIf(NOT is_upsert AND NOT is_copied AND newest >= {{snapshot:UInt64}}) AS newer,
       countIf(is_copied) AS copied
FROM {quoted(names.difference(table))}
GROUP BY customer, day""",
        {"snapshot": snapshot},
    )
    numbers = [field.name for field in fields(SliceChange) if field.name != "slice"]
    return [SliceChange(slice=Slice.of_row(row), **{name: row[name] for name in numbers}) for row in rows]


def count_vanished(shard: ShardConnection, names: StagingNames, table: Table) -> dict[Slice, int]:
    """The unexpected rows of each slice that are expected nowhere: their scorecard is in no slice of the group, on no shard.

    A score has vanished, too, if its scorecard is expected just there, without this score.
    """
    scorecard = ", ".join(shard.tables.parent.identity)
    vanished = f"({scorecard}) NOT IN (SELECT {scorecard} FROM {quoted(names.identities)})"
    if not table.is_parent:
        here = f"day, {scorecard}"
        vanished = f"({vanished} OR ({here}) IN (SELECT {here} FROM {quoted(names.rows(shard.tables.parent))}))"
    rows = shard.rows(
        f"""\
SELECT customer, day, count() AS vanished
FROM {quoted(names.difference(table))}
WHERE delete_below > 0 AND NOT is_staged AND {vanished}
GROUP BY customer, day"""
    )
    return {Slice.of_row(row): row["vanished"] for row in rows}


def insert_upserts(shard: ShardConnection, names: StagingNames, table: Table, group: SliceGroup, snapshot: int) -> None:
    """Inserts the missing and changed rows, with the snapshot as their version. Changed ones keep what others have written into them."""
    columns = ", ".join(table.column_names)
    place = _place(table)
    foreign = [quoted(name) for name in foreign_columns(shard, table)]
    upserts = "is_upsert AND live_rows = 0" if foreign else "is_upsert"
    shard.command(
        f"""\
INSERT INTO {table.clickhouse} ({columns}, version)
SELECT {columns}, {{snapshot:UInt64}}
FROM {quoted(names.rows(table))}
WHERE ({place}) IN (SELECT {place} FROM {quoted(names.difference(table))} WHERE {upserts})""",
        {"snapshot": snapshot},
    )
    if not foreign:
        return
    changed = f"({place}) IN (SELECT {place} FROM {quoted(names.difference(table))} WHERE is_upsert AND live_rows > 0)"
    # As a tuple, because argMax would pass over a NULL.
    shard.command(
        f"""\
INSERT INTO {table.clickhouse} ({columns}, {", ".join(foreign)}, version)
SELECT {columns}, {", ".join(f"kept.{number}" for number in range(1, len(foreign) + 1))}, {{snapshot:UInt64}}
FROM {quoted(names.rows(table))} AS expected
INNER JOIN
(
    SELECT {place}, argMax(tuple({", ".join(foreign)}), version) AS kept
    FROM {table.clickhouse}
    WHERE {IN_SLICES} AND {changed}
    GROUP BY {place}
) AS live USING ({place})
WHERE {changed}""",
        {**shard_scope(group), "snapshot": snapshot},
    )


def expect_upserts(shard: ShardConnection, names: StagingNames, table: Table, group: SliceGroup, snapshot: int) -> None:
    """Waits until the shard shows our row, or a newer one, at every key that was to be written.

    Asks the difference table itself: an empty answer to `_changes` must not look like nothing to insert.

    Raises:
        UnconfirmedWriteError: it still doesn't.
    """
    place = _place(table)
    upserts = f"{quoted(names.difference(table))} WHERE is_upsert"
    sql = f"""\
SELECT count() AS found
FROM {upserts} AND ({place}) NOT IN
(
    SELECT {place}
    FROM {table.clickhouse}
    WHERE {IN_SLICES} AND version >= {{snapshot:UInt64}} AND ({place}) IN (SELECT {place} FROM {upserts})
)"""
    scope = {**shard_scope(group), "snapshot": snapshot}

    def look() -> None:
        row = shard.row(sql, scope)
        if row["found"]:
            raise unconfirmed(
                shard, f"an insert into {table.clickhouse}", f"{row['found']:,} of its rows are not there"
            )

    EVIDENCE.call(look)


def keys_to_delete(
    shard: ShardConnection, names: StagingNames, table: Table, group: SliceGroup, snapshot: int
) -> tuple[list[Key], dict[Key, int]]:
    """Keys of the group's slices where rows have to go.

    Returns:
        Keys where every row older than the snapshot goes, and keys with a right row, each with its version: only older ones go.
    """
    columns = ", ".join(
        "{template_type:UInt8} AS template_type" if name == "template_type" else name for name in table.key
    )
    rows = shard.table(
        f"SELECT {columns}, delete_below, delete_below < {{snapshot:UInt64}} AS has_right_row "
        f"FROM {quoted(names.difference(table))} WHERE delete_below > 0",
        {"template_type": group.kind.template_type, "snapshot": snapshot},
    )
    has_right_row = pc.cast(rows.column("has_right_row"), pa.bool_())
    right = rows.filter(has_right_row)
    below = dict(zip(keys_of(right, table), right.column("delete_below").to_pylist(), strict=True))
    return keys_of(rows.filter(pc.invert(has_right_row)), table), below


def moved_keys(
    shard: ShardConnection, names: StagingNames, table: Table, group: SliceGroup, snapshot: int
) -> list[Key]:
    """Keys outside the group's slices where one of its scorecards stood before it moved, older than the snapshot.

    A set of the ids alone takes a third of the time of one of the whole identities, so those are looked at only where an id is found.
    """
    elsewhere = f"FROM {table.clickhouse}\nWHERE {ELSEWHERE}\n  AND version < {{snapshot:UInt64}}"
    ids = f"scorecard_id IN (SELECT scorecard_id FROM {quoted(names.identities)})"
    whole = (
        f"(customer, profile, scorecard_id) IN (SELECT customer, profile, scorecard_id FROM {quoted(names.identities)})"
    )
    scope = {**shard_scope(group), "snapshot": snapshot}
    for condition in ("true", ids):
        if not shard.rows(f"SELECT 1 AS found {elsewhere}\n  AND {condition} LIMIT 1", scope):
            return []
    return keys_of(shard.table(f"SELECT DISTINCT {', '.join(table.key)} {elsewhere}\n  AND {whole}", scope), table)


def superseded(shard: ShardConnection, table: Table, group: SliceGroup, snapshot: int) -> tuple[list[Key], list[Key]]:
    """Keys that another writer has written since the comparison, so that rows of several versions stand there.

    Returns:
        Keys where the newest row is ours (the other writer had read Postgres before the snapshot, or was a run that was killed),
        and keys where it is newer than ours.
    """
    scope = {**shard_scope(group), "snapshot": snapshot}
    versions = shard.row(
        f"SELECT min(version) AS oldest, max(version) AS newest FROM {table.clickhouse} WHERE {IN_SLICES}", scope
    )
    if versions["oldest"] == versions["newest"]:
        return [], []
    keys = ", ".join(table.key)
    rows = shard.table(
        f"SELECT {keys}, max(version) > {{snapshot:UInt64}} AS is_newer FROM {table.clickhouse} WHERE {IN_SLICES} "
        f"GROUP BY {keys} HAVING min(version) <= {{snapshot:UInt64}} AND max(version) >= {{snapshot:UInt64}} "
        "AND min(version) < max(version)",
        scope,
    )
    is_newer = pc.cast(rows.column("is_newer"), pa.bool_())
    return keys_of(rows.filter(pc.invert(is_newer)), table), keys_of(rows.filter(is_newer), table)


def _both_sides(names: StagingNames, table: Table, condition: str = "true") -> str:
    """Staged and live rows, each with 128 bits over the columns that the key leaves out."""
    place = _place(table)
    digest = fast_digest(table, "sipHash128", [column.name for column in table.columns if column.name not in table.key])
    return f"""\
    SELECT {place}, {digest} AS digest, toUInt64(0) AS version, 1 AS staged
    FROM {quoted(names.rows(table))}
    WHERE {condition}
    UNION ALL
    SELECT {place}, {digest} AS digest, version, 0 AS staged
    FROM {table.clickhouse}
    WHERE {IN_SLICES} AND {condition}"""


def _place(table: Table) -> str:
    """The key without the template type, which a group has only one of."""
    return ", ".join(name for name in table.key if name != "template_type")
