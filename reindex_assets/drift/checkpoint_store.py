"""The checkpoints of one dataset, which runs leave for each other in one state file.

What lives here: the file, and which checkpoints are kept. What does not: what a checkpoint says (comparison/checkpoint.py).

The file only saves work: without it, or with a damaged one, every slice is read again. Of two runs that end in the same moment one may lose
its checkpoints.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pydantic import TypeAdapter

from reindex_assets.comparison.checkpoint import Checkpoint
from reindex_assets.config.dataset import Dataset
from reindex_assets.model import Slice
from reindex_assets.storage.slice_store import SliceStore
from reindex_assets.storage.state_file import StateFile

#: Raise it whenever the shape or the meaning of a checkpoint changes: those of another version are forgotten.
_VERSION = "5"
#: Each lists the parts of its months.
_MOST_CHECKPOINTS = 64

_CHECKPOINTS = TypeAdapter(tuple[Checkpoint, ...])


class CheckpointStore:
    """The file of one dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self._file = StateFile(SliceStore(dataset), "proofs", _VERSION)
        self.path = self._file.path

    def load(self) -> tuple[Checkpoint, ...]:
        """The checkpoints, the latest last; none where there is no file that can be used.

        Raises:
            OSError: there is one, and the storage does not give it.
        """
        content = self._file.load()
        return () if content is None else _CHECKPOINTS.validate_json(content)

    def update(self, different: Collection[Slice], checkpoints: Iterable[Checkpoint]) -> None:
        """Forgets slices that were found different, and remembers what has been proved since, in place of what was known of it.

        Raises:
            OSError: the storage does not take it.
        """
        latest = [checkpoint for checkpoint in checkpoints if checkpoint.slices]
        before = self.load()
        replaced = {*different, *(proof.slice for checkpoint in latest for proof in checkpoint.slices)}
        kept = [checkpoint.without(replaced) for checkpoint in before]
        now = tuple([*(checkpoint for checkpoint in kept if checkpoint.slices), *latest][-_MOST_CHECKPOINTS:])
        if now != before:
            self._file.save(_CHECKPOINTS.dump_json(now, by_alias=True))
