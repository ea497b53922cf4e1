"""Reads a fleet file's YAML: the plain data, and the line of every part.

What lives here: the parser and its errors. What does not: the meaning of the data (config/fleet.py).
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML in which a repeated key is an error. Otherwise the first of two clusters with the same name would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in keys:
                    raise yaml.constructor.ConstructorError(problem="this key is repeated", problem_mark=key.start_mark)
                keys.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def yaml_problem(error: yaml.YAMLError) -> str:
    """What is wrong, and where. It leaves out what the parser quotes of the file, which may be a secret."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return "it contains a character that YAML does not allow"
    problem = re.sub(r"'[^'<][^']+'", "'...'", error.problem or "it is malformed")
    return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {problem}"


def parse_yaml(text: str) -> tuple[yaml.Node | None, object]:
    """The text as YAML nodes, which have line numbers, and as plain data."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        return root, None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


#: The blocks of a cluster that may have defaults.
BLOCKS = ("postgres", "clickhouse", "tables")
#: Those that a cluster may leave out as a whole.
OPTIONAL_BLOCKS = ("tables",)
#: The keys of these blocks that may not have a default.
ADDRESSES = ("host", "shards", "retiring")


def with_defaults(document: object) -> object:
    """The document, with the defaults added to each cluster's blocks; a cluster's own keys win. Data of any other shape are unchanged.

    >>> with_defaults({"defaults": {"postgres": {"port": 1}}, "clusters": {"a": {"postgres": {"host": "h"}}}})["clusters"]
    {'a': {'postgres': {'port': 1, 'host': 'h'}}}
    """
    match document:
        case {"defaults": dict(defaults), "clusters": dict(clusters), **rest}:
            filled = {name: _filled(cluster, defaults) for name, cluster in clusters.items()}
            return {"defaults": defaults, "clusters": filled, **rest}
    return document


def _filled(cluster: object, defaults: Mapping[str, object]) -> object:
    if not isinstance(cluster, Mapping):
        return cluster
    blocks = [name for name in BLOCKS if name in defaults and (name in cluster or name in OPTIONAL_BLOCKS)]
    return {**cluster, **{name: _merged(defaults[name], cluster.get(name, {})) for name in blocks}}


def _merged(below: Any, above: Any) -> Any:
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}
