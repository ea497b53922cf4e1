"""How many connections this project holds to one Postgres at once, over all its processes and machines: a cap, kept by slots.

What lives here: taking a slot, waiting for one, and saying who holds them. What does not: the connection itself, and the locks of
slices (both postgres/session.py).

A slot is an advisory lock of Postgres with two keys: ours, and the slot's number. (The locks of slices have one key, which is a space
of its own.) The session itself holds it, from right after connecting until it ends: so whatever is killed leaves none behind. Such locks
belong to one database of one server: a standby has its own. Who waits for a slot holds no connection, but connects for a moment
whenever it asks; and there is no queue: who asks first after a slot has come free gets it.

Nobody can wait for itself, nor two for each other. A session takes its slot before anything else, so who waits has no snapshot and no
slice. And no process opens a session while it has another one: a run (reindex/job.py) has a single one, which it gives up before it
pauses to try again, and before its checks begin; checks, watch and `verify` (comparison/comparison.py) open one after the other. So whoever
holds a slot has all the connections that it needs to come to its end. Who wants several sessions at once must be able to go on
with one: several of its kind, each with one slot, would wait for each other's next until they fail.
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

#: Puts a statement with its parameters to Postgres.
Ask = Callable[[str, tuple[str, ...]], Sequence[Mapping[str, Any]]]

#: The first key of all slots: an arbitrary number ("reix" in ASCII) that no other application is likely to use.
LOCK_CLASS = 0x72656978

#: Recursive, for a defined order: the next slot is tried only when the one before it is taken. (`LIMIT 1` promises nothing of the kind.)
_TAKE = f"""\
WITH RECURSIVE tried (slot, is_held) AS (
    SELECT 1, pg_try_advisory_lock({LOCK_CLASS}, 1)
    UNION ALL
    SELECT slot + 1, pg_try_advisory_lock({LOCK_CLASS}, slot + 1)
    FROM tried
    WHERE NOT is_held AND slot < $1::int
)
SELECT slot FROM tried WHERE is_held"""

#: Of another role's sessions an ordinary one sees the application, but not since when.
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

#: From a pause of this length on, waiting is worth a word.
_TELLING_PAUSE_SECONDS = 0.8

_NAMED = 10


def hold_slot(
    connect: Callable[[], Ask], hang_up: Callable[[], None], address: str, slots: int, wait_seconds: float
) -> None:
    """Connects, as often as it takes, until the new session holds a slot.

    Args:
        connect: begins a session.
        hang_up: ends it.
        address: of the Postgres, for the operator.
        wait_seconds: after this time without a slot it is given up.

    Raises:
        SourceBusyError: it was given up; no session is left.
    """
    deadline = time.monotonic() + wait_seconds
    is_told = False
    for tries in itertools.count(1):
        ask = connect()
        try:
            if ask(_TAKE, (str(slots),)):
                return
            left = deadline - time.monotonic()
            if left <= 0:
                raise SourceBusyError(_explained(address, slots, wait_seconds, ask(_HOLDERS, (str(slots),))))
        except BaseException:
            hang_up()
            raise
        hang_up()
        if not is_told and left > CONNECTION_SLOT.limit(tries) >= _TELLING_PAUSE_SECONDS:
            text = "%s: all %d connections of max_connections are in use; waiting for up to %.0f s"
            _log.warning(text, address, slots, left)
            is_told = True
        # Short at first, as a session that has just been closed takes a moment to end.
        time.sleep(min(left, CONNECTION_SLOT.after(tries)))


def _explained(address: str, slots: int, wait_seconds: float, holders: Sequence[Mapping[str, Any]]) -> str:
    named = [
        f"pid {holder['pid']} ({holder['application']}{' since ' + holder['since'] + ' UTC' if holder['since'] else ''})"
        for holder in holders[:_NAMED]
    ]
    more = [f"and {len(holders) - _NAMED} more"] if len(holders) > _NAMED else []
    return (
        f"{address}: all {slots} connections that the fleet file's max_connections grants this project are in use, and none came free "
        f"within connection_wait_seconds ({wait_seconds:g} s). Held by {', '.join(named + more) or 'nobody any more'}. "
        "Try again when one of these has ended; or run less at once, raise max_connections, or end one of them by "
        "pg_terminate_backend(pid): its run can be run again"
    )
