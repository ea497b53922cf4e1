"""A run in a process of its own, to be killed: `python -m reindex_assets_tests.crash_run fleet.yaml first_day last_day group`.

What lives here: one run over every customer, in groups of so many scorecards and in small inserts. It says "ready"
once everything is imported, begins at the first line on its standard input, and says "done" at its end. What does not: the
killing (test_crashes.py).
"""

from __future__ import annotations

import sys
from datetime import date

from reindex_assets.fleet import load_fleet
from reindex_assets.local.layout import CLUSTER
from reindex_assets.model import Slice, days_between
from reindex_assets.reindex import Reindex, ReindexOptions
from reindex_assets.shards import WriteOptions


def main(fleet_path: str, first_day: str, last_day: str, group_scorecards: str) -> int:
    fleet = load_fleet(fleet_path)
    slices = [
        Slice(customer, day)
        for customer in fleet.clusters[CLUSTER].customers
        for day in days_between(date.fromisoformat(first_day), date.fromisoformat(last_day))
    ]
    options = ReindexOptions(WriteOptions(batch_rows=300), group_scorecards=int(group_scorecards), attempts=2)
    _say("ready")
    sys.stdin.readline()
    outcomes = Reindex(fleet, CLUSTER, options).run(slices)
    failed = [f"{outcome.slice}: {outcome.error}" for outcome in outcomes if outcome.error is not None]
    _say("done" if not failed else "; ".join(failed))
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
