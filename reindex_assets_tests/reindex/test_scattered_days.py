"""Days that lie apart are read and written together, and the days between them are nobody's business.

What lives here: runs and comparisons over such days, judged by the oracle. What does not: which slices make a group
(selection/test_groups.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.differences import Difference
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_data import change_source, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle.compare import differences
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets_tests.support.hand_made_rows import add_scorecard
from reindex_assets_tests.support.plain_loader import load_plainly
from reindex_assets_tests.support.running import PLAN, reindex, reported, slices_of

#: The last two are of another month than the first; BETWEEN lies in the gap.
DAYS = [PLAN.all_days[0], PLAN.all_days[2], PLAN.all_days[3]]
BETWEEN = PLAN.all_days[1]
SLICES = [item for item in slices_of(PLAN) if item.day in DAYS]


@pytest.fixture
def drifted(clean: None, source: Connection, shard_clients: Sequence[Client], fleet: Fleet) -> Fleet:
    """Every day differs, by faults on the shards and by changes in Postgres; a row of each day can't leave Postgres."""
    make_source(source, PLAN)
    load_plainly(source, shard_clients)
    change_source(source, PLAN, seed=9)
    for day in PLAN.all_days:
        for drift in (Drift.MISSING, Drift.CHANGED, Drift.EXTRA):
            plant(drift, shard_clients, "globex", day, source=source, kind=PROCESS)
        add_scorecard(source, None, created_at=f"{day} 12:00:00+00")
        add_scorecard(source, f"{day} 13:00:00+00", template_revision_id="00000000-0000-0000-0000-0000000000aa")
    assert all(found_on(source, shard_clients, day) for day in PLAN.all_days)
    return fleet


def found_on(source: Connection, shard_clients: Sequence[Client], day: date) -> list[str]:
    return differences(source, shard_clients, first_day=day, last_day=day, kind="process")


def test_a_run_over_days_that_lie_apart_is_one_group_that_makes_just_them_equal(
    drifted: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    untouched = found_on(source, shard_clients, BETWEEN)

    outcomes = reindex(drifted, SLICES)

    assert {outcome.group_slices for outcome in outcomes} == {len(SLICES)}
    for day in DAYS:
        assert found_on(source, shard_clients, day) == []
    # What moved from there to one of the days has left; nothing else of the day between has changed.
    left = found_on(source, shard_clients, BETWEEN)
    assert left
    assert set(left) <= set(untouched)
    held_back = {outcome.slice: len(outcome.quarantined) for outcome in outcomes}
    assert held_back == {item: 2 if item.customer == "acme" else 0 for item in SLICES}

    again = reindex(drifted, SLICES)
    assert (reported(again).written, reported(again).deleted) == (0, 0)


def test_a_comparison_of_days_that_lie_apart_finds_what_a_comparison_of_each_day_finds(drifted: Fleet) -> None:
    with Comparison(drifted.dataset(CLUSTER, PROCESS)) as comparison:
        together = {parity.slice: parity for parity in comparison.settled(SLICES, settle_seconds=0)}
        alone = {parity.slice: parity for day in DAYS for parity in comparison.settled(_of(day), settle_seconds=0)}
    assert together.keys() == alone.keys()
    for item, parity in together.items():
        assert parity.tables == alone[item].tables
        assert parity.quarantined == alone[item].quarantined
        assert _rows(parity) == _rows(alone[item])
    assert any(_rows(parity) for parity in together.values())


def _rows(parity: SliceParity) -> dict[tuple[str, Difference], int]:
    return {} if parity.differences is None else dict(parity.differences.rows)


def _of(day: date) -> list[Slice]:
    return [item for item in SLICES if item.day == day]
