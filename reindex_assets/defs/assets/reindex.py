"""The lineage as Dagster assets: scorecard_extract -> score_rows -> shard_writes for each cluster and kind, by customer and day.

What lives here: the assets and the order of a run's steps. What does not: the work (reindex/job.py, defs/assets/background.py), its
events (defs/assets/run_events.py), its checks (defs/assets/run_checks.py), and the run config (defs/assets/run_config.py).

The three assets are one streaming op: a batch is stored as Parquet, placed and sent to the shards before the next one is read, and each
slice is marked as done by an event of its own. So a failed slice neither stops the others nor shows as done.
"""

# Without `from __future__ import annotations`: Dagster reads the config class from the annotation itself.
import warnings
from collections.abc import Iterator

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    BetaWarning,
    Failure,
    MultiPartitionsDefinition,
    multi_asset,
)

from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.dataset import Dataset
from reindex_assets.defs.assets.background import BackgroundRun
from reindex_assets.defs.assets.run_checks import CheckPlan, run_checks
from reindex_assets.defs.assets.run_config import ReindexConfig, ReindexScope
from reindex_assets.defs.assets.run_events import heartbeat, partial_failure, store_step_events
from reindex_assets.defs.checks.specs import check_specs
from reindex_assets.defs.history.run_process import note_process
from reindex_assets.defs.instance.opening import hold_connections
from reindex_assets.defs.keys.names import OWNERS, asset_key, group_name, op_name, pool_name
from reindex_assets.defs.keys.partitions import customer_days, slices_of_run
from reindex_assets.defs.keys.run_tags import BACKFILL_ID_TAG
from reindex_assets.errors import ConfigurationError, ReindexError
from reindex_assets.model import Step
from reindex_assets.reindex.job import Progress
from reindex_assets.reindex.pipeline import SliceOutcome

_DESCRIPTIONS = {
    Step.EXTRACT: (
        "The scorecards and scores of a customer's day as Postgres held them at one snapshot (REPEATABLE READ, READ ONLY), "
        "as Parquet files in the slice store. {kind} scorecards only, by the type of their template revision, and no appeals. "
        "Scorecards that can't be copied to ClickHouse are listed with the reason."
    ),
    Step.ROWS: (
        "The shard of each row: {placement}. The files hold only the shard "
        "numbers, in the order of the extract's rows, which already have ClickHouse's shape."
    ),
    Step.WRITE: (
        "The rows of the customer's day in ClickHouse, made equal to Postgres: each shard compares the expected rows with its own, "
        "and only the difference is written. New rows appear before old ones are deleted, so no reader misses a row. "
        "Rows newer than the snapshot are never touched."
    ),
}
#: Shared by all assets, because Dagster requires the same object under the same name.
_SCOPE = ReindexScope.configure_at_launch()
_PLACEMENTS = {
    False: "floor(epoch of {time}) mod the number of shards",
    True: (
        "the one that holds its conversation, else floor(epoch of {time}) mod the number of shards; the metadata says how many "
        "scorecards were placed by their time"
    ),
}
_KINDS = {Step.EXTRACT: {"postgres", "parquet"}, Step.ROWS: {"arrow", "parquet"}, Step.WRITE: {"clickhouse"}}


def build_assets(dataset: Dataset) -> AssetsDefinition:
    """The assets and checks of one dataset."""
    partitions = customer_days(dataset)
    keys = {step: asset_key(dataset, step) for step in Step}
    steps = {key: step for step, key in keys.items()}

    with warnings.catch_warnings():
        # Resources of assets are "beta" in Dagster 1.13; the tests show that what we use of them works.
        warnings.simplefilter("ignore", BetaWarning)
        as_assets = multi_asset(
            name=op_name(dataset),
            specs=_specs(dataset, keys, partitions),
            check_specs=check_specs(keys[Step.WRITE], partitions),
            partitions_def=partitions,
            backfill_policy=BackfillPolicy.single_run(),
            can_subset=True,
            pool=pool_name(dataset.cluster_name),
            resource_defs={"scope": _SCOPE},
        )

    def reindex(context: AssetExecutionContext, config: ReindexConfig, scope: ReindexScope) -> Iterator[object]:
        kind = dataset.kind
        if kind.name not in scope.scorecard_types:
            context.log.info(f"{kind.name} scorecards are left out by 'scorecard_types' in the run config")
            return
        try:
            yield from _reindex(context, config)
        except ReindexError as error:
            # The sentence is for the operator; the trace would bury it.
            raise Failure(description=str(error), allow_retries=False) from None

    def _reindex(context: AssetExecutionContext, config: ReindexConfig) -> Iterator[object]:
        hold_connections(context.instance)
        note_process(context.instance, context.run)
        if config.dry_run and BACKFILL_ID_TAG in context.run.tags:
            # Dagster counts what a backfill materializes. To record a materialization would claim that the partition was written.
            raise ConfigurationError(
                "a dry run can't be a backfill: Dagster would count each of its partitions as failed, as a dry run writes none. Nothing "
                "was read or written. 'reindex-assets reindex --dry-run' takes any customers and days; in the UI, materialize one "
                "partition"
            )
        slices = slices_of_run(dataset.cluster, context.partition_keys, context.run.tags)
        chosen = [steps[key] for key in context.selected_asset_keys]
        failed: list[SliceOutcome] = []
        unchanged: list[SliceParity] = []
        done = slices
        progress = Progress(0, 0, len(slices), 0)
        if chosen:
            done = []
            for update in BackgroundRun(context, dataset, config, slices, chosen).outcomes():
                if isinstance(update, Progress):
                    progress = update
                    yield heartbeat(keys[Step.WRITE], progress)
                    continue
                for outcome in update:
                    if outcome.error is not None:
                        context.log.error(f"{outcome.slice} failed: {outcome.error}")
                        failed.append(outcome)
                succeeded = [outcome for outcome in update if outcome.error is None]
                store_step_events(context, succeeded, keys, dry_run=config.dry_run)
                done += [outcome.slice for outcome in succeeded]
                unchanged += [outcome.unchanged for outcome in succeeded if outcome.unchanged is not None]
        checks = {check.name for check in context.selected_asset_check_keys}
        unchecked: ReindexError | None = None
        try:
            if checks:
                # What a run has written completely and found equal, the next run need not read again.
                with_checkpoint = set(chosen) == set(Step) and not config.dry_run
                settle = config.settle_seconds
                if settle is None:
                    settle = dataset.rules.watch.settle_seconds
                plan = CheckPlan(dataset=dataset, settle_seconds=settle, with_checkpoint=with_checkpoint)
                yield from run_checks(context, plan, done, unchanged, keys[Step.WRITE], checks, progress)
        except ReindexError as error:
            if not failed:
                raise
            # Name the failed partitions first; the same error reports that the others could not be checked.
            unchecked = error
        if failed:
            raise partial_failure(failed, len(slices), unchecked)

    return as_assets(reindex)


def _specs(dataset: Dataset, keys: dict[Step, AssetKey], partitions: MultiPartitionsDefinition) -> list[AssetSpec]:
    kind = dataset.kind
    placement = _PLACEMENTS[kind.is_of_conversations].format(time=kind.time_column)
    upstream = {Step.EXTRACT: [], Step.ROWS: [keys[Step.EXTRACT]], Step.WRITE: [keys[Step.ROWS]]}
    return [
        AssetSpec(
            keys[step],
            deps=upstream[step],
            # Each partition has an event of its own: an output of the op would mark failed partitions as done, too.
            skippable=True,
            description=_DESCRIPTIONS[step].format(kind=kind.name.capitalize(), placement=placement),
            group_name=group_name(dataset),
            owners=OWNERS,
            kinds=_KINDS[step],
            tags={"cluster": dataset.cluster_name, "kind": kind.name},
            partitions_def=partitions,
        )
        for step in Step
    ]
