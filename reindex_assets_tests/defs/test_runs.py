"""How runs are cut and guarded: steps alone, two runs at once, listed profiles, and shards that stand in a wrong order.

What lives here: whole runs of the core with an unusual question or fleet. What does not: the plain promises
(end_to_end/test_invariants.py).
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse import difference
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import PlacementError
from reindex_assets.local.data.made_data import change_source, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle.compare import assert_equal, differences
from reindex_assets.model import PROCESS, Slice, Step
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.reindex.pipeline import SliceOutcome
from reindex_assets_tests.support.running import (
    PLAN,
    activity,
    attempt,
    content,
    count_rows,
    errors,
    reindex,
    reported,
    slices_of,
    staging_tables,
    with_customers,
    with_shards,
)

pytestmark = pytest.mark.usefixtures("four_shards")

SLICES = slices_of(PLAN)
#: A few slices, where every slice is a group of its own.
FEW = [Slice("globex", day) for day in PLAN.all_days[1:3]]


@pytest.fixture
def made(clean: None, source: Connection) -> None:
    make_source(source, PLAN)


@pytest.fixture
def loaded(made: None, fleet: Fleet) -> None:
    reindex(fleet, SLICES)


@pytest.fixture
def own_store(fleet: Fleet, tmp_path: Path) -> Fleet:
    """The fleet with a slice store in which no other test has left files."""
    return fleet.model_copy(update={"slices": str(tmp_path)})


# --- steps


@pytest.mark.usefixtures("made")
def test_the_steps_run_one_after_the_other_give_what_they_give_together(
    own_store: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    for step in (Step.EXTRACT, Step.ROWS):
        reindex(own_store, FEW, steps=[step])
        assert sum(count_rows(shard_clients, "scorecard")) == 0
    # What happens in Postgres afterwards belongs to the next run.
    reindex(own_store, FEW, steps=[Step.WRITE])

    assert_equal(source, shard_clients, ["globex"], FEW[0].day, FEW[-1].day, kind="process")
    told = reported(reindex(own_store, FEW))
    assert told.read > 0
    assert (told.written, told.deleted) == (0, 0)


@pytest.mark.usefixtures("loaded")
def test_a_write_of_older_files_does_not_cover_a_newer_run(
    own_store: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    reindex(own_store, SLICES, steps=[Step.EXTRACT, Step.ROWS])
    change_source(source, PLAN, 1)
    reindex(own_store.model_copy(update={"slices": f"{own_store.slices}/newer"}), SLICES)
    before = count_rows(shard_clients, "scorecard", "version IN (SELECT max(version) FROM scorecard)")

    reindex(own_store, FEW, steps=[Step.WRITE])

    assert count_rows(shard_clients, "scorecard", "version IN (SELECT max(version) FROM scorecard)") == before
    stale = differences(source, shard_clients, kind="process")
    assert not [line for line in stale if line.startswith("changed")]


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize(
    ("step", "advice"),
    [
        (Step.ROWS, "there are no extract files of globex 2026-01-31"),
        (Step.WRITE, "there are no rows files of globex 2026-01-31"),
    ],
)
def test_a_step_without_the_files_of_the_step_before_says_which_to_run(
    own_store: Fleet, shard_clients: list[Client], step: Step, advice: str
) -> None:
    [outcome] = attempt(own_store, FEW[:1], steps=[step])

    assert outcome.error is not None
    assert advice in outcome.error
    assert "run scorecard_extract" in outcome.error
    assert "of this partition first" in outcome.error
    assert sum(count_rows(shard_clients, "scorecard")) == 0


@pytest.mark.usefixtures("made")
def test_files_of_two_snapshots_are_refused(own_store: Fleet, shard_clients: list[Client]) -> None:
    [outcome] = reindex(own_store, FEW[:1], steps=[Step.EXTRACT, Step.ROWS])
    scores = Path(outcome.files[Step.ROWS, "score"].path)
    kept = scores.read_bytes()
    reindex(own_store, FEW[:1], steps=[Step.EXTRACT, Step.ROWS])
    scores.write_bytes(kept)

    [outcome] = attempt(own_store, FEW[:1], steps=[Step.WRITE])

    assert outcome.error is not None
    assert "come from different extracts (a run was killed between them)" in outcome.error
    assert sum(count_rows(shard_clients, "scorecard")) == 0


@pytest.mark.usefixtures("made")
def test_rows_that_were_placed_for_another_number_of_shards_are_refused(
    own_store: Fleet, shard_clients: list[Client]
) -> None:
    reindex(with_shards(own_store, [0, 1, 2]), FEW[:1], steps=[Step.EXTRACT, Step.ROWS])

    [outcome] = attempt(own_store, FEW[:1], steps=[Step.WRITE])

    assert outcome.error is not None
    assert "were placed on 3 shards, the fleet file has 4: run score_rows of this partition again" in outcome.error
    assert sum(count_rows(shard_clients, "scorecard")) == 0


# --- two runs at once


class PausedRun:
    """A run that stops, in a thread, before its first insert, until it is let go."""

    def __init__(self, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paused, self.go_on = threading.Event(), threading.Event()
        self.outcomes: list[SliceOutcome] = []
        original = difference.insert_upserts

        def insert_upserts(*args: object) -> None:
            self.paused.set()
            assert self.go_on.wait(20)
            original(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(difference, "insert_upserts", insert_upserts)
        self._thread = threading.Thread(target=lambda: self.outcomes.extend(attempt(fleet, FEW)))
        self._thread.start()
        assert self.paused.wait(60)

    def finish(self) -> None:
        self.go_on.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.mark.usefixtures("loaded")
def test_a_second_run_on_the_same_slices_is_refused_while_the_first_is_at_work(
    fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(source, shard_clients)
    first = PausedRun(fleet, monkeypatch)
    try:
        second = attempt(fleet, FEW, ReindexOptions(attempts=1))
    finally:
        first.finish()

    assert len(errors(second)) == len(FEW)
    assert all("another run is working on globex" in (outcome.error or "") for outcome in second)
    assert errors(first.outcomes) == []
    assert_equal(source, shard_clients, kind="process")
    assert staging_tables(shard_clients) == []


@pytest.mark.usefixtures("loaded")
def test_a_second_run_on_the_same_slices_waits_when_it_may_try_again(
    fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(source, shard_clients)
    first = PausedRun(fleet, monkeypatch)
    waits: list[str] = []

    def waited(message: str) -> None:
        waits.append(message)
        first.go_on.set()

    try:
        second = attempt(fleet, FEW, ReindexOptions(attempts=12), on_retry=waited)
    finally:
        first.finish()

    assert "another run is working on globex" in waits[0]
    assert f"They are held by reindex_assets {os.getpid()}@" in waits[0]
    assert errors(first.outcomes) + errors(second) == []
    assert_equal(source, shard_clients, kind="process")
    assert staging_tables(shard_clients) == []


@pytest.mark.usefixtures("loaded")
def test_a_run_on_other_slices_is_not_disturbed_and_keeps_the_tables_of_the_first(
    fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(source, shard_clients)
    first = PausedRun(fleet, monkeypatch)
    try:
        staged = staging_tables(shard_clients)
        assert staged
        reindex(fleet, [item for item in SLICES if item.customer == "acme"])
        assert set(staging_tables(shard_clients)) == set(staged)
    finally:
        first.finish()

    assert errors(first.outcomes) == []
    assert_equal(source, shard_clients, kind="process")


def spoil(source: Connection, shard_clients: list[Client]) -> None:
    for item in FEW:
        plant(Drift.CHANGED, shard_clients, item.customer, item.day, count=2, kind=PROCESS)
        plant(Drift.MISSING, shard_clients, item.customer, item.day, count=2, kind=PROCESS)


# --- profiles


@pytest.mark.usefixtures("clean")
def test_rows_of_profiles_that_are_not_listed_are_neither_read_nor_touched(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    made = make_source(source, PLAN)
    acme = [item for item in SLICES if item.customer == "acme"]
    main_only = with_customers(fleet, {"acme": ("main",), "globex": (), "initech": ("main",)})
    first = reindex(main_only, SLICES)
    assert sum(count_rows(shard_clients, "scorecard", "profile = 'voice'")) == 0
    assert sum(count_rows(shard_clients, "scorecard", "customer = 'globex'")) > 0
    assert reported(first, "scorecard").read < made.process_scorecards

    reindex(fleet, SLICES)
    assert_equal(source, shard_clients, kind="process")
    # Both profiles have something to repair, to delete and to move; only the listed one's is.
    change_source(source, PLAN, 1)
    with source.cursor() as cursor:
        cursor.execute(
            "UPDATE director.scorecards SET process_interaction_at = process_interaction_at + interval '1 day'"
            " WHERE customer = 'acme' AND (process_interaction_at AT TIME ZONE 'UTC')::date = %s",
            (PLAN.first_day,),
        )
    voice = content(shard_clients, "profile = 'voice'")
    reindex(main_only, acme)

    assert content(shard_clients, "profile = 'voice'") == voice
    found = differences(source, shard_clients, ["acme"], kind="process")
    assert found
    assert all(" acme/voice " in line for line in found)


# --- placement


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([0, 1, 2], "a list of 4 shards would explain 100% of them"),
        ([1, 0, 3, 2], "the shards may be in another order than before"),
    ],
    ids=["a shard is left out", "the shards are swapped"],
)
def test_shards_that_disagree_with_the_live_rows_are_refused_and_nothing_is_written(
    fleet: Fleet, shard_clients: list[Client], numbers: list[int], words: str
) -> None:
    for client in shard_clients:
        client.command("TRUNCATE TABLE reindex_layout")
    before, rows_before = activity(shard_clients), content(shard_clients)

    with pytest.raises(PlacementError, match="Nothing was written") as raised:
        attempt(with_shards(fleet, numbers), SLICES)

    assert words in str(raised.value)
    assert content(shard_clients) == rows_before
    assert activity(shard_clients) == before
