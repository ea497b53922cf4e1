"""A cap on the connections that this project opens to one Postgres at once, across all its processes and machines.

What lives here: taking a slot, waiting for one, and reporting who holds them. What does not: the connection itself, and the locks of
slices (both postgres/session.py).

A slot is an advisory lock of Postgres with two keys: ours, and the slot's number. (Slice locks have a single key, which is a separate
key space.) The session holds it from right after connecting until it ends, so a killed process leaves none behind. Advisory locks
belong to one database of one server: a standby has its own. A process that waits for a slot holds no connection, but connects briefly
for every try. There is no queue: the first to ask after a slot becomes free gets it.

This can't deadlock. A session takes its slot before anything else, so a waiting process holds no snapshot and no slice. And no process
opens a session while it has another: a run (reindex/job.py) has one, which it closes before it pauses to try again and before its
checks begin; checks, watch and `verify` (comparison/comparison.py) open one after the other. So a process that holds a slot has every
connection that it needs to finish. Code that wants several sessions at once must be able to continue with one: otherwise several such
processes, each with one slot, would wait for each other until they fail.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reindex_assets.errors import SourceBusyError
from reindex_assets.retry import CONNECTION_SLOT

_log = logging.getLogger(__name__)

#: Runs a statement with its parameters.
Ask = Callable[[str, tuple[str, ...]], Sequence[Mapping[str, Any]]]

#: The first key of all slots: an arbitrary number ("reix" in ASCII) that no other application is likely to use.
LOCK_CLASS = 0x72656978

#: Recursive, so that the next slot is tried only if the one before it is taken. `LIMIT 1` does not guarantee that.
_TAKE = f"""\
WITH RECURSIVE tried (slot, is_held) AS (
    SELECT 1, pg_try_advisory_lock({LOCK_CLASS}, 1)
    UNION ALL
    SELECT slot + 1, pg_try_advisory_lock({LOCK_CLASS}, slot + 1)
    FROM tried
    WHERE NOT is_held AND slot < $1::int
)
SELECT slot FROM tried WHERE is_held"""

#: An ordinary role sees the application of another role's session, but not when it began.
_HOLDERS = f"""\
SELECT l.pid,
       coalesce(a.application_name, 'gone') AS application,
       to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.classid = {LOCK_CLASS} AND l.objsubid = 2 AND l.objid <= $1::int
ORDER BY l.objid"""

#: Pauses shorter than this are not logged.
_LOGGED_PAUSE_SECONDS = 0.8

#: The most sessions that the error names.
_NAMED = 10


def hold_slot(
    connect: Callable[[], Ask], hang_up: Callable[[], None], address: str, slots: int, wait_seconds: float
) -> None:
    """Connects again and again until the new session holds a slot.

    Args:
        connect: opens a session.
        hang_up: closes it.
        address: the Postgres server, for messages.
        wait_seconds: how long to wait for a slot.

    Raises:
        SourceBusyError: no slot became free in time. No session is left open.
    """
    deadline = time.monotonic() + wait_seconds
    is_logged = False
    for tries in itertools.count(1):
        ask = connect()
        try:
            if ask(_TAKE, (str(slots),)):
                return
            left = deadline - time.monotonic()
            holders = _named(ask(_HOLDERS, (str(slots),)))
            if left <= 0:
                raise SourceBusyError(_explained(address, slots, wait_seconds, holders))
        except BaseException:
            hang_up()
            raise
        hang_up()
        if not is_logged and left > CONNECTION_SLOT.limit(tries) >= _LOGGED_PAUSE_SECONDS:
            text = "%s: all %d connections of max_connections are in use; waiting for up to %.0f s for %s"
            _log.warning(text, address, slots, left, holders)
            is_logged = True
        # Short at first: a session that has just been closed takes a moment to end.
        time.sleep(min(left, CONNECTION_SLOT.after(tries)))


def _named(holders: Sequence[Mapping[str, Any]]) -> str:
    named = [
        f"pid {holder['pid']} ({holder['application']}{' since ' + holder['since'] + ' UTC' if holder['since'] else ''})"
        for holder in holders[:_NAMED]
    ]
    more = [f"and {len(holders) - _NAMED} more"] if len(holders) > _NAMED else []
    return ", ".join(named + more) or "nobody now"


def _explained(address: str, slots: int, wait_seconds: float, holders: str) -> str:
    return (
        f"{address}: all {slots} connections that the fleet file's max_connections allows this project are in use, and none became free "
        f"within connection_wait_seconds ({wait_seconds:g} s). Held by {holders}. "
        "Try again when one of these has ended, run less at once, raise max_connections, or end one of them with "
        "pg_terminate_backend(pid): its run can be repeated"
    )
