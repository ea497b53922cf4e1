"""A fleet file as large as a real one: 8 clusters of uneven sizes with 95 customers, those of the demonstration's fleet.

What lives here: the file. What does not: engines; nobody connects to its addresses.
"""

from __future__ import annotations

from datetime import date

import yaml

from reindex_assets.local.demo.fleet_plan import PlannedCluster, plan_fleet

PASSWORD_VARIABLE = "REINDEX_BENCHMARK_PASSWORD"


def fleet_text(first_day: date, slices: str) -> str:
    """The fleet file as YAML; its first cluster is the largest."""
    return yaml.safe_dump(
        {
            "first_day": first_day,
            "slices": slices,
            "mode": "all",
            "defaults": {
                "postgres": {"database": "app", "user": "reader", "password": {"env": PASSWORD_VARIABLE}},
                "clickhouse": {"database": "analytics", "user": "reindex", "password": {"env": PASSWORD_VARIABLE}},
            },
            "clusters": {cluster.name: _cluster(cluster) for cluster in plan_fleet().clusters},
        },
        sort_keys=False,
    )


def _cluster(cluster: PlannedCluster) -> dict[str, object]:
    return {
        "postgres": {"host": f"pg.{cluster.name}.invalid"},
        "clickhouse": {
            "replicated": True,
            "shards": [
                {"replicas": [{"host": f"ch-{shard}{replica}.{cluster.name}.invalid"} for replica in "ab"]}
                for shard in range(cluster.shards)
            ],
        },
        "customers": {name: {"profiles": list(profiles)} for name, profiles in cluster.customers.items()},
    }
