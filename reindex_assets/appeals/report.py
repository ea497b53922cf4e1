"""The report of a purge of appeals: what it found and did, in numbers and one sentence.

What lives here: the reports for the UI, the terminal and programs. What does not: the purge itself (appeals/purge.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from reindex_assets.appeals.queries import TYPE_NAMES, AppealCounts, AppealPlace
from reindex_assets.model import CHILD, PARENT
from reindex_assets.selection.groups import SliceGroup


@dataclass(frozen=True)
class CustomerAppeals:
    """One customer's appeals on both sides.

    Attributes:
        in_postgres: appeals of the requested days, by type.
        on_shards: rows in ClickHouse, by shard and type.
    """

    customer: str
    in_postgres: Mapping[int, int]
    on_shards: Mapping[tuple[int, int], AppealCounts]
    shard_count: int

    @property
    def found(self) -> AppealCounts:
        """On all shards. An appeal that is on two shards counts twice among the `appeals`."""
        return sum(self.on_shards.values(), AppealCounts())

    def of_type(self, type_: int) -> AppealCounts:
        return sum((rows for (_, row_type), rows in self.on_shards.items() if row_type == type_), AppealCounts())

    def of_shard(self, shard: int) -> AppealCounts:
        return sum((rows for (on_shard, _), rows in self.on_shards.items() if on_shard == shard), AppealCounts())


@dataclass(frozen=True)
class AppealSnapshot:
    """The appeals in both engines at one moment.

    Attributes:
        read_at: when Postgres was read, in microseconds.
        stuck: rows that this run has tried to remove and that are still there.
        examples: some places; after a purge, only of `stuck`.
    """

    read_at: int
    customers: tuple[CustomerAppeals, ...]
    stuck: AppealCounts
    examples: tuple[AppealPlace, ...]

    @property
    def found(self) -> AppealCounts:
        return sum((customer.found for customer in self.customers), AppealCounts())


class Outcome(StrEnum):
    """How a purge ended, or what a dry run found."""

    CLEAN = "ClickHouse has no appeals"
    FOUND = "ClickHouse has appeals, and none was to be deleted"
    MORE_LEFT = "some appeals are left for the next run"
    STUCK = "appeals that were deleted are still there, or again"


@dataclass(frozen=True, kw_only=True)
class PurgeReport:
    """One run over some customers and days of a cluster.

    Attributes:
        after: what is there after the deletes; None when there was nothing to delete, and in a dry run.
        attempted: how many appeals the run tried to remove.
        deleted: how many rows, by customer and table.
    """

    cluster_name: str
    group: SliceGroup
    dry_run: bool
    before: AppealSnapshot
    after: AppealSnapshot | None = None
    attempted: int = 0
    deleted: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @property
    def latest(self) -> AppealSnapshot:
        return self.after or self.before

    @property
    def outcome(self) -> Outcome:
        if not self.latest.found.appeals:
            return Outcome.CLEAN
        if self.after is None:
            return Outcome.FOUND
        return Outcome.STUCK if self.after.stuck.appeals else Outcome.MORE_LEFT

    def deleted_rows(self, table_name: str, customer: str | None = None) -> int:
        """How many rows were deleted from a table, of one customer or of all."""
        return sum(
            rows for (owner, name), rows in self.deleted.items() if name == table_name and customer in (None, owner)
        )

    @property
    def sentence(self) -> str:
        """What was found and done, and what to do next."""
        where = f"{self.cluster_name}, {self.group}"
        left = rows_words(self.latest.found)
        done = f"{self.deleted_rows(PARENT):,} scorecards and {self.deleted_rows(CHILD):,} scores of appeals deleted"
        match self.outcome:
            case Outcome.CLEAN:
                shards = f"{self.latest.customers[0].shard_count} shards"
                return f"{where}: {done if self.after else 'nothing to do'}; ClickHouse has no appeals on any of its {shards}"
            case Outcome.FOUND:
                return f"{where}: {left} in ClickHouse; nothing was deleted, because this was a dry run"
            case Outcome.MORE_LEFT:
                return f"{where}: {done}; left: {left}. Run it again to continue with them"
            case Outcome.STUCK:
                examples = ", ".join(place_words(place) for place in self.latest.examples[:3])
                return (
                    f"{where}: {done}, but some of what this run tried to delete is still there, or there again: "
                    f"{rows_words(self.latest.stuck)}, for example {examples}. Find out what writes them, then run it again. Rows that "
                    "still remain after that have a version in the future"
                )


def rows_words(rows: AppealCounts) -> str:
    """
    >>> rows_words(AppealCounts(2, 2, 9)), rows_words(AppealCounts(1, 0, 4))
    ('2 appeals (2 scorecard rows, 9 score rows)', '1 appeal (0 scorecard rows, 4 score rows)')
    """
    noun = "appeal" if rows.appeals == 1 else "appeals"
    return f"{rows.appeals:,} {noun} ({rows.scorecards:,} scorecard rows, {rows.scores:,} score rows)"


def place_words(place: AppealPlace) -> str:
    return f"{place.customer}/{place.profile} {place.scorecard_id} of {place.day} on shard {place.shard}"


def customer_rows(report: PurgeReport) -> list[dict[str, str | int]]:
    """One row per customer: appeals on both sides, rows on each shard, and what was deleted."""
    rows: list[dict[str, str | int]] = []
    for before, latest in zip(report.before.customers, report.latest.customers, strict=True):
        row: dict[str, str | int] = {
            "customer": before.customer,
            **{f"postgres_{name}": before.in_postgres[type_] for type_, name in TYPE_NAMES.items()},
            **{f"clickhouse_{name}": before.of_type(type_).appeals for type_, name in TYPE_NAMES.items()},
            "scorecard_rows": before.found.scorecards,
            "score_rows": before.found.scores,
        }
        for shard in range(before.shard_count):
            row[f"shard_{shard}"] = before.of_shard(shard).scorecards + before.of_shard(shard).scores
        if not report.dry_run:
            row["scorecards_deleted"] = report.deleted_rows(PARENT, before.customer)
            row["scores_deleted"] = report.deleted_rows(CHILD, before.customer)
            row["left"] = latest.found.appeals
        rows.append(row)
    return rows


def example_rows(places: Sequence[AppealPlace]) -> list[dict[str, str | int]]:
    """One row per place."""
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
