"""Whether Dagster's daemon lives.

What lives here: its signs of life. What does not: the sensors that it evaluates (defs/automation/problems.py).
"""

from __future__ import annotations

import time

from dagster import DagsterInstance

#: The daemon gives a sign of life every 30 s; Dagster itself considers it dead only after half an hour.
_SILENT_SECONDS = 120
#: Dagster's name of the daemon that makes the runs of backfills.
_DAEMON = "BACKFILL"


def daemon_is_alive(instance: DagsterInstance) -> bool:
    """Whether Dagster's daemon, which makes the runs of backfills, has given a sign of life lately."""
    heartbeat = instance.get_daemon_heartbeats().get(_DAEMON)
    return heartbeat is not None and time.time() - heartbeat.timestamp < _SILENT_SECONDS
