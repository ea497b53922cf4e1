"""Where the commands print: a terminal, a pipe or a file, and tables that fit there.

What lives here: widths. What does not: what is printed (the other modules of cli/render/).
"""

from __future__ import annotations

import os

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

#: A pipe or a file has no width: nothing is wrapped or cut there, unless COLUMNS asks for it.
_UNLIMITED = 10_000


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leaves it to whoever started the command: rich would end with 1, which says that something differs."""
        raise BrokenPipeError


def open_console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """A console as wide as the terminal, or else as COLUMNS says, or else as what is printed."""
    console = _Console(stderr=stderr, quiet=quiet)
    if console.is_terminal or "COLUMNS" in os.environ:
        return console
    return _Console(stderr=stderr, quiet=quiet, width=_UNLIMITED)


def print_table(console: Console, table: Table) -> None:
    """Prints a table; where it does not fit without breaking words, each row as a paragraph, so that nothing is cut off."""
    needed = Measurement.get(console, console.options.update(max_width=_UNLIMITED), table).minimum
    if needed <= console.width:
        console.print(table)
    else:
        _print_paragraphs(console, table)


def _print_paragraphs(console: Console, table: Table) -> None:
    if table.title is not None:
        console.print(table.title, style="table.title", soft_wrap=True)
    names = [_flat(column.header) for column in table.columns]
    width = max(len(name) for name in names)
    for number, cells in enumerate(zip(*(column.cells for column in table.columns), strict=True)):
        for name, cell in zip(names, cells, strict=True):
            text = cell if isinstance(cell, Text) else Text.from_markup(str(cell))
            lines = text.split("\n") or [Text("")]
            for line_number, line in enumerate(lines):
                label = name.ljust(width) if line_number == 0 else " " * width
                console.print(
                    Text.assemble((f"  {label}  ", "dim"), line), style=table.rows[number].style, soft_wrap=True
                )
        console.print()


def _flat(header: object) -> str:
    """A header of several lines as one."""
    return " ".join(str(header).split())
