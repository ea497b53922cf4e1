"""A reshard in a process of its own, which kills itself: `python -m reindex_assets_tests.support.crash_reshard fleet.yaml moment number`.

What lives here: the moments, each a function that is called the `number`th time. What does not: what must hold afterwards
(test_reshard_crashes.py).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from reindex_assets.clickhouse import deletes, difference
from reindex_assets.clickhouse.shards import ShardConnection
from reindex_assets.config.fleet import load_fleet
from reindex_assets.placement import records as layout_record
from reindex_assets.reshard import work as reshard_work
from reindex_assets_tests.support import resharding

MOMENTS: dict[str, tuple[Any, str]] = {
    "while records are written": (layout_record, "create_layout_table"),
    "before rows are inserted": (difference, "insert_upserts"),
    "before rows are deleted": (deletes, "delete_rows"),
    "after rows are inserted on an empty shard": (ShardConnection, "insert"),
    "before it ends": (reshard_work, "finish_reshard"),
}


def main(fleet_path: str, moment: str, number: str) -> int:
    owner, name = MOMENTS[moment]
    original: Callable[..., object] = getattr(owner, name)
    left = int(number)

    def killing(*args: object, **kwargs: object) -> object:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, killing)
    instance = None
    if moment in ("before rows are inserted", "before rows are deleted", "after rows are inserted on an empty shard"):
        from reindex_assets.defs.instance.opening import open_instance

        instance = open_instance()
    resharding.reshard(load_fleet(fleet_path), instance)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
