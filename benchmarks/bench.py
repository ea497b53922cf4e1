"""What the subjects share: the size, a way to say what is under way, and stacks whose data are made once.

What lives here: handing them out. What does not: any measuring.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from benchmarks.data import Window, replay_plan
from benchmarks.sizes import Size
from benchmarks.stacks import REPLAY, Stacks
from benchmarks.target import Target
from reindex_assets.local.data.made_data import SourceSummary


class Bench:
    """One run of the suite.

    Args:
        root: the directory of its stacks.
        say: told in a few words what is under way.
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
    def _replay(self) -> tuple[Target, SourceSummary]:
        self.say(f"making the replay's data: {self.size.scorecards:,} process scorecards on {self.size.days} days")
        return self.stacks.filled(REPLAY, self.plan, self.size.shards)

    @property
    def replay(self) -> Target:
        """The stack with the replay's data, which are made when it is first asked for."""
        return self._replay[0]

    @property
    def made(self) -> SourceSummary:
        """What the replay's Postgres was filled with."""
        return self._replay[1]

    def window(self, days: int | None = None) -> Window:
        """The replay's first days; all of them by default."""
        return Window.of(self.plan, days)
