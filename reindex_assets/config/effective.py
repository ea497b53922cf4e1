"""The effective fleet file, with every default filled in and without secrets; and the file's JSON Schema for editors.

What lives here: both as plain data. What does not: the shape of the file (config/fleet.py), and printing (cli/fleet.py).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from reindex_assets.config.engines import ClickHouse, Postgres, Shard
from reindex_assets.config.fleet import NAME, Fleet
from reindex_assets.config.fleet_yaml import ADDRESSES, BLOCKS
from reindex_assets.config.modes import Mode


def effective(fleet: Fleet, environ: Mapping[str, str], mode: Mode | None = None) -> dict[str, Any]:
    """The rules, engines and customers of every cluster. A secret appears as its environment variable's name, and whether that is set.

    Args:
        mode: the operator's (REINDEX_MODE), which overrides the file's.
    """
    return {
        "version": fleet.version,
        "first_day": fleet.first_day.isoformat(),
        "slices": fleet.slices,
        "clusters": {
            name: {
                **fleet.rules(name, mode).model_dump(mode="json"),
                "postgres": _block(cluster.postgres, environ),
                "clickhouse": {
                    **_block(cluster.clickhouse, environ),
                    "shards": [_shard(shard) for shard in cluster.clickhouse.shards],
                    "retiring": [_shard(shard) for shard in cluster.clickhouse.retiring],
                },
                "tables": cluster.tables.model_dump(mode="json"),
                "customers": {
                    name: {"profiles": list(customer.profiles) or "all"} for name, customer in cluster.customers.items()
                },
            }
            for name, cluster in fleet.clusters.items()
        },
    }


def _block(block: Postgres | ClickHouse, environ: Mapping[str, str]) -> dict[str, Any]:
    name = block.password.env
    return {**block.model_dump(mode="json"), "password": {"env": name, "is_set": name in environ}}


def _shard(shard: Shard) -> dict[str, Any]:
    addresses = [address.model_dump() for address in shard.addresses]
    return {"replicas": addresses} if shard.replicas else addresses[0]


def fleet_schema() -> dict[str, Any]:
    """The JSON Schema of a fleet file as people write it: a cluster need not give what `defaults` can."""
    schema = Fleet.model_json_schema()
    models = schema["$defs"]
    for block, model in zip(BLOCKS, ("Postgres", "ClickHouse", "DeclaredTables"), strict=True):
        own = models[model]
        default = copy.deepcopy(own)
        default["title"] = f"Defaults of {model}"
        default["properties"] = {name: key for name, key in own["properties"].items() if name not in ADDRESSES}
        default.pop("required", None)
        models[f"{model}Defaults"] = default
        models["Defaults"]["properties"][block] = {"$ref": f"#/$defs/{model}Defaults"}
        own["required"] = [name for name in own.get("required", []) if name in ADDRESSES]
    for mapping in (schema["properties"]["clusters"], models["Cluster"]["properties"]["customers"]):
        mapping["propertyNames"] = {"pattern": f"^{NAME.pattern}$"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "Fleet file of reindex_assets",
    }
