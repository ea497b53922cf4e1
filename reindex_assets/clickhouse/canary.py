"""The canary: before a run writes or deletes, each shard proves that it shows what it is given, deletes what it should, and hides no row.

What lives here: the proofs. What does not: settings that are known to hide rows (clickhouse/session_settings.py), and the evidence of each
write (clickhouse/evidence.py).

A row policy, or a setting that nobody had thought of, could hide rows: they would be taken for missing and written again, and what replaces
them would be deleted or not. A data part says how many rows it holds, whoever asks; so a count of the rows of a part that says less is one
that hides some. Not seen is what hides no row of the parts that are counted: those of the run's months, up to a number of rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, date, datetime
from uuid import UUID

from reindex_assets.clickhouse.deletes import delete_rows
from reindex_assets.clickhouse.evidence import unconfirmed
from reindex_assets.clickhouse.schema import CONVERSATION, create_table
from reindex_assets.clickhouse.shards import ShardConnection, quoted
from reindex_assets.clickhouse.staging import StagingNames, drop
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import Table
from reindex_assets.retry import EVIDENCE

#: Counting them takes a tenth of a second.
_COUNTED_ROWS = 20_000_000
#: Their names are part of a statement.
_COUNTED_PARTS = 100
#: How often parts that were merged meanwhile are listed anew.
_LISTINGS = 5

_DAY = datetime(2000, 1, 1, tzinfo=UTC)
_STAYS, _GOES = UUID(int=1), UUID(int=2)
_VERSION = 1


def prove(shard: ShardConnection, owner: int, days: Collection[date]) -> None:
    """Makes sure that a shard does what is relied on.

    Args:
        owner: names the canary's own table (clickhouse/staging.py).
        days: of the rows that are to be written or deleted.

    Raises:
        UnconfirmedWriteError: it doesn't show a row that it has acknowledged, or shows one that was deleted.
        ConfigurationError: it hides rows of its tables.
    """
    _prove_writing(shard, replace(shard.tables.parent, clickhouse=StagingNames(owner=owner, group=0).canary))
    months = sorted({f"{day:%Y%m}" for day in days})
    for table in shard.tables:
        _prove_reading(shard, table.clickhouse, months)


def prove_conversations(shard: ShardConnection) -> None:
    """Makes sure that a shard hides no conversation: scorecards whose conversation is not seen would be looked for on another shard, also
    by those who compare.

    Raises:
        ConfigurationError: it hides some.
    """
    _prove_reading(shard, CONVERSATION, [])


def _prove_writing(shard: ShardConnection, canary: Table) -> None:
    """In a table of its own, by statements of the kind that a run sends."""
    # An attempt that lost the shard could not drop it.
    drop(shard, [canary.clickhouse])
    shard.command(create_table(canary))
    try:
        shard.command(
            f"INSERT INTO {quoted(canary.clickhouse)} (scorecard_id, scorecard_time, version) "
            "SELECT arrayJoin({ids:Array(UUID)}), {time:DateTime64(6, 'UTC')}, {version:UInt64}",
            {"ids": [str(_STAYS), str(_GOES)], "time": _DAY, "version": _VERSION},
        )
        _expect(shard, canary, {_STAYS, _GOES}, "two rows of a canary table")
        key = {"customer": "", "profile": "", "template_type": 0, "scorecard_id": str(_GOES), "day": _DAY.date()}
        delete_rows(shard, canary, [tuple(key[name] for name in canary.key)], _VERSION + 1)
        _expect(shard, canary, {_STAYS}, "the deletion of one of two rows of a canary table")
        _prove_accounts(shard, canary)
    finally:
        drop(shard, [canary.clickhouse])


def _prove_accounts(shard: ShardConnection, canary: Table) -> None:
    """Whether the server's own tables say what has just happened: what they don't show would be taken for not there."""
    for name, account in (("parts", "the data parts"), ("mutations", "the deletions")):
        told = shard.row(
            f"SELECT count() AS found FROM system.{name} WHERE database = {{database:String}} AND table = {{table:String}}",
            {"database": shard.database, "table": canary.clickhouse},
        )
        if not told["found"]:
            raise ConfigurationError(
                f"{shard.label} hides {account} of the tables in system.{name}: a row policy does so, or a filter in a settings profile. "
                "Let the user of the fleet file see all of them"
            )


def _expect(shard: ShardConnection, canary: Table, ids: set[UUID], what: str) -> None:
    def look() -> None:
        found = [row["scorecard_id"] for row in shard.rows(f"SELECT scorecard_id FROM {quoted(canary.clickhouse)}")]
        if len(found) != len(ids) or set(found) != ids:
            raise unconfirmed(shard, what, f"it shows {len(found)}")

    EVIDENCE.call(look)


def _prove_reading(shard: ShardConnection, table: str, months: list[str]) -> None:
    """Whether as many rows are shown of some parts as they hold, deleted ones included.

    Args:
        months: of the parts; none if the table is not one of ours, with partitions of its own.
    """
    for _ in range(_LISTINGS):
        parts = _parts(shard, table, months)
        if not parts:
            return
        held = sum(parts.values())
        # A setting of the statement: we pin the opposite for all others.
        shown = shard.row(
            f"SELECT count() AS found FROM {table} WHERE _part IN {{parts:Array(String)}} SETTINGS apply_deleted_mask = 0",
            {"parts": list(parts)},
        )["found"]
        if shown == held:
            return
        # A part that was merged meanwhile shows nothing any more.
        if _parts(shard, table, months).keys() >= parts.keys():
            raise ConfigurationError(
                f"{shard.label} shows {shown:,} of the {held:,} rows in some parts of table {table}: a row policy, or a filter in a "
                "settings profile, hides the others. They would be taken for missing and be written again. "
                "Let the user of the fleet file see every row"
            )


def _parts(shard: ShardConnection, table: str, months: list[str]) -> dict[str, int]:
    rows = shard.rows(
        "SELECT name, rows FROM system.parts WHERE active AND rows > 0 AND database = {database:String} AND table = {table:String} "
        "AND (empty({months:Array(String)}) OR partition_id IN {months:Array(String)}) ORDER BY rows DESC, name LIMIT {most:UInt32}",
        {"database": shard.database, "table": table, "months": months, "most": _COUNTED_PARTS},
    )
    # The largest that fit: they hold rows of the most customers and days. If none does, the smallest of them.
    parts: dict[str, int] = {}
    for row in rows:
        if sum(parts.values()) + row["rows"] <= _COUNTED_ROWS:
            parts[row["name"]] = row["rows"]
    return parts or {row["name"]: row["rows"] for row in rows[-1:]}
