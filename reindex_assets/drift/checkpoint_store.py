"""What runs remember of each other: the proofs of one cluster and kind, in one file beside the slices.

What lives here: the file, and which proofs are kept. What does not: what a proof says (drift/unchanged.py).

The file is a memory: without it, or with a damaged one, every slice is read again. Of two runs that end in the same moment one may lose
its proofs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pydantic import TypeAdapter

from reindex_assets.comparison.checkpoint import Proof
from reindex_assets.config.fleet import Fleet
from reindex_assets.model import Kind, Slice
from reindex_assets.storage.slice_store import SliceStore
from reindex_assets.storage.state_file import MemoryFile

#: Raise it whenever the shape or the meaning of a proof changes: those of another version are forgotten.
_VERSION = "2"
#: Each lists the parts of its months.
_MOST_PROOFS = 64

_PROOFS = TypeAdapter(tuple[Proof, ...])


class ProofStore:
    """The file of one cluster and kind."""

    def __init__(self, fleet: Fleet, cluster_name: str, kind: Kind) -> None:
        self._file = MemoryFile(SliceStore(fleet.slices, cluster_name, kind), "proofs", _VERSION)
        self.path = self._file.path

    def load(self) -> tuple[Proof, ...]:
        """The proofs, the latest last; none where there is no file that can be used.

        Raises:
            OSError: there is one, and the storage does not give it.
        """
        content = self._file.load()
        return () if content is None else _PROOFS.validate_json(content)

    def update(self, different: Collection[Slice], proofs: Iterable[Proof]) -> None:
        """Forgets slices that were found different, and remembers what has been proved since, in place of what was known of it.

        Raises:
            OSError: the storage does not take it.
        """
        latest = [proof for proof in proofs if proof.slices]
        known = self.load()
        replaced = {*different, *(one.slice for proof in latest for one in proof.slices)}
        kept = [proof.without(replaced) for proof in known]
        now = tuple([*(proof for proof in kept if proof.slices), *latest][-_MOST_PROOFS:])
        if now != known:
            self._file.save(_PROOFS.dump_json(now))
