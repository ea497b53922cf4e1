"""The watch: whatever drifts is found at the next look, where it is and nowhere else, and what is quiet is not looked at.

What lives here: looks at drift, edits and races, on real engines. What does not: marks (drift/test_marks.py), turns, limits and the
memory of the watch (drift/test_watch_turns.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse import parts
from reindex_assets.clickhouse.parts import slices_in_parts
from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.differences import Difference
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.cluster import Watch
from reindex_assets.config.fleet import Fleet
from reindex_assets.drift.watch_state import WatchState
from reindex_assets.errors import ShardUnreachableError, SourceUnreachableError
from reindex_assets.local.data.made_data import change_source, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.model import PROCESS, Slice
from reindex_assets.selection.groups import SliceGroup
from reindex_assets_tests.support import application, running
from reindex_assets_tests.support.hand_made_rows import silent_port, with_postgres, with_shard_port
from reindex_assets_tests.support.merges import merge_all, merge_over_a_dropped_part, no_merges
from reindex_assets_tests.support.session_stack import connect_shards, connect_source
from reindex_assets_tests.support.watching import PLAN, SLICES, Watching, reload

#: What the oracle and the planter call a kind, and what the product does.
NAMES: dict[Drift, Difference] = {
    **{drift: Difference(drift.value) for drift in Drift if drift is not Drift.STALE_AFTER_MOVE},
    Drift.STALE_AFTER_MOVE: Difference.MOVED_DAY,
}


@pytest.fixture
def watching(
    clean: None, fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> Watching:
    """Equal data, proved by a first look."""
    make_source(source, PLAN)
    reload(source, shard_clients)
    watching = Watching(fleet, monkeypatch)
    assert watching.look().equal == set(SLICES) == set(watching.compared)
    return watching


def test_each_kind_of_drift_is_found_at_the_next_look_and_only_there(
    watching: Watching, source: Connection, shard_clients: list[Client]
) -> None:
    watching.assert_quiet()
    known: set[Slice] = set()
    # A false copy of a moved scorecard lands on a neighbour's day; a duplicate must not be merged away: it comes last.
    for number, drift in enumerate(sorted(set(Drift) - {Drift.DUPLICATED})):
        [planted] = plant(drift, shard_clients, "globex", PLAN.all_days[number], 1, 3 + number, source, kind=PROCESS)
        item = Slice(planted.customer, planted.day)
        found = watching.look()
        assert set(found.drifted) - known <= {item}, drift
        differences = found.drifted[item].differences
        assert differences is not None
        assert NAMES[drift] in {difference for _, difference in differences.rows}, drift
        known.add(item)
        # What is known to differ is compared until it is proved equal, and nothing else was.
        assert set(watching.compared) == known
    with no_merges(shard_clients):
        plant(Drift.DUPLICATED, shard_clients, "acme", PLAN.all_days[8], 1, 2, source, kind=PROCESS)
        found = watching.look()
        assert set(found.drifted) == {*known, Slice("acme", PLAN.all_days[8])}

    reload(source, shard_clients)
    assert watching.drifted() == set()
    watching.assert_quiet()
    oracle.assert_equal(source, shard_clients, kind="process")


def test_every_edit_in_postgres_is_found_where_clickhouse_shows_it_wrongly(
    watching: Watching, source: Connection, shard_clients: list[Client]
) -> None:
    changes = change_source(source, PLAN, 1)
    wrong = {Slice(*place) for place in changes.slices}
    kinds = (
        changes.edited,
        changes.rescored,
        changes.moved,
        changes.retimed,
        changes.appealed,
        changes.deleted,
        changes.added,
    )
    assert all(kinds)
    assert oracle.differences(source, shard_clients, kind="process")
    assert watching.drifted() == wrong
    assert set(watching.compared) == wrong
    reload(source, shard_clients)
    assert watching.drifted() == set()
    watching.assert_quiet()


def _edit(source: Connection, item: Slice) -> None:
    [scorecard] = application.scorecards_of(source, item)
    application.update(source, scorecard, "score = coalesce(score, 0) + 1")


def test_what_happens_while_a_look_is_at_work_is_seen_by_it_or_by_the_next(
    watching: Watching, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_postgres, in_clickhouse = SLICES[3], SLICES[13]
    for is_before in (True, False):
        original = Comparison.sums

        def busy(
            comparison: Comparison,
            slices: Iterable[Slice],
            max_slices: int = 2_000,
            original: object = original,
            is_before: bool = is_before,
        ) -> list[SliceParity]:
            assert callable(original)
            if not is_before:
                found: list[SliceParity] = original(comparison, slices, max_slices)
            _edit(source, in_postgres)
            plant(
                Drift.CHANGED, shard_clients, in_clickhouse.customer, in_clickhouse.day, 1, 3 + is_before, kind=PROCESS
            )
            if is_before:
                found = original(comparison, slices, max_slices)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(Comparison, "sums", busy)
            # Both are compared in this look: by their marks they are as they were.
            found = watching.look(suspect=[in_postgres, in_clickhouse])
        assert set(found.drifted) == ({in_postgres, in_clickhouse} if is_before else set())
        assert watching.drifted() == {in_postgres, in_clickhouse}
        reload(source, shard_clients)
        assert watching.drifted() == set()


def test_new_parts_that_are_merged_before_they_are_asked_for_their_rows_are_not_lost(
    watching: Watching, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    item = SLICES[4]
    plant(Drift.EXTRA, shard_clients, item.customer, item.day, kind=PROCESS)
    asked: list[set[Slice]] = []

    def merged_away(
        shards: ShardSet,
        group: SliceGroup,
        inserted: Mapping[tuple[int, str], Iterable[str]],
        *,
        of_conversations: bool = False,
    ) -> set[Slice]:
        if not asked:
            merge_all(shard_clients)
        asked.append(slices_in_parts(shards, group, inserted, of_conversations=of_conversations))
        return asked[-1]

    monkeypatch.setattr(parts, "slices_in_parts", merged_away)
    assert watching.drifted() == {item}
    # The first answer knew nothing of it.
    assert item not in asked[0]
    assert watching.compared == [item]


def test_rows_that_go_with_a_dropped_part_are_missed_even_after_a_merge_over_the_gap(
    watching: Watching, source: Connection, shard_clients: list[Client]
) -> None:
    def nothing_is_wrong_yet() -> None:
        assert watching.drifted() == set()

    # By the list alone nothing has happened but a merge: the name of the one part that is left has all the blocks.
    lost = merge_over_a_dropped_part(source, shard_clients, SLICES, nothing_is_wrong_yet)
    assert watching.drifted() == {lost}


def test_a_slice_that_a_run_is_at_work_on_is_left_and_not_forgotten(
    watching: Watching, source: Connection, shard_clients: list[Client]
) -> None:
    in_clickhouse, in_postgres = SLICES[6], SLICES[16]
    plant(Drift.MISSING, shard_clients, in_clickhouse.customer, in_clickhouse.day, kind=PROCESS)
    _edit(source, in_postgres)
    for _ in range(3):
        found = watching.look(in_flight=[in_clickhouse, in_postgres])
        assert (found.waiting, watching.compared, dict(found.drifted)) == (2, [], {})
    assert watching.drifted() == {in_clickhouse, in_postgres}


def test_what_is_known_to_differ_may_rest_until_something_touches_it(
    watching: Watching, source: Connection, shard_clients: list[Client]
) -> None:
    spoilt = [SLICES[7], SLICES[17], SLICES[25]]
    for item in spoilt:
        plant(Drift.CHANGED, shard_clients, item.customer, item.day, kind=PROCESS)
    assert watching.drifted() == set(spoilt)
    for _ in range(2):
        watching.look(paused=spoilt)
        assert watching.compared == []
    _edit(source, spoilt[0])
    plant(Drift.MISSING, shard_clients, spoilt[1].customer, spoilt[1].day, 1, 4, kind=PROCESS)
    assert watching.drifted(paused=spoilt) == set(spoilt[:2])
    assert set(watching.compared) == set(spoilt[:2])
    # A repair, which the look in the middle of it leaves alone.
    running.reindex(watching.fleet, spoilt)
    watching.look(paused=spoilt, in_flight=spoilt)
    assert watching.compared == []
    assert watching.look(paused=spoilt).equal == set(spoilt)
    watching.assert_quiet()


def test_what_is_doubted_is_compared_whatever_its_marks_say(watching: Watching) -> None:
    assert watching.look(suspect=SLICES[:2]).equal == set(SLICES[:2])
    assert set(watching.compared) == set(SLICES[:2])
    watching.assert_quiet()


def test_an_engine_out_of_reach_is_an_error_and_the_state_stays_good(
    watching: Watching, shard_clients: list[Client]
) -> None:
    item = SLICES[8]
    plant(Drift.EXTRA, shard_clients, item.customer, item.day, kind=PROCESS)
    fleet = watching.fleet
    for broken, error in (
        (with_shard_port(fleet, 1, silent_port()), ShardUnreachableError),
        (with_postgres(fleet, port=silent_port()), SourceUnreachableError),
    ):
        watching.fleet = broken
        with pytest.raises(error):
            watching.look()
    watching.fleet = fleet
    assert watching.drifted() == {item}
    assert watching.compared == [item]


def test_a_new_day_is_not_taken_as_proved(watching: Watching, source: Connection, shard_clients: list[Client]) -> None:
    watching.state = WatchState()
    days = (PLAN.first_day, PLAN.last_day - timedelta(days=1))
    assert len(watching.look(days=days).equal) == 24
    plant(Drift.MISSING, shard_clients, "acme", PLAN.last_day, kind=PROCESS)
    found = watching.look(days=(PLAN.first_day + timedelta(days=1), PLAN.last_day))
    assert set(watching.compared) == {Slice(customer, PLAN.last_day) for customer in PLAN.customers}
    assert set(found.drifted) == {Slice("acme", PLAN.last_day)}
    assert set(found.state.slices) == {item for item in SLICES if item.day > PLAN.first_day}


def test_no_look_takes_rows_on_their_way_for_drift_and_in_the_end_all_is_proved(
    watching: Watching, fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    done = threading.Event()
    written = [0, 0]
    failures: list[BaseException] = []

    def write(number: int) -> None:
        mine, shards = connect_source(fleet), connect_shards(fleet)
        try:
            slices = [item for item in SLICES if item.day >= PLAN.all_days[6]][number::2]
            pool = {item: application.scorecards_of(mine, item, 3) for item in slices}
            while not done.is_set():
                item = slices[written[number] % len(slices)]
                scorecard = pool[item][written[number] % 3]
                if written[number] % 2:
                    scorecard = pool[item][written[number] % 3] = application.copy_as_new(mine, scorecard)
                else:
                    application.update(mine, scorecard, "score = coalesce(score, 0) + 1, updated_at = now()")
                time.sleep(0.05)
                application.write_as_application(mine, shards, scorecard)
                written[number] += 1
        except BaseException as error:  # noqa: BLE001
            failures.append(error)
        finally:
            mine.close()
            for client in shards:
                client.close()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    ends = time.monotonic() + 6
    touched = 0
    while time.monotonic() < ends:
        found = watching.look(Watch(settle_seconds=1.5))
        assert dict(found.drifted) == {}
        touched += found.touched
    done.set()
    for writer in writers:
        writer.join()
    assert not failures
    assert touched
    assert min(written) > 5
    # Until the older versions are merged away the slices are equal, and not yet proved to stay so.
    merge_all(shard_clients)
    assert watching.drifted() == set()
    watching.assert_quiet()
    oracle.assert_equal(source, shard_clients, kind="process")
