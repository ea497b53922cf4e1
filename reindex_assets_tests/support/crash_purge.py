"""A purge of appeals that kills itself: `python -m reindex_assets_tests.support.crash_purge fleet.yaml DELETE 3`.

What lives here: one purge over every customer, which ends by SIGKILL right before the n-th statement that begins so; it says its outcome if
it gets so far. What does not: the judgement (appeals/test_appeals.py).
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Mapping
from datetime import date

import pytest

from reindex_assets.appeals.purge import AppealPurge, PurgeOptions, plan_purges
from reindex_assets.clickhouse.shards import ShardConnection
from reindex_assets.config.fleet import load_fleet


def main(fleet_path: str, begins: str, number: str) -> int:
    counter = itertools.count(1)
    command = ShardConnection.command

    def killing(shard: ShardConnection, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        if sql.startswith(begins) and next(counter) == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        command(shard, sql, parameters)

    pytest.MonkeyPatch().setattr(ShardConnection, "command", killing)
    fleet = load_fleet(fleet_path)
    [(cluster_name, group)] = plan_purges(fleet, [], date(2026, 1, 4), date(2026, 1, 8)).items()
    report = AppealPurge(fleet, cluster_name, group, PurgeOptions(dry_run=False)).run()
    sys.stdout.write(f"{report.outcome}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
