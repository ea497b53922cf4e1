"""The assets as Dagster runs them: ranges, partial failures, verdicts per partition, progress, the guard.

What lives here: what Dagster records. What does not: whether the rows are right (test_invariants.py).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckSeverity,
    AssetKey,
    AssetSelection,
    DagsterEventType,
    DagsterInstance,
    Definitions,
    EventRecordsFilter,
    ExecuteInProcessResult,
    TableMetadataValue,
    build_schedule_context,
    define_asset_job,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from psycopg2.extensions import connection as Connection

from reindex_assets.asset_names import asset_key, checks_job_name, job_name, op_name
from reindex_assets.assets import build_assets
from reindex_assets.checks import CHECKS
from reindex_assets.definitions import build_defs
from reindex_assets.errors import ShardUnreachableError
from reindex_assets.fleet import Fleet
from reindex_assets.local import oracle
from reindex_assets.local.drift import Drift, plant
from reindex_assets.local.made_data import DataPlan, make_source
from reindex_assets.model import Slice, days_between
from reindex_assets.modes import Mode
from reindex_assets.parity import SliceParity
from reindex_assets.partitions import range_tags, slices_of_range
from reindex_assets.pipeline import Step
from reindex_assets_tests.conftest import CUSTOMERS

FIRST, LAST = date(2026, 1, 1), date(2026, 1, 4)
WRITES = asset_key("local", Step.WRITE)
PLAN = DataPlan(CUSTOMERS, FIRST, 4, scale=0.003)

pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture
def made(clean: None, source: Connection) -> None:
    """Data in Postgres, nothing in ClickHouse. It names `clean`, which would else run after it and leave nothing."""
    assert make_source(source, PLAN).process_scores > 1_000


def run(
    fleet: Fleet,
    instance: DagsterInstance,
    tags: dict[str, str] | None = None,
    selection: AssetSelection | None = None,
    **config: object,
) -> ExecuteInProcessResult:
    """Runs the assets of the local cluster over a range, as a run of a backfill does."""
    definitions = build_defs(fleet)
    job = definitions.resolve_job_def(job_name("local"))
    if selection is not None:
        narrow = define_asset_job("narrow", selection)
        job = Definitions(assets=[build_assets(fleet, "local")], jobs=[narrow]).resolve_job_def("narrow")
    return job.execute_in_process(
        run_config={
            "ops": {op_name("local"): {"config": {"settle_seconds": 0, **config}}},
            "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
        },
        instance=instance,
        tags=tags or range_tags(list(CUSTOMERS), FIRST, LAST),
        raise_on_error=False,
    )


def verdicts(instance: DagsterInstance, check: str) -> dict[str, bool]:
    """The latest verdict of a check, by partition; a partition that was not judged is left out."""
    found = instance.event_log_storage.get_asset_check_partition_info([AssetCheckKey(WRITES, check)])
    judged = {AssetCheckExecutionRecordStatus.SUCCEEDED: True, AssetCheckExecutionRecordStatus.FAILED: False}
    return {
        item.partition_key: judged[item.latest_execution_status]
        for item in found
        if item.partition_key and item.latest_execution_status in judged
    }


def every_partition() -> set[str]:
    return {f"{customer}|2026-01-0{day}" for customer in CUSTOMERS for day in range(1, 5)}


def failure_of(result: ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.event_type is DagsterEventType.STEP_FAILURE]
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return data.description or ""


def numbers(instance: DagsterInstance, key: AssetKey) -> dict[str, dict[str, object]]:
    """The metadata of the latest materialization, by partition."""
    found: dict[str, dict[str, object]] = {}
    for record in instance.fetch_materializations(key, limit=1000).records:
        materialization = record.asset_materialization
        assert materialization is not None
        assert materialization.partition is not None
        found.setdefault(
            materialization.partition, {name: value.value for name, value in materialization.metadata.items()}
        )
    return found


@pytest.mark.usefixtures("made")
def test_one_run_covers_a_rectangle_and_every_partition_has_its_own_numbers(
    fleet: Fleet, instance: DagsterInstance, source: Connection, shard_clients: list[Client]
) -> None:
    assert run(fleet, instance).success
    oracle.assert_equal(source, shard_clients)
    for step in Step:
        assert set(numbers(instance, asset_key("local", step))) == every_partition()
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
    extract = numbers(instance, asset_key("local", Step.EXTRACT))["acme|2026-01-02"]
    assert extract["scorecard_rows"] == row[0]
    day = written["acme|2026-01-02"]
    assert day["rows_read"] == day["rows_written"]
    assert day["rows_read"] == int(str(extract["scorecard_rows"])) + int(str(extract["score_rows"]))
    assert {"rows_deleted", "rows_unchanged", "rows_left_newer", "seconds", "snapshot", "shards"} <= set(day)


@pytest.mark.usefixtures("made")
def test_in_a_range_run_every_check_has_a_verdict_for_every_partition(fleet: Fleet, instance: DagsterInstance) -> None:
    assert run(fleet, instance).success
    for check in CHECKS:
        assert verdicts(instance, check.name) == dict.fromkeys(every_partition(), True)


@pytest.mark.usefixtures("made")
def test_a_check_alone_is_red_for_the_drifted_partition_only_and_writes_nothing(
    fleet: Fleet, instance: DagsterInstance, shard_clients: list[Client]
) -> None:
    assert run(fleet, instance).success
    plant(Drift.CHANGED, shard_clients, "globex", date(2026, 1, 3), count=1, seed=2)
    before = [client.query("SELECT sum(version), count() FROM score").result_rows for client in shard_clients]

    checks_only = AssetSelection.checks(*(AssetCheckKey(WRITES, check.name) for check in CHECKS))
    assert run(fleet, instance, selection=checks_only).success

    red = {partition for partition, passed in verdicts(instance, "rows_agree").items() if not passed}
    assert red == {"globex|2026-01-03"}
    assert all(verdicts(instance, "counts_agree").values())
    after = [client.query("SELECT sum(version), count() FROM score").result_rows for client in shard_clients]
    assert after == before

    assert run(fleet, instance, range_tags(["globex"], date(2026, 1, 3), date(2026, 1, 3))).success
    assert all(verdicts(instance, "rows_agree").values())


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
    oracle.assert_equal(source, shard_clients)


@pytest.mark.usefixtures("made")
def test_failed_partitions_are_named_also_when_the_others_cannot_be_checked(
    fleet: Fleet, instance: DagsterInstance, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> list[SliceParity]:
        raise ShardUnreachableError("shard 2 broke off")

    monkeypatch.setattr("reindex_assets.comparison.Comparison.settled", broken)
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
    assert set(numbers(instance, asset_key("local", Step.EXTRACT))) == every_partition()


@pytest.mark.usefixtures("made")
def test_each_step_can_be_run_alone(
    fleet: Fleet, instance: DagsterInstance, source: Connection, shard_clients: list[Client]
) -> None:
    for step in Step:
        assert run(fleet, instance, selection=AssetSelection.assets(asset_key("local", step)).without_checks()).success
    oracle.assert_equal(source, shard_clients)


def test_an_unreachable_engine_is_an_error_and_no_verdict(fleet: Fleet, instance: DagsterInstance) -> None:
    cluster = fleet.clusters["local"]
    dead = cluster.postgres.model_copy(update={"port": 1})
    broken = fleet.model_copy(update={"clusters": {"local": cluster.model_copy(update={"postgres": dead})}})
    checks_only = AssetSelection.checks(*(AssetCheckKey(WRITES, check.name) for check in CHECKS))
    assert not run(broken, instance, selection=checks_only).success
    assert verdicts(instance, "rows_agree") == {}


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


def evaluation(instance: DagsterInstance, check: str, partition: str) -> AssetCheckEvaluation:
    """The latest verdict of a check on a partition, with all that it shows."""
    records = instance.event_log_storage.get_event_records(
        EventRecordsFilter(event_type=DagsterEventType.ASSET_CHECK_EVALUATION), limit=10_000
    )
    for record in records:
        event = record.event_log_entry.dagster_event
        assert event is not None
        verdict = event.asset_check_evaluation_data
        if (verdict.check_name, verdict.partition) == (check, partition):
            return verdict
    raise AssertionError(f"{check} has no verdict on {partition}")


@pytest.mark.usefixtures("made")
def test_a_red_check_shows_what_differs_with_both_values_and_the_templates(
    fleet: Fleet, instance: DagsterInstance, shard_clients: list[Client]
) -> None:
    assert run(fleet, instance).success
    [planted] = plant(Drift.CHANGED, shard_clients, "globex", date(2026, 1, 3), count=1, seed=2)
    plant(Drift.ORPHAN_SCORE, shard_clients, "globex", date(2026, 1, 3), count=1, seed=1)
    checks_only = AssetSelection.checks(*(AssetCheckKey(WRITES, check.name) for check in CHECKS))
    assert run(fleet, instance, selection=checks_only).success

    partition = "globex|2026-01-03"
    red = {check.name for check in CHECKS if not verdicts(instance, check.name)[partition]}
    assert red == {"counts_agree", "rows_agree", "no_orphan_scores"}
    rows = evaluation(instance, "rows_agree", partition)
    assert "1 scorecard changed" in (rows.description or "") or "1 score changed" in (rows.description or "")
    assert rows.metadata["changed"].value == 1
    shown = rows.metadata["rows"]
    assert isinstance(shown, TableMetadataValue)
    [changed] = [record.data for record in shown.records if record.data["difference"] == "changed"]
    assert str(planted.scorecard_id) == changed["scorecard"]
    assert "Postgres" in str(changed["what"])
    assert "ClickHouse" in str(changed["what"])

    counts = evaluation(instance, "counts_agree", partition)
    templates = counts.metadata["templates"]
    assert isinstance(templates, TableMetadataValue)
    numbers = [record.data for record in templates.records]
    assert sum(int(str(row["postgres_scores"])) for row in numbers) == counts.metadata["postgres_scores"].value
    assert sum(int(str(row["clickhouse_scores"])) for row in numbers) == counts.metadata["clickhouse_scores"].value


@pytest.mark.usefixtures("made")
def test_a_day_that_is_empty_between_days_with_many_is_a_gap_even_when_both_sides_agree(
    fleet: Fleet, instance: DagsterInstance, source: Connection
) -> None:
    with source.cursor() as cursor:
        cursor.execute(
            "DELETE FROM director.scorecards WHERE customer = 'initech'"
            " AND process_interaction_at >= '2026-01-02Z' AND process_interaction_at < '2026-01-03Z'"
        )
    assert run(fleet, instance).success
    assert {partition for partition, passed in verdicts(instance, "no_gap_in_days").items() if not passed} == {
        "initech|2026-01-02"
    }
    assert verdicts(instance, "rows_agree")["initech|2026-01-02"]
    told = evaluation(instance, "no_gap_in_days", "initech|2026-01-02")
    assert told.severity is AssetCheckSeverity.WARN
    assert "Postgres has none either" in (told.description or "")


@pytest.mark.usefixtures("made")
def test_a_run_gives_signs_of_life_while_it_compares(
    fleet: Fleet, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindex_assets.background.HEARTBEAT_SECONDS", 0.02)
    result = run(
        fleet, instance, selection=AssetSelection.checks(*(AssetCheckKey(WRITES, check.name) for check in CHECKS))
    )
    beats = [
        event.asset_observation_data.asset_observation.description or ""
        for event in result.all_events
        if event.event_type is DagsterEventType.ASSET_OBSERVATION
    ]
    assert any("partitions compared" in beat for beat in beats)


def test_the_nightly_checks_cover_the_whole_look_back_in_runs_of_a_week(fleet: Fleet) -> None:
    nightly = build_defs(fleet, mode=Mode.PROCESS).resolve_schedule_def("process_local_checks_daily")
    context = build_schedule_context(scheduled_execution_time=datetime(2026, 3, 20, 2, 30, tzinfo=UTC))
    requests = nightly.evaluate_tick(context).run_requests or []
    covered = [slices_of_range(fleet.clusters["local"], request.tags) for request in requests]
    first, last = date(2026, 3, 20) - timedelta(days=fleet.look_back_days - 1), date(2026, 3, 20)
    assert set().union(*covered) == {
        Slice(customer, day) for customer in CUSTOMERS for day in days_between(first, last)
    }
    assert sum(map(len, covered)) == len(CUSTOMERS) * fleet.look_back_days
    assert max(map(len, covered)) == 7 * len(CUSTOMERS)
    assert len({request.run_key for request in requests}) == len(requests)


@pytest.mark.usefixtures("made")
def test_the_job_of_the_checks_judges_every_partition_and_writes_nothing(
    fleet: Fleet, instance: DagsterInstance, shard_clients: list[Client]
) -> None:
    assert run(fleet, instance).success
    plant(Drift.MISSING, shard_clients, "acme", date(2026, 1, 2), count=1, seed=1)
    before = [client.query("SELECT sum(version), count() FROM score").result_rows for client in shard_clients]
    result = (
        build_defs(fleet)
        .resolve_job_def(checks_job_name("local"))
        .execute_in_process(
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            instance=instance,
            tags=range_tags(list(CUSTOMERS), FIRST, LAST),
        )
    )
    assert result.success
    assert {partition for partition, passed in verdicts(instance, "rows_agree").items() if not passed} == {
        "acme|2026-01-02"
    }
    for check in CHECKS:
        assert set(verdicts(instance, check.name)) == every_partition()
    assert [client.query("SELECT sum(version), count() FROM score").result_rows for client in shard_clients] == before
