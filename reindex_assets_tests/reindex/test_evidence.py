"""A shard's word is no evidence: what a run does when statements are acknowledged and not done, done late, twice or by half.

What lives here: single faults of the statements of a run. What does not: kills (end_to_end/test_crashes.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse import deletes, difference, evidence
from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ShardUnreachableError, UnconfirmedWriteError
from reindex_assets.local.data.made_data import change_source, make_source
from reindex_assets.local.oracle.compare import assert_equal
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import Slice
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.retry import EVIDENCE, LATE_DELETE
from reindex_assets_tests.support.faulty_shard import Fault, FaultyShard, faulty_shard
from reindex_assets_tests.support.merges import merges_put_off
from reindex_assets_tests.support.plain_loader import load_plainly
from reindex_assets_tests.support.running import (
    PLAN,
    attempt,
    content,
    count_rows,
    errors,
    reindex,
    reported,
    slices_of,
    staging_tables,
)

SLICES = slices_of(PLAN)
ONCE = ReindexOptions(attempts=1)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence that doesn't come is not waited for as long."""
    for module in (evidence, difference):
        monkeypatch.setattr(module, "EVIDENCE", replace(EVIDENCE, attempts=2))


@pytest.fixture
def changed(clean: None, source: Connection, shard_clients: list[Client]) -> Iterator[None]:
    """ClickHouse has everything of a while ago. No merge hides a copy."""
    make_source(source, PLAN)
    load_plainly(source, shard_clients)
    change_source(source, PLAN, 1)
    with merges_put_off(shard_clients):
        yield


@pytest.fixture
def faulty(fleet: Fleet) -> Iterator[tuple[Fleet, FaultyShard]]:
    with faulty_shard(fleet) as both:
        yield both


def where(item: Slice) -> str:
    return f"customer = '{item.customer}' AND day = '{item.day}'"


def visible(shard_clients: list[Client]) -> set[tuple[object, ...]]:
    """The scorecards, and the scorecards of scores, that readers see."""
    return {
        (table, *row)
        for client in shard_clients
        for table in ("scorecard", "score")
        for row in client.query(f"SELECT DISTINCT customer, profile, scorecard_id FROM {table}").result_rows
    }


#: The statements that put rows somewhere, by a part of their text.
WRITES = {"rows into staging": "_score` (", "rows from staging into the live table": "INSERT INTO score ("}


@pytest.mark.usefixtures("changed", "hasty")
@pytest.mark.parametrize("what", WRITES)
@pytest.mark.parametrize("fault", [Fault.NOT_DONE, Fault.HTML])
def test_nothing_is_deleted_when_what_was_acknowledged_is_not_there(
    faulty: tuple[Fleet, FaultyShard],
    source: Connection,
    shard_clients: list[Client],
    what: str,
    fault: Fault,
) -> None:
    fleet, shard = faulty
    before = set(content(shard_clients))
    shard.always(WRITES[what], fault)

    failures = errors(attempt(fleet, SLICES, ONCE))

    assert shard.seen.get(fault), failures
    assert failures
    assert all("shard 1" in failure and "has acknowledged" in failure for failure in failures)
    assert before <= set(content(shard_clients))
    assert staging_tables(shard_clients) == []
    shard.heal()
    reindex(fleet, SLICES)
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("changed")
@pytest.mark.parametrize("what", WRITES)
def test_rows_that_show_a_while_after_they_were_acknowledged_are_waited_for(
    faulty: tuple[Fleet, FaultyShard], source: Connection, shard_clients: list[Client], what: str
) -> None:
    fleet, shard = faulty
    shard.once(WRITES[what], Fault.LATE)

    assert errors(attempt(fleet, SLICES, ONCE)) == []

    assert shard.seen == {Fault.LATE: 1}
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("changed", "hasty")
@pytest.mark.parametrize("fault", [Fault.REPEATED, Fault.CUT])
def test_staging_that_holds_other_rows_than_were_sent_stops_the_group(
    faulty: tuple[Fleet, FaultyShard], source: Connection, shard_clients: list[Client], fault: Fault
) -> None:
    fleet, shard = faulty
    before = set(content(shard_clients))
    shard.always(WRITES["rows into staging"], fault)

    assert errors(attempt(fleet, SLICES, ONCE))

    assert shard.seen[fault]
    assert before <= set(content(shard_clients))
    shard.heal()
    reindex(fleet, SLICES)
    assert_equal(source, shard_clients, kind="process")


#: Questions of a run, by a part of their text.
QUESTIONS = {
    "what is staged": "AS checksum FROM `reindex_staging",
    "what differs": "countIf(is_upsert AND live_rows = 0)",
    "what is not there": "WHERE is_upsert AND",
    "what has to go": "AS has_right_row",
    "versions": "min(version) AS oldest, max(version) AS newest FROM",
}


@pytest.mark.usefixtures("changed", "hasty")
@pytest.mark.parametrize("question", QUESTIONS)
def test_an_empty_answer_is_no_answer(
    faulty: tuple[Fleet, FaultyShard], source: Connection, shard_clients: list[Client], question: str
) -> None:
    fleet, shard = faulty
    before = visible(shard_clients)
    shard.always(QUESTIONS[question], Fault.NOT_DONE)

    failures = errors(attempt(fleet, SLICES, ONCE))

    assert shard.seen[Fault.NOT_DONE]
    assert failures
    assert all("shard 1 (" in failure for failure in failures)
    meanwhile = visible(shard_clients)
    shard.heal()
    reindex(fleet, SLICES)
    assert_equal(source, shard_clients, kind="process")
    assert before & visible(shard_clients) <= meanwhile


@pytest.mark.usefixtures("changed")
def test_a_shard_without_settings_is_none(faulty: tuple[Fleet, FaultyShard], shard_clients: list[Client]) -> None:
    fleet, shard = faulty
    before = content(shard_clients)
    shard.always("FROM system.settings", Fault.NOT_DONE)
    # What keeps deduplication from swallowing a repair is sent to servers that have the setting.
    with pytest.raises(ShardUnreachableError, match=r"shard 1 .* it has no settings"):
        attempt(fleet, SLICES, ONCE)
    assert content(shard_clients) == before


@pytest.mark.usefixtures("changed", "hasty")
@pytest.mark.parametrize("table", ["score", "scorecard"])
def test_a_run_that_can_insert_and_not_delete_inserts_once_however_often_it_is_tried(
    faulty: tuple[Fleet, FaultyShard], source: Connection, shard_clients: list[Client], table: str
) -> None:
    fleet, shard = faulty
    # Those of real months: that nothing can be deleted from the table at all would be found before.
    shard.always(f"DELETE FROM {table} IN PARTITION 2", Fault.REFUSED)
    held = []
    for _ in range(3):
        assert errors(attempt(fleet, SLICES, ONCE))
        held.append([sum(count_rows(shard_clients, name)) for name in ("score", "scorecard")])
    assert shard.seen[Fault.REFUSED] >= 3
    assert held[0] == held[1] == held[2]

    shard.heal()
    assert reported(reindex(fleet, SLICES)).written == 0
    assert_equal(source, shard_clients, kind="process")


def a_projection(client: Client) -> Callable[[], None]:
    """A projection that lightweight deletes are refused for."""
    client.command("ALTER TABLE score MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild'")
    client.command("ALTER TABLE score ADD PROJECTION by_value (SELECT * ORDER BY numeric_value)")

    def mend() -> None:
        client.command("ALTER TABLE score DROP PROJECTION by_value")
        client.command("ALTER TABLE score RESET SETTING deduplicate_merge_projection_mode")

    return mend


def too_many_mutations(client: Client) -> Callable[[], None]:
    """A mutation that waits, where one is too many."""
    client.command("ALTER TABLE score MODIFY SETTING number_of_mutations_to_throw = 1")
    client.command(
        "ALTER TABLE score UPDATE numeric_value = numeric_value + sleepEachRow(3) WHERE 1",
        settings={"mutations_sync": 0},
    )

    def mend() -> None:
        client.command("KILL MUTATION WHERE table = 'score' SYNC")
        client.command("ALTER TABLE score RESET SETTING number_of_mutations_to_throw")

    return mend


def a_mutation_that_fails(client: Client) -> Callable[[], None]:
    """Every later one waits for it."""
    client.command(
        "ALTER TABLE score UPDATE numeric_value = throwIf(1, 'for ever') WHERE 1", settings={"mutations_sync": 0}
    )
    deadline = time.monotonic() + 60
    while not client.query("SELECT 1 FROM system.mutations WHERE latest_fail_reason != '' AND NOT is_done").result_rows:
        assert time.monotonic() < deadline
        time.sleep(0.05)

    def mend() -> None:
        client.command("KILL MUTATION WHERE table = 'score' SYNC")

    return mend


@pytest.mark.usefixtures("changed")
@pytest.mark.parametrize("empty", [(0,), (0, 1)], ids=["one of the shards holds nothing", "no shard holds anything"])
def test_nothing_is_inserted_on_other_shards_either_where_one_can_not_delete(
    fleet: Fleet, shard_clients: list[Client], empty: tuple[int, ...]
) -> None:
    for number in empty:
        for table in ("score", "scorecard"):
            shard_clients[number].command(f"TRUNCATE TABLE {table}")
    before = {item: content(shard_clients, where(item)) for item in SLICES}
    mend = a_projection(shard_clients[1])
    try:
        outcomes = attempt(fleet, SLICES, ONCE)
    finally:
        mend()
    # Those of which nothing has to go may be written.
    failed = [outcome.slice for outcome in outcomes if outcome.error is not None]
    assert failed
    assert all("Nothing was written" in failure for failure in errors(outcomes))
    assert {item: content(shard_clients, where(item)) for item in failed} == {item: before[item] for item in failed}


@pytest.mark.usefixtures("changed")
@pytest.mark.parametrize(
    ("obstacle", "words"),
    [
        (a_projection, "projection"),
        (too_many_mutations, "Too many unfinished mutations"),
        (a_mutation_that_fails, "for ever"),
    ],
)
def test_nothing_is_inserted_where_nothing_can_be_deleted(
    fleet: Fleet,
    source: Connection,
    shard_clients: list[Client],
    obstacle: Callable[[Client], Callable[[], None]],
    words: str,
) -> None:
    before = {item: content(shard_clients, where(item)) for item in SLICES}
    mend = obstacle(shard_clients[1])
    try:
        outcomes = attempt(fleet, SLICES, ONCE)
    finally:
        mend()

    failures = errors(outcomes)
    assert failures
    assert all(
        "shard 1" in failure and words in failure and "Nothing was written" in failure for failure in failures
    ), failures
    failed = [outcome.slice for outcome in outcomes if outcome.error is not None]
    assert {item: content(shard_clients, where(item)) for item in failed} == {item: before[item] for item in failed}
    reindex(fleet, SLICES)
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("changed")
def test_a_right_row_is_left_alone_and_its_older_copies_go(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    reindex(fleet, SLICES)
    right = set(content(shard_clients))
    for client in shard_clients:
        client.command(
            "INSERT INTO score SELECT * EXCEPT (number) REPLACE (toUInt64(version - number - 1) AS version, 77 AS numeric_value) "
            "FROM (SELECT * FROM score ORDER BY score_id LIMIT 5) AS s CROSS JOIN (SELECT number FROM numbers(2)) AS n",
            settings={"optimize_on_insert": 0},
        )
    wrong = set(content(shard_clients)) - right
    assert len(wrong) == 20

    told = reported(reindex(fleet, SLICES))

    assert (told.written, told.deleted) == (0, 10)
    assert set(content(shard_clients)) == right


@pytest.mark.usefixtures("changed")
def test_of_two_newest_rows_alike_one_is_left(fleet: Fleet, source: Connection, shard_clients: list[Client]) -> None:
    reindex(fleet, SLICES)
    shard_clients[0].command("INSERT INTO score SELECT * FROM score ORDER BY score_id LIMIT 5")

    told = reported(reindex(fleet, SLICES))

    assert told.written == 5
    assert_equal(source, shard_clients, kind="process")


def forget_the_first_day(client: Client, where: str) -> None:
    """A deletion of rows that are right, acknowledged and still to come: as of a run that read Postgres before they were there again."""
    client.command("SYSTEM STOP MERGES score")
    client.command(
        f"DELETE FROM score {where} WHERE day = '{PLAN.first_day}'",
        settings={"lightweight_deletes_sync": 0, "mutations_sync": 0},
    )


@pytest.mark.usefixtures("changed", "hasty")
@pytest.mark.parametrize("where", ["", f"IN PARTITION {PLAN.first_day:%Y%m}"])
def test_a_deletion_that_is_still_to_come_is_waited_for(
    fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(deletes, "LATE_DELETE", replace(LATE_DELETE, attempts=2))
    reindex(fleet, SLICES)
    before = content(shard_clients)
    everything = ReindexOptions(attempts=1, everything=True)
    forget_the_first_day(shard_clients[1], where)
    try:
        failures = errors(attempt(fleet, SLICES, everything))
        assert failures
        assert all("shard 1" in failure and "still deleting" in failure for failure in failures)
        assert content(shard_clients) == before
        monkeypatch.setattr(deletes, "LATE_DELETE", LATE_DELETE)
        later = threading.Timer(1, lambda: shard_clients[1].command("SYSTEM START MERGES score"))
        later.start()
        reindex(fleet, SLICES, everything)
        later.join()
    finally:
        shard_clients[1].command("SYSTEM START MERGES score")
    assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("changed")
def test_a_deletion_in_another_month_is_not_waited_for(
    fleet: Fleet, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletes, "LATE_DELETE", replace(LATE_DELETE, attempts=1))
    forget_the_first_day(shard_clients[1], f"IN PARTITION {PLAN.first_day:%Y%m}")
    try:
        with ShardSet(fleet.clusters[CLUSTER]) as shards:
            shards.map(lambda shard: deletes.await_late_deletes(shard, [PLAN.last_day]))
            with pytest.raises(UnconfirmedWriteError, match="shard 1"):
                shards.map(lambda shard: deletes.await_late_deletes(shard, [PLAN.first_day]))
    finally:
        shard_clients[1].command("SYSTEM START MERGES score")
