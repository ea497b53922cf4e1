"""The environment of the local stack: the file `env` in its directory, and how a process takes it over.

What lives here: the names of the variables, reading and writing the file. What does not: anything that starts a process
or needs the extra `local`: the command line imports this file in every installation.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from reindex_assets.config.local_environment import environment_path
from reindex_assets.local.stack.files import write_atomically


def save_local_environment(root: Path, environment: Mapping[str, str]) -> None:
    """Writes the file, readable by its owner alone: it holds the password. A shell may `source` it."""
    lines = (
        "# Written by 'reindex-assets local up'. To use it in a shell: set -a; . this-file; set +a",
        *(f"{name}={shlex.quote(value)}" for name, value in environment.items()),
    )
    write_atomically(environment_path(root), "\n".join(lines) + "\n", mode=0o600)
