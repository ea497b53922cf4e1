"""The progress bar of commands that run over partitions. What lives here: its columns. What does not: what advances it."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)


def partitions_bar(console: Console, *columns: ProgressColumn) -> Progress:
    """A bar that counts partitions, with more columns before the time."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("partitions"),
        *columns,
        TimeElapsedColumn(),
        console=console,
    )
