"""What is wrong with a fleet file, in words: the line, the place and the rule, and never a value.

What lives here: finding the line of a place, and the sentences. What does not: the rules (config/fleet.py) and YAML's own errors
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

Place = tuple[str | int, ...]


def misplaced(message: str, *place: str | int) -> PydanticCustomError:
    """An error of a rule over several places, told at one of them, as seen from where the rule stands."""
    return PydanticCustomError("fleet_rule", "{message}", {"message": message, "place": place})


def describe(path: Path, root: yaml.Node | None, problems: Sequence[ErrorDetails], schema: Mapping[str, Any]) -> str:
    """One line a problem: `file:line: place: what is wrong`. Neither pydantic's own text nor the input: it may be a secret.

    Args:
        root: the file as YAML's parser has composed it.
        schema: the JSON schema of the file, for the names of valid keys.
    """
    lines = []
    for problem in problems:
        place: Place = (*problem["loc"], *problem.get("ctx", {}).get("place", ()))
        if problem["type"] == "too_short" and any(
            len(other["loc"]) > len(place) and other["loc"][: len(place)] == place for other in problems
        ):
            # Too few only because some of them are wrong.
            continue
        # A key that lacks is told where it should stand.
        searched = place[:-1] if problem["type"] == "missing" else place
        found, line = _located(root, searched)
        shown = found if found[:1] == ("defaults",) else place
        words = _words(problem, place, schema)
        lines.append(f"  {path}:{line}: {_named(shown)}: {words}")
    # A default that is wrong is wrong in every cluster.
    return "\n".join(dict.fromkeys(lines))


def _named(place: Place) -> str:
    """A place in one line of text, whatever its keys hold."""
    return ".".join(str(part).encode("unicode_escape").decode() for part in place) or "(the whole file)"


def _words(problem: ErrorDetails, place: Place, schema: Mapping[str, Any]) -> str:
    if problem["type"] == "missing":
        return "this key is required, and is not there"
    if problem["type"] != "extra_forbidden":
        return problem["msg"]
    known = _keys_at(place[:-1], schema)
    near = difflib.get_close_matches(str(place[-1]), known, 1)
    return f"unknown key: did you mean {near[0]!r}?" if near else f"unknown key: there are {', '.join(sorted(known))}"


def _located(root: yaml.Node | None, place: Place) -> tuple[Place, int]:
    """How far a place is in the file, and the line there, counted from 1."""
    found, line = _walk(root, place)
    if len(found) < len(place) and place[:1] == ("clusters",) and place[2:3] and place[2] in BLOCKS:
        # What a cluster does not say itself, it has from the defaults.
        default, default_line = _walk(root, ("defaults", *place[2:]))
        if len(default) == len(place) - 1:
            return default, default_line
    return found, line


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
    """The keys that a mapping of the file may have."""
    at = _resolved(schema, schema)
    for part in place:
        if isinstance(part, int):
            at = _resolved(at.get("items", {}), schema)
        else:
            below = at.get("properties", {}).get(part, at.get("additionalProperties", {}))
            at = _resolved(below, schema)
    return list(at.get("properties", {}))


def _resolved(at: Any, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(at, Mapping):
        return {}
    if "$ref" in at:
        return _resolved(schema["$defs"][at["$ref"].rpartition("/")[2]], schema)
    for option in at.get("anyOf", ()):
        found = _resolved(option, schema)
        if found.get("type") in ("object", "array"):
            return found
    return at
