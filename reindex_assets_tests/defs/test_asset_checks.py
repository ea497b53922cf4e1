"""The checks of the assets: a verdict for every partition, in runs, alone, and every night.

What lives here: what Dagster records of checks. What does not: the rules (local/test_drift.py, comparison/test_parity_details.py), and
the other runs (defs/test_assets.py).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from clickhouse_connect.driver.client import Client
from dagster import (
    AssetCheckKey,
    AssetCheckSeverity,
    AssetSelection,
    DagsterEventType,
    DagsterInstance,
    TableMetadataValue,
    build_schedule_context,
)
from psycopg2.extensions import connection as Connection

from reindex_assets.config.default_tables import SCORECARD
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.modes import Mode
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.checks.specs import CHECKS
from reindex_assets.defs.keys.names import checks_job_name
from reindex_assets.defs.keys.partitions import range_tags, slices_of_range
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.model import PROCESS, Slice, days_between
from reindex_assets_tests.support import application
from reindex_assets_tests.support.asset_runs import (
    FIRST,
    LAST,
    WRITES,
    evaluation,
    every_partition,
    made_source,  # noqa: F401 - a fixture
    run,
    verdicts,
)
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.session_stack import CUSTOMERS

pytestmark = pytest.mark.usefixtures("clean")


@pytest.mark.usefixtures("made")
def test_in_a_range_run_every_check_has_a_verdict_for_every_partition(fleet: Fleet, instance: DagsterInstance) -> None:
    assert run(fleet, instance).success
    for check in CHECKS:
        assert verdicts(instance, check.name) == dict.fromkeys(every_partition(), True)


@pytest.mark.usefixtures("made")
def test_a_green_result_says_how_many_rows_it_is_about_and_one_about_nothing_says_so(
    fleet: Fleet, instance: DagsterInstance, source: Connection
) -> None:
    with source.cursor() as cursor:
        cursor.execute(
            "DELETE FROM director.scorecards WHERE customer = 'globex' AND process_interaction_at < '2026-01-02 00:00Z'"
        )
    assert run(fleet, instance).success
    counted = evaluation(instance, "counts_agree", "acme|2026-01-03").metadata
    rows = f"{counted['postgres_scorecards'].value:,} scorecards and {counted['postgres_scores'].value:,} scores"
    empty = dict.fromkeys(
        ("right_shard", "no_duplicates", "no_appeals", "no_orphan_scores"), "ClickHouse has no row on this day"
    )
    empty["rows_agree"] = "neither side has a row on this day: there was nothing to compare"
    for check, nothing in empty.items():
        said = evaluation(instance, check, "acme|2026-01-03").description
        assert said is not None
        assert said.endswith(f": {rows}.")
        assert evaluation(instance, check, "globex|2026-01-01").description == f"globex 2026-01-01: {nothing}."
    # The same of a partition that was not read again.
    assert run(fleet, instance).success
    since = evaluation(instance, "rows_agree", "acme|2026-01-03").description
    assert since is not None
    assert "neither engine has changed a row of it" in since
    assert since.endswith(f": {rows}.")
    assert "there was nothing to compare" in str(evaluation(instance, "rows_agree", "globex|2026-01-01").description)


@pytest.mark.usefixtures("made")
def test_a_check_alone_is_red_for_the_drifted_partition_only_and_writes_nothing(
    fleet: Fleet, instance: DagsterInstance, shard_clients: list[Client]
) -> None:
    assert run(fleet, instance).success
    plant(Drift.CHANGED, shard_clients, "globex", date(2026, 1, 3), count=1, seed=2, kind=PROCESS)
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
def test_what_was_left_behind_outside_every_partition_is_red_though_nothing_was_read_again_and_the_next_run_removes_it(
    fleet: Fleet, instance: DagsterInstance, source: Connection, shard_clients: list[Client]
) -> None:
    assert run(fleet, instance).success
    [scorecard] = application.scorecards_of(source, Slice("acme", date(2026, 1, 2)))
    columns = ", ".join(SCORECARD.column_names)
    for client in shard_clients:
        client.command(
            f"INSERT INTO scorecard ({columns}) SELECT {columns.replace('template_type', '0 AS template_type')}"
            f" FROM (SELECT * FROM scorecard WHERE scorecard_id = '{scorecard.scorecard_id}')"
        )
    assert run(fleet, instance).success
    red = {partition for partition, passed in verdicts(instance, "no_strays").items() if not passed}
    assert red == {"acme|2026-01-02"}
    said = str(evaluation(instance, "no_strays", "acme|2026-01-02").description)
    assert scorecard.scorecard_id in said
    assert "with the unknown template type 0" in said
    assert "Reindex this partition" in said
    assert run(fleet, instance).success
    assert all(verdicts(instance, "no_strays").values())
    assert [
        client.query("SELECT count() FROM scorecard WHERE template_type = 0").first_row for client in shard_clients
    ] == [(0,), (0,)]


def test_an_unreachable_engine_is_an_error_and_no_verdict(fleet: Fleet, instance: DagsterInstance) -> None:
    cluster = fleet.clusters["local"]
    dead = cluster.postgres.model_copy(update={"port": 1})
    broken = fleet.model_copy(update={"clusters": {"local": cluster.model_copy(update={"postgres": dead})}})
    checks_only = AssetSelection.checks(*(AssetCheckKey(WRITES, check.name) for check in CHECKS))
    assert not run(broken, instance, selection=checks_only).success
    assert verdicts(instance, "rows_agree") == {}


@pytest.mark.usefixtures("made")
def test_a_red_check_shows_what_differs_with_both_values_and_the_templates(
    fleet: Fleet, instance: DagsterInstance, shard_clients: list[Client]
) -> None:
    assert run(fleet, instance).success
    [planted] = plant(Drift.CHANGED, shard_clients, "globex", date(2026, 1, 3), count=1, seed=2, kind=PROCESS)
    plant(Drift.ORPHAN_SCORE, shard_clients, "globex", date(2026, 1, 3), count=1, seed=1, kind=PROCESS)
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
    monkeypatch.setattr("reindex_assets.defs.assets.background.HEARTBEAT_SECONDS", 0.02)
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
    plant(Drift.MISSING, shard_clients, "acme", date(2026, 1, 2), count=1, seed=1, kind=PROCESS)
    before = [client.query("SELECT sum(version), count() FROM score").result_rows for client in shard_clients]
    result = (
        build_defs(fleet)
        .resolve_job_def(checks_job_name(dataset_named("local", PROCESS)))
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
