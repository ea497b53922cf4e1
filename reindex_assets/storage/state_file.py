"""A state file: what one process keeps for the next, with the version of its format and a checksum.

What lives here: the file. What does not: what is in it (drift/watch_state.py, drift/checkpoint_store.py).

It only saves work: a process that finds no usable file does the work again.
"""

from __future__ import annotations

import hashlib

from reindex_assets.storage.slice_store import SliceStore


class StateFile:
    """One state file of a dataset.

    Args:
        version: changes with the format and meaning of the content. A file of another version is ignored.
    """

    def __init__(self, store: SliceStore, name: str, version: str) -> None:
        self._store = store
        self._version = version.encode()
        self.path = store.state_path(name)

    def load(self) -> bytes | None:
        """The content that was saved. None if there is no file, or it is damaged or of another version.

        Raises:
            OSError: the file exists and can't be read.
        """
        try:
            with self._store.open(self.path) as file:
                saved: bytes = file.read()
        except FileNotFoundError:
            return None
        seal, _, content = saved.partition(b"\n")
        # A damaged checksum inside the content could make a slice look unchanged.
        return content if seal == self._seal(content) else None

    def save(self, content: bytes) -> None:
        """Replaces the file atomically.

        Raises:
            OSError: the file can't be written.
        """
        name, file = self._store.create(self.path)
        with file:
            file.write(self._seal(content) + b"\n" + content)
        self._store.publish(name, self.path)

    def _seal(self, content: bytes) -> bytes:
        return self._version + b" " + hashlib.sha256(content).hexdigest().encode()
