"""The modes: which kinds of scorecards the scheduled jobs reindex.

What lives here: their names, and the kinds of each. What does not: kinds themselves (model.py), jobs and schedules
(defs/automation/schedules.py).
"""

from __future__ import annotations

from enum import StrEnum

from reindex_assets.model import CONVERSATION, KINDS, PROCESS, Kind


class Mode(StrEnum):
    """One kind, by its name, or all kinds."""

    CONVERSATION = CONVERSATION.name
    PROCESS = PROCESS.name
    ALL = "all"

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """
        >>> [kind.name for kind in Mode("all").kinds], [kind.name for kind in Mode.PROCESS.kinds]
        (['process', 'conversation'], ['process'])
        """
        return tuple(kind for kind in KINDS if self in (Mode.ALL, kind.name))
