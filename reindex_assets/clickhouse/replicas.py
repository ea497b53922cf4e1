"""The replicas of a shard: in which order they are tried, and what must hold before one of them is read.

What lives here: the memory of those that did not answer, and the statements that make a replica catch up. What does not: the connection
(clickhouse/shards.py), and who may change to another replica when (reindex/job.py, defs/assets/run_checks.py).

A replica shows what it has fetched, which may be less than what another one has acknowledged: read like that, live rows would be taken
for missing, and rows that have gone for right. So a replica is read only after it has fetched all that the others had written when it
was asked, and has applied what they deleted. It can't if the only server that has some rows is away: that is an error, and no verdict.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from reindex_assets.clickhouse.answers import read_rows
from reindex_assets.config.engines import Replica
from reindex_assets.errors import ConfigurationError, ShardUnreachableError
from reindex_assets.model import LAYOUT_TABLE, Tables

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: A replica that did not answer is not tried again for so long, unless no other one answers.
PAUSE_SECONDS = 60.0
#: How old what a replica has caught up with may be when it is read: far less than the time that a row has to arrive.
CAUGHT_UP_SECONDS = 1.0
_POLL_SECONDS = 0.1

_failed: dict[str, float] = {}
_lock = threading.Lock()


def note_failure(address: Replica) -> None:
    """Remembers, for every connection of this process, that an address did not answer."""
    with _lock:
        _failed[str(address)] = time.monotonic()


def in_order(addresses: Iterable[Replica]) -> list[Replica]:
    """The order in which to try them: as in the fleet file, but those that failed lately at the end, the longest ago first."""
    with _lock:
        since = time.monotonic() - PAUSE_SECONDS
        return sorted(addresses, key=lambda address: when if (when := _failed.get(str(address), 0.0)) > since else 0.0)


def check_replicas(client: Client, label: str, database: str, tables: Tables, replicas: int) -> tuple[str, ...]:
    """The Replicated ones of the tables that are read.

    Args:
        replicas: how many the fleet file names for the shard.

    Raises:
        ConfigurationError: they are several, and don't share their rows: each would hold others.
    """
    # Whose rows are read: ours, and the product's.
    names = [*(table.clickhouse for table in tables), LAYOUT_TABLE, "conversation"]
    # The replicas in a subquery: without its own condition, Keeper would be asked about every table of the server.
    found = read_rows(
        client,
        "SELECT t.name AS name, ifNull(r.total_replicas, 0) AS replicas FROM system.tables AS t LEFT JOIN ("
        "SELECT table, total_replicas FROM system.replicas WHERE database = {database:String} AND table IN {tables:Array(String)}"
        ") AS r ON r.table = t.name WHERE t.database = {database:String} AND t.name IN {tables:Array(String)}",
        {"database": database, "tables": names},
    )
    apart = sorted(row["name"] for row in found if row["replicas"] < replicas and row["name"] != "conversation")
    if replicas > 1 and apart:
        raise ConfigurationError(
            f"{label}: the fleet file names {replicas} replicas, but {' and '.join(apart)} there share their rows with fewer servers: they "
            "are other tables on each. Create them as Replicated tables with one path in Keeper ('reindex-assets schema apply' does), or "
            "name one address only"
        )
    return tuple(row["name"] for row in found if row["replicas"])


def catch_up(client: Client, label: str, database: str, tables: Sequence[str], seconds: float) -> None:
    """Waits until a replica has all rows that any replica had acknowledged when this was called, and none that was deleted.

    Merges are not waited for: they change no row, and may take hours.

    Raises:
        ShardUnreachableError: it takes longer than `seconds`.
    """
    ends = time.monotonic() + seconds
    for table in tables:
        left = max(1, int(ends - time.monotonic()))
        client.command(sync_statement(database, table), settings={"receive_timeout": left})
    while tables:
        # LIGHTWEIGHT waits for parts to be fetched and dropped, and not for parts to be rewritten by a delete.
        waiting, reason = read_waiting_deletes(client, database, tables)
        if not waiting:
            return
        if time.monotonic() > ends:
            raise ShardUnreachableError(
                f"{label} has not caught up with its other replicas within {seconds:g} s: {waiting} parts wait for a delete"
                f"{f' ({reason[:200]})' if reason else ''}. Look at system.replication_queue there"
            )
        time.sleep(_POLL_SECONDS)


def read_waiting_deletes(client: Client, database: str, tables: Sequence[str]) -> tuple[int, str]:
    """How many parts of a replica wait to be rewritten by a delete, and the last error of one of them."""
    [row] = read_rows(
        client,
        "SELECT count() AS waiting, any(last_exception) AS reason FROM system.replication_queue "
        "WHERE database = {database:String} AND table IN {tables:Array(String)} AND type = 'MUTATE_PART'",
        {"database": database, "tables": list(tables)},
    )
    return int(row["waiting"]), str(row["reason"])


def sync_statement(database: str, table: str) -> str:
    """What makes a replica fetch whatever the others have. Both names have been checked: an identifier, and one of ours."""
    return f"SYSTEM SYNC REPLICA `{database}`.`{table}` LIGHTWEIGHT"
