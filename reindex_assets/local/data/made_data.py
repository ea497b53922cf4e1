"""The data maker: fills the local Postgres with scorecards as the product has them, and lives on with them.

What lives here: the order of the statements, and what they did. Postgres makes the rows itself (sql/made_*.sql). What
does not: sizes (local/data/made_plan.py), ClickHouse (local/drift/plant.py), and rows that cannot be placed (tests plant those).

The same plan makes the same rows, down to the last bit, whatever the session's settings, the query's plan and the hour:
a value comes from a hash of the row's place and the seed, and the clock is never read.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING
from uuid import UUID

from reindex_assets.local.data.made_plan import (
    CHANGE_SHARE,
    DEFAULT_CUSTOMERS,
    DataPlan,
    Slot,
    slots_of,
    slots_to_add,
    templates_of,
)
from reindex_assets.local.data.phrases import PHRASES
from reindex_assets.model import KINDS, PROCESS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

__all__ = [
    "DEFAULT_CUSTOMERS",
    "ChangedScorecard",
    "DataPlan",
    "SourceChanges",
    "SourceSummary",
    "change_source",
    "make_source",
]

_ACTIONS = ("edited", "rescored", "moved", "retimed", "appealed", "deleted", "added")

#: What the statements say of the times of further kinds, which are in columns of their own.
_TIMES = [(kind.time_column, kind.template_type) for kind in KINDS if not kind.is_of_conversations and kind != PROCESS]
_FURTHER = {
    "/* further times */": "".join(
        f"CASE WHEN c.template_type = {number} THEN c.event_at END AS {column}, " for column, number in _TIMES
    ),
    "/* further columns */": "".join(f"{column}, " for column, _ in _TIMES),
}


@dataclass(frozen=True)
class SourceSummary:
    """Rows made; appeals, of every kind, are counted apart."""

    templates: int
    template_revisions: int
    process_scorecards: int
    process_scores: int
    conversation_scorecards: int
    conversation_scores: int
    appeal_scorecards: int
    appeal_scores: int
    chats: int
    scorecards: int
    scores: int


@dataclass(frozen=True)
class ChangedScorecard:
    """A scorecard that was changed. The days are where ClickHouse must show it: None = not at all."""

    customer: str
    profile: str
    scorecard_id: UUID
    day_before: date | None
    day_after: date | None


@dataclass(frozen=True)
class SourceChanges:
    """What `change_source` did. No scorecard is in two of the tuples.

    Attributes:
        edited: the scorecard (score, submission, updated_at) and all its scores' values.
        rescored: a text of one score, and nothing of the scorecard, not even its updated_at.
        moved: to another day of the plan (a plan of one day has none).
        retimed: by one second within its day, so that it belongs on the next shard.
        appealed: turned into an appeal, so that it leaves ClickHouse.
        deleted: with its scores.
        added: with its scores.
        scores_changed: score rows updated by `edited` and `rescored`.
    """

    edited: tuple[ChangedScorecard, ...]
    rescored: tuple[ChangedScorecard, ...]
    moved: tuple[ChangedScorecard, ...]
    retimed: tuple[ChangedScorecard, ...]
    appealed: tuple[ChangedScorecard, ...]
    deleted: tuple[ChangedScorecard, ...]
    added: tuple[ChangedScorecard, ...]
    scores_changed: int
    scores_deleted: int
    scores_added: int

    @property
    def scorecards(self) -> tuple[ChangedScorecard, ...]:
        return tuple(change for action in _ACTIONS for change in getattr(self, action))

    @property
    def slices(self) -> frozenset[tuple[str, date]]:
        """The customer-days that ClickHouse shows wrongly until they are repaired."""
        return frozenset(
            (change.customer, day)
            for change in self.scorecards
            for day in (change.day_before, change.day_after)
            if day is not None
        )


def make_source(connection: Connection, plan: DataPlan) -> SourceSummary:
    """Fills the empty tables of a source (local/stack/source.sql), commits, and leaves the planner's statistics up to date."""
    with _transaction(connection) as cursor:
        _make_revisions(cursor, plan)
        cursor.execute(_sql("made_templates"), {"templates_since": _midnight(plan.first_day - timedelta(days=90))})
        _make_rows(cursor, plan, slots_of(plan), made_by=f"plan {plan.seed}", seed=plan.seed * 1_000, first_number=0)
        cursor.execute(_COUNT_MADE)
        [counts] = cursor.fetchall()
        return SourceSummary(*map(int, counts))


def change_source(connection: Connection, plan: DataPlan, seed: int) -> SourceChanges:
    """The application's ordinary life on a source made by `make_source(plan)`: one round of edits, in one transaction.

    A round needs a seed of its own: the scorecards that it adds are named by it.
    """
    with _transaction(connection) as cursor:
        cursor.execute(
            _sql("made_changes"),
            {
                "customers": list(plan.customers),
                "since": _midnight(plan.first_day),
                "until": _midnight(plan.last_day + timedelta(days=1)),
                "first_day": plan.first_day,
                "days": plan.days,
                "process_type": PROCESS.template_type,
                "share": CHANGE_SHARE,
                "seed": seed,
            },
        )
        _make_revisions(cursor, plan)
        slots = slots_to_add(plan, seed)
        # Numbers 0, 1 and 2 have a meaning (made_scorecards.sql), and what is added has none.
        _make_rows(cursor, plan, slots, made_by=f"round {plan.seed} {seed}", seed=seed * 1_000 + 500, first_number=10)
        cursor.execute(_COUNT_CHANGED)
        [(scores_changed, scores_deleted, scores_added)] = cursor.fetchall()
        cursor.execute(_LIST_CHANGED)
        changed: dict[str, list[ChangedScorecard]] = {action: [] for action in _ACTIONS}
        for action, customer, profile, scorecard_id, day_before, day_after in cursor.fetchall():
            change = ChangedScorecard(customer, profile, UUID(scorecard_id), day_before, day_after)
            changed[action].append(change)
        return SourceChanges(
            **{action: tuple(changes) for action, changes in changed.items()},
            scores_changed=int(scores_changed),
            scores_deleted=int(scores_deleted),
            scores_added=int(scores_added),
        )


_COUNT_MADE = """
SELECT
    (SELECT count(*) FROM made_revisions WHERE revision = 0),
    (SELECT count(*) FROM made_revisions),
    count(*) FILTER (WHERE template_type = 2 AND coalesce(scorecard_type, 0) = 0),
    coalesce(sum(criteria) FILTER (WHERE template_type = 2 AND coalesce(scorecard_type, 0) = 0), 0),
    count(*) FILTER (WHERE template_type = 1 AND coalesce(scorecard_type, 0) = 0),
    coalesce(sum(criteria) FILTER (WHERE template_type = 1 AND coalesce(scorecard_type, 0) = 0), 0),
    count(*) FILTER (WHERE scorecard_type > 0),
    coalesce(sum(criteria) FILTER (WHERE scorecard_type > 0), 0),
    count(DISTINCT (customer, profile, conversation_id)) FILTER (WHERE template_type = 1),
    count(*),
    coalesce(sum(criteria), 0)
FROM made_scorecards
"""

_COUNT_CHANGED = """
SELECT
    coalesce(sum(scores) FILTER (WHERE action IN ('edited', 'rescored')), 0),
    coalesce(sum(scores) FILTER (WHERE action = 'deleted'), 0),
    (SELECT coalesce(sum(criteria), 0) FROM made_scorecards)
FROM made_changes
"""

_LIST_CHANGED = """
SELECT
    action,
    customer,
    profile,
    scorecard_id::text,
    (time_before AT TIME ZONE 'UTC')::date,
    (time_after AT TIME ZONE 'UTC')::date
FROM made_changes
UNION ALL
SELECT 'added', customer, profile, scorecard_id::text, NULL, day
FROM made_scorecards
ORDER BY 1, 2, 3, 4
"""


def _make_revisions(cursor: Cursor, plan: DataPlan) -> None:
    pairs = [(customer, profile) for customer, profiles in plan.customers.items() for profile in profiles]
    cursor.execute(
        _sql("made_revisions"),
        {
            "customers": [customer for customer, _ in pairs],
            "profiles": [profile for _, profile in pairs],
            "types": [kind.template_type for kind in KINDS for _ in templates_of(kind)],
            "criteria": list(plan.criteria),
            "seed": plan.seed,
        },
    )


def _make_rows(cursor: Cursor, plan: DataPlan, slots: list[Slot], made_by: str, seed: int, first_number: int) -> None:
    """Makes the slots' scorecards with their scores and chats, and leaves them in the table made_scorecards too."""
    parameters = {
        "customer": [slot.customer for slot in slots],
        "profile": [slot.profile for slot in slots],
        "day": [slot.day for slot in slots],
        "template_type": [slot.kind.template_type for slot in slots],
        "first_template": [templates_of(slot.kind).start for slot in slots],
        "templates": [len(templates_of(slot.kind)) for slot in slots],
        "normal": [slot.normal for slot in slots],
        "appeals": [slot.appeals for slot in slots],
        "first_number": first_number,
        "round": made_by,
        "seed": seed,
        "phrases": list(PHRASES),
    }
    cursor.execute(_sql("made_scorecards"), parameters)
    cursor.execute(_sql("made_rows"), parameters)


@contextmanager
def _transaction(connection: Connection) -> Iterator[Cursor]:
    """One transaction, also on a connection that commits by itself; at its end the tables are analyzed."""
    with connection, connection.cursor() as cursor:
        # The same texts of dates whatever the server's settings; and compiling them costs more than it gives.
        cursor.execute("SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL jit = off")
        yield cursor
        for relation in (
            "director.scorecard_templates",
            "director.scorecard_template_revisions",
            "director.scorecards",
            "historic.scorecard_scores",
            "app.chats",
        ):
            cursor.execute(f"ANALYZE {relation}")


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _sql(name: str) -> str:
    text = (files("reindex_assets.local.data") / f"{name}.sql").read_text(encoding="utf-8")
    for mark, further in _FURTHER.items():
        text = text.replace(mark, further)
    return text
