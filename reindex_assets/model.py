"""The shapes everything else is derived from: kinds, slices, and the columns of the two ClickHouse tables.

What lives here: which template type a kind has, which time is its slice's time, which columns exist on either side and how
one becomes the other. What does not: SQL statements (postgres/extract.py, clickhouse/schema.py, reindex/writer.py,
comparison/comparison.py build theirs from here) and I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

import pyarrow as pa

MICROSECONDS = 1_000_000
TIME = pa.timestamp("us", "UTC")
UUID = pa.binary(16)

#: DateTime64 holds the years 1900 to 2299 (ClickHouse documentation, DateTime64); beyond it the engine clamps in silence.
FIRST_TIME = datetime(1900, 1, 1, tzinfo=UTC)
END_TIME = datetime(2300, 1, 1, tzinfo=UTC)

#: scorecard_type 1, 2 and 3: copies and requests of an appeal. They never belong in ClickHouse.
APPEAL_TYPES = (1, 2, 3)


@dataclass(frozen=True)
class Kind:
    """A kind of scorecard. Kinds differ in these fields only.

    Attributes:
        template_type: value of the template revision's `template_type`.
        time_column: column of Postgres that is the slice's time.
        is_of_conversations: whether a scorecard grades a conversation. Then its time is that of the conversation, in the relation `chats`,
            and it stands on the shard that holds the conversation; else its time is its own, and says the shard.
    """

    name: str
    template_type: int
    time_column: str
    is_of_conversations: bool = False


PROCESS = Kind(name="process", template_type=2, time_column="process_interaction_at")
CONVERSATION = Kind(
    name="conversation", template_type=1, time_column="conversation_start_time", is_of_conversations=True
)
KINDS = (PROCESS, CONVERSATION)


@dataclass(frozen=True, order=True)
class Slice:
    """One customer (with its profiles) on one UTC day, of one kind: the unit that is compared, repaired and reported."""

    customer: str
    day: date

    @property
    def partition_key(self) -> str:
        """As Dagster writes it: dimensions sorted by name, `customer|day`."""
        return f"{self.customer}|{self.day.isoformat()}"

    @staticmethod
    def of(partition_key: str) -> Slice:
        """The slice of a partition key."""
        customer, _, day = partition_key.rpartition("|")
        return Slice(customer, date.fromisoformat(day))

    @staticmethod
    def of_row(row: Mapping[str, Any]) -> Slice:
        """The slice that stands in the columns `customer` and `day` of an engine's answer."""
        return Slice(row["customer"], row["day"])

    def __str__(self) -> str:
        return f"{self.customer} {self.day.isoformat()}"


@dataclass(frozen=True)
class Column:
    """One column of a ClickHouse table, and where its value comes from.

    Attributes:
        source: Postgres expression; `c` is the scorecard, `s` the score. The slice's time is written `{time}`.
        of_scorecard: in the score table: a copy of the scorecard's column, so that dashboards need no join.
    """

    name: str
    clickhouse: str
    arrow: pa.DataType
    source: str
    of_scorecard: bool = False

    @property
    def nullable(self) -> bool:
        return "Nullable(" in self.clickhouse

    @property
    def repeats(self) -> bool:
        """Whether few different values stand in many rows."""
        return "LowCardinality(" in self.clickhouse or self.name.startswith("template_")


_ID = "UUID"
_TEXT = "String"
_NAME = "LowCardinality(String)"
_NAME_OR_NULL = "LowCardinality(Nullable(String))"
_TIME = "DateTime64(6, 'UTC')"

SCORECARD_COLUMNS: tuple[Column, ...] = (
    Column("customer", _NAME, pa.string(), "c.customer"),
    Column("profile", _NAME, pa.string(), "c.profile"),
    Column("template_type", "UInt8", pa.uint8(), "r.template_type"),
    Column("scorecard_id", _ID, UUID, "c.scorecard_id"),
    Column("template_id", _ID, UUID, "c.template_id"),
    Column("template_revision_id", _ID, UUID, "c.template_revision_id"),
    Column("conversation_id", _TEXT, pa.string(), "coalesce(c.conversation_id, '')"),
    Column("agent_user_id", _NAME_OR_NULL, pa.string(), "c.agent_user_id"),
    Column("creator_user_id", _NAME_OR_NULL, pa.string(), "c.creator_user_id"),
    Column("submission_source", "Nullable(Int16)", pa.int16(), "c.submission_source"),
    Column("scorecard_time", _TIME, TIME, "{time}"),
    Column("created_at", _TIME, TIME, "c.created_at"),
    Column("updated_at", _TIME, TIME, "c.updated_at"),
    Column("submitted_at", f"Nullable({_TIME})", TIME, "c.submitted_at"),
    Column("score", "Nullable(Float64)", pa.float64(), "c.score"),
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
    *(
        Column(column.name, column.clickhouse, column.arrow, column.source, of_scorecard=True)
        for column in SCORECARD_COLUMNS
        if column.name in _SHARED
    ),
    Column("score_id", _ID, UUID, "s.score_id"),
    Column("criterion_id", _NAME, pa.string(), "s.criterion_id"),
    Column("numeric_value", "Nullable(Float64)", pa.float64(), "s.numeric_value"),
    Column("ai_value", "Nullable(Float64)", pa.float64(), "s.ai_value"),
    Column("text_value", "Nullable(String)", pa.string(), "s.text_value"),
    Column("weight", "Nullable(Float64)", pa.float64(), "s.weight"),
    Column("percentage", "Nullable(Float64)", pa.float64(), "s.percentage"),
    Column("not_applicable", "Bool", pa.bool_(), "s.not_applicable"),
    Column("auto_failed", "Bool", pa.bool_(), "s.auto_failed"),
    Column("comment", "Nullable(String)", pa.string(), "s.comment"),
)


@dataclass(frozen=True)
class Table:
    """A ClickHouse table: its columns, and the key that names one row.

    `day` is materialized from `scorecard_time`, so that no writer can make the two disagree; it stands early in the
    sorting key, so that a slice is one range of the primary index.
    """

    name: str
    columns: tuple[Column, ...]
    id_columns: tuple[str, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """The sorting key: where a row stands (customer, kind, day, profile) and which row it is."""
        return ("customer", "template_type", "day", "profile", *self.id_columns)

    @property
    def identity(self) -> tuple[str, ...]:
        """What names a row wherever it stands: the columns of Postgres' primary key."""
        return ("customer", "profile", *self.id_columns)

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def arrow_schema(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, c.arrow, nullable=c.nullable) for c in self.columns])


SCORECARD = Table("scorecard", SCORECARD_COLUMNS, ("scorecard_id",))
SCORE = Table("score", SCORE_COLUMNS, ("scorecard_id", "score_id"))
#: In the order in which rows are inserted: a visible scorecard has its scores. Deletes run in the opposite order.
TABLES = (SCORE, SCORECARD)
#: Where each shard says which one it is (placement/records.py).
LAYOUT_TABLE = "reindex_layout"


def days_between(first: date, last: date) -> list[date]:
    """The days from `first` to `last`, both included.

    >>> [str(day) for day in days_between(date(2026, 2, 28), date(2026, 3, 1))]
    ['2026-02-28', '2026-03-01']
    """
    return [first + timedelta(days=offset) for offset in range((last - first).days + 1)]


SHARD = "shard"


class Step(StrEnum):
    """The steps of the lineage, in their order; the names of the assets."""

    EXTRACT = "scorecard_extract"
    ROWS = "score_rows"
    WRITE = "shard_writes"


#: The check that is red while the automatic repair of a slice has stopped trying.
GIVEN_UP_CHECK = "nothing_left_failed"


#: The check that is red while appeals stand in ClickHouse.
APPEALS_CHECK = "no_appeals"
