"""A fleet file as large as a real fleet: 8 clusters with 95 customers, spread as unevenly as customers are.

What lives here: the file. What does not: any engine behind it; nobody connects to these addresses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import yaml

PASSWORD_VARIABLE = "REINDEX_BENCHMARK_PASSWORD"


@dataclass(frozen=True)
class MadeCluster:
    """How large a cluster of the made fleet is."""

    name: str
    customers: int
    shards: int
    replicas: int


#: Three of the names are those of a real fleet; 95 customers in all.
CLUSTERS = (
    MadeCluster("us-east-1-prod", 34, 8, 2),
    MadeCluster("us-west-2-prod", 19, 4, 2),
    MadeCluster("voice-prod", 14, 4, 2),
    MadeCluster("eu-west-2-prod", 10, 4, 1),
    MadeCluster("eu-central-1-prod", 8, 4, 1),
    MadeCluster("ca-central-1-prod", 5, 2, 1),
    MadeCluster("ap-southeast-2-prod", 3, 2, 1),
    MadeCluster("chat-prod", 2, 2, 1),
)
_KNOWN: Mapping[str, tuple[str, ...]] = {
    "us-east-1-prod": ("spirit", "united-east", "propel", "rentokil", "guitar-center", "nclh", "greenix"),
    "us-west-2-prod": ("care-oregon",),
    "voice-prod": ("hilton", "holidayinn", "brinks", "marriott"),
}


def fleet_text(first_day: date, slices: str, part: float = 1.0) -> str:
    """The fleet file as YAML.

    Args:
        part: of each cluster's customers, at least one: a smaller fleet of the same shape.
    """
    return yaml.safe_dump(
        {
            "first_day": first_day,
            "slices": slices,
            "mode": "all",
            "defaults": {
                "postgres": {"database": "app", "user": "reader", "password": {"env": PASSWORD_VARIABLE}},
                "clickhouse": {"database": "analytics", "user": "reindex", "password": {"env": PASSWORD_VARIABLE}},
            },
            "clusters": {one.name: _cluster(one, part) for one in CLUSTERS},
        },
        sort_keys=False,
    )


def _cluster(made: MadeCluster, part: float) -> dict[str, object]:
    addresses = [
        [{"host": f"ch-{shard}{'ab'[replica]}.{made.name}.invalid"} for replica in range(made.replicas)]
        for shard in range(made.shards)
    ]
    names = [*_KNOWN.get(made.name, ())]
    names += [f"{made.name.removesuffix('-prod')}-customer-{number:02}" for number in range(len(names), made.customers)]
    return {
        "postgres": {"host": f"pg.{made.name}.invalid"},
        "clickhouse": {
            "replicated": True,
            "shards": [{"replicas": several} if len(several) > 1 else several[0] for several in addresses],
        },
        # Every third one has two profiles.
        "customers": {
            name: {"profiles": ["main", "voice"]} if number % 3 == 0 else {}
            for number, name in enumerate(names[: max(1, round(made.customers * part))])
        },
    }
