"""What a subject yields: figures, and what it could not run.

What lives here: their shape. What does not: how they are judged (bars.py) and shown (report.py).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


class WrongRunError(Exception):
    """A measured run failed or did its work wrongly, so its time means nothing."""


@dataclass(frozen=True)
class Figure:
    """One number.

    Attributes:
        name: `subject.what`; unique within a run of the suite.
        of: what was measured, in words.
        data: the size of the data that it was measured on.
        samples: the value of each repeat; `value` is their median.
        detail: anything else that a reader should know.
    """

    name: str
    value: float
    unit: str
    of: str
    data: str
    samples: tuple[float, ...] = ()
    detail: str = ""

    @staticmethod
    def median(name: str, samples: Sequence[float], unit: str, of: str, data: str, detail: str = "") -> Figure:
        """The figure of several repeats.

        >>> Figure.median("a.b", [3.0, 1.0, 2.0], "s", "a run", "3 rows").value
        2.0
        """
        return Figure(name, statistics.median(samples), unit, of, data, tuple(samples), detail)

    @property
    def subject(self) -> str:
        return self.name.partition(".")[0]

    @property
    def spread(self) -> float | None:
        """The range of the repeats, as a share of their median; None for a single one."""
        if len(self.samples) < 2 or not self.value:
            return None
        return (max(self.samples) - min(self.samples)) / abs(self.value)


@dataclass(frozen=True)
class NotRun:
    """Something that could not be measured, and why."""

    name: str
    reason: str

    @property
    def subject(self) -> str:
        return self.name.partition(".")[0]


Result = Figure | NotRun
