"""Appeals for the tests: in Postgres as the product makes them, in ClickHouse wherever a test wants them.

What lives here: planting them, and the judge of what is left, in SQL of its own. What does not: tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets_tests.support.hand_made_rows import add_scorecard

OLD = 1_000_000
#: 2 of the table's `template_type`, and 1.
PROCESS_TEMPLATE, CONVERSATION_TEMPLATE = 2, 1


def at(day: int, hour: int = 9) -> datetime:
    """A time of January 2026."""
    return datetime(2026, 1, day, hour, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Appeal:
    """A scorecard of an appeal (or a normal one, for type 0), known to Postgres."""

    customer: str
    profile: str
    scorecard_id: str
    template_type: int

    def plant(
        self,
        client: Client,
        time: datetime,
        version: int = OLD,
        scores: int = 2,
        with_scorecard: bool = True,
    ) -> None:
        """Its rows, as a writer leaves them on a shard that does not look at scorecard_type."""
        key = f"'{self.customer}', '{self.profile}', {self.template_type}, toUUID('{self.scorecard_id}')"
        when = f"toDateTime64('{time:%Y-%m-%d %H:%M:%S}', 6, 'UTC')"
        columns = "customer, profile, template_type, scorecard_id, scorecard_time, version"
        settings = {"async_insert": 0, "insert_deduplicate": 0}
        if scores:
            client.command(
                f"INSERT INTO score ({columns}, score_id, criterion_id) VALUES "
                + ", ".join(f"({key}, {when}, {version}, toUUID('{uuid4()}'), 'c{n}')" for n in range(scores)),
                settings=settings,
            )
        if with_scorecard:
            client.command(f"INSERT INTO scorecard ({columns}) VALUES ({key}, {when}, {version})", settings=settings)


def add_appeal(
    source: Connection,
    time: datetime | None,
    scorecard_type: int | None = 1,
    customer: str = "acme",
    profile: str = "main",
    scorecard_id: str | None = None,
    conversation: bool = False,
) -> Appeal:
    """An appeal in Postgres, of a process template or of a conversation's."""
    columns: dict[str, object] = {"scorecard_id": scorecard_id or str(uuid4()), "scorecard_type": scorecard_type}
    if conversation:
        chat, template, revision = f"chat-{uuid4()}", str(UUID(int=0xA1)), str(UUID(int=0xA2))
        columns |= {"conversation_id": chat, "template_id": template, "template_revision_id": revision}
        with source.cursor() as cursor:
            cursor.execute(
                "INSERT INTO director.scorecard_template_revisions"
                " (customer, profile, template_id, template_revision_id, template_type)"
                " VALUES (%s, %s, %s, %s, 1) ON CONFLICT DO NOTHING",
                (customer, profile, template, revision),
            )
            cursor.execute(
                "INSERT INTO app.chats (customer, profile, conversation_id, conversation_start_time) VALUES (%s, %s, %s, %s)",
                (customer, profile, chat, time),
            )
    made = add_scorecard(source, None if conversation else time, customer, profile, **columns)  # type: ignore[arg-type]
    return Appeal(customer, profile, made, CONVERSATION_TEMPLATE if conversation else PROCESS_TEMPLATE)


@dataclass(frozen=True, order=True)
class Left:
    """A row of an appeal in ClickHouse."""

    shard: int
    table: str
    customer: str
    profile: str
    scorecard_id: str
    day: str


def appeals_left(source: Connection, shard_clients: Sequence[Client]) -> list[Left]:
    """Every row in ClickHouse whose scorecard is an appeal in Postgres now: row by row, in Python."""
    with source.cursor() as cursor:
        cursor.execute(
            "SELECT customer, profile, scorecard_id::text FROM director.scorecards WHERE scorecard_type BETWEEN 1 AND 3"
        )
        known = set(cursor.fetchall())
    return sorted(
        Left(shard, table, *row)
        for shard, client in enumerate(shard_clients)
        for table in ("scorecard", "score")
        for row in client.query(
            f"SELECT toString(customer), toString(profile), toString(scorecard_id), toString(toDate32(scorecard_time)) FROM {table}"
        ).result_rows
        if tuple(row[:3]) in known
    )


def everything(shard_clients: Sequence[Client]) -> list[tuple[object, ...]]:
    """Every physical row: shard, table, profile, id, version."""
    return sorted(
        (shard, table, *row)
        for shard, client in enumerate(shard_clients)
        for table in ("scorecard", "score")
        for row in client.query(
            f"SELECT toString(customer), toString(profile), toString(scorecard_id), toString(scorecard_time), version, "
            f"template_type FROM {table}"
        ).result_rows
    )
