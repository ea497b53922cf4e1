"""Deleting rows from the live tables, by key and below a version.

What lives here: the statements. What does not: which rows have to go (clickhouse/difference.py), and when (reindex/writer.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date

from reindex_assets.clickhouse.keys import Key, key_columns, keys_of
from reindex_assets.clickhouse.shards import ShardConnection
from reindex_assets.errors import ReindexError, UnconfirmedWriteError
from reindex_assets.model import Slice, Table
from reindex_assets.retry import LATE_DELETE
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.shard_sql import IN_SLICES, shard_scope

#: Keys in one DELETE statement: a replicated mutation is stored in Keeper, whose nodes hold 1 MB.
KEYS_PER_DELETE = 4_000
#: No fleet begins before it.
_MONTH_WITHOUT_ROWS = 190001


def older_copies(shard: ShardConnection, table: Table, below: Mapping[Key, int]) -> list[Key]:
    """The physical rows at some keys whose version is below a bound of each key: whole keys with the version as last value."""
    copies: list[Key] = []
    for block in _blocks(list(below)):
        rows = shard.table(
            f"SELECT {', '.join(table.key)}, version FROM {table.clickhouse} WHERE {_at_keys(table.key)}",
            {"keys": block, "older_than": max(below[key] for key in block)},
        )
        versions = rows.column("version").to_pylist()
        copies += [
            (*key, version) for key, version in zip(keys_of(rows, table), versions, strict=True) if version < below[key]
        ]
    return copies


def count_rows_at(shard: ShardConnection, table: Table, keys: Sequence[Key], older_than: int) -> dict[Key, int]:
    """The rows that `delete_rows` would delete, by key; keys without any are left out."""
    counts: dict[Key, int] = {}
    for some in _blocks(keys):
        columns = table.key[: len(some[0])]
        rows = shard.table(
            f"SELECT {', '.join(columns)}, count() AS found FROM {table.clickhouse} WHERE {_at_keys(columns)} "
            f"GROUP BY {', '.join(columns)}",
            {"keys": some, "older_than": older_than},
        )
        counts |= dict(zip(key_columns(rows, table, columns), rows.column("found").to_pylist(), strict=True))
    return counts


def expect_deletable(shard: ShardConnection, table: Table) -> None:
    """Makes sure that a shard can delete rows, before others are inserted in their place: else readers would see both.

    A deletion of nothing, in a month without rows, is refused like any other: for want of the privilege, because of a projection, or
    because too many mutations are unfinished. It takes 3 ms, as nothing waits for it.

    Raises:
        ReindexError: it refuses, or a mutation has failed, behind which every later one waits.
    """
    try:
        shard.command(
            # No UInt64 is below 0: whatever stands in that month stays.
            f"DELETE FROM {table.clickhouse} IN PARTITION {_MONTH_WITHOUT_ROWS} WHERE version < 0 SETTINGS lightweight_deletes_sync = 0"
        )
        failed = shard.row(
            "SELECT count() AS mutations, any(mutation_id) AS id, any(latest_fail_reason) AS reason FROM system.mutations "
            "WHERE database = {database:String} AND table = {table:String} AND NOT is_done AND latest_fail_reason != ''",
            {"database": shard.database, "table": table.clickhouse},
        )
        if failed["mutations"]:
            raise ReindexError(
                f"{shard.label}: the mutation {failed['id']} of {table.clickhouse} fails, and every later one waits for it: "
                f"{failed['reason']}. "
                "Mend its cause, or end it with KILL MUTATION"
            )
    except ReindexError as error:
        raise type(error)(
            f"{error}. Nothing was written: what is wrong in {table.clickhouse} could not be deleted"
        ) from None


def await_late_deletes(shard: ShardConnection, days: Collection[date]) -> None:
    """Waits for deletions in the months of some days that were begun before and are still at work: of a run that was killed, or whose
    statement timed out. Those of living runs can't be told from them, and end soon.

    Each would take rows that a comparison has just found right: those that an earlier snapshot did not have.

    Raises:
        UnconfirmedWriteError: they have not ended.
    """
    awaited: set[str] | None = None
    months = "|".join(sorted({f"{day:%Y%m}" for day in days}))

    def look() -> None:
        nonlocal awaited
        rows = shard.rows(
            "SELECT concat(table, ' ', mutation_id) AS mutation FROM system.mutations "
            "WHERE database = {database:String} AND table IN {tables:Array(String)} AND NOT is_done "
            "AND match(command, 'DELETE|_row_exists') "
            "AND (NOT match(command, 'IN PARTITION') OR match(command, {months:String}))",
            {
                "database": shard.database,
                "tables": [table.clickhouse for table in shard.tables],
                "months": f"IN PARTITION (ID )?'?({months})[^0-9]",
            },
        )
        unfinished = {str(row["mutation"]) for row in rows}
        # Those of other runs, begun since, look at the rows as they are now.
        awaited = unfinished if awaited is None else awaited & unfinished
        if awaited:
            raise UnconfirmedWriteError(
                f"{shard.label} is still deleting rows for an earlier statement (system.mutations: {', '.join(sorted(awaited))}). "
                "Nothing was written. If it doesn't end, look there for the reason, or end it with KILL MUTATION"
            )

    LATE_DELETE.call(look)


def delete_rows(shard: ShardConnection, table: Table, keys: Sequence[Key], older_than: int) -> None:
    """Deletes the rows at `keys` whose version is below `older_than`. Starts no mutation when there are no keys.

    A lightweight DELETE costs 0.2 s and more in every partition that it looks into, so each statement names its partition.

    Args:
        keys: whole keys of the table, or their first columns up to some column: scores may be named by their scorecard's key. A whole
            key may be followed by a version: only that row is meant.
    """
    day_position = table.key.index("day")
    by_month: dict[int, list[Key]] = {}
    for key in dict.fromkeys(keys):
        day = _day(key[day_position])
        by_month.setdefault(day.year * 100 + day.month, []).append(key)
    for month, month_keys in sorted(by_month.items()):
        for some in _blocks(month_keys):
            shard.command(
                f"DELETE FROM {table.clickhouse} IN PARTITION {month} "
                f"WHERE {_at_keys((*table.key, 'version')[: len(some[0])])}",
                {"keys": some, "older_than": older_than},
            )


def delete_slices(shard: ShardConnection, table: Table, group: SliceGroup, older_than: int) -> dict[Slice, int]:
    """Deletes everything older than `older_than` in the group's slices: for `clean_up`. Returns the rows per slice."""
    scope = {**shard_scope(group), "older_than": older_than}
    where = f"{IN_SLICES} AND version < {{older_than:UInt64}}"
    rows = shard.rows(
        f"SELECT customer, day, toYYYYMM(day) AS month, count() AS found FROM {table.clickhouse} WHERE {where} "
        "GROUP BY customer, day",
        scope,
    )
    for month in sorted({row["month"] for row in rows}):
        shard.command(f"DELETE FROM {table.clickhouse} IN PARTITION {month} WHERE {where}", scope)
    return {Slice.of_row(row): row["found"] for row in rows}


def _blocks(keys: Sequence[Key]) -> list[Sequence[Key]]:
    return [keys[start : start + KEYS_PER_DELETE] for start in range(0, len(keys), KEYS_PER_DELETE)]


def _at_keys(columns: Sequence[str]) -> str:
    return f"({', '.join(columns)}) IN %(keys)s AND version < %(older_than)s"


def _day(value: object) -> date:
    assert isinstance(value, date)
    return value
