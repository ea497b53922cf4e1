"""The main job without its orchestrator: any slices of one dataset, group by group.

What lives here: the plan, the locks, retries by class of error, and the isolation of a failing slice from the others. What does not:
Dagster (defs/assets/reindex.py), the flow of one group (reindex/pipeline.py), and the comparison of the result
(comparison/comparison.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TypeVar

from reindex_assets.clickhouse.canary import prove, prove_conversations
from reindex_assets.clickhouse.schema import check_conversations, check_schema
from reindex_assets.clickhouse.shards import ShardConnection
from reindex_assets.clickhouse.staging import StagingNames
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.dataset import Dataset
from reindex_assets.drift.checkpoint_store import CheckpointStore
from reindex_assets.drift.unchanged import Unchanged
from reindex_assets.errors import (
    ConfigurationError,
    LayoutError,
    MassDeletionError,
    ReindexError,
    SliceBusyError,
    TransientError,
    UnreachableError,
)
from reindex_assets.model import Slice, Step
from reindex_assets.placement.layout import assert_layout, settle_layout
from reindex_assets.placement.locks import writing
from reindex_assets.placement.records import is_unknown, read_records
from reindex_assets.placement.resolver import GroupPlacement
from reindex_assets.postgres.extract import estimate_scorecards, read_quarantined, read_rows
from reindex_assets.postgres.join_plan import group_snapshot
from reindex_assets.reindex.connections import Engines
from reindex_assets.reindex.mass_deletion import DeletionGuard
from reindex_assets.reindex.pipeline import GroupPipeline, SliceOutcome
from reindex_assets.reindex.writer import WriteOptions, drop_orphaned_staging_tables
from reindex_assets.retry import STEP
from reindex_assets.selection.groups import SliceGroup, group_slices
from reindex_assets.storage import slice_store
from reindex_assets.storage.slice_store import ExtractInfo, SliceStore

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ReindexOptions:
    """What an operator may choose for a run; defs/assets/reindex.py describes each field.

    Attributes:
        group_scorecards: the most scorecards that one query reads and that are written together; bounds a run's memory.
        attempts: how often a group is tried after transient faults.
        allow_reshard: the run is part of the reshard to the fleet file's shards, and may write while it is under way.
        allow_deletes: delete whatever Postgres doesn't have, however much that is (reindex/mass_deletion.py).
        everything: also process the slices that nothing has touched since they were proved equal.
    """

    write: WriteOptions = field(default_factory=WriteOptions)
    group_scorecards: int = 2_000_000
    attempts: int = STEP.attempts
    allow_reshard: bool = False
    allow_deletes: bool = False
    everything: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a run is, in slices; `rows` counts the scorecards and scores read so far."""

    processed: int
    failed: int
    total: int
    rows: int


def refuse(dataset: Dataset, options: ReindexOptions) -> None:
    """Raises what would end a run before it reads its first row, and does not pass by itself. Writes nothing.

    For whoever is going to wait until the run may begin: it might wait for long, and then be refused.
    """
    # What passes by itself is for the run, which tries again.
    with (
        suppress(TransientError),
        Engines(
            dataset.cluster, "reindex_assets", 1, lambda message: None, with_retiring=options.allow_reshard
        ) as engines,
    ):
        engines.source.assert_alive()
        _check_shards(dataset, engines, options, look_only=True)


class Reindex:
    """One run over slices of one dataset.

    Args:
        on_outcome: called as soon as a slice is done or has finally failed.
        on_progress: called at least after every batch of rows; the callee decides what to report.
        on_retry: called with a sentence before each retry.
    """

    def __init__(
        self,
        dataset: Dataset,
        options: ReindexOptions | None = None,
        *,
        run_id: str = "",
        on_outcome: Callable[[SliceOutcome], None] = lambda outcome: None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_retry: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._dataset = dataset
        self._options = options or ReindexOptions()
        self._run_id = run_id
        self._on_outcome = on_outcome
        self._on_progress = on_progress
        self._on_retry = on_retry
        self._store = SliceStore(dataset)
        self._checkpoints = CheckpointStore(dataset)
        self._groups_begun = 0
        self._progress = Progress(0, 0, 0, 0)
        self._deletions = DeletionGuard(dataset.rules.deletions, allowed=self._options.allow_deletes)
        self._wanted: list[Slice] = []
        #: The replicas that have passed the canary.
        self._proved: set[str] = set()

    def run(self, slices: Iterable[Slice], steps: Iterable[Step] = tuple(Step)) -> list[SliceOutcome]:
        """Runs the steps on the slices; returns one outcome per slice. A slice that fails is an outcome, not an exception.

        Raises:
            ReindexError: the run could not start: an engine can't be reached, or the schema or the placement is wrong.
        """
        wanted = sorted(set(slices))
        chosen = set(steps)
        chain = tuple(step for step in Step if step in chosen)
        if chain == (Step.EXTRACT, Step.WRITE):
            raise ConfigurationError(f"{Step.ROWS} lies between {Step.EXTRACT} and {Step.WRITE}: select it too")
        self._wanted = wanted
        self._progress = Progress(0, 0, len(wanted), 0)
        comment = f"reindex_assets run {self._run_id}".rstrip()
        options = self._options
        with Engines(
            self._dataset.cluster, comment, options.attempts, self._on_retry, with_retiring=options.allow_reshard
        ) as engines:
            if Step.WRITE in chain:
                engines.retrying("the check of the shards", lambda: self._check_shards(engines))
            outcomes = self._unchanged(wanted, engines) if chain == tuple(Step) else []
            self._report(outcomes)
            unchanged = {outcome.slice for outcome in outcomes}
            left = [item for item in wanted if item not in unchanged]
            attempts = options.attempts
            for group in engines.retrying("the plan", lambda: self._plan(left, chain, engines)):
                group_outcomes = self._attempt(group, chain, engines, attempts)
                outcomes += group_outcomes
                # While an engine is out of reach, each further group is tried once, not for minutes.
                attempts = 1 if all(outcome.error for outcome in group_outcomes) else options.attempts
            return outcomes

    def _check_shards(self, engines: Engines) -> None:
        _check_shards(self._dataset, engines, self._options, look_only=self._options.write.dry_run)
        drop_orphaned_staging_tables(engines.shards, engines.source.is_owner_alive)

    def _unchanged(self, slices: Sequence[Slice], engines: Engines) -> list[SliceOutcome]:
        """The outcomes of slices that nothing has touched since they were proved equal, and whose files are still there."""
        write = self._options.write
        if self._options.everything or write.dry_run or write.clean_up:
            return []
        checkpoints = self._checkpoints.load()

        def ask() -> dict[Slice, SliceParity]:
            return Unchanged(engines.source, engines.shards, self._dataset).among(slices, checkpoints)

        parities = engines.retrying("the search for unchanged partitions", ask)
        return [
            SliceOutcome(slice=item, steps=tuple(Step), snapshot=parity.snapshot, unchanged=parity)
            for item, parity in sorted(parities.items())
            if self._store.is_whole(item, len(engines.shards))
        ]

    def _plan(self, slices: Sequence[Slice], chain: tuple[Step, ...], engines: Engines) -> list[SliceGroup]:
        """The groups. A chain that starts from files takes each slice alone, as their snapshots may differ."""
        if chain[0] is not Step.EXTRACT:
            return [group for item in slices for group in self._groups([item], {})]
        scorecards: dict[Slice, int] = {}
        for span in self._groups(slices, {}):
            scorecards |= estimate_scorecards(engines.source, span)
        return self._groups(slices, scorecards)

    def _groups(self, slices: Iterable[Slice], scorecards: dict[Slice, int]) -> list[SliceGroup]:
        return group_slices(slices, self._dataset, scorecards, self._options.group_scorecards)

    def _attempt(
        self, group: SliceGroup, chain: tuple[Step, ...], engines: Engines, attempts: int
    ) -> list[SliceOutcome]:
        rows_before = self._progress.rows
        try:
            outcomes = engines.retrying(str(group), lambda: self._run_group(group, chain, engines), attempts)
        except (LayoutError, ConfigurationError):
            # No other group may be written either, or can be.
            raise
        except Exception as error:  # noqa: BLE001 - isolates a failing slice from the others; the error is reported in full
            # The connections may be broken; the next group opens new ones.
            engines.let_go()
            self._progress = replace(self._progress, rows=rows_before)
            text = str(error) if isinstance(error, ReindexError) else f"{type(error).__name__}: {error}"
            of_error = error.slices if isinstance(error, MassDeletionError) else frozenset()
            if refused := [item for item in group.slices if item in of_error]:
                outcomes = [SliceOutcome(slice=item, steps=chain, error=text) for item in refused]
                self._report(outcomes)
                # The others together: rows that have moved from one of them to another are not gone.
                for others in self._groups(set(group.slices) - set(refused), {}):
                    self._on_retry(f"{others}: going on without {len(refused)} partitions. {text}")
                    outcomes += self._attempt(others, chain, engines, attempts)
                return outcomes
            if len(group.slices) > 1 and not isinstance(error, UnreachableError):
                # Any of them may be at fault.
                self._on_retry(f"{group}: {text}; trying each of its {len(group.slices)} partitions alone")
                return [
                    outcome
                    for item in group.slices
                    for alone in self._groups([item], {})
                    for outcome in self._attempt(alone, chain, engines, 1)
                ]
            outcomes = [SliceOutcome(slice=item, steps=chain, error=text) for item in group.slices]
        self._report(outcomes)
        return outcomes

    def _report(self, outcomes: Iterable[SliceOutcome]) -> None:
        for outcome in outcomes:
            progress, failed = self._progress, outcome.error is not None
            self._progress = replace(
                progress, processed=progress.processed + (not failed), failed=progress.failed + failed
            )
            self._on_outcome(outcome)
        self._on_progress(self._progress)

    def _run_group(self, group: SliceGroup, chain: tuple[Step, ...], engines: Engines) -> list[SliceOutcome]:
        session, shards = engines.source, engines.shards
        with session.locked(self._dataset.lock_scope, group.slices), self._placed(chain, engines):
            if chain[0] is Step.EXTRACT:
                with ExitStack() as reading:
                    snapshot = reading.enter_context(group_snapshot(session, group))
                    quarantined = read_quarantined(session, group)
                    with self._pipeline(group, chain, engines, ExtractInfo.new(snapshot.microseconds)) as pipeline:
                        pipeline.take(lambda table: read_rows(session, table, group))
                        # Lets Postgres clean up old row versions while the shards write.
                        reading.close()
                        return pipeline.finish(quarantined, session.assert_alive)
            (item,) = group.slices
            step = slice_store.EXTRACT if chain[0] is Step.ROWS else slice_store.ROWS
            extract = self._store.extract_info(item, step, len(shards))
            with self._pipeline(group, chain, engines, extract) as pipeline:
                pipeline.take(lambda table: self._store.read(item, step, table))
                return pipeline.finish([], session.assert_alive)

    @contextmanager
    def _placed(self, chain: tuple[Step, ...], engines: Engines) -> Iterator[None]:
        """Holds the layout of the fleet file in place while a group is written."""
        if Step.WRITE not in chain or self._options.write.dry_run:
            yield
            return
        try:
            with writing(engines.source, self._dataset.cluster_name):
                assert_layout(engines.shards, self._dataset.cluster_name, resharding=self._options.allow_reshard)
                self._prove_shards(engines)
                yield
        except SliceBusyError:
            # A reshard is waiting for the writers: the shards' records already say so.
            assert_layout(engines.shards, self._dataset.cluster_name, resharding=self._options.allow_reshard)
            raise

    def _prove_shards(self, engines: Engines) -> None:
        """Before the first write of the run on each of them."""
        owner, days = engines.source.owner, {item.day for item in self._wanted}

        def once(shard: ShardConnection) -> None:
            if shard.replica not in self._proved:
                prove(shard, owner, days)
                self._proved.add(shard.replica)

        engines.shards.map(once)

    def _pipeline(
        self, group: SliceGroup, chain: tuple[Step, ...], engines: Engines, extract: ExtractInfo
    ) -> GroupPipeline:
        self._groups_begun += 1
        names = StagingNames(owner=engines.source.owner, group=self._groups_begun)
        placement = GroupPlacement(engines.shards, group)
        return GroupPipeline(
            self._store,
            engines.shards,
            group,
            placement,
            chain,
            extract,
            names,
            self._options.write,
            self._deletions,
            self._count_rows,
        )

    def _count_rows(self, rows: int) -> None:
        self._progress = replace(self._progress, rows=self._progress.rows + rows)
        self._on_progress(self._progress)


def _check_shards(dataset: Dataset, engines: Engines, options: ReindexOptions, *, look_only: bool) -> None:
    """Makes sure that the shards may be written to. Without `look_only`, a cluster without records of its layout gets them."""
    shards = engines.shards
    check_schema(shards)
    if dataset.kind.is_of_conversations:
        check_conversations(shards)
        shards.map(prove_conversations)
    settle_layout(shards, lambda: engines.source, dataset, dry_run=look_only)
    if not look_only or not is_unknown(read_records(shards)):
        assert_layout(shards, dataset.cluster_name, resharding=options.allow_reshard)
