"""Appeals in ClickHouse, as a writer leaves them that ignores scorecard_type.

What lives here: finding the appeals of a slice in Postgres, and copying one with its scores to a shard as tab-separated text.
What does not: the choice of the shard (local/drift/plant.py).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from reindex_assets.column_types import TIME
from reindex_assets.config.default_tables import SCORECARD, TABLES
from reindex_assets.local.drift.rows import SETTINGS
from reindex_assets.model import APPEAL_TYPES, Column, Kind

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from psycopg2.extensions import connection as Connection


@dataclass(frozen=True)
class Appeal:
    """The scorecard of an appeal, in Postgres."""

    profile: str
    scorecard_id: UUID
    scorecard_type: int
    epoch_seconds: int


_FIND = """
SELECT
    c.profile,
    c.scorecard_id::text,
    c.scorecard_type,
    floor(extract(epoch FROM {time}))::bigint
FROM director.scorecards AS c
JOIN director.scorecard_template_revisions AS r USING (customer, profile, template_id, template_revision_id)
{chats}
WHERE c.customer = %(customer)s
    AND c.scorecard_type = ANY (%(types)s)
    AND r.template_type = %(template_type)s
    AND {time} >= %(since)s
    AND {time} < %(until)s
ORDER BY hashtextextended(c.profile || c.scorecard_id, %(seed)s), c.profile, c.scorecard_id
LIMIT %(count)s
"""


def appeals_of(source: Connection, customer: str, day: date, count: int, seed: int, kind: Kind) -> list[Appeal]:
    """`count` appeals of a slice, chosen by the seed.

    Raises:
        LookupError: Postgres has fewer.
    """
    since = datetime.combine(day, time(), UTC)
    with source.cursor() as cursor:
        cursor.execute(
            _FIND.format(time=_time(kind), chats=_chats(kind)),
            {
                "customer": customer,
                "template_type": kind.template_type,
                "types": list(APPEAL_TYPES),
                "since": since,
                "until": since + timedelta(days=1),
                "seed": seed,
                "count": count,
            },
        )
        appeals = [Appeal(profile, UUID(scorecard_id), *rest) for profile, scorecard_id, *rest in cursor.fetchall()]
    if len(appeals) < count:
        raise LookupError(
            f"{customer} {day}: Postgres has only {len(appeals)} appeals of {kind.name} scorecards, not {count}"
        )
    return appeals


def insert_appeal(source: Connection, client: Client, customer: str, appeal: Appeal, kind: Kind) -> None:
    """Copies an appeal and its scores to a shard. Its version is its own time, which is older than any run's snapshot."""
    for table in TABLES:
        rows = io.BytesIO()
        with source.cursor() as cursor:
            query = cursor.mogrify(
                f"""
                COPY (
                    SELECT {", ".join(_as_text(column, kind) for column in table.columns)}, %(version)s
                    FROM director.scorecards AS c
                    {_SCORES if table is not SCORECARD else ""}
                    JOIN director.scorecard_template_revisions AS r
                        USING (customer, profile, template_id, template_revision_id)
                    {_chats(kind)}
                    WHERE (c.customer, c.profile, c.scorecard_id) = (%(customer)s, %(profile)s, %(scorecard_id)s::uuid)
                ) TO STDOUT
                """,
                {
                    "version": appeal.epoch_seconds * 1_000_000,
                    "customer": customer,
                    "profile": appeal.profile,
                    "scorecard_id": str(appeal.scorecard_id),
                },
            )
            cursor.copy_expert(query.decode(), rows)
        client.raw_insert(
            table.name,
            column_names=[*table.column_names, "version"],
            insert_block=rows.getvalue(),
            fmt="TabSeparated",
            settings=SETTINGS,
        )


_SCORES = "JOIN historic.scorecard_scores AS s USING (customer, profile, scorecard_id)"


def _time(kind: Kind) -> str:
    return f"{'chat' if kind.is_of_conversations else 'c'}.{kind.time_column}"


def _chats(kind: Kind) -> str:
    return "JOIN app.chats AS chat USING (customer, profile, conversation_id)" if kind.is_of_conversations else ""


def _as_text(column: Column, kind: Kind) -> str:
    source = column.source.format(time=_time(kind))
    if column.type is TIME:
        return f"to_char({source} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
    return source
