"""Rows of Postgres written by hand, one at a time, for tests that need a certain value in a certain place.

What lives here: inserting one scorecard with its scores, and fleets that differ from the stack's in one thing. What does not: realistic
data (reindex_assets.local.data.made_data) and tests.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from reindex_assets.config.cluster import Cluster
from reindex_assets.config.engines import Shard
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice, Step
from reindex_assets.reindex.job import Reindex, ReindexOptions
from reindex_assets.reindex.pipeline import SliceOutcome

TEMPLATE_ID = UUID(int=0x7E)
REVISION_ID = UUID(int=0x7F)
CREATED_AT = datetime(2026, 1, 5, 8, 30, 0, 123456, UTC)

Values = Mapping[str, object]


def add_scorecard(
    source: Connection,
    time: datetime | str | None,
    customer: str = "acme",
    profile: str = "main",
    scores: Sequence[Values] = ({}, {}),
    **columns: object,
) -> str:
    """Inserts a process scorecard with its scores; returns its id. What is not given has a plain value.

    Args:
        time: of the process interaction; a text is for what datetime can't say ('infinity').
        scores: columns of each score.
    """
    scorecard_id = str(columns.pop("scorecard_id", uuid4()))
    with source.cursor() as cursor:
        cursor.execute(
            "INSERT INTO director.scorecard_template_revisions"
            " (customer, profile, template_id, template_revision_id, template_type)"
            " VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (customer, profile, str(TEMPLATE_ID), str(REVISION_ID), PROCESS.template_type),
        )
    _insert(
        source,
        ("director", "scorecards"),
        {
            "customer": customer,
            "profile": profile,
            "scorecard_id": scorecard_id,
            "template_id": str(TEMPLATE_ID),
            "template_revision_id": str(REVISION_ID),
            "agent_user_id": "agent-1",
            "score": 50.0,
            "process_interaction_at": time,
            "created_at": CREATED_AT,
            "updated_at": CREATED_AT,
            **columns,
        },
    )
    for number, values in enumerate(scores):
        _insert(
            source,
            ("historic", "scorecard_scores"),
            {
                "customer": customer,
                "profile": profile,
                "scorecard_id": scorecard_id,
                "score_id": str(uuid4()),
                "criterion_id": f"criterion-{number}",
                "numeric_value": float(number),
                **values,
            },
        )
    return scorecard_id


def _insert(source: Connection, relation: tuple[str, str], values: Values) -> None:
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(*relation),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(sql.Placeholder() * len(values)),
    )
    with source.cursor() as cursor:
        cursor.execute(statement, list(values.values()))


def update_scorecard(source: Connection, scorecard_id: str, **columns: object) -> None:
    """Sets columns of one scorecard."""
    assignments = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in columns)
    with source.cursor() as cursor:
        cursor.execute(
            sql.SQL("UPDATE director.scorecards SET {} WHERE scorecard_id = %s").format(assignments),
            [*columns.values(), scorecard_id],
        )


def reindex(
    fleet: Fleet, slices: Iterable[Slice], steps: Iterable[Step] = tuple(Step), options: ReindexOptions | None = None
) -> dict[Slice, SliceOutcome]:
    """Runs the product on slices of the stack's cluster; a slice that failed is an outcome with an error."""
    run = Reindex(fleet.dataset(CLUSTER, PROCESS), options or ReindexOptions(attempts=1))
    return {outcome.slice: outcome for outcome in run.run(slices, steps)}


def succeeded(outcomes: Mapping[Slice, SliceOutcome]) -> Mapping[Slice, SliceOutcome]:
    """`outcomes`, after making sure that none is a failure."""
    errors = {str(item): outcome.error for item, outcome in outcomes.items() if outcome.error is not None}
    assert not errors, errors
    return outcomes


def with_postgres(fleet: Fleet, **fields: object) -> Fleet:
    """The fleet with other fields of its Postgres."""
    cluster = fleet.clusters[CLUSTER]
    return _with_cluster(fleet, cluster.model_copy(update={"postgres": cluster.postgres.model_copy(update=fields)}))


def with_clickhouse(fleet: Fleet, **fields: object) -> Fleet:
    """The fleet with other fields of its ClickHouse."""
    cluster = fleet.clusters[CLUSTER]
    return _with_cluster(fleet, cluster.model_copy(update={"clickhouse": cluster.clickhouse.model_copy(update=fields)}))


def with_shard_port(fleet: Fleet, number: int, port: int) -> Fleet:
    """The fleet with one shard at another port."""
    shards = list(fleet.clusters[CLUSTER].clickhouse.shards)
    shards[number] = Shard(host=shards[number].host, port=port)
    return with_clickhouse(fleet, shards=tuple(shards))


def _with_cluster(fleet: Fleet, cluster: Cluster) -> Fleet:
    return fleet.model_copy(update={"clusters": {**fleet.clusters, CLUSTER: cluster}})


def silent_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
