"""Rows of ClickHouse outside every partition: seen, named, counted, and either removed by a run or left to a person, in words.

What lives here: such rows, and what `verify` says of them. What does not: the check (defs/test_asset_checks.py), and rows of Postgres
that have no place (config/test_bad_input.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison import strays
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.verification import Depth, Verification, verify
from reindex_assets.config.default_tables import SCORECARD, TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import CONVERSATION, PROCESS, Kind, Slice
from reindex_assets_tests.support.hand_made_rows import CREATED_AT, add_scorecard, reindex, succeeded

DAY = CREATED_AT.date()
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SLICE = Slice("acme", DAY)

pytestmark = pytest.mark.usefixtures("clean")


def today() -> date:
    return datetime.now(UTC).date()


def verified(
    fleet: Fleet, first: date = DAY, last: date = DAY, kind: Kind = PROCESS, depth: Depth = Depth.FINGERPRINT
) -> Verification:
    return verify(fleet, ["acme"], first, last, kind=kind, depth=depth, settle_seconds=0)


def copy(shard_clients: Sequence[Client], scorecard_id: str, /, **values: str) -> None:
    """Inserts a scorecard's rows once more on their shards, with other values (as SQL) of some columns."""
    for client in shard_clients:
        for table in TABLES:
            columns = ", ".join(table.column_names)
            chosen = ", ".join(f"{values.get(name, name)} AS {name}" for name in table.column_names)
            client.command(
                f"INSERT INTO {table.name} ({columns}) SELECT {chosen}"
                f" FROM (SELECT * FROM {table.name} WHERE scorecard_id = '{scorecard_id}')"
            )


#: How a copy differs from the scorecard, and the words for its place.
PLACES = {
    "before the fleet file's first day": {"scorecard_time": "toDateTime64('2025-12-31 12:00:00', 6, 'UTC')"},
    "a day to come": {"scorecard_time": "now64(6, 'UTC') + INTERVAL 40 DAY"},
    "with the unknown template type 0": {"template_type": "0"},
    "on 2025-11-30, before the fleet file's first day, with the unknown template type 7": {
        "template_type": "7",
        "scorecard_time": "toDateTime64('2025-11-30 12:00:00', 6, 'UTC')",
    },
}


@pytest.mark.parametrize("place", PLACES)
def test_a_copy_outside_every_partition_is_told_under_its_scorecards_day_and_goes_with_its_reindex(
    fleet: Fleet, source: Connection, shard_clients: list[Client], place: str
) -> None:
    card = add_scorecard(source, NOON)
    add_scorecard(source, NOON + timedelta(seconds=1))
    succeeded(reindex(fleet, [SLICE]))
    assert verified(fleet).agrees
    copy(shard_clients, card, **PLACES[place])

    for depth in Depth:
        found = verified(fleet, depth=depth)
        [day] = found.days
        assert day.difference is not None
        assert day.difference.startswith("1 scorecards and 2 scores left behind outside")
        assert card in day.difference
        assert place in day.difference
        assert day.differing_rows == 3
        assert not found.agrees
    # It is no other partition's, and no other kind's.
    assert verified(fleet, fleet.first_day, DAY - timedelta(days=1)).agrees
    assert verified(fleet, DAY + timedelta(days=1), today()).agrees
    assert verified(fleet, kind=CONVERSATION).agrees

    succeeded(reindex(fleet, [SLICE]))
    assert verified(fleet).agrees
    assert verified(fleet).rows(SCORECARD.name) == (2, 2)


def test_a_stray_that_is_written_to_or_merged_meanwhile_is_told_all_the_same(
    fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = add_scorecard(source, NOON)
    succeeded(reindex(fleet, [SLICE]))
    place = PLACES["with the unknown template type 0"]
    copy(shard_clients, card, **place)
    monkeypatch.setattr(
        "reindex_assets.comparison.strays.time.sleep", lambda seconds: copy(shard_clients, card, **place)
    )
    with Comparison(fleet.dataset(CLUSTER, PROCESS)) as comparison:
        [[stray]] = strays.find_strays(comparison, [SLICE], settle_seconds=1).values()
    assert stray.scorecard_id == card
    assert stray.total > 3


def test_what_belongs_to_nobody_is_told_under_its_day_or_the_nearest_and_no_run_touches_it(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    card = add_scorecard(source, NOON)
    succeeded(reindex(fleet, [SLICE]))
    for place in PLACES.values():
        copy(shard_clients, card, scorecard_id=f"toUUID('{uuid4()}')", **place)
    # Postgres has this one where it is: on a day to come.
    later = datetime.now(UTC) + timedelta(days=3)
    add_scorecard(source, later, scorecard_id=(known := str(uuid4())))
    copy(shard_clients, card, scorecard_id=f"toUUID('{known}')", scorecard_time="now64(6, 'UTC') + INTERVAL 3 DAY")

    for _ in range(2):
        words = {day.slice.day: day.difference for day in verified(fleet, fleet.first_day, today()).different}
        assert words.keys() == {fleet.first_day, DAY, today()}
        assert all("that belong to no partition" in str(text) for text in words.values())
        assert str(words[DAY]).startswith("1 scorecards and 2 scores that belong to no partition")
        assert "with the unknown template type 0" in str(words[DAY])
        assert str(words[fleet.first_day]).startswith("2 scorecards and 4 scores")
        assert str(words[today()]).startswith("2 scorecards and 4 scores")
        assert known in str(words[today()])
        succeeded(reindex(fleet, [Slice("acme", day) for day in words]))


def test_rows_that_are_left_out_on_purpose_or_anothers_are_not_told(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    card = add_scorecard(source, NOON)
    # Work before the first day, on both sides.
    early = add_scorecard(source, "2025-12-31 12:00:00Z")
    other = add_scorecard(source, NOON, customer="globex")
    unlisted = add_scorecard(source, NOON, profile="unlisted")
    succeeded(reindex(fleet, [SLICE]))
    time = "toDateTime64('2025-12-31 12:00:00', 6, 'UTC')"
    copy(shard_clients, card, scorecard_id=f"toUUID('{early}')", scorecard_time=time)
    copy(shard_clients, card, scorecard_id=f"toUUID('{other}')", customer="'globex'", template_type="0")
    copy(shard_clients, card, scorecard_id=f"toUUID('{unlisted}')", profile="'unlisted'", template_type="0")
    assert verified(fleet, fleet.first_day, today()).agrees
