"""One Dagster at a time on a local stack: two daemons would each request every repair, and a reset would take the data from under one.

What lives here: the lock. What does not: starting Dagster (local/stack/dagster_processes.py).

`dev` becomes Dagster by exec. The lock has to outlive that, and filelock's ends with it: its file is closed on exec.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from reindex_assets.errors import ConfigurationError


def hold_for_dagster(root: Path) -> IO[str]:
    """Takes the lock for as long as the file is open: also in the program that replaces this process, and not in its children.

    Raises:
        ConfigurationError: Dagster runs on the stack already.
    """
    root.mkdir(parents=True, exist_ok=True)
    file = dagster_lock_path(root).open("a+", encoding="utf-8")
    _lock(file)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    os.set_inheritable(file.fileno(), True)
    return file


def refuse_beside_dagster(root: Path) -> None:
    """
    Raises:
        ConfigurationError: Dagster runs on the stack.
    """
    path = dagster_lock_path(root)
    if path.exists():
        with path.open("a+", encoding="utf-8") as file:
            _lock(file)


def dagster_lock_path(root: Path) -> Path:
    return root / "dagster.lock"


def _lock(file: IO[str]) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise ConfigurationError(
            f"'reindex-assets dev' runs on this stack (process {holder}): end it with Ctrl-C first, or use its UI"
        ) from None
