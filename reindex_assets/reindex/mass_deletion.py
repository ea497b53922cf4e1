"""The question before a mass deletion: is Postgres right, or does the run not see all of it?

What lives here: which deletions a run may not decide by itself, and the words with which it stops. What does not: the limits
(config/cluster.py), and which rows have to go (clickhouse/difference.py).

A restored or emptied table, a reader who may not see all rows, a wrong `relations` in the fleet file: each makes Postgres look as if
rows had been deleted. To a run that only follows the difference, all of them mean an empty ClickHouse and green checks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from reindex_assets.config.cluster import Deletions
from reindex_assets.errors import MassDeletionError
from reindex_assets.model import Slice

#: How many slices the message names.
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What ClickHouse would lose of one table in one slice, in rows.

    Attributes:
        held: what ClickHouse holds there.
        vanished: those of them that Postgres doesn't have: not there, and not elsewhere among the rows that were read.
        expected: what Postgres has.
    """

    held: int
    vanished: int
    expected: int


#: By slice and table name.
Losses = Mapping[tuple[Slice, str], Loss]


class DeletionGuard:
    """Judges the deletions of one run, group by group, each before anything of it is written.

    A run goes through its slices in groups, so what a window loses is summed up as the groups come. A slice that is refused for itself
    doesn't count for the others.
    """

    def __init__(self, limits: Deletions, *, allowed: bool) -> None:
        self._limits = limits
        self.allowed = allowed or limits.allowed
        self._window: dict[tuple[Slice, str], Loss] = {}

    def permit(self, losses: Losses) -> None:
        """Returns if what a group would lose may be deleted.

        Raises:
            MassDeletionError: somebody has to confirm it first.
        """
        if self.allowed:
            return
        refused = {place: loss for place, loss in losses.items() if self._is_too_much(loss)}
        for place, loss in losses.items():
            # Another attempt at the same slice may find less to delete than the first one did.
            if place not in refused and loss.vanished >= self._window.get(place, loss).vanished:
                self._window[place] = loss
        if refused:
            words = "; ".join(_words(loss, table, f"of {item}") for (item, table), loss in _first(refused))
            raise _question(words, {item for item, _ in refused})
        for table in {name for _, name in losses}:
            window = [loss for (_, name), loss in self._window.items() if name == table]
            total = Loss(
                held=sum(loss.held for loss in window),
                vanished=sum(loss.vanished for loss in window),
                expected=sum(loss.expected for loss in window),
            )
            losing = {item for (item, name), loss in losses.items() if name == table and loss.vanished}
            if self._is_too_much(total) and losing:
                where = f"of the {len(window):,} partitions that this run has come to"
                raise _question(_words(total, table, where), losing)

    def _is_too_much(self, loss: Loss) -> bool:
        is_emptied = loss.expected == 0 and loss.vanished >= self._limits.emptied_rows
        return is_emptied or (loss.vanished >= self._limits.rows and loss.vanished > self._limits.share * loss.held)


def _words(loss: Loss, table: str, where: str) -> str:
    return f"{loss.vanished:,} of the {loss.held:,} {table}s {where}"


def _first(refused: Losses) -> list[tuple[tuple[Slice, str], Loss]]:
    return sorted(refused.items(), key=lambda entry: -entry[1].vanished)[:_NAMED]


def _question(what: str, slices: Collection[Slice]) -> MassDeletionError:
    return MassDeletionError(
        f"this would delete {what}, because Postgres doesn't have them. Nothing was written or deleted. First make sure that Postgres is "
        "right: nothing was restored or emptied, and the reader may see all rows. Then allow it: `reindex-assets reindex --allow-deletes`, "
        "`allow_deletes: true` in the run config, or `deletions: {allowed: true}` in the fleet file",
        slices,
    )
