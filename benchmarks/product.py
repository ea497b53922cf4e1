"""The product as an operator starts it: `reindex-assets reindex` in a new process.

What lives here: the call, and reading its report. What does not: whether it is right (proof.py), and backfills (backfill.py).
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from benchmarks.data import Window
from benchmarks.figures import WrongRunError
from benchmarks.measure import Measured, measure_command
from benchmarks.target import Target


@dataclass(frozen=True)
class Reindexed:
    """One call that has succeeded.

    Attributes:
        run_seconds: the time that the command reports for its run, without the start of Python and Dagster and without the counts before
            and after it.
    """

    measured: Measured
    run_seconds: float
    rows_written: int
    rows_deleted: int


def reindex(target: Target, window: Window) -> Reindexed:
    """Runs the whole lineage with its checks over a window.

    Raises:
        WrongRunError: it failed, or a check was red.
    """
    customers = [word for customer in window.customers for word in ("--customer", customer)]
    finished = measure_command(
        [
            *(sys.executable, "-m", "reindex_assets", "reindex", "--json", "--fleet", str(target.fleet_path)),
            *("--from", str(window.first_day), "--to", str(window.last_day), *customers),
        ],
        target.environment,
        target.servers,
    )
    if finished.status != 0:
        raise WrongRunError(
            f"'reindex-assets reindex' over {window} ended with {finished.status}: "
            f"{(finished.errors or finished.output)[-2000:]}"
        )
    reports = json.loads(finished.output)
    return Reindexed(
        finished.measured,
        sum(report["seconds"] for report in reports),
        sum(report["rows_written"] for report in reports),
        sum(report["rows_deleted"] for report in reports),
    )
