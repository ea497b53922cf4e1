"""How far a standby is behind its primary, as far as an ordinary role can tell.

What lives here: the statement, and the rule that derives a time and a lag from its result. What does not: the session
(postgres/session.py), and the reaction to a lag (its callers).

The rule: a standby shows everything up to the last commit that it has replayed, so its lag is at most the age of that commit. An old
commit alone proves nothing, since an idle primary commits nothing. So a commit older than the limit is no lag if the standby is
connected, has replayed all that it received, and receives nothing more for a second.

The facts behind it, tried on PostgreSQL 18 and read in its sources (walreceiver.c, walsender.c, xlogrecovery.c, xlog.c):

- `pg_stat_wal_receiver` shows its row and pid to every role, and so whether a receiver has reached the primary. All other columns are
  NULL without pg_read_all_stats (part of pg_monitor). With it, `latest_end_lsn` is the end of the primary's log as last reported.
- `pg_last_wal_receive_lsn()` may be before the replayed position: a restarted standby requests its current segment from the
  beginning, and this lasts until the primary writes something new. So "replayed all" is <=, not =.
- A standby that has replayed all it received may be hours behind: on a slow connection, or just after it reconnected. A role with
  pg_monitor sees that at once. Any other role sees it only because more keeps coming in, in pieces of up to 128 kB: hence the
  second. It does not notice a slower connection than that.
- `pg_last_xact_replay_timestamp()` is NULL until a started standby replays its first commit. Until then the standby shows at least what
  its last checkpoint held. The checkpoint's time, which every role may read, was taken on the primary before its position in the log.

What it can't see: a connection that broke silently looks alive until `wal_receiver_timeout` (a minute by default); and in a cascade of
standbys, every link but the last. The clocks of both servers must agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: One statement, so that its values belong together; materialized, so that each function is called once.
_STANDING = """\
WITH standing AS MATERIALIZED (
    SELECT pg_is_in_recovery() AS is_standby,
           CASE WHEN pg_is_in_recovery()
                THEN least(now(), coalesce(pg_last_xact_replay_timestamp(),
                                           (SELECT checkpoint_time FROM pg_control_checkpoint())))
                ELSE now() END AS shown,
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() END AS received,
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() END AS replayed,
           (SELECT pid FROM pg_stat_wal_receiver) AS receiver,
           (SELECT latest_end_lsn FROM pg_stat_wal_receiver) AS announced)
SELECT is_standby,
       floor(extract(epoch FROM shown) * 1000000)::bigint AS microseconds,
       extract(epoch FROM now() - shown)::float8 AS age_seconds,
       receiver || ' ' || received AS position,
       (receiver IS NOT NULL AND received <= replayed AND coalesce(announced <= replayed, true)) IS TRUE AS caught_up
FROM standing"""

#: The primary counts as idle if nothing comes in for this long.
QUIET_SECONDS = 1.0
#: How long to wait for that: even an idle server writes something now and then (a checkpoint).
PATIENCE_SECONDS = 2.2
_POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a transaction sees of Postgres.

    Attributes:
        microseconds: the snapshot's time by Postgres' clock, never later than what it shows. Rows made from it get it as their version.
            On a standby, the time of the last replayed commit.
        is_standby: whether the server replays another server's log.
        lag_seconds: the most by which it can be behind its primary; 0 if it has caught up, and on a primary.
    """

    microseconds: int
    is_standby: bool
    lag_seconds: float


class SnapshotClock:
    """Reads what a transaction that begins afterwards sees at least. Remembers since when nothing came in, so it waits for that once."""

    def __init__(self, ask: Callable[[str], Sequence[Mapping[str, Any]]], limit_seconds: float) -> None:
        """
        Args:
            ask: runs a statement on the server, outside of a transaction.
            limit_seconds: an older last commit counts as a lag unless the standby proves to have caught up.
        """
        self._ask = ask
        self._limit_seconds = limit_seconds
        self._quiet_at: str | None = None
        self._quiet_since = 0.0

    def read(self) -> Snapshot:
        """Asks now. Waits up to PATIENCE_SECONDS if the last commit is older than the limit."""
        patience_ends = time.monotonic() + PATIENCE_SECONDS
        while True:
            [seen] = self._ask(_STANDING)
            if not seen["is_standby"]:
                return Snapshot(microseconds=seen["microseconds"], is_standby=False, lag_seconds=0.0)
            has_caught_up = seen["caught_up"]
            if seen["age_seconds"] > self._limit_seconds:
                has_caught_up = has_caught_up and self._is_quiet_at(seen["position"])
                # Without a receiver nothing can come in, so there is nothing to wait for.
                if not has_caught_up and seen["position"] is not None and time.monotonic() < patience_ends:
                    time.sleep(_POLL_SECONDS)
                    continue
            lag_seconds = 0.0 if has_caught_up else seen["age_seconds"]
            return Snapshot(microseconds=seen["microseconds"], is_standby=True, lag_seconds=lag_seconds)

    def _is_quiet_at(self, position: str) -> bool:
        """Whether the receiver has been the same, and at the same place, for QUIET_SECONDS."""
        if position != self._quiet_at:
            self._quiet_at, self._quiet_since = position, time.monotonic()
        return time.monotonic() - self._quiet_since >= QUIET_SECONDS
