"""The application of the tests: it lives on in Postgres, and writes to ClickHouse beside the runs, in real time.

What lives here: edits of single scorecards, and the real-time writer in its two halves. What does not: rounds of many edits
(local/data/made_data.py), and runs (support/running.py).
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.column_types import TIME
from reindex_assets.config.default_tables import SCORECARD, TABLES
from reindex_assets.model import PROCESS, Column, Slice


@dataclass(frozen=True)
class Scorecard:
    """A process scorecard in Postgres."""

    customer: str
    profile: str
    scorecard_id: str
    day: date

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.customer, self.profile, self.scorecard_id)

    @property
    def slice(self) -> Slice:
        return Slice(self.customer, self.day)


_OF_KIND = """
    FROM director.scorecards AS c
    JOIN director.scorecard_template_revisions AS r USING (customer, profile, template_id, template_revision_id)
    WHERE r.template_type = 2 AND coalesce(c.scorecard_type, 0) = 0
"""
_ONE = "(customer, profile, scorecard_id) = (%s, %s, %s::uuid)"


def scorecards_of(source: Connection, item: Slice, count: int = 1, profile: str | None = None) -> list[Scorecard]:
    """Some scorecards of a slice, in the middle of the day, each with at least one score; the same ones every time."""
    with source.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT c.customer, c.profile, c.scorecard_id::text, (c.process_interaction_at AT TIME ZONE 'UTC')::date
            {_OF_KIND}
                AND c.customer = %s
                AND c.profile = coalesce(%s, c.profile)
                AND (c.process_interaction_at AT TIME ZONE 'UTC')::date = %s
                AND (c.process_interaction_at AT TIME ZONE 'UTC')::time BETWEEN '00:01' AND '23:58'
                AND EXISTS (
                    SELECT FROM historic.scorecard_scores AS s
                    WHERE (s.customer, s.profile, s.scorecard_id) = (c.customer, c.profile, c.scorecard_id)
                )
            ORDER BY md5(c.scorecard_id::text || c.profile)
            LIMIT %s
            """,
            (item.customer, profile, item.day, count),
        )
        found = [Scorecard(*row) for row in cursor.fetchall()]
    assert len(found) == count
    return found


def update(source: Connection, scorecard: Scorecard, edit: str) -> None:
    """Edits one scorecard in Postgres; `edit` is what follows SET."""
    with source.cursor() as cursor:
        cursor.execute(f"UPDATE director.scorecards SET {edit} WHERE {_ONE}", scorecard.key)
        assert cursor.rowcount == 1


def delete(source: Connection, scorecard: Scorecard) -> None:
    """Deletes one scorecard with its scores in Postgres."""
    with source.cursor() as cursor:
        for table in ("historic.scorecard_scores", "director.scorecards"):
            cursor.execute(f"DELETE FROM {table} WHERE {_ONE}", scorecard.key)


def copy_as_new(source: Connection, scorecard: Scorecard) -> Scorecard:
    """Adds a copy of a scorecard with its scores, under an id of its own, to Postgres."""
    with source.cursor() as cursor:
        cursor.execute("SELECT md5('new' || %s)::uuid::text", (scorecard.scorecard_id,))
        [(new,)] = cursor.fetchall()
        for table in ("director.scorecards", "historic.scorecard_scores"):
            cursor.execute(
                "SELECT string_agg(quote_ident(column_name), ', ' ORDER BY ordinal_position)"
                " FROM information_schema.columns"
                " WHERE table_schema || '.' || table_name = %s AND column_name != 'scorecard_id'",
                (table,),
            )
            [(columns,)] = cursor.fetchall()
            cursor.execute(
                f"INSERT INTO {table} (scorecard_id, {columns}) SELECT %s::uuid, {columns} FROM {table} WHERE {_ONE}",
                (new, *scorecard.key),
            )
    return Scorecard(scorecard.customer, scorecard.profile, new, scorecard.day)


@dataclass(frozen=True)
class RealTimeRows:
    """A scorecard with its scores as the application's writer has read them, not written yet."""

    shard: int
    version: int
    rows: Mapping[str, bytes]

    def write(self, shard_clients: Sequence[Client]) -> None:
        for table in TABLES:
            shard_clients[self.shard].raw_insert(
                table.name,
                column_names=[*table.column_names, "version"],
                insert_block=self.rows[table.name],
                fmt="TabSeparated",
                settings={"async_insert": 0, "insert_deduplicate": 0},
            )


def read_as_application(source: Connection, scorecard: Scorecard, shards: int) -> RealTimeRows:
    """The first half of the real-time writer: reads Postgres, and notes when. It never removes what it supersedes."""
    with source.cursor() as cursor:
        cursor.execute("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        [(version,)] = cursor.fetchall()
        cursor.execute(
            f"SELECT floor(extract(epoch FROM process_interaction_at))::bigint FROM director.scorecards WHERE {_ONE}",
            scorecard.key,
        )
        [(seconds,)] = cursor.fetchall()
        rows = {}
        for table in TABLES:
            scores = (
                ""
                if table is SCORECARD
                else "JOIN historic.scorecard_scores AS s USING (customer, profile, scorecard_id)"
            )
            query = cursor.mogrify(
                f"""
                COPY (
                    SELECT {", ".join(_as_text(column) for column in table.columns)}, %s
                    FROM director.scorecards AS c
                    JOIN director.scorecard_template_revisions AS r
                        USING (customer, profile, template_id, template_revision_id)
                    {scores}
                    WHERE (c.customer, c.profile, c.scorecard_id) = (%s, %s, %s::uuid)
                ) TO STDOUT
                """,
                (version, *scorecard.key),
            )
            text = io.BytesIO()
            cursor.copy_expert(query.decode(), text)
            rows[table.name] = text.getvalue()
    return RealTimeRows(seconds % shards, version, rows)


def write_as_application(source: Connection, shard_clients: Sequence[Client], scorecard: Scorecard) -> RealTimeRows:
    """The real-time writer: what Postgres holds of a scorecard now goes to its shard."""
    rows = read_as_application(source, scorecard, len(shard_clients))
    rows.write(shard_clients)
    return rows


def _as_text(column: Column) -> str:
    source = column.source.format(time=f"c.{PROCESS.time_column}")
    if column.type is TIME:
        return f"to_char({source} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"
    return source
