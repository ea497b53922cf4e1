"""Looking into Dagster without a promise of Dagster's, and who of us relies on what is found there.

What lives here: finding a name, its attributes, and how it can be called. What does not: what we rely on, and tests.
It imports nothing of `reindex_assets`, which may not load with the Dagster that is looked at.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum
from functools import cache
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALIASES = "reindex_assets/defs/dagster_private.py"


@cache
def product() -> dict[str, str]:
    """The files of the product, by their path in the repository."""
    paths = [*(ROOT / "reindex_assets").rglob("*.py"), *(ROOT / "deploy").rglob("*.sql")]
    return {str(path.relative_to(ROOT)): path.read_text() for path in sorted(paths)}


def private_imports(path: str) -> Iterator[tuple[str, str]]:
    """The module and the name of each import of Dagster's private modules."""
    for node in ast.walk(ast.parse(product()[path])):
        if isinstance(node, ast.Import):
            imported = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        yield from ((module, name) for module, name in imported if _is_private(f"{module}.{name}"))


def _is_private(dotted: str) -> bool:
    package, *inner = dotted.split(".")
    return package == "dagster_shared" or (
        package.startswith("dagster") and any(part.startswith("_") for part in inner)
    )


@cache
def aliases() -> dict[str, str]:
    """The module of each alias."""
    return {name: module for module, name in private_imports(ALIASES)}


@cache
def users_of(name: str) -> tuple[str, ...]:
    """The files of the product that name something, without the file of aliases."""
    return tuple(path for path, text in product().items() if path != ALIASES and re.search(rf"\b{name}\b", text))


def thing(name: str, users: tuple[str, ...]) -> object:
    """What Dagster has under a dotted name or an alias; fails by name when it has it no more."""
    alias = name.partition(".")[0]
    parts = (f"{aliases()[alias]}.{name}" if alias in aliases() else name).split(".")
    found: object = importlib.import_module(parts[0])
    for number, part in enumerate(parts[1:], 1):
        if part in attributes_of(found):
            found = getattr(found, part)
            continue
        try:
            found = importlib.import_module(".".join(parts[: number + 1]))
        except ImportError:
            pytest.fail(told(f"{'.'.join(parts[:number])} has no {part}", users))
    return found


@cache
def attributes_of(found: object) -> set[str]:
    """Its attributes and members; the fields of Dagster's records are annotations only, others are set by a constructor."""
    if not isinstance(found, type):
        return set(dir(found))
    if issubclass(found, Enum):
        return set(found.__members__)
    annotated = {name for cls in found.__mro__ for name in inspect.get_annotations(cls)}
    return {*dir(found), *annotated, *re.findall(r"self\.(\w+) = ", inspect.getsource(found))}


def call_problem(function: Callable[..., object], passed: list[str]) -> str | None:
    """Why a function can't be called as we call it; None when it can.

    Args:
        passed: the parameters that we pass, in their order; those passed by name end in "=".
    """
    known = [parameter for parameter in inspect.signature(function).parameters.values() if parameter.name != "self"]
    names = [parameter.name for parameter in known]
    by_position = [name for name in passed if not name.endswith("=")]
    by_name = [name.removesuffix("=") for name in passed if name.endswith("=")]
    takes = f"it takes ({', '.join(names)})"
    if names[: len(by_position)] != by_position:
        return f"no longer begins with ({', '.join(by_position)}): {takes}"
    gone = [name for name in by_name if name not in names]
    if gone:
        return f"no longer takes {', '.join(gone)}: {takes}"
    needed = [
        parameter.name
        for parameter in known
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    new = [name for name in needed if name not in {*by_position, *by_name}]
    return f"wants {', '.join(new)} now: {takes}" if new else None


def told(problem: str, users: tuple[str, ...]) -> str:
    return f"in Dagster {version('dagster')} {problem}; used by {', '.join(users) or 'nothing'}"


def assert_mentioned(names: list[str], users: tuple[str, ...]) -> None:
    """That what is pinned is still used."""
    words = "".join(product()[user] for user in users)
    unused = [name for name in names if not re.search(rf"\b{name}\b", words)]
    assert not unused, f"{', '.join(users)} no longer use {', '.join(unused)}: shorten the pin"
