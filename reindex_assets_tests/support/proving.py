"""Runs and comparisons that leave checkpoints, and what the next run would not read.

What lives here: the data, and the calls. What does not: tests (drift/test_unchanged.py, drift/test_rewritten_parts.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.config.fleet import Fleet
from reindex_assets.drift.checkpoint_store import CheckpointStore
from reindex_assets.drift.unchanged import Unchanged
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets.postgres.session import SourceSession
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.reindex.pipeline import SliceOutcome
from reindex_assets_tests.support import running
from reindex_assets_tests.support.running import slices_of
from reindex_assets_tests.support.session_stack import CUSTOMERS

#: Across the end of a month.
PLAN = DataPlan(CUSTOMERS, date(2026, 1, 30), days=4, scale=0.0008, seed=6)
SLICES = slices_of(PLAN)
#: In January, in the middle of nothing.
ITEM = Slice("acme", date(2026, 1, 31))


def prove(fleet: Fleet, slices: Sequence[Slice]) -> set[Slice]:
    """Compares slices as the checks of a run do, and notes what is equal. Returns those slices."""
    with Comparison(fleet.dataset(CLUSTER, PROCESS), with_checkpoint=True) as comparison:
        parities = comparison.settled(slices, settle_seconds=0)
    equal = {parity.slice for parity in parities if parity.sums_agree}
    CheckpointStore(fleet.dataset(CLUSTER, PROCESS)).update(set(slices) - equal, comparison.checkpoints)
    return equal


def run(fleet: Fleet, slices: Sequence[Slice] = SLICES, options: ReindexOptions | None = None) -> set[Slice]:
    """One run; the slices that it has not read."""
    return unread(running.reindex(fleet, slices, options))


def unread(outcomes: Sequence[SliceOutcome]) -> set[Slice]:
    return {outcome.slice for outcome in outcomes if outcome.unchanged is not None}


def written_and_proved(fleet: Fleet, source: Connection) -> Fleet:
    """Everything written and proved equal."""
    make_source(source, PLAN)
    assert run(fleet) == set()
    assert prove(fleet, SLICES) == set(SLICES)
    return fleet


def unchanged(fleet: Fleet) -> set[Slice]:
    """The slices that a run would not read."""
    cluster = fleet.clusters[CLUSTER]
    with SourceSession(cluster.postgres) as session, ShardSet(cluster, "test") as shards:
        look = Unchanged(session, shards, fleet.dataset(CLUSTER, PROCESS))
        return set(look.among(SLICES, CheckpointStore(fleet.dataset(CLUSTER, PROCESS)).load()))
