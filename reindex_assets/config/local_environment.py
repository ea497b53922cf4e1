"""The environment of the local stack: the variables that point a process at it.

What lives here: their names, and reading the file `env`. What does not: the stack, and writing that file (local/). Every installation
imports this module, so it needs nothing from the extra `local`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import MutableMapping
from pathlib import Path

from reindex_assets.errors import ConfigurationError

#: The stack's default directory.
DEFAULT_ROOT = Path(".local")
PASSWORD_VARIABLE = "REINDEX_LOCAL_PASSWORD"
FLEET_VARIABLE = "REINDEX_FLEET"


def environment_path(root: Path) -> Path:
    return root / "env"


def load_local_environment(root: Path = DEFAULT_ROOT) -> dict[str, str]:
    """The variables that point a process at the local stack.

    Raises:
        ConfigurationError: the stack was never started, or its file `env` is damaged.
    """
    path = environment_path(root)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no local stack in {root}: start one with 'reindex-assets local up'"
        ) from None
    environment: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        try:
            environment |= dict(word.split("=", 1) for word in shlex.split(line, comments=True))
        except ValueError:
            # The message leaves out the line itself, which may hold the password.
            raise ConfigurationError(
                f"line {number} of {path} is not NAME=value: 'reindex-assets local up' rewrites it"
            ) from None
    return environment


def use_local_environment(root: Path = DEFAULT_ROOT, environ: MutableMapping[str, str] | None = None) -> dict[str, str]:
    """Puts the stack's variables into `environ` (default: this process's) and returns them.

    Variables that are already set keep their values, except the password: one left over from another stack could only be wrong.
    """
    target = os.environ if environ is None else environ
    environment = load_local_environment(root)
    for name, value in environment.items():
        if name == PASSWORD_VARIABLE:
            target[name] = value
        else:
            target.setdefault(name, value)
    return environment
