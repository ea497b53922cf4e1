"""Which worker runs which tests, and in which order: those of one file on one worker, and those with Dagster's daemon after each other.

What lives here: the files that take all of the machine, the order, and xdist's scheduler. What does not: how many workers (Makefile).
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadFileScheduling

#: They start Dagster's daemon, whose runs are processes that import everything: two of these files at once starve each other.
_DAEMONS = frozenset(
    {"test_celery.py", "test_closed_loop.py", "test_deploy.py", "test_fleet_backfill.py", "test_run_limits.py"}
)
#: The folders whose files take minutes. They begin first, so that no worker ends long after the others.
_LONG = ("end_to_end", "reshard", "drift", "defs")


class Distribution:
    """A plugin of pytest."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=_turn)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: object) -> LoadFileScheduling | None:
        return _Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


class _Scheduling(LoadFileScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "daemons" if file.rpartition("/")[2] in _DAEMONS else file


def _turn(item: pytest.Item) -> int:
    if item.path.name in _DAEMONS:
        return 0
    folder = item.path.parent.name
    return 1 + (_LONG.index(folder) if folder in _LONG else len(_LONG))
