"""The application's real-time writer goes on while a run is under way: what it has read later is never covered or deleted.

What lives here: rows written by another writer before, between and after the steps of a run. What does not: two runs at once
(defs/test_runs.py), and readers (end_to_end/test_readers.py).
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse import deletes, difference
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_data import make_source
from reindex_assets.local.oracle.compare import assert_equal
from reindex_assets.model import Slice
from reindex_assets.reindex import writer as shards
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.reindex.writer import WriteOptions
from reindex_assets_tests.support.application import (
    Scorecard,
    copy_as_new,
    read_as_application,
    scorecards_of,
    update,
    write_as_application,
)
from reindex_assets_tests.support.plain_loader import load_plainly
from reindex_assets_tests.support.running import PLAN, Once, reindex, reported, slices_of

SLICES = slices_of(PLAN)
SLICE = Slice("acme", PLAN.all_days[1])
CLEAN_UP = ReindexOptions(write=WriteOptions(clean_up=True))

#: Between which two steps of a run the other writer comes, by the function that is about to be called.
MOMENTS = {
    "before the rows are staged": (shards.GroupWriter, "add"),
    "before the comparison": (difference, "find_difference"),
    "between comparison and inserts": (difference, "insert_upserts"),
    "between the comparisons of the two tables": (difference, "moved_keys"),
    "between inserts and deletes": (deletes, "delete_rows"),
}
#: A slice that was just emptied is filled straight away, without a comparison.
CLEAN_UP_MOMENTS = ("before the rows are staged", "between inserts and deletes")


@pytest.fixture
def loaded(clean: None, source: Connection, shard_clients: list[Client]) -> None:
    make_source(source, PLAN)
    load_plainly(source, shard_clients)


def write_at(monkeypatch: pytest.MonkeyPatch, moment: str, action: Callable[[], object]) -> Once:
    owner, name = MOMENTS[moment]
    original = getattr(owner, name)
    once = Once(action)

    def writing(*args: object, **kwargs: object) -> object:
        once()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, writing)
    return once


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("moment", "options"),
    [
        *(pytest.param(moment, None, id=moment) for moment in MOMENTS),
        *(pytest.param(moment, CLEAN_UP, id=f"{moment} of a rebuild") for moment in CLEAN_UP_MOMENTS),
    ],
)
def test_what_another_writer_has_read_later_is_visible_once_after_the_run(
    fleet: Fleet,
    source: Connection,
    shard_clients: list[Client],
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    options: ReindexOptions | None,
) -> None:
    changed, missing, pattern = scorecards_of(source, SLICE, 3)
    # The run's snapshot has another value of these two than ClickHouse, or finds them missing there ...
    update(source, changed, "score = 1")
    forget(shard_clients, missing)

    def live_on() -> None:
        # ... and the application has a third one, and a new scorecard.
        for scorecard in (changed, missing):
            update(source, scorecard, "score = 2")
        for scorecard in (changed, missing, copy_as_new(source, pattern)):
            write_as_application(source, shard_clients, scorecard)

    written = write_at(monkeypatch, moment, live_on)

    reindex(fleet, [SLICE], options)

    assert written.done
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("clean")
def test_a_newer_row_survives_a_first_load_into_empty_shards(
    fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_source(source, PLAN)
    [edited, pattern] = scorecards_of(source, SLICE, 2)

    def live_on() -> None:
        update(source, edited, "score = 2")
        for scorecard in (edited, copy_as_new(source, pattern)):
            write_as_application(source, shard_clients, scorecard)

    written = write_at(monkeypatch, "before the rows are staged", live_on)

    reindex(fleet, SLICES)

    assert written.done
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("loaded")
def test_a_row_that_is_newer_than_the_snapshot_is_counted_and_left_alone(
    fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    [edited] = scorecards_of(source, SLICE)

    def live_on() -> None:
        update(source, edited, "score = 2")
        write_as_application(source, shard_clients, edited)

    write_at(monkeypatch, "before the rows are staged", live_on)

    told = reported(reindex(fleet, [SLICE]), "scorecard")

    assert (told.newer, told.written, told.deleted) == (1, 0, 0)
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_scorecard_that_moved_into_a_slice_after_the_snapshot_stays_there(
    fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    [moved] = scorecards_of(source, Slice("acme", PLAN.all_days[0]))
    [changed] = scorecards_of(source, SLICE)
    update(source, changed, "score = 1")

    def live_on() -> None:
        update(source, moved, "process_interaction_at = process_interaction_at + interval '1 day 1 second'")
        write_as_application(source, shard_clients, moved)
        forget(shard_clients, moved, f"day = '{moved.day}'")

    written = write_at(monkeypatch, moment, live_on)

    reindex(fleet, [SLICE])

    assert written.done
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize("moment", MOMENTS)
def test_what_another_writer_has_read_before_and_writes_late_is_superseded(
    fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    changed, missing = scorecards_of(source, SLICE, 2)
    forget(shard_clients, missing)
    late = [read_as_application(source, scorecard, len(shard_clients)) for scorecard in (changed, missing)]
    for scorecard in (changed, missing):
        update(source, scorecard, "score = 1")
        with source.cursor() as cursor:
            cursor.execute(
                "UPDATE historic.scorecard_scores SET weight = 0.5"
                " WHERE (customer, profile, scorecard_id) = (%s, %s, %s::uuid)",
                scorecard.key,
            )

    def arrive() -> None:
        for rows in late:
            rows.write(shard_clients)

    written = write_at(monkeypatch, moment, arrive)

    reindex(fleet, [SLICE])

    assert written.done
    assert_equal(source, shard_clients, kind="process")


def forget(shard_clients: list[Client], scorecard: Scorecard, condition: str = "1") -> None:
    for client in shard_clients:
        for table in ("scorecard", "score"):
            where = (
                "customer = {customer:String} AND profile = {profile:String} AND scorecard_id = {scorecard_id:UUID}"
                f" AND {condition}"
            )
            parameters = {
                "customer": scorecard.customer,
                "profile": scorecard.profile,
                "scorecard_id": scorecard.scorecard_id,
            }
            if client.query(f"SELECT 1 FROM {table} WHERE {where}", parameters=parameters).result_rows:
                client.command(
                    f"DELETE FROM {table} WHERE {where}",
                    parameters=parameters,
                    settings={"lightweight_deletes_sync": 2},
                )
