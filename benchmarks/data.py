"""The data of the suite: the replay's plan with an exact number of scorecards, tiny slices, and a few changes.

What lives here: plans, windows over them, and edits in Postgres. What does not: making rows (reindex_assets.local.data.made_data).

The mix of templates follows the seeds where they give it: 8 process templates among 29 conversation templates (the data maker's own
numbers), with as many criteria as bring the scores near the seeds' 5,131,036 (3.1 per scorecard).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from psycopg2.extensions import connection as Connection

from benchmarks.sizes import Size
from reindex_assets.local.data.made_plan import DataPlan, day_size
from reindex_assets.model import Slice, days_between

REPLAY_FIRST_DAY = date(2026, 1, 1)
REPLAY_CUSTOMER = "spirit"
CRITERIA = (1, 3, 3, 3, 3, 4, 4, 4)

#: One to three scorecards per customer and day.
_TINY_SCALE = 0.00005
#: 150 to 570.
_FLEET_SCALE = 0.01


@dataclass(frozen=True)
class Window:
    """The customers and days of one run."""

    customers: tuple[str, ...]
    first_day: date
    last_day: date

    @staticmethod
    def of(plan: DataPlan, days: int | None = None) -> Window:
        """The first days of a plan; all of them by default."""
        return Window(tuple(plan.customers), plan.first_day, plan.first_day + timedelta(days=(days or plan.days) - 1))

    @property
    def days(self) -> list[date]:
        return days_between(self.first_day, self.last_day)

    @property
    def slices(self) -> list[Slice]:
        return [Slice(customer, day) for customer in self.customers for day in self.days]

    def __str__(self) -> str:
        days = len(self.days)
        who = "1 customer" if len(self.customers) == 1 else f"{len(self.customers)} customers"
        return f"{who} x {days} day{'s' if days > 1 else ''}"


def replay_plan(size: Size) -> DataPlan:
    """One customer's days, with exactly the size's number of process scorecards."""
    plan = DataPlan({REPLAY_CUSTOMER: ("main",)}, REPLAY_FIRST_DAY, size.days, criteria=CRITERIA)
    return replace(plan, scale=scale_for(plan, size.scorecards))


def tiny_slices_plan(size: Size) -> DataPlan:
    """Many nearly empty customers, up to yesterday, so that the fleet has no other partitions than the backfill's and today's."""
    return _many_customers(size.window_customers, size.window_days, _TINY_SCALE)


def fleet_plan(size: Size) -> DataPlan:
    """Some customers with hundreds of scorecards a day, so that runs have work to do, and outnumber the workers."""
    scale = _FLEET_SCALE if size.scorecards > 1_000 else _TINY_SCALE
    return _many_customers(min(size.window_customers or 1, 12), min(size.window_days, 8), scale)


def _many_customers(count: int, days: int, scale: float) -> DataPlan:
    customers = {f"customer-{number:02}": ("main",) for number in range(1, count + 1)}
    first = datetime.now(UTC).date() - timedelta(days=days)
    return DataPlan(customers, first, days, scale=scale, criteria=CRITERIA)


def scale_for(plan: DataPlan, scorecards: int) -> float:
    """The scale at which a plan makes that many process scorecards, found by bisection.

    Raises:
        ValueError: no scale makes exactly that many, because several days grow by one at the same scale.
    """
    low, high = 0.0, 2.0 * scorecards / plan.days
    for _ in range(200):
        scale = (low + high) / 2
        made = planned_scorecards(replace(plan, scale=scale))
        if made == scorecards:
            return scale
        low, high = (scale, high) if made < scorecards else (low, scale)
    raise ValueError(f"no scale of the plan makes {scorecards:,} process scorecards")


def planned_scorecards(plan: DataPlan) -> int:
    """The number of a plan's process scorecards, without appeals."""
    return sum(day_size(plan, customer, day) for customer in plan.customers for day in plan.all_days)


@dataclass(frozen=True)
class Changed:
    """What `change_rows` has edited."""

    days: int
    scorecards: int
    scores: int

    @property
    def rows(self) -> int:
        return self.scorecards + self.scores


_CHANGE_SCORECARDS = """
WITH chosen AS (
    SELECT c.customer, c.profile, c.scorecard_id
    FROM director.scorecards AS c
    JOIN director.scorecard_template_revisions AS r USING (customer, profile, template_id, template_revision_id)
    WHERE r.template_type = 2
        AND coalesce(c.scorecard_type, 0) = 0
        AND (c.process_interaction_at AT TIME ZONE 'UTC')::date = ANY(%(days)s::date[])
    ORDER BY md5(c.scorecard_id::text || %(round)s::text)
    LIMIT %(scorecards)s
)
UPDATE director.scorecards AS c
SET score = 100 + %(round)s, updated_at = c.updated_at + interval '1 second'
FROM chosen
WHERE (c.customer, c.profile, c.scorecard_id) = (chosen.customer, chosen.profile, chosen.scorecard_id)
RETURNING c.scorecard_id::text
"""
_CHANGE_SCORES = """
UPDATE historic.scorecard_scores
SET weight = 100 + %(round)s
WHERE customer = ANY(%(customers)s) AND scorecard_id = ANY(%(scorecards)s::uuid[])
"""


def change_rows(
    connection: Connection, window: Window, scorecards: int, share_of_days: float, round_number: int
) -> Changed:
    """Edits some of the window's scorecards with all their scores, on a share of its days, in one transaction."""
    number = max(1, round(len(window.days) * share_of_days))
    step = len(window.days) // number
    days = [window.days[position * step] for position in range(number)]
    connection.autocommit = False
    with connection, connection.cursor() as cursor:
        cursor.execute(_CHANGE_SCORECARDS, {"days": days, "round": round_number, "scorecards": scorecards})
        changed = [row[0] for row in cursor.fetchall()]
        cursor.execute(
            _CHANGE_SCORES, {"customers": list(window.customers), "scorecards": changed, "round": round_number}
        )
        return Changed(number, len(changed), cursor.rowcount)
