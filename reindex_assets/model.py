"""The shapes everything else is derived from: kinds, slices, and ClickHouse's two tables with their columns.

What lives here: which template type a kind has, which time is its slice's time, what a column and a table are. What does not: which tables
and columns there are (config/default_tables.py), what depends on a column's type alone (column_types), SQL statements
(postgres/extract.py, clickhouse/schema.py, reindex/writer.py and comparison/comparison.py build theirs from here) and I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

import pyarrow as pa

from reindex_assets.column_types import NULL, ColumnType

MICROSECONDS = 1_000_000

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


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a ClickHouse table, and where its value comes from.

    Attributes:
        source: Postgres expression; `c` is the scorecard, `s` the score. The slice's time is written `{time}`.
        of_scorecard: in the score table: a copy of the scorecard's column, so that dashboards need no join.
        is_declared: the fleet file has added it.
    """

    name: str
    type: ColumnType
    source: str
    nullable: bool = False
    of_scorecard: bool = False
    is_declared: bool = False

    def label(self, prefix: str = "") -> str:
        """Its name in an answer of Postgres, which makes small letters of all that are not quoted."""
        return f"{prefix}{self.name}" if self.name.islower() else f'"{prefix}{self.name}"'

    @property
    def clickhouse(self) -> str:
        """Its type in ClickHouse's DDL."""
        return self.type.definition(nullable=self.nullable)

    @property
    def source_text(self) -> str:
        """The text of its value, as a Postgres expression."""
        text = self.type.source_text(self.source)
        return f"coalesce({text}, '{NULL}')" if self.nullable else f"({text})"

    @property
    def shard_text(self) -> str:
        """The same text as a ClickHouse expression."""
        text = self.type.shard_text(self.name)
        return f"ifNull({text}, '{NULL}')" if self.nullable else text

    @property
    def shard_hashed(self) -> list[str]:
        """What ClickHouse's own hash functions take, as expressions: NULL apart from every value, as a hash of NULL would be NULL."""
        if not self.nullable:
            return [self.type.shard_hashed(self.name)]
        name = self.type.clickhouse.replace("\\", "\\\\").replace("'", "\\'")
        return [
            f"isNull({self.name})",
            self.type.shard_hashed(f"ifNull({self.name}, defaultValueOfTypeName('{name}'))"),
        ]

    def readable(self, text: str) -> str:
        """Its text as a person reads it.

        >>> from reindex_assets.column_types import FLOAT, TEXT
        >>> score = Column(name="score", type=FLOAT, source="c.score", nullable=True)
        >>> score.readable("3ff8000000000000"), score.readable("~")
        ('1.5', 'NULL')
        >>> Column(name="agent", type=TEXT, source="c.agent").readable("2:it")
        "'it'"
        """
        return "NULL" if self.nullable and text == NULL else self.type.readable(text)


#: What the two tables are called here, whatever their names in ClickHouse: in stored files, in reports and in the words of this code.
PARENT, CHILD = "scorecard", "score"
#: In the order of `Tables`.
TABLE_NAMES = (CHILD, PARENT)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A ClickHouse table: its columns, and the key that names one row.

    `day` is materialized from `scorecard_time`, so that no writer can make the two disagree; it stands early in the
    sorting key, so that a slice is one range of the primary index.

    Attributes:
        name: PARENT or CHILD.
        clickhouse: its name in ClickHouse.
        id_columns: the columns of the key that say which row it is.
        where: which rows of Postgres there are, as a Postgres condition on `c` or `s` in a template; empty for all of them.
        ignored: further columns in ClickHouse, which belong to others and are not compared.
    """

    name: str
    clickhouse: str
    columns: tuple[Column, ...]
    id_columns: tuple[str, ...]
    where: str = ""
    ignored: tuple[str, ...] = ()

    @property
    def is_parent(self) -> bool:
        return self.name == PARENT

    @property
    def key(self) -> tuple[str, ...]:
        """The sorting key: where a row stands (customer, kind, day, profile) and which row it is."""
        return ("customer", "template_type", "day", "profile", *self.id_columns)

    @property
    def identity(self) -> tuple[str, ...]:
        """What names a row wherever it stands: the columns of Postgres' primary key."""
        return ("customer", "profile", *self.id_columns)

    @property
    def identity_columns(self) -> tuple[Column, ...]:
        """The columns of `identity`, in its order."""
        columns = {column.name: column for column in self.columns}
        return tuple(columns[name] for name in self.identity)

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def arrow_schema(self) -> pa.Schema:
        return pa.schema([pa.field(c.name, c.type.arrow, nullable=c.nullable) for c in self.columns])


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The two tables of a cluster: a parent (a scorecard), and its children (its scores)."""

    parent: Table
    child: Table

    def __iter__(self) -> Iterator[Table]:
        """In the order in which rows are inserted: a visible parent has its children. Deletes run in the opposite order."""
        return iter((self.child, self.parent))

    def __reversed__(self) -> Iterator[Table]:
        return iter((self.parent, self.child))

    def left_out(self, foreign: Mapping[str, Collection[str]] | None = None) -> str:
        """What no comparison looks at, in words; empty if it looks at everything.

        Args:
            foreign: further columns that were found, by the name of the table.
        """
        parts = []
        for table in reversed(self):
            columns = dict.fromkeys([*table.ignored, *(foreign or {}).get(table.name, ())])
            if columns:
                parts.append(f"column{'s' * (len(columns) > 1)} {', '.join(columns)} of {table.clickhouse}")
        parts += [f"rows of {table.clickhouse} outside 'where'" for table in reversed(self) if table.where]
        return " and ".join(parts)


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
