"""What a finished run did, in numbers.

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
        rows: totals of the partitions that are done, by `rows_read`, `rows_written` and so on.
        failed: partition key and reason of each that is not.
        error: why the run failed as a whole; None when it succeeded.
        before, after: rows in ClickHouse of the rectangle, by table name; None when a shard could not be asked.
    """

    run_id: str
    rectangle: Rectangle
    success: bool
    seconds: float
    rows: Mapping[str, int]
    red_checks: Sequence[str]
    failed: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    before: Mapping[str, int] | None = None
    after: Mapping[str, int] | None = None
