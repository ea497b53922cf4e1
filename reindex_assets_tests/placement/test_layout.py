"""The shards' own records against the fleet file: each way to be wrong about the shards is seen, and named, before anything is written.

What lives here: adoption, and the refusals case by case. What does not: a reshard (reshard/test_reshard.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.config.engines import ClickHouse
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ConfigurationError, LayoutError, PlacementError
from reindex_assets.local.oracle.compare import assert_equal
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import Slice, Step
from reindex_assets.placement import layout
from reindex_assets.placement.layout import assert_layout, layout_problem
from reindex_assets.placement.records import LayoutState, read_records, same_tables
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.reindex.writer import WriteOptions
from reindex_assets.reshard.transition import plan_reshard
from reindex_assets_tests.support.hand_made_rows import add_scorecard, reindex, succeeded, with_clickhouse
from reindex_assets_tests.support.running import content, with_shards

ITEM = Slice("acme", date(2026, 1, 5))
NOON = datetime(2026, 1, 5, 12, 0, 0, 500_000, UTC)

pytestmark = pytest.mark.usefixtures("four_shards", "clean")


def fill(source: Connection, scorecards: int = 6) -> None:
    for seconds in range(scorecards):
        add_scorecard(source, NOON + timedelta(seconds=seconds), scores=[{}])


def records(shard_clients: Sequence[Client]) -> list[list[tuple[object, ...]]]:
    """Every record that was ever written, by shard."""
    sql = "SELECT state, cluster, shard, shards FROM reindex_layout ORDER BY version"
    return [[tuple(row) for row in client.query(sql).result_rows] for client in shard_clients]


@pytest.fixture
def adopted(fleet: Fleet, source: Connection) -> Fleet:
    fill(source)
    succeeded(reindex(fleet, [ITEM]))
    return fleet


def test_the_first_run_writes_the_records_and_the_next_ones_leave_them(
    adopted: Fleet, shard_clients: list[Client]
) -> None:
    first = records(shard_clients)
    assert first == [[("adopting", CLUSTER, number, 4), ("settled", CLUSTER, number, 4)] for number in range(4)]
    succeeded(reindex(adopted, [ITEM]))
    assert records(shard_clients) == first


def test_a_dry_run_and_steps_that_write_no_row_write_no_record(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    fill(source)
    succeeded(reindex(fleet, [ITEM], options=ReindexOptions(write=WriteOptions(dry_run=True))))
    succeeded(reindex(fleet, [ITEM], steps=[Step.EXTRACT, Step.ROWS]))
    assert records(shard_clients) == [[], [], [], []]


def test_without_its_table_a_shard_gets_it_with_the_first_record(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    fill(source)
    for client in shard_clients:
        client.command("DROP TABLE reindex_layout SYNC")
    succeeded(reindex(fleet, [ITEM]))
    assert [len(of_shard) for of_shard in records(shard_clients)] == [2, 2, 2, 2]


def edit(*clients: Client, **columns: object) -> None:
    """A later record of each of some shards, changed."""
    columns = {"version": "version + 1", **columns}
    replaced = ", ".join(f"{value} AS {name}" for name, value in columns.items())
    for client in clients:
        client.command(
            f"INSERT INTO reindex_layout SELECT * REPLACE ({replaced}) FROM reindex_layout ORDER BY reindex_layout.version DESC LIMIT 1"
        )


CASES: dict[str, tuple[Callable[[Fleet], Fleet], Callable[[list[Client]], object], str]] = {
    "fewer shards": (
        lambda fleet: with_shards(fleet, [0, 1, 2]),
        lambda clients: None,
        "lists 3 shards, but the rows are placed on 4",
    ),
    "two shards swapped": (
        lambda fleet: with_shards(fleet, [0, 2, 1, 3]),
        lambda clients: None,
        r"another order than the rows were placed by: shard 1 \(127.0.0.1:\d+\) was number 2",
    ),
    "more shards by the record": (
        lambda fleet: fleet,
        lambda clients: edit(*clients, shards=6),
        "lists 4 shards, but the rows are placed on 6",
    ),
    "records that contradict each other": (
        lambda fleet: fleet,
        lambda clients: edit(clients[3], shards=5),
        "lists 4 shards, but the rows are placed on 4 or 5",
    ),
    "a shard of another cluster": (
        lambda fleet: fleet,
        lambda clients: edit(clients[2], cluster="'elsewhere'"),
        "shard 2 .* belongs to cluster elsewhere by its own record",
    ),
    "a shard of another cluster of this name": (
        lambda fleet: fleet,
        lambda clients: edit(clients[2], layout_id="generateUUIDv4()"),
        "shard 2 .* has another layout id than most shards, so it belongs to another cluster of that name",
    ),
    "another machine": (
        lambda fleet: fleet,
        lambda clients: clients[1].command("TRUNCATE TABLE reindex_layout"),
        "shard 1 .* has no record of where its rows belong, and the other shards have",
    ),
    "another machine without the table": (
        lambda fleet: fleet,
        lambda clients: clients[1].command("DROP TABLE reindex_layout SYNC"),
        "shard 1 .* has no record of where its rows belong, and the other shards have",
    ),
    "an emptied shard": (
        lambda fleet: fleet,
        lambda clients: edit(clients[3], shard=-1),
        "shard 3 .* was an emptied one",
    ),
    "a shard that was replaced, and is back": (
        lambda fleet: fleet,
        lambda clients: edit(*clients[:3]),
        "shard 3 .* was left out when the shards' records were last written",
    ),
    "one shard is moving": (
        lambda fleet: fleet,
        lambda clients: edit(clients[0], state="'moving'", next_shard=0, next_shards=6, members=6),
        "a reshard from 4 to 6 shards is under way.*this fleet file has 4 shards",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_shards_that_are_not_those_of_the_fleet_file_are_refused_whatever_rows_they_hold(
    adopted: Fleet, source: Connection, shard_clients: list[Client], case: str
) -> None:
    changed, spoil, words = CASES[case]
    fill(source)
    spoil(shard_clients)
    before = content(shard_clients)
    with pytest.raises(LayoutError, match=words):
        reindex(changed(adopted), [ITEM])
    with pytest.raises(LayoutError, match=words):
        reindex(changed(adopted), [ITEM], options=ReindexOptions(allow_reshard=True))
    assert content(shard_clients) == before


def test_a_layout_that_changes_under_a_run_stops_it_at_the_next_group(
    adopted: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    days = [ITEM.day + timedelta(days=number) for number in range(3)]
    for day in days:
        add_scorecard(source, datetime(day.year, day.month, day.day, 15, tzinfo=UTC), scores=[{}])
    asked = 0
    original = layout.assert_layout

    def asking(shards: ShardSet, cluster_name: str, *, resharding: bool = False) -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            edit(shard_clients[0], state="'moving'", next_shard=0, next_shards=6, members=6)
        original(shards, cluster_name, resharding=resharding)

    monkeypatch.setattr("reindex_assets.reindex.job.assert_layout", asking)
    # Once for the run, and once a group.
    options = ReindexOptions(group_scorecards=1, attempts=1)
    with pytest.raises(LayoutError, match="under way"):
        reindex(adopted, [Slice("acme", day) for day in days], options=options)
    assert asked == 3
    assert_equal(source, shard_clients, last_day=days[0], kind="process")
    assert [
        client.query(f"SELECT count() FROM scorecard WHERE day > '{days[0]}'").result_rows for client in shard_clients
    ] == [[(0,)]] * 4


def test_runs_that_come_first_at_once_write_one_layout(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    fill(source)
    failures: list[object] = []

    def run(day: int) -> None:
        try:
            succeeded(reindex(fleet, [Slice("acme", date(2026, 1, day))], options=ReindexOptions(attempts=8)))
        except BaseException as failure:  # noqa: BLE001 - asserted below
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(day,)) for day in (5, 6, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [len(of_shard) for of_shard in records(shard_clients)] == [2, 2, 2, 2]


@pytest.mark.parametrize("in_round", ["first", "second"])
def test_an_adoption_that_was_broken_off_is_done_again(
    fleet: Fleet, source: Connection, shard_clients: list[Client], in_round: str
) -> None:
    fill(source)
    succeeded(reindex(fleet, [ITEM]))
    # As a kill leaves them: the records of a round are on two shards, and not yet on the others.
    for number, client in enumerate(shard_clients):
        if in_round == "first" and number >= 2:
            client.command("TRUNCATE TABLE reindex_layout")
        elif in_round == "first" or number >= 2:
            client.command("ALTER TABLE reindex_layout DELETE WHERE state = 'settled' SETTINGS mutations_sync = 2")
    assert layout_problem(CLUSTER, fleet.clusters[CLUSTER]) is None
    with ShardSet(fleet.clusters[CLUSTER]) as shards:
        before = read_records(shards)
        if in_round == "second":
            # It is decided: whoever is about to write goes on, and a fleet file with other shards is refused.
            assert_layout(shards, CLUSTER)
            with pytest.raises(LayoutError, match="placed on 4"):
                reindex(with_shards(fleet, [0, 1, 2]), [ITEM])
    succeeded(reindex(fleet, [ITEM], options=ReindexOptions(write=WriteOptions(dry_run=True))))
    with ShardSet(fleet.clusters[CLUSTER]) as shards:
        assert read_records(shards) == before
    succeeded(reindex(fleet, [ITEM]))
    with ShardSet(fleet.clusters[CLUSTER]) as shards:
        found = read_records(shards)
    assert [record and (record.state, record.shard, record.shards) for record in found] == [
        (LayoutState.SETTLED, number, 4) for number in range(4)
    ]
    assert len({record and record.layout_id for record in found}) == 1


def test_a_shard_from_the_time_of_another_adoption_is_not_taken_for_settled(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    fill(source)
    succeeded(reindex(fleet, [ITEM]))
    # As a disk restored from then: its record is not the one before what the others say.
    [record] = shard_clients[3].query("SELECT * FROM reindex_layout WHERE state = 'settled'").named_results()
    restored = {**record, "state": "adopting", "version": record["version"] - 7}
    shard_clients[3].command("TRUNCATE TABLE reindex_layout")
    shard_clients[3].insert("reindex_layout", [list(restored.values())], column_names=list(restored))
    with pytest.raises(LayoutError, match="has no record of where its rows belong"):
        reindex(fleet, [ITEM])


def test_rows_that_stand_elsewhere_are_not_adopted(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    fill(source, 40)
    succeeded(reindex(fleet, [ITEM]))
    for client in shard_clients:
        client.command("TRUNCATE TABLE reindex_layout")
    with pytest.raises(PlacementError, match="--from-shards N"):
        reindex(with_shards(fleet, [0, 1, 2]), [ITEM])
    assert records(shard_clients) == [[], [], [], []]


def test_two_addresses_of_one_server_are_noticed(adopted: Fleet, shard_clients: list[Client]) -> None:
    shards = adopted.clusters[CLUSTER].clickhouse.shards
    twice = with_clickhouse(adopted, shards=(*shards, shards[0].model_copy(update={"host": "localhost"})))
    with ShardSet(twice.clusters[CLUSTER]) as connected:
        assert len(same_tables(connected)) == 2
    with pytest.raises(LayoutError, match=r"lead to the same server: shard 0 .*, shard 4 \(localhost"):
        plan_reshard(CLUSTER, twice.clusters[CLUSTER])


def test_a_reshard_that_is_none_of_these_shards_is_refused(
    adopted: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    cluster = with_shards(adopted, [0, 1, 2], [3]).clusters[CLUSTER]
    assert plan_reshard(CLUSTER, cluster, 4, 3).is_needed
    with pytest.raises(ConfigurationError, match=r"--from-shards 5: .* are placed on 4 shards"):
        plan_reshard(CLUSTER, cluster, 5)
    with pytest.raises(ConfigurationError, match=r"--to-shards 5: the fleet file lists 3"):
        plan_reshard(CLUSTER, cluster, 4, 5)
    with pytest.raises(LayoutError, match="shard 3 of the 4"):
        plan_reshard(CLUSTER, with_shards(adopted, [0, 1, 2]).clusters[CLUSTER])
    # A new shard is empty: this one holds somebody's rows.
    shard_clients[3].command("TRUNCATE TABLE reindex_layout")
    with pytest.raises(LayoutError, match=r"shard 3 .* has no record .* but it holds rows"):
        plan_reshard(CLUSTER, adopted.clusters[CLUSTER], lost=True)


@pytest.mark.parametrize(
    ("retiring", "known"),
    [([("a", 1), ("a", 1)], "a retiring shard"), ([("b", 2)], "shard 0")],
    ids=["named twice", "still among the shards"],
)
def test_a_fleet_file_says_of_a_shard_once_what_it_is(retiring: list[tuple[str, int]], known: str) -> None:
    document = {
        "password": {"env": "X"},
        "shards": [{"host": "b", "port": 2}],
        "retiring": [{"host": host, "port": port} for host, port in retiring],
    }
    with pytest.raises(ValueError, match=f"{known} already uses the address"):
        ClickHouse.model_validate(document)
