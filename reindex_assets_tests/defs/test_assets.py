"""The assets as Dagster runs them: ranges, partial failures, progress, the guard, the schedule.

What lives here: what Dagster records of runs. What does not: verdicts (defs/test_asset_checks.py), and whether the rows are right
(end_to_end/test_invariants.py).
"""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from clickhouse_connect.driver.client import Client
from dagster import (
    AssetSelection,
    DagsterEventType,
    DagsterInstance,
    build_schedule_context,
)
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.modes import Mode
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.keys.names import asset_key
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.errors import ShardUnreachableError
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.model import PROCESS, Step
from reindex_assets_tests.support.asset_runs import (
    FIRST,
    LAST,
    WRITES,
    every_partition,
    failure_of,
    made_source,  # noqa: F401 - a fixture
    numbers,
    run,
    verdicts,
)
from reindex_assets_tests.support.datasets import dataset_named

pytestmark = pytest.mark.usefixtures("clean")


@pytest.mark.usefixtures("made")
def test_one_run_covers_a_rectangle_and_every_partition_has_its_own_numbers(
    fleet: Fleet, instance: DagsterInstance, source: Connection, shard_clients: list[Client]
) -> None:
    assert run(fleet, instance).success
    oracle.assert_equal(source, shard_clients, kind="process")
    for step in Step:
        assert set(numbers(instance, asset_key(dataset_named("local", PROCESS), step))) == every_partition()
    written = numbers(instance, WRITES)
    with source.cursor() as cursor:
        cursor.execute(
            """SELECT count(*) FROM director.scorecards c JOIN director.scorecard_template_revisions r
               USING (customer, profile, template_id, template_revision_id)
               WHERE r.template_type = 2 AND coalesce(c.scorecard_type, 0) = 0 AND c.customer = 'acme'
                 AND c.process_interaction_at >= '2026-01-02Z' AND c.process_interaction_at < '2026-01-03Z'"""
        )
        row = cursor.fetchone()
    assert row is not None
    extract = numbers(instance, asset_key(dataset_named("local", PROCESS), Step.EXTRACT))["acme|2026-01-02"]
    assert extract["scorecard_rows"] == row[0]
    day = written["acme|2026-01-02"]
    assert day["rows_read"] == day["rows_written"]
    assert day["rows_read"] == int(str(extract["scorecard_rows"])) + int(str(extract["score_rows"]))
    assert {"rows_deleted", "rows_unchanged", "rows_left_newer", "seconds", "snapshot", "shards"} <= set(day)


@pytest.mark.usefixtures("made")
def test_a_partition_that_fails_is_named_and_the_others_are_done(
    fleet: Fleet, instance: DagsterInstance, source: Connection, shard_clients: list[Client]
) -> None:
    # A shard that refuses the rows of one slice, and takes all others.
    shard_clients[1].command(
        "ALTER TABLE scorecard ADD CONSTRAINT poisoned CHECK NOT (customer = 'globex' AND toDate32(scorecard_time) = '2026-01-02')"
    )
    try:
        result = run(fleet, instance, attempts=1)
        assert not result.success
        message = failure_of(result)
        assert "1 of 12 partitions failed" in message
        assert "globex|2026-01-02" in message
        assert set(numbers(instance, WRITES)) == every_partition() - {"globex|2026-01-02"}
        assert set(verdicts(instance, "rows_agree")) == every_partition() - {"globex|2026-01-02"}
    finally:
        shard_clients[1].command("ALTER TABLE scorecard DROP CONSTRAINT poisoned")

    # Running just the failed one makes everything right.
    assert run(fleet, instance, range_tags(["globex"], date(2026, 1, 2), date(2026, 1, 2))).success
    oracle.assert_equal(source, shard_clients, kind="process")


@pytest.mark.usefixtures("made")
def test_failed_partitions_are_named_also_when_the_others_cannot_be_checked(
    fleet: Fleet, instance: DagsterInstance, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> list[SliceParity]:
        raise ShardUnreachableError("shard 2 broke off")

    monkeypatch.setattr("reindex_assets.comparison.comparison.Comparison.settled", broken)
    # A shard that refuses the rows of one slice, and takes all others.
    shard_clients[1].command(
        "ALTER TABLE scorecard ADD CONSTRAINT poisoned CHECK NOT (customer = 'globex' AND toDate32(scorecard_time) = '2026-01-02')"
    )
    try:
        message = failure_of(run(fleet, instance, attempts=1))
    finally:
        shard_clients[1].command("ALTER TABLE scorecard DROP CONSTRAINT poisoned")
    assert "1 of 12 partitions failed" in message
    assert "globex|2026-01-02" in message
    assert "shard 2 broke off" in message
    assert verdicts(instance, "rows_agree") == {}


def test_a_run_that_was_given_less_than_its_range_is_refused(
    fleet: Fleet, instance: DagsterInstance, shard_clients: list[Client]
) -> None:
    # The tags of a run that a backfill from the page of a job made (Dagster 1.13.27): a rectangle, and one key of another.
    tags = {
        **range_tags(["acme"], FIRST, LAST),
        "dagster/partition/customer": "initech",
        "dagster/partition/day": "2026-01-01",
    }
    result = run(fleet, instance, tags)
    assert not result.success
    message = failure_of(result)
    assert "asked for 4 partitions" in message
    assert "gave it 1" in message
    assert "from the page of the asset" in message
    assert numbers(instance, WRITES) == {}
    assert all(client.query("SELECT count() FROM scorecard").result_rows == [(0,)] for client in shard_clients)


@pytest.mark.usefixtures("made")
def test_progress_counts_processed_failed_and_total_partitions(fleet: Fleet, instance: DagsterInstance) -> None:
    result = run(fleet, instance, group_scorecards=50)
    seen = [
        {name: value.value for name, value in event.asset_observation_data.asset_observation.metadata.items()}
        for event in result.all_events
        if event.event_type is DagsterEventType.ASSET_OBSERVATION
    ]
    assert {"processed", "failed", "total", "rows"} <= set(seen[0])
    assert (seen[0]["processed"], seen[0]["total"]) == (0, 12)
    assert (seen[-1]["processed"], seen[-1]["failed"], seen[-1]["total"]) == (12, 0, 12)


@pytest.mark.usefixtures("made")
def test_a_dry_run_materializes_no_shard_writes_and_its_checks_tell_the_truth(
    fleet: Fleet, instance: DagsterInstance
) -> None:
    assert run(fleet, instance, dry_run=True).success
    assert numbers(instance, WRITES) == {}
    assert verdicts(instance, "rows_agree") == dict.fromkeys(every_partition(), False)
    assert set(numbers(instance, asset_key(dataset_named("local", PROCESS), Step.EXTRACT))) == every_partition()


@pytest.mark.usefixtures("made")
def test_each_step_can_be_run_alone(
    fleet: Fleet, instance: DagsterInstance, source: Connection, shard_clients: list[Client]
) -> None:
    for step in Step:
        assert run(
            fleet,
            instance,
            selection=AssetSelection.assets(asset_key(dataset_named("local", PROCESS), step)).without_checks(),
        ).success
    oracle.assert_equal(source, shard_clients, kind="process")


def test_the_daily_schedule_asks_for_the_ended_days_in_one_run(fleet: Fleet) -> None:
    daily = build_defs(fleet, mode=Mode.PROCESS).resolve_schedule_def("process_local_daily")
    context = build_schedule_context(scheduled_execution_time=datetime(2026, 2, 10, 1, 15, tzinfo=UTC))
    request = daily.evaluate_tick(context).run_requests
    assert request is not None
    assert len(request) == 1
    assert request[0].tags["dagster/asset_partition_range_start"] == "acme|2026-02-07"
    assert request[0].tags["dagster/asset_partition_range_end"] == "initech|2026-02-09"


def test_the_daily_schedule_skips_while_no_day_has_ended(fleet: Fleet) -> None:
    daily = build_defs(fleet, mode=Mode.PROCESS).resolve_schedule_def("process_local_daily")
    context = build_schedule_context(scheduled_execution_time=datetime(2026, 1, 1, 1, 15, tzinfo=UTC))
    assert "has not ended" in (daily.evaluate_tick(context).skip_message or "")
