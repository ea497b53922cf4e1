"""Runs in processes of their own, to be killed: `python -m reindex_assets_tests.support.crash_run fleet.yaml first_day last_day`.

What lives here: one process that has imported everything, and forks itself for each run: importing takes longer than the run. For each
line on its standard input, a number of scorecards, there is one run over every customer in groups of so many and in small inserts. It
says "begun" with its pid, and "done" at its end; whatever became of it, "ended" follows. What does not: the killing
(end_to_end/test_crashes.py).
"""

from __future__ import annotations

import os
import sys
from datetime import date

from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice, days_between
from reindex_assets.reindex.job import Reindex, ReindexOptions
from reindex_assets.reindex.writer import WriteOptions


def main(fleet_path: str, first_day: str, last_day: str) -> None:
    fleet = load_fleet(fleet_path)
    slices = [
        Slice(customer, day)
        for customer in fleet.clusters[CLUSTER].customers
        for day in days_between(date.fromisoformat(first_day), date.fromisoformat(last_day))
    ]
    # Line by line: a forked process must not inherit lines that were read ahead.
    while group_scorecards := sys.stdin.readline():
        # Nothing has connected or started a thread here.
        pid = os.fork()
        if pid == 0:
            _run(fleet, slices, int(group_scorecards))
        os.waitpid(pid, 0)
        _say("ended")


def _run(fleet: Fleet, slices: list[Slice], group_scorecards: int) -> None:
    """A run, and the end of this process."""
    try:
        _say(f"begun {os.getpid()}")
        options = ReindexOptions(write=WriteOptions(batch_rows=300), group_scorecards=group_scorecards, attempts=2)
        outcomes = Reindex(fleet.dataset(CLUSTER, PROCESS), options).run(slices)
        failed = [f"{outcome.slice}: {outcome.error}" for outcome in outcomes if outcome.error is not None]
        _say("done" if not failed else "; ".join(failed))
    finally:
        os._exit(0)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
