"""The report of a finished run.

What lives here: the value. What does not: the run (defs/runs/launch.py), and printing it (cli/render/tables.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reindex_assets.selection.rectangles import Rectangle


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """A finished run.

    Attributes:
        red_checks: the results that are not green, as sentences; check_results is the number of all.
        rows: totals of the successful partitions, by `rows_read`, `rows_written` and so on.
        failed: the reason for each failed partition, by its key.
        error: why the run as a whole failed; None if it succeeded.
        before, after: the rectangle's rows in ClickHouse, by table name; None if a shard could not be asked.
    """

    run_id: str
    rectangle: Rectangle
    success: bool
    seconds: float
    rows: Mapping[str, int]
    red_checks: Sequence[str]
    check_results: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    before: Mapping[str, int] | None = None
    after: Mapping[str, int] | None = None
