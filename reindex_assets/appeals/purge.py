"""The purge of appeals: looks for them in ClickHouse, deletes them, and looks again.

What lives here: its order and its safety. What does not: the statements (appeals/queries.py, clickhouse/staging.py), what came out
(appeals/report.py), and Dagster (defs/assets/appeals.py).

1. Every appeal of the customers is read from Postgres and matched with the live rows on every shard. Meant are the rows that stand on one
   of the days, and, wherever they stand, those of appeals that are of one of the days in Postgres. A dry run ends here.
2. The first of them, by day and customer, are removed block by block. A block holds the slices in which its rows stand, by the locks that
   runs take, and asks Postgres again whether they still are appeals: then scorecards go on every shard, and after that their scores.
3. Everything is looked for again, on the real tables.

Nothing is kept between runs: the next one asks what is left. A row as new as the block's snapshot of Postgres, or newer, stays: whoever
wrote it has seen a later Postgres, where the scorecard may be no appeal any more. The next run has a later snapshot.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import TypeVar

import pyarrow as pa

from reindex_assets.appeals import queries as appeal_places
from reindex_assets.appeals.queries import FoundRows, Identity, identity_of
from reindex_assets.appeals.report import AppealLook, CustomerAppeals, PurgeReport
from reindex_assets.clickhouse import staging
from reindex_assets.clickhouse.schema import check_schema
from reindex_assets.clickhouse.shards import ShardConnection, ShardSet
from reindex_assets.clickhouse.staging import KEYS_PER_DELETE, Key, StagingNames
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ConfigurationError, ReindexError
from reindex_assets.model import CONVERSATION, SCORE, SCORECARD, Kind, Slice, Table, days_between
from reindex_assets.placement.layout import contradiction
from reindex_assets.placement.records import is_unknown, read_records
from reindex_assets.reindex.connections import Engines
from reindex_assets.reindex.writer import drop_orphaned_staging_tables
from reindex_assets.selection.groups import MAX_SLICES, SliceGroup, slice_group
from reindex_assets.selection.rectangles import plan_rectangles
from reindex_assets.selection.source_sql import source_scope

T = TypeVar("T")

#: Appeals of which a look names the places.
_EXAMPLES = 20
#: The chosen ones are held in memory, 100 bytes each and a few hundred at their turn.
MOST_SCORECARDS = 500_000


@dataclass(frozen=True)
class PurgeOptions:
    """What an operator may choose.

    Attributes:
        dry_run: look, and delete nothing.
        max_scorecards: appeals that one run removes; the next one goes on.
        attempts: tries after a passing fault.
    """

    dry_run: bool = True
    max_scorecards: int = 20_000
    attempts: int = 4


@dataclass(frozen=True)
class PurgeProgress:
    """How far a purge is, in appeals: of the `total` that this run removes, `done`."""

    done: int
    total: int


def plan_purges(fleet: Fleet, customers: Sequence[str], first_day: date, last_day: date) -> dict[str, SliceGroup]:
    """What to look for in each cluster: the customers (none named: all) that live there.

    Raises:
        ConfigurationError: an unknown customer, a range that runs backwards, or days before the fleet's first.
    """
    named: dict[str, list[str]] = defaultdict(list)
    for rectangle in plan_rectangles(fleet, customers, first_day, last_day):
        named[rectangle.cluster_name] += rectangle.customers
    return {
        # Its time is looked up; that of the other kind stands in the scorecard.
        cluster_name: slice_group(fleet.dataset(cluster_name, CONVERSATION), names, days_between(first_day, last_day))
        for cluster_name, names in named.items()
    }


class AppealPurge:
    """One run over some customers and days of one cluster.

    Args:
        group: of `plan_purges`.
        on_progress: called after every block.
        on_retry: called with a sentence whenever something is tried again.
    """

    def __init__(
        self,
        fleet: Fleet,
        cluster_name: str,
        group: SliceGroup,
        options: PurgeOptions | None = None,
        run_id: str = "",
        on_progress: Callable[[PurgeProgress], None] = lambda progress: None,
        on_retry: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._cluster_name = cluster_name
        self._cluster = fleet.clusters[cluster_name]
        self._datasets = fleet.datasets(cluster_name)
        self._group = group
        self._options = options or PurgeOptions()
        self._run_id = run_id
        self._on_progress = on_progress
        self._on_retry = on_retry
        self._looks = 0
        self._deleted: Counter[tuple[str, str]] = Counter()
        if not 1 <= self._options.max_scorecards <= MOST_SCORECARDS:
            raise ConfigurationError(
                f"{self._options.max_scorecards:,} appeals can't be removed by one run: name 1 to {MOST_SCORECARDS:,}; "
                "the next run goes on with what is left"
            )

    def run(self) -> PurgeReport:
        """Looks, deletes and looks again.

        Raises:
            ReindexError: an engine can't be reached, another run holds the slices, or the schema is wrong. What was deleted before is
                deleted, and the message says so.
        """
        comment = f"reindex_assets purge {self._run_id}".rstrip()
        with Engines(self._cluster, comment, self._options.attempts, self._on_retry) as engines:
            engines.retrying("the check of the shards", lambda: self._check_shards(engines))
            before, chosen = engines.retrying("the look for appeals", lambda: self._look(engines))
            report = PurgeReport(self._cluster_name, self._group, self._options.dry_run, before)
            if self._options.dry_run or not before.found.appeals:
                return report
            assert chosen is not None
            self._delete(engines, chosen.places)
            after, _ = engines.retrying("the proof", lambda: self._look(engines, chosen.identities))
            return replace(report, after=after, attempted=chosen.identities.num_rows, deleted=self._deleted)

    def _check_shards(self, engines: Engines) -> None:
        shards = engines.shards
        check_schema(shards)
        records = read_records(shards)
        # Of shards that no run has written yet, all that can be known is the fleet file.
        refusal = None if is_unknown(records) else contradiction(shards, self._cluster_name, records)
        if refusal is not None:
            raise refusal
        drop_orphaned_staging_tables(shards, engines.source.is_owner_alive)

    # --- the look

    def _look(self, engines: Engines, attempted: pa.RecordBatch | None = None) -> tuple[AppealLook, _Chosen | None]:
        """What stands there; and the appeals that this run removes, unless it has removed them already: then whether they are gone."""
        session, shards = engines.source, engines.shards
        self._looks += 1
        names = StagingNames(session.owner, self._looks)
        try:
            shards.map(lambda shard: _create(shard, names))
            if attempted is not None:
                _insert(shards, names.identities, attempted)
            with session.snapshot(source_scope(self._group)) as snapshot:
                # An appeal that this Postgres does not know yet would be left out in silence.
                session.assert_not_lagging(snapshot)
                in_postgres: Counter[tuple[str, int]] = Counter()
                for batch in appeal_places.read_appeals(session, self._group):
                    in_postgres.update(appeal_places.count_asked(batch))
                    _insert(shards, names.appeals, batch)
            shards.map(lambda shard: appeal_places.match(shard, names, self._group))
            look = self._counted(shards, names, in_postgres, snapshot.microseconds, attempted is not None)
            if attempted is not None or self._options.dry_run or not look.found.appeals:
                return look, None
            return look, self._first(shards, names)
        finally:
            # A shard that can't be reached keeps its tables; the next run finds that their owner is gone, and drops them.
            mine = (names.appeals, names.appeal_places, names.identities)
            for connection in shards.connections:
                shards.submit(connection.index, lambda shard: staging.drop(shard, mine)).exception()

    def _counted(
        self,
        shards: ShardSet,
        names: StagingNames,
        in_postgres: Counter[tuple[str, int]],
        snapshot: int,
        was_attempted: bool,
    ) -> AppealLook:
        on_shards = shards.map(lambda shard: appeal_places.count_places(shard, names))
        stuck = shards.map(lambda shard: appeal_places.count_places(shard, names, attempted_only=True))
        examples = shards.map(lambda shard: appeal_places.examples(shard, names, _EXAMPLES, was_attempted))
        return AppealLook(
            snapshot,
            tuple(
                CustomerAppeals(
                    customer,
                    {type_: in_postgres[customer, type_] for type_ in appeal_places.TYPE_NAMES},
                    {
                        (shard, type_): found[customer, type_]
                        for shard, found in enumerate(on_shards)
                        for type_ in appeal_places.TYPE_NAMES
                        if (customer, type_) in found
                    },
                    len(shards),
                )
                for customer in self._group.customer_names
            ),
            sum((rows for found in stuck for rows in found.values()), FoundRows()),
            tuple(sorted((one for some in examples for one in some), key=lambda one: (one.day, one.customer)))[
                :_EXAMPLES
            ],
        )

    def _first(self, shards: ShardSet, names: StagingNames) -> _Chosen:
        limit = self._options.max_scorecards
        of_shards = shards.map(lambda shard: appeal_places.first_appeals(shard, names, limit))
        first = appeal_places.first_of_all(of_shards, limit)
        _insert(shards, names.identities, first)
        return _Chosen(first, shards.map(lambda shard: appeal_places.places_of_attempted(shard, names)))

    # --- the purge

    def _delete(self, engines: Engines, places: list[list[Key]]) -> None:
        blocks = list(purge_blocks(places))
        done, total = 0, sum(len(block) for block in blocks)
        self._on_progress(PurgeProgress(done, total))
        for block in blocks:
            try:
                engines.retrying(f"{len(block)} appeals", partial(self._delete_block, engines, block))
            except ReindexError as error:
                raise type(error)(
                    f"{error}. {done:,} of {total:,} appeals were removed before; run it again, and it goes on with what is left"
                ) from None
            done += len(block)
            self._on_progress(PurgeProgress(done, total))

    def _delete_block(self, engines: Engines, block: _Block) -> None:
        session, shards = engines.source, engines.shards
        with ExitStack() as locks:
            for dataset in self._datasets:
                locks.enter_context(session.locked(dataset.lock_scope, _slices(block, dataset.kind)))
            # After the locks: a run that has just ended has seen this Postgres or an earlier one.
            with session.snapshot(source_scope(self._group)) as snapshot:
                still = appeal_places.still_appeals(session, self._group, block)
            session.assert_alive()
            keys: list[list[Key]] = [[] for _ in shards.connections]
            for identity in still:
                for shard, key in block[identity]:
                    keys[shard].append(key)
            self._delete_rows(shards, SCORECARD, keys, snapshot.microseconds)
            # A scorecard that stays, because it is newer, keeps its scores.
            staying = {
                identity_of(key)
                for found in shards.map(
                    lambda shard: staging.count_rows_at(shard, SCORECARD, keys[shard.index], _ANY_VERSION)
                )
                for key in found
            }
            keys = [[key for key in of_shard if identity_of(key) not in staying] for of_shard in keys]
            self._delete_rows(shards, SCORE, keys, snapshot.microseconds)

    def _delete_rows(self, shards: ShardSet, table: Table, keys: list[list[Key]], older_than: int) -> None:
        """Deletes on all shards at once, and counts the rows by customer."""

        def delete(shard: ShardConnection) -> dict[Key, int]:
            there = staging.count_rows_at(shard, table, keys[shard.index], older_than)
            staging.delete_rows(shard, table, list(there), older_than)
            return there

        for there in shards.map(delete):
            for key, rows in there.items():
                self._deleted[str(key[table.key.index("customer")]), table.name] += rows


#: Above every version: the column is a UInt64.
_ANY_VERSION = 2**64 - 1

#: The places of each of some scorecards: shard and key.
_Block = dict[Identity, list[tuple[int, Key]]]


@dataclass(frozen=True)
class _Chosen:
    """The appeals that a run removes: their identities as rows, and their places by shard."""

    identities: pa.RecordBatch
    places: list[list[Key]]


def purge_blocks(places: list[list[Key]]) -> Iterator[_Block]:
    """Whole scorecards by day and customer, in blocks of about as many places as one DELETE names and one session may lock slices."""
    day, customer = SCORECARD.key.index("day"), SCORECARD.key.index("customer")
    ordered = sorted(
        ((shard, key) for shard, keys in enumerate(places) for key in keys),
        key=lambda place: (place[1][day], place[1][customer], identity_of(place[1])),
    )
    of_scorecard: _Block = defaultdict(list)
    for shard, key in ordered:
        of_scorecard[identity_of(key)].append((shard, key))
    block: _Block = {}
    slices: set[tuple[object, ...]] = set()
    size = 0
    for identity, found in of_scorecard.items():
        own = {key[: day + 1] for _, key in found}
        if block and (size + len(found) > KEYS_PER_DELETE or len(slices | own) > MAX_SLICES):
            yield block
            block, size, slices = {}, 0, set()
        block[identity] = found
        slices |= own
        size += len(found)
    if block:
        yield block


def _slices(block: _Block, kind: Kind) -> set[Slice]:
    """The slices of a kind in which the places of a block stand."""
    customer, type_, day = (SCORECARD.key.index(name) for name in ("customer", "template_type", "day"))
    return {
        Slice.of_row({"customer": key[customer], "day": key[day]})
        for found in block.values()
        for _, key in found
        if key[type_] == kind.template_type
    }


def _create(shard: ShardConnection, names: StagingNames) -> None:
    appeal_places.create(shard, names)
    staging.create_identities(shard, names)


def _insert(shards: ShardSet, table: str, rows: pa.RecordBatch) -> None:
    """The same rows to every shard; returns when all have them, so that no more than one batch is in memory."""
    block = appeal_places.block_of(rows).finish()
    shards.map(lambda shard: shard.insert(table, block))
