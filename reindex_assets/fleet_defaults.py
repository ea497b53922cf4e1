"""What a fleet file writes once for all its clusters.

What lives here: the merge of `defaults` into each cluster's blocks, of plain YAML data, before anything is validated. What does not: the
shape of the blocks (fleet.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The blocks of a cluster that may have defaults.
BLOCKS = ("postgres", "clickhouse")
#: Keys of theirs that belong to one cluster.
ADDRESSES = ("host", "shards", "retiring")


def with_defaults(document: object) -> object:
    """The document with each cluster's blocks filled up; what a cluster says itself stands. Data of another shape are left as they are.

    >>> with_defaults({"defaults": {"postgres": {"port": 1}}, "clusters": {"a": {"postgres": {"host": "h"}}}})["clusters"]
    {'a': {'postgres': {'port': 1, 'host': 'h'}}}
    """
    if not isinstance(document, Mapping):
        return document
    defaults, clusters = document.get("defaults"), document.get("clusters")
    if not isinstance(defaults, Mapping) or not isinstance(clusters, Mapping):
        return document
    return {**document, "clusters": {name: _filled(cluster, defaults) for name, cluster in clusters.items()}}


def _filled(cluster: object, defaults: Mapping[str, object]) -> object:
    if not isinstance(cluster, Mapping):
        return cluster
    blocks = {
        name: _merged(defaults[name], cluster[name])
        for name in BLOCKS
        if isinstance(defaults.get(name), Mapping) and isinstance(cluster.get(name), Mapping)
    }
    return {**cluster, **blocks}


def _merged(below: Any, above: Any) -> Any:
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}
