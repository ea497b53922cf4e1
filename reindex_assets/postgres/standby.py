"""How far a Postgres that may be a standby is behind its primary, as far as an ordinary role can tell.

What lives here: the statement that asks, and the rule that makes a time and a lag of its answers. What does not: the session
(postgres/session.py), and what is done about a lag (its callers).

The rule. A standby shows everything up to the last commit that it has replayed; the age of that commit is the most by which it
can be behind. An old one alone says little, since an idle primary commits nothing. So one older than the limit is no lag when
the standby is connected, has replayed all that it received, and for a second nothing more comes in.

What stands behind it, tried on PostgreSQL 18 and read in its sources (walreceiver.c, walsender.c, xlogrecovery.c, xlog.c):

- `pg_stat_wal_receiver` shows to every role its row and pid, and so that a receiver has reached the primary. All else in it is
  NULL without pg_read_all_stats (part of pg_monitor). With it, `latest_end_lsn` is how far the primary last said its log goes.
- `pg_last_wal_receive_lsn()` may lie before what is replayed: a standby that was restarted asks for its current segment from
  the beginning, and this stays so until the primary writes something new. So "replayed all" is <=, not =.
- A standby that has replayed all it received may be hours behind: on a thin line, or just after it connected again. A role with
  pg_monitor sees that at once. For all others it shows by what keeps coming in, in pieces of up to 128 kB: hence the
  second. Slower lines than that go unseen by them.
- `pg_last_xact_replay_timestamp()` is NULL until a started standby replays its first commit. It shows at least what its last
  checkpoint held: its time, which every role may read, was taken on the primary before its place in the log.

What it can't see: a line that broke without a word looks alive until `wal_receiver_timeout` (a minute by default); in a cascade of
standbys, any link but the last. The clocks of both servers must agree.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: One statement, so that its parts belong together; materialized, so that each function is called once.
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

#: How long nothing may come in for an idle primary to be taken for idle.
QUIET_SECONDS = 1.0
#: How long that is waited for: an idle server writes something now and then too (a checkpoint).
PATIENCE_SECONDS = 2.2
_POLL_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What a transaction sees of Postgres.

    Attributes:
        microseconds: time of the snapshot by Postgres' clock, never later than what it shows; the version of rows made from it.
            On a standby, the time of the last commit that it has replayed.
        is_standby: whether the server replays the log of another one.
        lag_seconds: the most by which it can be behind its primary; 0 when it is level with it, and on a primary.
    """

    microseconds: int
    is_standby: bool
    lag_seconds: float


class SnapshotClock:
    """Tells what a transaction that begins afterwards sees at least. It remembers its looks: quiet is waited for but once."""

    def __init__(self, ask: Callable[[str], Sequence[Mapping[str, Any]]], limit_seconds: float) -> None:
        """
        Args:
            ask: puts a statement to the server, outside of a transaction.
            limit_seconds: a last commit that is older must prove to be no lag.
        """
        self._ask = ask
        self._limit_seconds = limit_seconds
        self._quiet_at: str | None = None
        self._quiet_since = 0.0

    def read(self) -> Snapshot:
        """Asks now. Takes up to PATIENCE_SECONDS when the last commit is older than the limit, else no time."""
        patience_ends = time.monotonic() + PATIENCE_SECONDS
        while True:
            [seen] = self._ask(_STANDING)
            if not seen["is_standby"]:
                return Snapshot(microseconds=seen["microseconds"], is_standby=False, lag_seconds=0.0)
            is_level = seen["caught_up"]
            if seen["age_seconds"] > self._limit_seconds:
                is_level = is_level and self._is_quiet_at(seen["position"])
                # Without a receiver nothing can come in: there is nothing to wait for.
                if not is_level and seen["position"] is not None and time.monotonic() < patience_ends:
                    time.sleep(_POLL_SECONDS)
                    continue
            lag_seconds = 0.0 if is_level else seen["age_seconds"]
            return Snapshot(microseconds=seen["microseconds"], is_standby=True, lag_seconds=lag_seconds)

    def _is_quiet_at(self, position: str) -> bool:
        """Whether the receiver has been the same, and at the same place, for QUIET_SECONDS."""
        if position != self._quiet_at:
            self._quiet_at, self._quiet_since = position, time.monotonic()
        return time.monotonic() - self._quiet_since >= QUIET_SECONDS
