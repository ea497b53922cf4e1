"""Describes what is wrong with a fleet file: the line, the key and the rule, and never a value.

What lives here: finding the line of a key, and the messages. What does not: the rules (config/fleet.py) and YAML's own errors
(config/fleet_yaml.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import ErrorDetails, PydanticCustomError

from reindex_assets.config.fleet_yaml import BLOCKS

#: The keys and list indexes that lead to a part of the file.
Place = tuple[str | int, ...]


def misplaced(message: str, *place: str | int) -> PydanticCustomError:
    """An error to report at `place`, relative to the model whose validator raises it."""
    return PydanticCustomError("fleet_rule", "{message}", {"message": message, "place": place})


def describe(path: Path, root: yaml.Node | None, problems: Sequence[ErrorDetails], schema: Mapping[str, Any]) -> str:
    """One line per problem: `file:line: key: what is wrong`. It leaves out the input, which may be a secret.

    Args:
        root: the file as composed by the YAML parser.
        schema: the JSON schema of the file, which has the names of the valid keys.
    """
    lines = []
    for problem in problems:
        place: Place = (*problem["loc"], *problem.get("ctx", {}).get("place", ()))
        if problem["type"] == "too_short" and any(
            len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in problems
        ):
            # There are too few only because some of them are wrong.
            continue
        # A missing key is reported at the mapping that should hold it.
        existing, line = _located(root, place[:-1] if problem["type"] == "missing" else place)
        shown = existing if existing[:1] == ("defaults",) else place
        lines.append(f"  {path}:{line}: {_named(shown)}: {_words(problem, place, schema)}")
    # A wrong default is wrong in every cluster: report it once.
    return "\n".join(dict.fromkeys(lines))


def _named(place: Place) -> str:
    """A place as one line of text, whatever characters its keys have."""
    return ".".join(str(part).encode("unicode_escape").decode() for part in place) or "(the whole file)"


def _words(problem: ErrorDetails, place: Place, schema: Mapping[str, Any]) -> str:
    if problem["type"] == "missing":
        return "this required key is missing"
    if problem["type"] != "extra_forbidden":
        return problem["msg"]
    valid = _keys_at(place[:-1], schema)
    near = difflib.get_close_matches(str(place[-1]), valid, 1)
    return "unknown key: " + (f"did you mean {near[0]!r}?" if near else f"valid keys are {', '.join(sorted(valid))}")


def _located(root: yaml.Node | None, place: Place) -> tuple[Place, int]:
    """The part of a place that exists in the file, and its line, counted from 1."""
    existing, line = _walk(root, place)
    if len(existing) < len(place) and place[:1] == ("clusters",) and place[2:3] and place[2] in BLOCKS:
        # A key that the cluster lacks may come from the defaults.
        default, default_line = _walk(root, ("defaults", *place[2:]))
        if len(default) == len(place) - 1:
            return default, default_line
    return existing, line


def _walk(root: yaml.Node | None, place: Place) -> tuple[Place, int]:
    node, line = root, _line(root)
    for depth, part in enumerate(place):
        if isinstance(node, yaml.MappingNode):
            pair = next((pair for pair in node.value if pair[0].value == str(part)), None)
            if pair is None:
                return place[:depth], line
            key, node = pair
            line = _line(node if isinstance(node, yaml.ScalarNode) else key)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = _line(node)
        else:
            return place[:depth], line
    return place, line


def _line(node: yaml.Node | None) -> int:
    return 1 if node is None or node.start_mark is None else int(node.start_mark.line) + 1


def _keys_at(place: Place, schema: Mapping[str, Any]) -> list[str]:
    """The valid keys of a mapping in the file."""
    at = _resolved(schema, schema)
    for part in place:
        below = at.get("items" if isinstance(part, int) else "additionalProperties", {})
        at = _resolved(at.get("properties", {}).get(part, below), schema)
    return list(at.get("properties", {}))


def _resolved(at: Any, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(at, Mapping):
        return {}
    if "$ref" in at:
        return _resolved(schema["$defs"][at["$ref"].rpartition("/")[2]], schema)
    for option in at.get("anyOf", ()):
        resolved = _resolved(option, schema)
        if resolved.get("type") in ("object", "array"):
            return resolved
    return at
