"""How much the data maker makes, and where: customers, days, uneven sizes.

What lives here: the plan, and its slots (a number of scorecards of a kind on a day of a profile). What does not: rows;
Postgres makes them (local/data/made_data.py, sql/made_*.sql).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from reindex_assets.model import KINDS, PROCESS, Kind, days_between

DEFAULT_CUSTOMERS: dict[str, tuple[str, ...]] = {"acme": ("main", "voice"), "globex": ("main",), "initech": ("main",)}

#: Process scorecards of a customer on one day, at scale 1.
SMALLEST_DAY, LARGEST_DAY = 15_000, 57_000
#: Appeals come on top of a day's scorecards, in turn of type 1, 2 and 3.
APPEAL_SHARE = 0.06
#: Share of the process scorecards to which `change_source` does one thing.
CHANGE_SHARE = 0.005

#: Templates of a profile; the first ones are of process scorecards, and the other kinds share the rest.
TEMPLATES, PROCESS_TEMPLATES = 37, 8


@dataclass(frozen=True)
class DataPlan:
    """What to make.

    Attributes:
        customers: name -> profiles.
        scale: 1.0 = the product's own size, 15,000 to 57,000 process scorecards a customer and day.
        conversation_share: conversation scorecards (and those of any further kind), made beside the process ones, as a share of them.
        criteria: of the templates, in turn; a scorecard has a score for each criterion of its template.
        weights: of a customer that has more or fewer scorecards than the scale says, by this factor.
    """

    customers: Mapping[str, tuple[str, ...]]
    first_day: date
    days: int
    scale: float = 0.01
    seed: int = 1
    conversation_share: float = 0.3
    criteria: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 9)
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def last_day(self) -> date:
        return self.first_day + timedelta(days=self.days - 1)

    @property
    def all_days(self) -> list[date]:
        return days_between(self.first_day, self.last_day)


@dataclass(frozen=True)
class Slot:
    """The number of scorecards of a kind on a day of a profile."""

    customer: str
    profile: str
    day: date
    kind: Kind
    normal: int
    appeals: int


def day_size(plan: DataPlan, customer: str, day: date) -> int:
    """Process scorecards that the plan gives a customer on a day, appeals not counted. Never zero."""
    span = LARGEST_DAY - SMALLEST_DAY
    scale = plan.scale * plan.weights.get(customer, 1.0)
    return max(1, round(scale * (SMALLEST_DAY + span * fraction(plan.seed, "size", customer, day))))


def slots_of(plan: DataPlan) -> list[Slot]:
    """Everything the plan asks for, in the order of time."""
    slots: list[Slot] = []
    for day in plan.all_days:
        for customer, profiles in plan.customers.items():
            size = day_size(plan, customer, day)
            for profile, process in zip(profiles, _split(size, len(profiles)), strict=True):
                for kind in KINDS:
                    normal = process if kind == PROCESS else round(process * plan.conversation_share)
                    appeals = max(3, round(normal * APPEAL_SHARE)) if normal else 0
                    slots.append(Slot(customer, profile, day, kind, normal, appeals))
    return slots


def templates_of(kind: Kind) -> range:
    """The numbers of a kind's templates.

    >>> templates_of(PROCESS), sum(len(templates_of(kind)) for kind in KINDS)
    (range(0, 8), 37)
    """
    if kind == PROCESS:
        return range(PROCESS_TEMPLATES)
    further = [further_kind for further_kind in KINDS if further_kind != PROCESS]
    number, templates = further.index(kind), TEMPLATES - PROCESS_TEMPLATES
    return range(*(PROCESS_TEMPLATES + templates * part // len(further) for part in (number, number + 1)))


def _split(size: int, parts: int) -> list[int]:
    """A size in uneven parts, each about twice the next.

    >>> _split(70, 3), _split(1, 2)
    ([40, 20, 10], [1, 0])
    """
    weights = [2**exponent for exponent in reversed(range(parts))]
    shares = [size * weight // sum(weights) for weight in weights]
    shares[0] += size - sum(shares)
    return shares


def slots_to_add(plan: DataPlan, seed: int) -> list[Slot]:
    """Process scorecards to add: the share of each day, the fraction left to chance, and one at the least."""
    slots: list[Slot] = []
    for day in plan.all_days:
        for customer, profiles in plan.customers.items():
            expected = day_size(plan, customer, day) * CHANGE_SHARE
            normal = int(expected + fraction(plan.seed, "added", seed, customer, day))
            if not slots and day == plan.last_day and customer == list(plan.customers)[-1]:
                normal = max(1, normal)
            if normal:
                slots.append(Slot(customer, profiles[0], day, PROCESS, normal, appeals=0))
    return slots


def fraction(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
