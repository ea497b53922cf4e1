"""The tables that a cluster has unless its fleet file says otherwise.

What lives here: their columns, with the source of each in Postgres. What does not: what a column and a table are (model.py), and types
(column_types). Everything else asks a dataset, a group of slices or a connection for its tables.
"""

from __future__ import annotations

from dataclasses import replace

from reindex_assets.column_types import BOOLEAN, CODE, COMMON_ID, FLOAT, ID, NAME, SMALL_INTEGER, TEXT, TIME
from reindex_assets.model import CHILD, PARENT, Column, Table, Tables

SCORECARD_COLUMNS: tuple[Column, ...] = (
    Column(name="customer", type=NAME, source="c.customer"),
    Column(name="profile", type=NAME, source="c.profile"),
    Column(name="template_type", type=CODE, source="r.template_type"),
    Column(name="scorecard_id", type=ID, source="c.scorecard_id"),
    Column(name="template_id", type=COMMON_ID, source="c.template_id"),
    Column(name="template_revision_id", type=COMMON_ID, source="c.template_revision_id"),
    Column(name="conversation_id", type=TEXT, source="coalesce(c.conversation_id, '')"),
    Column(name="agent_user_id", type=NAME, source="c.agent_user_id", nullable=True),
    Column(name="creator_user_id", type=NAME, source="c.creator_user_id", nullable=True),
    Column(name="submission_source", type=SMALL_INTEGER, source="c.submission_source", nullable=True),
    Column(name="scorecard_time", type=TIME, source="{time}"),
    Column(name="created_at", type=TIME, source="c.created_at"),
    Column(name="updated_at", type=TIME, source="c.updated_at"),
    Column(name="submitted_at", type=TIME, source="c.submitted_at", nullable=True),
    Column(name="score", type=FLOAT, source="c.score", nullable=True),
)

#: Columns of a score that are copies of its scorecard's.
_SHARED = (
    "customer",
    "profile",
    "template_type",
    "scorecard_id",
    "template_id",
    "template_revision_id",
    "conversation_id",
    "agent_user_id",
    "scorecard_time",
)

SCORE_COLUMNS: tuple[Column, ...] = (
    *(replace(column, of_scorecard=True) for column in SCORECARD_COLUMNS if column.name in _SHARED),
    Column(name="score_id", type=ID, source="s.score_id"),
    Column(name="criterion_id", type=NAME, source="s.criterion_id"),
    Column(name="numeric_value", type=FLOAT, source="s.numeric_value", nullable=True),
    Column(name="ai_value", type=FLOAT, source="s.ai_value", nullable=True),
    Column(name="text_value", type=TEXT, source="s.text_value", nullable=True),
    Column(name="weight", type=FLOAT, source="s.weight", nullable=True),
    Column(name="percentage", type=FLOAT, source="s.percentage", nullable=True),
    Column(name="not_applicable", type=BOOLEAN, source="s.not_applicable"),
    Column(name="auto_failed", type=BOOLEAN, source="s.auto_failed"),
    Column(name="comment", type=TEXT, source="s.comment", nullable=True),
)

SCORECARD = Table(name=PARENT, clickhouse="scorecard", columns=SCORECARD_COLUMNS, id_columns=("scorecard_id",))
SCORE = Table(name=CHILD, clickhouse="score", columns=SCORE_COLUMNS, id_columns=("scorecard_id", "score_id"))
TABLES = Tables(parent=SCORECARD, child=SCORE)
