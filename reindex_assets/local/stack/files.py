"""Atomic writes, the tail of a log, and the lock that keeps two commands apart.

What lives here: these, for any file. What does not: what the files mean.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from reindex_assets.errors import ReindexError


class LocalStackError(ReindexError):
    """The local stack could not be started, stopped or queried: the message says what to look at."""


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replaces a file. A crash leaves the old text or the new one, and no reader sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    # Created with its final mode, so that others can't read a secret even for a moment.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def tail(path: Path, lines: int = 20) -> str:
    """The last lines of a log, indented for an error message."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            last = deque(file, maxlen=lines)
    except FileNotFoundError:
        return "  (no log)"
    return "".join(f"  {line}" for line in last).rstrip() or "  (the log is empty)"


@contextlib.contextmanager
def exclusive_lock(path: Path, timeout_seconds: float) -> Iterator[None]:
    """Holds the lock file; the kernel releases it when its holder dies.

    Raises:
        LocalStackError: another process held it for the whole time.
    """
    lock = FileLock(path, timeout=timeout_seconds)
    try:
        while not lock.is_locked:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # a reset has removed the directory in the meantime
                lock.acquire()
    except Timeout:
        raise LocalStackError(
            f"another command has been starting or stopping this stack for {timeout_seconds:.0f} s "
            f"(it holds {path}): wait for it or end it, then try again"
        ) from None
    try:
        yield
    finally:
        lock.release()
