"""The purge of appeals: finds them in ClickHouse, deletes them, and searches again.

What lives here: its order and its safety. What does not: the statements (appeals/queries.py, clickhouse/deletes.py), the report
(appeals/report.py), and Dagster (defs/assets/appeals.py).

1. It reads every appeal of the customers from Postgres and matches them with the live rows on every shard. It selects the rows that
   are on one of the days, and the rows, on any day, of appeals whose day in Postgres is one of them. A dry run ends here.
2. It removes the first of them, by day and customer, in blocks. For each block it takes the locks of the slices that hold the rows, as runs
   do, and asks Postgres again which are still appeals. Their scorecards go first, on every shard, then their scores.
3. It searches the real tables again for everything.

It keeps nothing between runs: the next one finds out what is left. A row as new as the block's snapshot of Postgres, or newer, stays: its
writer has seen a later Postgres, in which the scorecard may no longer be an appeal. The next run has a later snapshot.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from itertools import chain

import pyarrow as pa

from reindex_assets.appeals import queries as appeal_places
from reindex_assets.appeals.queries import AppealCounts, Identity, identity_of
from reindex_assets.appeals.report import AppealSnapshot, CustomerAppeals, PurgeReport
from reindex_assets.clickhouse import deletes, staging
from reindex_assets.clickhouse.canary import prove
from reindex_assets.clickhouse.deletes import KEYS_PER_DELETE
from reindex_assets.clickhouse.insert_block import InsertBlock
from reindex_assets.clickhouse.keys import Key
from reindex_assets.clickhouse.schema import check_schema
from reindex_assets.clickhouse.shards import ShardConnection, ShardSet
from reindex_assets.clickhouse.staging import StagingNames
from reindex_assets.config.dataset import Dataset
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ConfigurationError, ReindexError
from reindex_assets.model import CONVERSATION, Kind, Slice, Table, days_between
from reindex_assets.placement.layout import contradiction
from reindex_assets.placement.records import is_unknown, read_records
from reindex_assets.reindex.connections import Engines
from reindex_assets.reindex.writer import drop_orphaned_staging_tables
from reindex_assets.retry import STEP
from reindex_assets.selection.groups import MAX_SLICES, SliceGroup, slice_group
from reindex_assets.selection.rectangles import plan_rectangles
from reindex_assets.selection.source_sql import source_scope

#: The most places that a report names.
_EXAMPLES = 20
#: The appeals to remove are in memory: 100 bytes each, and a few hundred while their block is being removed.
MAX_SCORECARDS = 500_000


@dataclass(frozen=True, kw_only=True)
class PurgeOptions:
    """The options of a purge.

    Attributes:
        dry_run: search, and delete nothing.
        max_scorecards: how many appeals one run removes; the next run continues.
        attempts: how often to try when a fault may pass.
    """

    dry_run: bool = True
    max_scorecards: int = 20_000
    attempts: int = STEP.attempts


@dataclass(frozen=True)
class PurgeProgress:
    """How many appeals a run has removed, of the `total` that it is going to remove."""

    done: int
    total: int


def plan_purges(fleet: Fleet, customers: Sequence[str], first_day: date, last_day: date) -> dict[str, SliceGroup]:
    """What to search in each cluster: the named customers who live there, or all customers if none are named.

    Raises:
        ConfigurationError: a customer is unknown, the range runs backwards, begins before the fleet's first day, or ends after today.
    """
    chosen: dict[Dataset, list[str]] = defaultdict(list)
    # The statements look up this kind's time. The others have their time in the scorecard.
    for rectangle in plan_rectangles(fleet, [CONVERSATION], customers, first_day, last_day):
        chosen[rectangle.dataset] += rectangle.customers
    days = days_between(first_day, last_day)
    return {dataset.cluster_name: slice_group(dataset, names, days) for dataset, names in chosen.items()}


class AppealPurge:
    """One run over some customers and days of one cluster.

    Args:
        group: from `plan_purges`.
        on_progress: called after every block.
        on_retry: called with a sentence before every retry.
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
        self._searches = 0
        self._deleted: Counter[tuple[str, str]] = Counter()
        if not 1 <= self._options.max_scorecards <= MAX_SCORECARDS:
            raise ConfigurationError(
                f"one run can't remove {self._options.max_scorecards:,} appeals: choose 1 to {MAX_SCORECARDS:,}; "
                "the next run continues with what is left"
            )

    def run(self) -> PurgeReport:
        """Searches, deletes, and searches again.

        Raises:
            ReindexError: an engine can't be reached, another run holds the slices, or the schema is wrong. What was deleted until then
                stays deleted, and the message says how much.
        """
        comment = f"reindex_assets purge {self._run_id}".rstrip()
        with Engines(self._cluster, comment, self._options.attempts, self._on_retry) as engines:
            engines.retrying("the check of the shards", lambda: self._check_shards(engines))
            before, chosen = engines.retrying("the search for appeals", lambda: self._search(engines))
            report = PurgeReport(
                cluster_name=self._cluster_name, group=self._group, dry_run=self._options.dry_run, before=before
            )
            if self._options.dry_run or not before.found.appeals:
                return report
            assert chosen is not None
            self._delete(engines, chosen.places)
            after, _ = engines.retrying("the search for what is left", lambda: self._search(engines, chosen.identities))
            return replace(report, after=after, attempted=chosen.identities.num_rows, deleted=self._deleted)

    def _check_shards(self, engines: Engines) -> None:
        shards = engines.shards
        check_schema(shards)
        records = read_records(shards)
        # When no run has written to the shards yet, there is no record to compare with the fleet file.
        refusal = None if is_unknown(records) else contradiction(shards, self._cluster_name, records)
        if refusal is not None:
            raise refusal
        drop_orphaned_staging_tables(shards, engines.source.is_owner_alive)

    # --- the search

    def _search(
        self, engines: Engines, attempted: pa.RecordBatch | None = None
    ) -> tuple[AppealSnapshot, _Chosen | None]:
        """What is there, and which appeals this run will remove.

        Args:
            attempted: the appeals that it has already removed. The search then shows whether they are gone, and selects no others.
        """
        session, shards = engines.source, engines.shards
        self._searches += 1
        names = StagingNames(owner=session.owner, group=self._searches)
        try:
            shards.map(lambda shard: _create(shard, names))
            if attempted is not None:
                _insert(shards, names.identities, attempted)
            with session.snapshot(source_scope(self._group)) as snapshot:
                # A lagging standby would silently leave out the newest appeals.
                session.assert_not_lagging(snapshot)
                in_postgres: Counter[tuple[str, int]] = Counter()
                for batch in appeal_places.read_appeals(session, self._group):
                    in_postgres.update(appeal_places.count_asked(batch))
                    _insert(shards, names.appeals, batch)
            shards.map(lambda shard: appeal_places.match(shard, names, self._group))
            appeals = self._counted(
                shards, names, in_postgres, snapshot.microseconds, was_attempted=attempted is not None
            )
            if attempted is not None or self._options.dry_run or not appeals.found.appeals:
                return appeals, None
            return appeals, self._first(shards, names)
        finally:
            # A shard that can't be reached keeps its tables. The next run sees that their owner is gone, and drops them.
            tables = (names.appeals, names.appeal_places, names.identities)
            for connection in shards.connections:
                shards.submit(connection.index, lambda shard: staging.drop(shard, tables)).exception()

    def _counted(
        self,
        shards: ShardSet,
        names: StagingNames,
        in_postgres: Counter[tuple[str, int]],
        snapshot: int,
        *,
        was_attempted: bool,
    ) -> AppealSnapshot:
        on_shards = shards.map(lambda shard: appeal_places.count_places(shard, names))
        stuck = shards.map(lambda shard: appeal_places.count_places(shard, names, attempted_only=True))
        examples = shards.map(
            lambda shard: appeal_places.examples(shard, names, _EXAMPLES, attempted_only=was_attempted)
        )
        customers = tuple(
            CustomerAppeals(
                customer,
                {type_: in_postgres[customer, type_] for type_ in appeal_places.TYPE_NAMES},
                {
                    (shard, type_): counts[customer, type_]
                    for shard, counts in enumerate(on_shards)
                    for type_ in appeal_places.TYPE_NAMES
                    if (customer, type_) in counts
                },
                len(shards),
            )
            for customer in self._group.customer_names
        )
        first = sorted(chain.from_iterable(examples), key=lambda place: (place.day, place.customer))[:_EXAMPLES]
        stuck_rows = sum((rows for counts in stuck for rows in counts.values()), AppealCounts())
        return AppealSnapshot(snapshot, customers, stuck_rows, tuple(first))

    def _first(self, shards: ShardSet, names: StagingNames) -> _Chosen:
        limit = self._options.max_scorecards
        of_shards = shards.map(lambda shard: appeal_places.first_appeals(shard, names, limit))
        first = appeal_places.first_of_all(of_shards, limit, self._group.tables.parent)
        _insert(shards, names.identities, first)
        return _Chosen(first, shards.map(lambda shard: appeal_places.places_of_attempted(shard, names)))

    # --- the purge

    def _delete(self, engines: Engines, places: list[list[Key]]) -> None:
        blocks = list(purge_blocks(places, self._group.tables.parent))
        done, total = 0, sum(len(block) for block in blocks)
        self._on_progress(PurgeProgress(done, total))
        days = {
            item.day
            for block in blocks
            for dataset in self._datasets
            for item in _slices(block, dataset.kind, dataset.tables.parent)
        }
        engines.retrying("the proof of the shards", lambda: self._prove_shards(engines, days))
        for block in blocks:
            try:
                engines.retrying(f"{len(block)} appeals", partial(self._delete_block, engines, block))
            except ReindexError as error:
                raise type(error)(
                    f"{error}. {done:,} of {total:,} appeals were removed before that; run it again to continue with the others"
                ) from None
            done += len(block)
            self._on_progress(PurgeProgress(done, total))

    @staticmethod
    def _prove_shards(engines: Engines, days: Collection[date]) -> None:
        owner = engines.source.owner
        engines.shards.map(lambda shard: prove(shard, owner, days))

    def _delete_block(self, engines: Engines, block: _Block) -> None:
        session, shards, parent = engines.source, engines.shards, self._group.tables.parent
        with ExitStack() as locks:
            for dataset in self._datasets:
                locks.enter_context(session.locked(dataset.lock_scope, _slices(block, dataset.kind, parent)))
            # After taking the locks, so that no run that has just ended has seen a later Postgres than this snapshot.
            with session.snapshot(source_scope(self._group)) as snapshot:
                still = appeal_places.still_appeals(session, self._group, block)
            session.assert_alive()
            keys: list[list[Key]] = [[] for _ in shards.connections]
            for identity in still:
                for shard, key in block[identity]:
                    keys[shard].append(key)
            self._delete_rows(shards, parent, keys, snapshot.microseconds)
            # A scorecard that stays, because it is newer, keeps its scores.
            left = shards.map(lambda shard: deletes.count_rows_at(shard, parent, keys[shard.index], _ANY_VERSION))
            staying = {identity_of(key, parent) for counts in left for key in counts}
            keys = [[key for key in of_shard if identity_of(key, parent) not in staying] for of_shard in keys]
            self._delete_rows(shards, self._group.tables.child, keys, snapshot.microseconds)

    def _delete_rows(self, shards: ShardSet, table: Table, keys: list[list[Key]], older_than: int) -> None:
        """Deletes on all shards at once, and counts the rows by customer."""

        def delete(shard: ShardConnection) -> dict[Key, int]:
            counts = deletes.count_rows_at(shard, table, keys[shard.index], older_than)
            deletes.delete_rows(shard, table, list(counts), older_than)
            return counts

        for counts in shards.map(delete):
            for key, rows in counts.items():
                self._deleted[str(key[table.key.index("customer")]), table.name] += rows


#: Above every version: the column is a UInt64.
_ANY_VERSION = 2**64 - 1

#: Scorecards, with their places: shard and key.
_Block = dict[Identity, list[tuple[int, Key]]]


@dataclass(frozen=True)
class _Chosen:
    """The appeals that a run is to remove: their identities as rows, and their places by shard."""

    identities: pa.RecordBatch
    places: list[list[Key]]


def purge_blocks(places: list[list[Key]], parent: Table) -> Iterator[_Block]:
    """Whole scorecards, by day and customer, in blocks that one DELETE can name and whose slices one session can lock."""
    day, customer = parent.key.index("day"), parent.key.index("customer")
    ordered = sorted(
        ((shard, key) for shard, keys in enumerate(places) for key in keys),
        key=lambda place: (place[1][day], place[1][customer], identity_of(place[1], parent)),
    )
    of_scorecard: _Block = defaultdict(list)
    for shard, key in ordered:
        of_scorecard[identity_of(key, parent)].append((shard, key))
    block: _Block = {}
    slices: set[tuple[object, ...]] = set()
    size = 0
    for identity, its_places in of_scorecard.items():
        its_slices = {key[: day + 1] for _, key in its_places}
        if block and (size + len(its_places) > KEYS_PER_DELETE or len(slices | its_slices) > MAX_SLICES):
            yield block
            block, size, slices = {}, 0, set()
        block[identity] = its_places
        slices |= its_slices
        size += len(its_places)
    if block:
        yield block


def _slices(block: _Block, kind: Kind, parent: Table) -> set[Slice]:
    """The slices of a kind that hold the places of a block."""
    customer, type_, day = (parent.key.index(name) for name in ("customer", "template_type", "day"))
    return {
        Slice.of_row({"customer": key[customer], "day": key[day]})
        for _, key in chain.from_iterable(block.values())
        if key[type_] == kind.template_type
    }


def _create(shard: ShardConnection, names: StagingNames) -> None:
    appeal_places.create(shard, names)
    staging.create_identities(shard, names)


def _insert(shards: ShardSet, table: str, rows: pa.RecordBatch) -> None:
    """Inserts the same rows on every shard. Returns when all have them, so that only one batch is in memory."""
    block = InsertBlock()
    block.add(rows)
    stream = block.finish()
    shards.map(lambda shard: shard.insert(table, stream))
