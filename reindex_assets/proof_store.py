"""What runs remember of each other: the proofs of one cluster and kind, in one file beside the slices.

What lives here: the file, and which proofs are kept. What does not: what a proof says (proofs.py).

The file is a memory: without it, or with a damaged one, every slice is read again. Of two runs that end in the same moment one may lose
its proofs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence

from pydantic import TypeAdapter, ValidationError

from reindex_assets.fleet import Fleet
from reindex_assets.model import Kind, Slice
from reindex_assets.proofs import Proof
from reindex_assets.store import SliceStore

#: Raise it whenever the meaning of a proof changes: those of another version are forgotten.
_VERSION = "1"
#: Each lists the parts of its months.
_MOST_PROOFS = 64

_PROOFS = TypeAdapter(tuple[Proof, ...])


class ProofStore:
    """The file of one cluster and kind."""

    def __init__(self, fleet: Fleet, cluster_name: str, kind: Kind) -> None:
        self._store = SliceStore(fleet.slices, cluster_name, kind)
        self.path = self._store.proofs_path()

    def load(self) -> tuple[Proof, ...]:
        """The proofs, the latest last; none where there is no file that can be used.

        Raises:
            OSError: there is one, and the storage does not give it.
        """
        try:
            with self._store.open(self.path) as file:
                content = file.read()
        except FileNotFoundError:
            return ()
        try:
            document = json.loads(content)
            # A mark that flipped over to another one would be green without a proof.
            if document["version"] != _VERSION or document["seal"] != _seal(document["proofs"]):
                return ()
            return _PROOFS.validate_json(document["proofs"])
        except (ValidationError, ValueError, LookupError, TypeError, AttributeError):
            return ()

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
            self._save(now)

    def _save(self, proofs: Sequence[Proof]) -> None:
        written = _PROOFS.dump_json(tuple(proofs)).decode()
        name, file = self._store.create(self.path)
        with file:
            file.write(json.dumps({"version": _VERSION, "seal": _seal(written), "proofs": written}).encode())
        self._store.publish(name, self.path)


def _seal(written: str) -> str:
    return hashlib.sha256(written.encode()).hexdigest()
