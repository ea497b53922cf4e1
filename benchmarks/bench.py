"""What the subjects share: the size, a way to report progress, and the stack with the replay's data.

What lives here: these. What does not: any measuring.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from benchmarks.data import Window, replay_plan
from benchmarks.sizes import Size
from benchmarks.stacks import REPLAY, Stacks
from benchmarks.target import Target


class Bench:
    """One run of the suite.

    Args:
        root: the directory of its stacks.
        say: receives short messages of progress.
        keep: leave the stacks' data at the end.
    """

    def __init__(
        self, root: Path, size: Size, say: Callable[[str], None] = lambda text: None, keep: bool = False
    ) -> None:
        self.size = size
        self.say = say
        self.stacks = Stacks(root, keep)
        self.plan = replay_plan(size)

    @cached_property
    def replay(self) -> Target:
        """The stack with the replay's data, made at the first use."""
        self.say(f"making the replay's data: {self.size.scorecards:,} process scorecards on {self.size.days} days")
        return self.stacks.filled(REPLAY, self.plan, self.size.shards)

    def window(self, days: int | None = None) -> Window:
        """The replay's first days; all of them by default."""
        return Window.of(self.plan, days)
