"""The tables that a fleet file declares: names, conditions and further columns, and what is left alone.

What lives here: the keys, their rules, and the tables that follow from them. What does not: the columns that every pair of tables has
(config/default_tables.py), and what a piece of SQL may be (config/sql_text.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cached_property

from pydantic import Field, field_validator, model_validator

from reindex_assets.column_types import ColumnType, parse_type
from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.engines import IDENTIFIER, Strict
from reindex_assets.config.fleet_errors import misplaced
from reindex_assets.config.sql_text import checked_sql, is_one_call
from reindex_assets.errors import ConfigurationError
from reindex_assets.model import LAYOUT_TABLE, Column, Table, Tables

#: Names with a meaning of their own in our statements, or in a CREATE TABLE.
_RESERVED = re.compile(
    r"day|version|versions|shard|own_shard|digest|a_digest|staged|copies|of_copies|kept|template|found|keys|misplaced|mark|id|fence"
    r"|belongs"
    r"|checksum|month|scorecard_type|oldest|newest|live_rows|delete_below|is_\w+|text_\w+|key_\w+|index|projection|constraint|primary",
    re.IGNORECASE,
)
#: The columns that runs and comparisons are about: where a row stands, which one it is, and of which template.
_REQUIRED = frozenset(
    (
        "customer",
        "profile",
        "template_type",
        "scorecard_id",
        "template_id",
        "conversation_id",
        "scorecard_time",
        "score_id",
    )
)
#: How an expression begins and ends that is never NULL, whatever the columns in it hold, if that is one call.
_NEVER_NULL = re.compile(r"coalesce\s*\(.*,\s*('[^']*'|-?\d+(\.\d+)?|true|false)\s*\)", re.IGNORECASE | re.DOTALL)


class DeclaredColumn(Strict):
    """A further column: its type in ClickHouse, and its value in Postgres."""

    type: str = Field(description="Its type in ClickHouse, as `DESCRIBE TABLE` writes it.")
    source: str = Field(description="Its value in Postgres: an expression over the columns of its row.")


class DeclaredTable(Strict):
    """What one of the two tables has of its own."""

    name: str | None = Field(default=None, description="Its name in ClickHouse.")
    where: str = Field(
        default="",
        description="Which rows of the relation in Postgres there are for this project: a condition over the columns of a row.",
    )
    columns: dict[str, DeclaredColumn] = Field(
        default={},
        description="Columns that are written and compared: further ones, and those of the default table that have another type or source.",
    )
    absent: tuple[str, ...] = Field(default=(), description="Columns of the default table that this one does not have.")
    ignore: tuple[str, ...] = Field(
        default=(), description="Further columns in ClickHouse that are somebody else's: they are not compared."
    )

    @field_validator("name")
    @classmethod
    def _name(cls, value: str | None) -> str | None:
        if value is not None and "." in value:
            raise ValueError(
                "write the table's name alone: both tables are in the `database` of the cluster's `clickhouse` block"
            )
        if value is not None and (
            not IDENTIFIER.fullmatch(value)
            or value in ("conversation", LAYOUT_TABLE)
            or value.startswith("reindex_staging")
        ):
            raise ValueError(
                "not a name for this table: use letters, digits and '_', and none of the names that other tables have"
            )
        return value

    @field_validator("ignore")
    @classmethod
    def _ignore(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(value) or len(set(value)) < len(value):
            raise ValueError("a column's name is empty or repeated")
        return value


class DeclaredScores(DeclaredTable):
    """What the table of scores has of its own."""

    copies: tuple[str, ...] = Field(
        default=(),
        description="Further columns that each score copies from its scorecard: names of columns declared there.",
    )


class DeclaredTables(Strict):
    """The two tables of a cluster in ClickHouse, where they differ from the default ones."""

    scorecard: DeclaredTable = DeclaredTable()
    score: DeclaredScores = DeclaredScores()

    @model_validator(mode="after")
    def _valid(self) -> DeclaredTables:
        # Both are made once, so that the first mistake is found here.
        tables = self.declared
        if tables.parent.clickhouse == tables.child.clickhouse:
            raise misplaced("scorecards and scores are two tables: each needs a name of its own", "score", "name")
        return self

    @cached_property
    def declared(self) -> Tables:
        """The tables that follow from it."""
        if not self.model_dump(exclude_defaults=True):
            return TABLES
        parent = _declared("scorecard", self.scorecard, TABLES.parent, "c", _of_scorecard)
        declared = {column.name: replace(column, of_scorecard=True) for column in parent.columns if column.is_declared}
        copies = [
            declared.get(column.name, column) if column.of_scorecard else column for column in TABLES.child.columns
        ]
        known = {column.name for column in copies}
        for number, name in enumerate(self.score.copies):
            if name not in declared or name in known:
                raise misplaced(
                    f"{name} is no further column that is declared under scorecard: only such can be copied",
                    *("score", "copies", number),
                )
            _refuse_bad_name(name, known, ("score", "copies", str(number)))
            copies.append(declared[name])
        child = replace(TABLES.child, columns=tuple(copies))
        return Tables(parent=parent, child=_declared("score", self.score, child, "s", _of_score))


def _declared(
    key: str, declared: DeclaredTable, table: Table, alias: str, checked: Callable[[Column], Column]
) -> Table:
    columns = {column.name: column for column in table.columns}
    for number, name in enumerate(declared.absent):
        if name not in columns or name in _REQUIRED:
            raise misplaced(
                f"{name} is no column that can be absent: these are {', '.join(sorted(set(columns) - _REQUIRED))}",
                *(key, "absent", number),
            )
        del columns[name]
    for name, column in declared.columns.items():
        place = (key, "columns", name)
        if name in columns and (name in _REQUIRED or columns[name].of_scorecard):
            raise misplaced("this column has to be as it is, or is declared under scorecard", *place)
        if name not in columns:
            _refuse_bad_name(name, columns, place)
        columns[name] = _column(name, column, alias, checked, place)
    for number, name in enumerate(declared.ignore):
        if name in columns or name in ("day", "version"):
            raise misplaced(
                f"{name} is one of the columns that are compared: if the table does not have it, add it to `absent`",
                *(key, "ignore", number),
            )
    try:
        where = checked_sql(declared.where, alias) if declared.where else ""
    except ValueError as error:
        raise misplaced(str(error), key, "where") from None
    return replace(
        table,
        clickhouse=declared.name or table.clickhouse,
        columns=tuple(columns.values()),
        where=where,
        ignored=declared.ignore,
    )


def _refuse_bad_name(name: str, known: Collection[str], place: tuple[str, ...]) -> None:
    if not IDENTIFIER.fullmatch(name) or _RESERVED.fullmatch(name):
        raise misplaced("not a name for a further column: it has a meaning in our statements", *place)
    if name.lower() in {other.lower() for other in known} or f"text_{name}" in known:
        raise misplaced("this column is there already, or one whose name is too much like it", *place)


def _column(
    name: str, declared: DeclaredColumn, alias: str, checked: Callable[[Column], Column], place: tuple[str, ...]
) -> Column:
    try:
        source = checked_sql(declared.source, alias)
    except ValueError as error:
        raise misplaced(str(error), *place, "source") from None
    try:
        parsed = parse_type(declared.type, column=name)
        return checked(
            Column(name=name, type=parsed.type, source=f"({source})", nullable=parsed.nullable, is_declared=True)
        )
    except (ConfigurationError, ValueError) as error:
        raise misplaced(str(error), *place, "type") from None


def _of_scorecard(column: Column) -> Column:
    """A scorecard whose value ClickHouse can't hold stays in Postgres and is reported; so does one with a NULL that it can't hold."""
    if column.nullable or not column.type.can_be_null:
        return column
    return replace(column, type=_without_null(column.type))


def _without_null(type_: ColumnType) -> ColumnType:
    holds = type_.holds
    return replace(
        type_,
        holds=lambda value: f"{value} IS NOT NULL" + (f" AND ({holds(value)})" if holds else ""),
        limits=f"is NULL or {type_.limits}" if type_.limits else "is NULL",
    )


def _is_never_null(source: str) -> bool:
    return bool(_NEVER_NULL.fullmatch(source)) and is_one_call(source)


def _of_score(column: Column) -> Column:
    """Scores are not looked at one by one before they are read, so their values must all fit."""
    if column.type.holds is not None:
        raise ValueError(
            f"not every value fits into {column.clickhouse}, and a score that doesn't fit can't be kept back yet. Use a type that "
            "holds every value, like String, Float64 or Bool"
        )
    if not column.nullable and column.type.can_be_null and not _is_never_null(column.source[1:-1].strip()):
        raise ValueError(
            f"a NULL doesn't fit into {column.clickhouse}, and a score that doesn't fit can't be kept back yet. Use Nullable(...), or a "
            "source that is never NULL: coalesce(..., a constant)"
        )
    return column
