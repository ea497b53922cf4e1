"""The environment of the local stack: the file `env` in its directory, and how a process takes it over.

What lives here: the names of the variables, reading and writing the file. What does not: anything that starts a process
or needs the extra `local`: the command line imports this file in every installation.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from reindex_assets.errors import ConfigurationError
from reindex_assets.local.files import write_atomically

#: Where the stack lives unless a caller says otherwise.
DEFAULT_ROOT = Path(".local")

PASSWORD_VARIABLE = "REINDEX_LOCAL_PASSWORD"
FLEET_VARIABLE = "REINDEX_FLEET"


def environment_path(root: Path) -> Path:
    return root / "env"


def save_local_environment(root: Path, environment: Mapping[str, str]) -> None:
    """Writes the file, readable by its owner alone: it holds the password. A shell may `source` it."""
    lines = (
        "# Written by 'reindex-assets local up'. To use it in a shell: set -a; . this-file; set +a",
        *(f"{name}={shlex.quote(value)}" for name, value in environment.items()),
    )
    write_atomically(environment_path(root), "\n".join(lines) + "\n", mode=0o600)


def load_local_environment(root: Path = DEFAULT_ROOT) -> dict[str, str]:
    """The variables that point a process at the local stack.

    Raises:
        ConfigurationError: the stack was never started, or the file is damaged.
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
        if not line.strip() or line.startswith("#"):
            continue
        name, equals, quoted = line.partition("=")
        try:
            words = shlex.split(quoted)
        except ValueError:
            words = []
        if not equals or len(words) != 1:
            # The line itself stays out of the message: it may hold the password.
            raise ConfigurationError(
                f"line {number} of {path} is not NAME=value: 'reindex-assets local up' rewrites it"
            )
        environment[name] = words[0]
    return environment


def use_local_environment(root: Path = DEFAULT_ROOT, environ: MutableMapping[str, str] | None = None) -> dict[str, str]:
    """Puts the stack's variables into `environ` (default: this process's) and returns them.

    What the user set stays, but for the password: one left over from another stack could only be wrong.
    """
    target = os.environ if environ is None else environ
    environment = load_local_environment(root)
    for name, value in environment.items():
        if name == PASSWORD_VARIABLE:
            target[name] = value
        else:
            target.setdefault(name, value)
    return environment
