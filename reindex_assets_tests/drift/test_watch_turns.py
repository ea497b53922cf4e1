"""The watch under limits, and its memory: every turn comes, and nothing is green by a memory that may be wrong.

What lives here: turns, the state file, and marks of another origin. What does not: what a look finds when it may cost what it
likes (drift/test_watch.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.origin import Origin
from reindex_assets.config.cluster import Watch
from reindex_assets.config.default_tables import SCORE, SCORECARD
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.drift.watch_state import SliceState, WatchState, WatchStore
from reindex_assets.local.data.made_data import make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import PROCESS, Slice
from reindex_assets.postgres.row_versions import RowVersions
from reindex_assets_tests.support import application, running
from reindex_assets_tests.support.watching import DAYS, PLAN, SLICES, Watching, reload

TINY = Watch(scorecards=1, scores=1, compared_scores=1, settle_seconds=0)


@pytest.fixture
def watching(
    clean: None, fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> Watching:
    """Equal data, and nothing looked at yet."""
    make_source(source, PLAN)
    reload(source, shard_clients)
    return Watching(fleet, monkeypatch)


def rescore(source: Connection, item: Slice) -> None:
    [scorecard] = application.scorecards_of(source, item)
    with source.cursor() as cursor:
        cursor.execute(
            "UPDATE historic.scorecard_scores SET comment = 'new' WHERE (customer, profile, scorecard_id) = (%s, %s, %s::uuid)",
            scorecard.key,
        )


# --- turns


def test_every_slice_is_proved_within_a_bounded_number_of_looks_late_days_first(watching: Watching) -> None:
    first = watching.look(TINY)
    assert {item.day for item in watching.compared} == {PLAN.last_day}
    assert first.waiting == len(SLICES) - len(first.equal)
    looks = 1
    while watching.look(TINY).waiting:
        looks += 1
        assert looks <= len(SLICES)
    watching.assert_quiet()


def test_a_change_to_scores_alone_is_found_within_one_round_of_turns(watching: Watching, source: Connection) -> None:
    watching.look()
    # The latest two days take turns among themselves, and the other seven one after the other.
    for item, looks in ((SLICES[1], 7), (SLICES[8], 2)):
        rescore(source, item)
        assert any(item in watching.look(TINY).drifted for _ in range(looks))


def test_busy_late_days_leave_a_turn_to_what_has_drifted_long_ago(
    watching: Watching, source: Connection, shard_clients: list[Client]
) -> None:
    watching.look()
    old = SLICES[0]
    plant(Drift.MISSING, shard_clients, old.customer, old.day, kind=PROCESS)
    for _ in range(4):
        for customer in PLAN.customers:
            [scorecard] = application.scorecards_of(source, Slice(customer, PLAN.last_day))
            application.update(source, scorecard, "score = score")
        found = watching.look(Watch(compared_scores=1, settle_seconds=0))
        assert Slice("acme", PLAN.last_day) in watching.compared
        if old in found.drifted:
            break
    assert old in found.drifted


def test_a_clock_that_was_wrong_once_takes_no_turn_away(watching: Watching, source: Connection) -> None:
    state = watching.look().state
    ahead = dict.fromkeys(state.looked, time.time() + 10**8)
    watching.state = replace(state, looked={**ahead, (SCORE.name, DAYS[0].isoformat()): time.time() + 2 * 10**8})
    rescore(source, SLICES[0])
    assert any(SLICES[0] in watching.look(TINY).drifted for _ in range(7))


# --- memory


def _of_another_server(state: WatchState) -> WatchState:
    return replace(state, origin=replace(state.origin, digest="another timeline"))


def _of_a_later_time(state: WatchState) -> WatchState:
    """The server has an older state now than when the versions were read."""
    return replace(state, origin=replace(state.origin, next_xid=state.origin.next_xid + 10**6))


@pytest.mark.parametrize("made", [WatchState, _of_another_server, _of_a_later_time])
def test_without_marks_of_this_origin_everything_is_proved_again(
    watching: Watching, made: Callable[..., WatchState]
) -> None:
    state = watching.look().state
    watching.assert_quiet()
    watching.state = made() if made is WatchState else made(state)
    assert watching.look().equal == set(watching.compared) == set(SLICES)


def test_a_profile_that_is_watched_from_now_on_is_not_taken_as_proved(
    watching: Watching, fleet: Fleet, source: Connection
) -> None:
    # Rows of voice that ClickHouse has and Postgres does not: nothing touches them when the fleet file takes them in.
    with source.cursor() as cursor:
        cursor.execute("DELETE FROM director.scorecards WHERE profile = 'voice'")
    watching.fleet = running.with_customers(fleet, {"acme": ["main"], "globex": ["main"], "initech": ["main"]})
    assert watching.look().equal == set(SLICES)
    watching.fleet = fleet
    found = watching.look()
    assert set(found.drifted) == set(watching.compared) == {item for item in SLICES if item.customer == "acme"}


def test_another_order_of_the_shards_is_not_taken_as_proved(watching: Watching, fleet: Fleet) -> None:
    watching.look()
    watching.fleet = running.with_shards(fleet, [1, 0])
    assert set(watching.look().drifted) == set(SLICES)


@pytest.fixture(scope="module")
def storing(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """A fleet with slices of its own."""
    slices = str(tmp_path_factory.mktemp("slices"))
    return load_fleet(stack.fleet_path).model_copy(update={"slices": slices})


@pytest.fixture(scope="module")
def store(storing: Fleet) -> WatchStore:
    return WatchStore(storing.dataset(CLUSTER, PROCESS))


numbers = st.one_of(st.integers(0, 2**64 - 1), st.integers(2**64 - 3, 2**64 - 1), st.integers(2**63 - 2, 2**63 + 2))
versions = st.builds(RowVersions, rows=st.integers(0, 2**62), checksum=numbers)
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
states = st.builds(
    WatchState,
    st.dictionaries(
        st.builds(Slice, st.sampled_from(["acme", "a.b-c_d"]), st.dates(date(1970, 1, 1), date(2299, 12, 31))),
        st.builds(
            SliceState,
            row_versions=st.dictionaries(st.sampled_from([SCORECARD.name, SCORE.name]), versions),
            shard_checksum=numbers,
            is_equal=st.booleans(),
            is_touched=st.booleans(),
            turn=st.integers(0, 2**62),
            compared_at=st.floats(0, 1e12),
        ),
        max_size=4,
    ),
    st.dictionaries(st.tuples(st.integers(0, 99), names, names, names), st.dictionaries(names, names), max_size=3),
    st.dictionaries(st.tuples(names, names), st.floats(0, 1e12), max_size=3),
    st.builds(
        Origin, digest=names, profiles=st.dictionaries(names, names, max_size=3), next_xid=st.integers(0, 2**63 - 1)
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(state=states, data=st.data())
def test_what_is_saved_is_loaded_and_a_damaged_file_is_no_memory(
    store: WatchStore, state: WatchState, data: st.DataObject
) -> None:
    store.save(state)
    assert store.load() == state
    path = Path(store.path)
    content = path.read_bytes()
    for _ in range(5):
        place, flipped = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
        path.write_bytes(content[:place] + bytes([content[place] ^ flipped]) + content[place + 1 :])
        assert store.load() == WatchState()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert store.load() == WatchState()


def test_a_lost_file_and_one_of_another_version_are_no_memory(
    storing: Fleet, store: WatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = WatchState({SLICES[0]: SliceState(shard_checksum=2**64 - 1, is_equal=True)})
    store.save(state)
    assert store.load() == state
    with monkeypatch.context() as patch:
        patch.setattr("reindex_assets.drift.watch_state._VERSION", "another")
        assert WatchStore(storing.dataset(CLUSTER, PROCESS)).load() == WatchState()
    Path(store.path).unlink()
    assert store.load() == WatchState()
