"""The counts: the same numbers as counted by other SQL, per template, day and shard, and never a word about values.

What lives here: count_both_sides, count_clickhouse, the tables made of them, gaps, and 'verify' at the depth `counts`. What does not: the
report as a page (cli/test_report.py) and the command line (cli/test_cli.py).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.count_queries import count_both_sides, count_clickhouse
from reindex_assets.comparison.counts import Counts, shard_table, template_table
from reindex_assets.comparison.verification import Depth, MissingDays, Verification, verify
from reindex_assets.config.engines import Relations
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ShardUnreachableError, SourceUnreachableError
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.drift.changes import CHANGES
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets_tests.support import application
from reindex_assets_tests.support.hand_made_rows import silent_port, with_postgres, with_shard_port
from reindex_assets_tests.support.merges import no_merges
from reindex_assets_tests.support.plain_loader import load_plainly

FIRST_DAY = date(2026, 1, 28)
PLAN = DataPlan(
    {"acme": ("main", "voice"), "globex": ("main",), "initech": ("main",)}, FIRST_DAY, days=8, scale=0.0006, seed=6
)
SLICES = [Slice(customer, day) for customer in PLAN.customers for day in PLAN.all_days]
SHARDS = 2
_SYNC = {"lightweight_deletes_sync": 2}

#: Rows by table, customer, day, template and shard.
Place = tuple[str, str, date, str, int]


@pytest.fixture
def equal(clean: None, source: Connection, shard_clients: list[Client]) -> None:
    make_source(source, PLAN)
    load_plainly(source, shard_clients)


def counted(fleet: Fleet, slices: list[Slice] | None = None) -> Counts:
    with Comparison(fleet.dataset(CLUSTER, PROCESS)) as comparison:
        return count_both_sides(comparison, SLICES if slices is None else slices)


def verified(fleet: Fleet, depth: Depth = Depth.COUNTS, settle_seconds: float = 0) -> Verification:
    return verify(fleet, [], PLAN.first_day, PLAN.last_day, kind=PROCESS, depth=depth, settle_seconds=settle_seconds)


def in_postgres(source: Connection) -> Counter[Place]:
    """What belongs in ClickHouse, counted one row at a time."""
    found: Counter[Place] = Counter()
    with source.cursor() as cursor:
        for table, scores in (
            ("scorecard", ""),
            ("score", "JOIN historic.scorecard_scores USING (customer, profile, scorecard_id)"),
        ):
            cursor.execute(
                f"""
                SELECT customer, process_interaction_at, template_id::text
                FROM director.scorecards
                JOIN director.scorecard_template_revisions USING (customer, profile, template_id, template_revision_id)
                {scores}
                WHERE template_type = 2 AND (scorecard_type IS NULL OR scorecard_type = 0)
                """
            )
            for customer, at, template_id in cursor.fetchall():
                found[table, customer, at.astimezone(UTC).date(), template_id, int(at.timestamp() // 1) % SHARDS] += 1
    return found


def on_shards(shard_clients: list[Client]) -> tuple[Counter[Place], Counter[tuple[str, int]]]:
    """What stands on the shards, and how many rows of a table stand on each that their time gives another one."""
    found: Counter[Place] = Counter()
    misplaced: Counter[tuple[str, int]] = Counter()
    for shard, client in enumerate(shard_clients):
        for table in ("scorecard", "score"):
            rows = client.query(
                f"SELECT customer, toDate(scorecard_time, 'UTC'), toString(template_id), toUnixTimestamp(scorecard_time)"
                f" FROM {table} WHERE template_type = 2"
            ).result_rows
            for customer, day, template_id, seconds in rows:
                found[table, customer, day, template_id, shard] += 1
                misplaced[table, shard] += seconds % SHARDS != shard
    return found, misplaced


def assert_counted(counts: Counts, source: Connection, shard_clients: list[Client]) -> None:
    """The product's numbers are those of the two functions above, place by place."""
    postgres: Counter[Place] = Counter()
    clickhouse: Counter[Place] = Counter()
    for template in counts.templates:
        for name, table in template.tables.items():
            for shard in range(SHARDS):
                place = (name, template.slice.customer, template.slice.day, template.template_id, shard)
                postgres[place] = table.postgres_by_shard[shard]
                clickhouse[place] = table.clickhouse_by_shard[shard]
    expected_clickhouse, misplaced = on_shards(shard_clients)
    assert +postgres == in_postgres(source)
    assert +clickhouse == expected_clickhouse
    for row in shard_table(counts):
        for name, plural in (("scorecard", "scorecards"), ("score", "scores")):
            assert row[f"{plural}_wrong_shard"] == misplaced[name, int(row["shard"])]


@pytest.mark.usefixtures("equal")
def test_equal_data_are_counted_alike_per_template_day_and_shard(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    counts = counted(fleet)

    assert_counted(counts, source, shard_clients)
    assert counts.disagreeing() == []
    assert counts.slices == tuple(sorted(SLICES))
    # A whole rectangle is one question: it was seen at one moment.
    assert len(counts.snapshots) == 1
    for row in template_table(counts):
        assert str(row["title"]).startswith("Process review")
        assert (row["scorecards_difference"], row["scores_difference"], row["days_differ"]) == (0, 0, 0)


@pytest.mark.usefixtures("equal")
def test_each_kind_of_drift_that_changes_a_number_is_counted_where_it_is(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    kinds = [drift for drift in Drift if drift is not Drift.CHANGED]
    days = dict(zip(sorted(kinds, key=lambda drift: drift is Drift.DUPLICATED), PLAN.all_days, strict=False))
    wrong = set()
    with contextlib.ExitStack() as stack:
        for drift, day in days.items():
            if drift is Drift.DUPLICATED:
                stack.enter_context(no_merges(shard_clients))
            for customer, seed in (("acme", 1), ("globex", 2)):
                planted = plant(drift, shard_clients, customer, day, 2, seed, source, kind=PROCESS)
                wrong |= {Slice(one.customer, one.day) for one in planted}

        counts = counted(fleet)

        assert_counted(counts, source, shard_clients)
        assert set(counts.disagreeing()) == wrong
        found = verified(fleet)
        assert {day.slice for day in found.different} == wrong
        assert all(day.difference for day in found.different)


@pytest.mark.usefixtures("equal")
def test_a_row_too_few_and_one_too_many_do_not_cancel_out(fleet: Fleet, shard_clients: list[Client]) -> None:
    first, second = PLAN.all_days[:2]
    # The same template on two days: the sums over the days are as they should be.
    [(template_id, shard)] = _common_template(shard_clients, "initech", first, second)
    shard_clients[shard].command(
        "DELETE FROM scorecard WHERE customer = 'initech' AND day = {day:Date32} AND scorecard_id = ("
        "SELECT min(scorecard_id) FROM scorecard WHERE customer = 'initech' AND day = {day:Date32} AND template_id = {id:UUID})",
        parameters={"day": first, "id": template_id},
        settings=_SYNC,
    )
    shard_clients[shard].command(
        "INSERT INTO scorecard SELECT * REPLACE (generateUUIDv4() AS scorecard_id) FROM scorecard"
        " WHERE customer = 'initech' AND day = {day:Date32} AND template_id = {id:UUID} LIMIT 1",
        parameters={"day": second, "id": template_id},
    )

    counts = counted(fleet)

    assert counts.disagreeing() == [Slice("initech", first), Slice("initech", second)]
    [row] = [row for row in template_table(counts) if row["template_id"] == template_id]
    assert (row["scorecards_difference"], row["days_differ"]) == (0, 2)
    two = {Slice("initech", PLAN.all_days[2]), Slice("acme", first)}
    others = template_table(replace(counts, templates=tuple(each for each in counts.templates if each.slice in two)))
    assert {row["customer"] for row in others} == {"acme", "initech"}
    assert {row["days_differ"] for row in others} == {0}


def _common_template(shard_clients: list[Client], customer: str, first: date, second: date) -> list[tuple[str, int]]:
    for shard, client in enumerate(shard_clients):
        rows = client.query(
            "SELECT toString(template_id) FROM scorecard WHERE customer = {customer:String}"
            " AND day IN ({first:Date32}, {second:Date32}) GROUP BY template_id HAVING uniqExact(day) = 2 LIMIT 1",
            parameters={"customer": customer, "first": first, "second": second},
        ).result_rows
        if rows:
            return [(rows[0][0], shard)]
    raise AssertionError("the plan has no template with scorecards of two days on one shard")


@pytest.mark.usefixtures("equal")
def test_two_rows_in_each_others_place_are_seen_though_each_shard_has_as_many(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    item = Slice("acme", PLAN.all_days[0])
    for scorecard_id, shard, other in _exchangeable_pair(source, item):
        _move_scorecard(shard_clients, scorecard_id, shard, other)

    counts = counted(fleet)

    assert_counted(counts, source, shard_clients)
    for row in shard_table(counts):
        assert row["scorecards_expected"] == row["scorecards_clickhouse"]
    assert counts.disagreeing() == [item]
    [day] = verified(fleet).different
    assert day.difference == "2 scorecards on a wrong shard"


def _exchangeable_pair(source: Connection, item: Slice) -> list[tuple[str, int, int]]:
    """Two scorecards of one template that belong on different shards: each with its shard and that of the other."""
    with source.cursor() as cursor:
        cursor.execute(
            """
            SELECT template_id::text, scorecard_id::text, process_interaction_at
            FROM director.scorecards
            JOIN director.scorecard_template_revisions USING (customer, profile, template_id, template_revision_id)
            WHERE template_type = 2 AND coalesce(scorecard_type, 0) = 0 AND customer = %s
                AND (process_interaction_at AT TIME ZONE 'UTC')::date = %s
            ORDER BY 1, 2
            """,
            (item.customer, item.day),
        )
        seen: dict[str, tuple[str, int]] = {}
        for template_id, scorecard_id, at in cursor.fetchall():
            shard = int(at.timestamp() // 1) % SHARDS
            other_id, other = seen.setdefault(template_id, (scorecard_id, shard))
            if other != shard:
                return [(scorecard_id, shard, other), (other_id, other, shard)]
    raise AssertionError("the plan has no two scorecards of one template on two shards")


def _move_scorecard(shard_clients: list[Client], scorecard_id: str, shard: int, other: int) -> None:
    [row] = (
        shard_clients[shard]
        .query("SELECT * FROM scorecard WHERE scorecard_id = {id:UUID}", parameters={"id": scorecard_id})
        .named_results()
    )
    shard_clients[other].insert("scorecard", [list(row.values())], column_names=list(row))
    shard_clients[shard].command(
        "DELETE FROM scorecard WHERE scorecard_id = {id:UUID}", parameters={"id": scorecard_id}, settings=_SYNC
    )


@pytest.mark.usefixtures("equal")
def test_a_scorecard_of_another_template_differs_though_the_day_has_as_many(fleet: Fleet, source: Connection) -> None:
    item = Slice("globex", PLAN.all_days[1])
    [scorecard] = application.scorecards_of(source, item)
    application.update(
        source,
        scorecard,
        "(template_id, template_revision_id) = (SELECT r.template_id, r.template_revision_id"
        " FROM director.scorecard_template_revisions AS r WHERE r.customer = scorecards.customer"
        " AND r.profile = scorecards.profile AND r.template_type = 2 AND r.template_id <> scorecards.template_id LIMIT 1)",
    )

    found = verified(fleet)

    [day] = found.different
    assert day.slice == item
    assert all(postgres == clickhouse for postgres, clickhouse in day.rows.values())
    assert day.difference == "as many rows, but not of each template"


@pytest.mark.usefixtures("equal")
def test_equal_counts_of_wrong_values_agree_and_claim_nothing_about_values(
    fleet: Fleet, shard_clients: list[Client]
) -> None:
    others = [number for number, change in enumerate(CHANGES) if change.column != "template_id"]
    for number, day in zip(others, PLAN.all_days, strict=False):
        plant(Drift.CHANGED, shard_clients, "acme", day, seed=number, kind=PROCESS)

    found = verified(fleet)
    deeper = verified(fleet, Depth.FINGERPRINT)

    assert found.agrees
    assert "Counts agree" in found.sentence
    assert "values were not compared" in found.sentence
    assert "equal" not in found.sentence
    assert {day.slice for day in deeper.different} == {Slice("acme", day) for day in PLAN.all_days}


@pytest.mark.usefixtures("equal")
def test_a_row_on_its_way_has_arrived_at_the_second_count(
    fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    item = Slice("globex", PLAN.all_days[3])
    [scorecard] = application.scorecards_of(source, item)
    late = application.copy_as_new(source, scorecard)
    assert [day.slice for day in verified(fleet).different] == [item]
    pauses: list[float] = []

    def arrives(seconds: float) -> None:
        pauses.append(seconds)
        application.write_as_application(source, shard_clients, late)

    monkeypatch.setattr("reindex_assets.comparison.verification.time.sleep", arrives)

    found = verified(fleet, settle_seconds=7)

    assert pauses == [7]
    assert found.agrees
    expected = sum(rows for place, rows in in_postgres(source).items() if place[0] == "scorecard")
    assert sum(day.rows["scorecard"][1] for day in found.days) == expected


@pytest.mark.usefixtures("equal")
def test_titles_that_cannot_be_read_leave_the_counts_as_they_are(fleet: Fleet) -> None:
    counts = counted(with_postgres(fleet, relations=Relations(templates="director.nothing_here")))

    assert counts.titles_error is not None
    assert "nothing_here" in counts.titles_error
    assert {row["title"] for row in template_table(counts)} == {""}
    assert counts.templates == counted(fleet).templates


@pytest.mark.usefixtures("equal")
def test_clickhouse_alone_is_counted_without_asking_postgres(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    slices = [Slice("acme", day) for day in PLAN.all_days[2:5]]
    found, _ = on_shards(shard_clients)
    expected = {
        name: sum(rows for place, rows in found.items() if place[0] == name and Slice(place[1], place[2]) in slices)
        for name in ("scorecard", "score")
    }
    assert expected["score"] > expected["scorecard"] > 0
    assert count_clickhouse(with_postgres(fleet, port=silent_port()).dataset(CLUSTER, PROCESS), slices) == expected


def test_an_engine_that_cannot_be_asked_is_an_error_and_never_a_count(fleet: Fleet) -> None:
    port = silent_port()
    with pytest.raises(ShardUnreachableError, match=rf"shard 1 \(127.0.0.1:{port}\)"):
        counted(with_shard_port(fleet, 1, port))
    with pytest.raises(SourceUnreachableError, match=f"Postgres 127.0.0.1:{port}"):
        counted(with_postgres(fleet, port=port))
    with pytest.raises(ShardUnreachableError):
        count_clickhouse(with_shard_port(fleet, 1, port).dataset(CLUSTER, PROCESS), SLICES)


@pytest.mark.usefixtures("clean")
def test_two_empty_sides_agree_and_have_no_gap(fleet: Fleet) -> None:
    found = verified(fleet)
    assert found.agrees
    assert found.sentence.startswith("There was nothing to compare: neither side has a row")
    assert found.gaps == ()
    assert found.templates == []
    assert [row["scores_clickhouse"] for row in found.shards] == [0] * SHARDS
    assert counted(fleet, []).slices == ()


@pytest.mark.usefixtures("equal")
def test_gaps_are_the_days_without_a_row_between_days_with_rows(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    days = PLAN.all_days
    # The first and the last day are no gaps: nothing tells a late start from a hole.
    _empty(source, shard_clients, "acme", [days[0], days[2], days[3]], "both")
    _empty(source, shard_clients, "acme", [days[4]], "ClickHouse")
    _empty(source, shard_clients, "globex", [days[5]], "Postgres")
    _empty(source, shard_clients, "globex", [days[7]], "both")
    # Nothing at all on one side is a difference on every day, and no gap.
    _empty(source, shard_clients, "initech", days, "ClickHouse")

    found = verified(fleet)

    assert list(found.gaps) == [
        MissingDays(CLUSTER, "acme", days[2], days[2] + timedelta(days=1), "both"),
        MissingDays(CLUSTER, "acme", days[4], days[4], "ClickHouse"),
        MissingDays(CLUSTER, "globex", days[5], days[5], "Postgres"),
    ]
    assert [gap.days for gap in found.gaps] == [2, 1, 1]
    # A day that neither side has is no difference.
    different = {Slice("acme", days[4]), Slice("globex", days[5]), *(Slice("initech", day) for day in days)}
    assert {day.slice for day in found.different} == different
    assert verified(fleet, Depth.FINGERPRINT).gaps == found.gaps


def _empty(source: Connection, shard_clients: list[Client], customer: str, days: list[date], side: str) -> None:
    if side != "ClickHouse":
        with source.cursor() as cursor:
            cursor.execute(
                "UPDATE director.scorecards SET scorecard_type = 1"
                " WHERE customer = %s AND (process_interaction_at AT TIME ZONE 'UTC')::date = ANY (%s)",
                (customer, days),
            )
    if side != "Postgres":
        for client in shard_clients:
            for table in ("scorecard", "score"):
                client.command(
                    f"DELETE FROM {table} WHERE customer = {{customer:String}} AND has({{days:Array(Date32)}}, day)",
                    parameters={"customer": customer, "days": days},
                    settings=_SYNC,
                )
