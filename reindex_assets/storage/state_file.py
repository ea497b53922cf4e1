"""A memory that outlives a process: one file beside the slices, with the version of its meaning and a seal over its content.

What lives here: the file. What does not: what is remembered (drift/watch_state.py, drift/checkpoint_store.py).

It is a memory, never a proof: whoever finds none does again what it would have spared.
"""

from __future__ import annotations

import hashlib

from reindex_assets.storage.slice_store import SliceStore


class MemoryFile:
    """One such file.

    Args:
        version: of the content's shape and meaning; what was saved under another one is forgotten.
    """

    def __init__(self, store: SliceStore, name: str, version: str) -> None:
        self._store = store
        self._version = version.encode()
        self.path = store.memory_path(name)

    def load(self) -> bytes | None:
        """The content as it was saved, to the bit; None where there is none that can be used.

        Raises:
            OSError: there is one, and the storage does not give it.
        """
        try:
            with self._store.open(self.path) as file:
                found: bytes = file.read()
        except FileNotFoundError:
            return None
        seal, _, content = found.partition(b"\n")
        # A mark that flipped over to another one would be green without a proof.
        return content if seal == self._seal(content) else None

    def save(self, content: bytes) -> None:
        """Replaces the file, all or nothing.

        Raises:
            OSError: the storage does not take it.
        """
        name, file = self._store.create(self.path)
        with file:
            file.write(self._seal(content) + b"\n" + content)
        self._store.publish(name, self.path)

    def _seal(self, content: bytes) -> bytes:
        return self._version + b" " + hashlib.sha256(content).hexdigest().encode()
