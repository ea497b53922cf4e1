"""Loads ClickHouse for the tests of the oracle and of the drift planter, in the plainest way there is.

What lives here: one COPY out of Postgres and one INSERT per table and shard. What does not: code or SQL of the product, or of
the oracle: three independent readings of the same rules must agree.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

VERSION = 1_767_225_600_000_000  # 2026-01-01 in microseconds: long ago

_SETTINGS = {"async_insert": 0, "insert_deduplicate": 0}
_TIME = "to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"

_COLUMNS = {
    "score": {
        "customer": "scorecard.customer",
        "profile": "scorecard.profile",
        "template_type": "'2'",
        "scorecard_id": "scorecard.scorecard_id",
        "template_id": "scorecard.template_id",
        "template_revision_id": "scorecard.template_revision_id",
        "conversation_id": "CASE WHEN scorecard.conversation_id IS NULL THEN '' ELSE scorecard.conversation_id END",
        "agent_user_id": "scorecard.agent_user_id",
        "scorecard_time": _TIME.format("scorecard.process_interaction_at"),
        "score_id": "score.score_id",
        "criterion_id": "score.criterion_id",
        "numeric_value": "score.numeric_value",
        "ai_value": "score.ai_value",
        "text_value": "score.text_value",
        "weight": "score.weight",
        "percentage": "score.percentage",
        "not_applicable": "score.not_applicable",
        "auto_failed": "score.auto_failed",
        "comment": "score.comment",
    },
    "scorecard": {
        "customer": "scorecard.customer",
        "profile": "scorecard.profile",
        "template_type": "'2'",
        "scorecard_id": "scorecard.scorecard_id",
        "template_id": "scorecard.template_id",
        "template_revision_id": "scorecard.template_revision_id",
        "conversation_id": "CASE WHEN scorecard.conversation_id IS NULL THEN '' ELSE scorecard.conversation_id END",
        "agent_user_id": "scorecard.agent_user_id",
        "creator_user_id": "scorecard.creator_user_id",
        "submission_source": "scorecard.submission_source",
        "scorecard_time": _TIME.format("scorecard.process_interaction_at"),
        "created_at": _TIME.format("scorecard.created_at"),
        "updated_at": _TIME.format("scorecard.updated_at"),
        "submitted_at": _TIME.format("scorecard.submitted_at"),
        "score": "scorecard.score",
    },
}


def load_plainly(source: Connection, shard_clients: Sequence[Client]) -> None:
    """Copies every process scorecard with its scores to its shard. The tables must be empty."""
    for shard, client in enumerate(shard_clients):
        for table, columns in _COLUMNS.items():
            rows = io.BytesIO()
            scores = "JOIN historic.scorecard_scores AS score USING (customer, profile, scorecard_id)"
            with source.cursor() as cursor:
                # Whole seconds from date_trunc: neither a rounding cast nor a floor of an epoch.
                cursor.copy_expert(
                    f"""
                    COPY (
                        SELECT {", ".join(columns.values())}, {VERSION}
                        FROM director.scorecards AS scorecard
                        {scores if table == "score" else ""}
                        WHERE EXISTS (
                                SELECT FROM director.scorecard_template_revisions AS revision
                                WHERE revision.customer = scorecard.customer
                                    AND revision.profile = scorecard.profile
                                    AND revision.template_id = scorecard.template_id
                                    AND revision.template_revision_id = scorecard.template_revision_id
                                    AND revision.template_type = 2
                            )
                            AND scorecard.scorecard_type IS DISTINCT FROM 1
                            AND scorecard.scorecard_type IS DISTINCT FROM 2
                            AND scorecard.scorecard_type IS DISTINCT FROM 3
                            AND mod(
                                extract(epoch FROM date_trunc('second', scorecard.process_interaction_at)),
                                {len(shard_clients)}
                            ) = {shard}
                    ) TO STDOUT
                    """,
                    rows,
                )
            client.raw_insert(
                table,
                column_names=[*columns, "version"],
                insert_block=rows.getvalue(),
                fmt="TabSeparated",
                settings=_SETTINGS,
            )
