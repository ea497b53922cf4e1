"""A state file: what one process leaves for the next, beside the slices, with the version of its format and a checksum of its content.

What lives here: the file. What does not: what is in it (drift/watch_state.py, drift/checkpoint_store.py).

It saves work and decides nothing: whoever finds none does that work again.
"""

from __future__ import annotations

import hashlib

from reindex_assets.storage.slice_store import SliceStore


class StateFile:
    """One such file.

    Args:
        version: of the content's shape and meaning; what was saved under another one is forgotten.
    """

    def __init__(self, store: SliceStore, name: str, version: str) -> None:
        self._store = store
        self._version = version.encode()
        self.path = store.state_path(name)

    def load(self) -> bytes | None:
        """The content as it was saved, to the bit; None where there is none that can be used.

        Raises:
            OSError: there is one, and the storage does not give it.
        """
        try:
            with self._store.open(self.path) as file:
                saved: bytes = file.read()
        except FileNotFoundError:
            return None
        seal, _, content = saved.partition(b"\n")
        # A damaged checksum inside could make a slice look unchanged.
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
