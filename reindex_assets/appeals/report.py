"""What a purge of appeals found and did, as numbers and one sentence.

What lives here: the reports, for the UI, the terminal and programs alike. What does not: how they come about (appeals/purge.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from reindex_assets.appeals.queries import TYPE_NAMES, AppealPlace, FoundRows
from reindex_assets.model import SCORE, SCORECARD
from reindex_assets.selection.groups import SliceGroup


@dataclass(frozen=True)
class CustomerAppeals:
    """One customer's appeals on both sides.

    Attributes:
        in_postgres: of the days that were asked for, by type.
        on_shards: rows in ClickHouse, by shard and type.
    """

    customer: str
    in_postgres: Mapping[int, int]
    on_shards: Mapping[tuple[int, int], FoundRows]
    shard_count: int

    @property
    def found(self) -> FoundRows:
        """On all shards; an appeal that stands on two of them counts twice among the `appeals`."""
        return sum(self.on_shards.values(), FoundRows())

    def of_type(self, type_: int) -> FoundRows:
        return sum((rows for (_, other), rows in self.on_shards.items() if other == type_), FoundRows())

    def of_shard(self, shard: int) -> FoundRows:
        return sum((rows for (other, _), rows in self.on_shards.items() if other == shard), FoundRows())


@dataclass(frozen=True)
class AppealLook:
    """What stood in both engines at one look.

    Attributes:
        snapshot: when Postgres was read, microseconds.
        stuck: of what this run has tried to remove.
        examples: some places; after a purge only of `stuck`.
    """

    snapshot: int
    customers: tuple[CustomerAppeals, ...]
    stuck: FoundRows
    examples: tuple[AppealPlace, ...]

    @property
    def found(self) -> FoundRows:
        return sum((one.found for one in self.customers), FoundRows())


class Outcome(StrEnum):
    """How a purge ended, or what a dry run found."""

    CLEAN = "no appeal stands in ClickHouse"
    FOUND = "appeals stand in ClickHouse"
    MORE_LEFT = "others are left for the next run"
    STUCK = "some stand there still, or again"


@dataclass(frozen=True)
class PurgeReport:
    """One run over some customers and days of a cluster.

    Attributes:
        after: the look that proves it; None when nothing was to be deleted, or it was a dry run.
        attempted: appeals that the run was to remove.
        deleted: rows, by customer and table.
    """

    cluster_name: str
    group: SliceGroup
    dry_run: bool
    before: AppealLook
    after: AppealLook | None = None
    attempted: int = 0
    deleted: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def latest(self) -> AppealLook:
        return self.after or self.before

    @property
    def outcome(self) -> Outcome:
        if not self.latest.found.appeals:
            return Outcome.CLEAN
        if self.after is None:
            return Outcome.FOUND
        return Outcome.STUCK if self.after.stuck.appeals else Outcome.MORE_LEFT

    def deleted_rows(self, table_name: str, customer: str | None = None) -> int:
        """Rows deleted from a table, of one customer or all."""
        return sum(
            rows for (whose, name), rows in self.deleted.items() if name == table_name and customer in (None, whose)
        )

    @property
    def sentence(self) -> str:
        """The verdict, with what to do next."""
        where = f"{self.cluster_name}, {self.group}"
        left = rows_words(self.latest.found)
        done = f"{self.deleted_rows(SCORECARD.name):,} scorecards and {self.deleted_rows(SCORE.name):,} scores of appeals deleted"
        match self.outcome:
            case Outcome.CLEAN:
                shards = f"every one of {self.latest.customers[0].shard_count} shards was asked"
                return f"{where}: {done if self.after else 'nothing to do'}; no appeal stands in ClickHouse, {shards}"
            case Outcome.FOUND:
                return f"{where}: {left} in ClickHouse; nothing was deleted, this was a dry run"
            case Outcome.MORE_LEFT:
                return f"{where}: {done}; {left} are left: run it again, it goes on with them"
            case Outcome.STUCK:
                named = ", ".join(place_words(place) for place in self.latest.examples[:3])
                return (
                    f"{where}: {done}, but of what was to go {rows_words(self.latest.stuck)} still there or again there: {named}. Somebody "
                    "writes them: find out who. Run it again; rows that stay all the same have a version in the future"
                )


def rows_words(rows: FoundRows) -> str:
    """
    >>> rows_words(FoundRows(2, 2, 9)), rows_words(FoundRows(1, 0, 4))
    ('2 appeals (2 scorecard rows, 9 score rows)', '1 appeal (0 scorecard rows, 4 score rows)')
    """
    noun = "appeal" if rows.appeals == 1 else "appeals"
    return f"{rows.appeals:,} {noun} ({rows.scorecards:,} scorecard rows, {rows.scores:,} score rows)"


def place_words(place: AppealPlace) -> str:
    """Where rows of an appeal stand."""
    return f"{place.customer}/{place.profile} {place.scorecard_id} of {place.day} on shard {place.shard}"


def customer_rows(report: PurgeReport) -> list[dict[str, str | int]]:
    """A row for each customer: both sides, each shard, and what became of it."""
    left = {one.customer: one.found for one in report.latest.customers}
    return [
        {
            "customer": one.customer,
            **{f"postgres_{name}": one.in_postgres[type_] for type_, name in TYPE_NAMES.items()},
            **{f"clickhouse_{name}": one.of_type(type_).appeals for type_, name in TYPE_NAMES.items()},
            "scorecard_rows": one.found.scorecards,
            "score_rows": one.found.scores,
            **{
                f"shard_{shard}": one.of_shard(shard).scorecards + one.of_shard(shard).scores
                for shard in range(one.shard_count)
            },
            **(
                {}
                if report.dry_run
                else {
                    "scorecards_deleted": report.deleted_rows(SCORECARD.name, one.customer),
                    "scores_deleted": report.deleted_rows(SCORE.name, one.customer),
                    "left": left[one.customer].appeals,
                }
            ),
        }
        for one in report.before.customers
    ]


def example_rows(places: Sequence[AppealPlace]) -> list[dict[str, str | int]]:
    """A row for each place."""
    return [
        {
            "customer": place.customer,
            "profile": place.profile,
            "scorecard": place.scorecard_id,
            "type": TYPE_NAMES[place.scorecard_type],
            "day": place.day.isoformat(),
            "shard": place.shard,
            "template_type": place.template_type,
            "scorecard_rows": place.rows.scorecards,
            "score_rows": place.rows.scores,
        }
        for place in places
    ]
