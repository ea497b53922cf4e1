"""Who holds an advisory lock, in words for those who wait for it.

What lives here: the question to Postgres. What does not: the locks (postgres/session.py, placement/locks.py), and the connections' own
(postgres/connection_slots.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

#: The number of a lock with a single key is in two columns.
_HOLDERS = """\
SELECT DISTINCT l.pid, coalesce(a.application_name, 'gone') AS application
FROM pg_locks AS l
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND ((l.classid::bigint << 32) | l.objid::bigint) = ANY (string_to_array($1, ',')::bigint[])
    AND l.pid <> pg_backend_pid()
ORDER BY l.pid"""


def lock_holders(
    ask: Callable[[str, tuple[str, ...]], Sequence[Mapping[str, Any]]], numbers: Collection[int]
) -> list[str]:
    """The sessions that hold one of the locks: the program with its process and machine, and the session's own pid in Postgres."""
    rows = ask(_HOLDERS, (",".join(map(str, numbers)),))
    return [f"{row['application']} (session {row['pid']} of Postgres)" for row in rows]
