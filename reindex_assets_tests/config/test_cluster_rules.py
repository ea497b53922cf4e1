"""What a cluster's own mode, schedule, look-back and watch do to what Dagster loads; and the commands about the fleet file.

What lives here: definitions and commands of fleet files that nobody connects to, and one run of checks. What does not: the validation of
the file (config/test_fleet.py).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance, DagsterRunStatus, Definitions, build_schedule_context
from typer.testing import CliRunner

from reindex_assets.__main__ import app
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.cluster import Watch
from reindex_assets.config.effective import effective, fleet_schema
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.config.modes import Mode
from reindex_assets.defs.automation.stalled_runs import end_dead_runs
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.keys.names import checks_job_name, job_name, op_name, repair_sensor_name
from reindex_assets.defs.keys.partitions import PARTITION_TAG, range_tags
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import CONVERSATION, PROCESS, Slice
from reindex_assets_tests.support.datasets import dataset_named
from reindex_assets_tests.support.fleet_files import DEFAULTS, EXAMPLE, with_replicas, write

EAST, VOICE = "us-east-1-prod", "voice-prod"
TOKYO = timezone(timedelta(hours=9))
OWN = """\
    mode: process
    look_back_days: 20
    reindex_days: 2
    schedule: {reindex: 0 5 * * *, timezone: Asia/Tokyo}
    watch: {interval_seconds: 45, settle_seconds: 2.5, silent_seconds: 600}
    customers:
      spirit"""


@pytest.fixture
def own(tmp_path: Path) -> Fleet:
    """A fleet whose first cluster differs in everything."""
    text = with_replicas().replace("    customers:\n      spirit", OWN)
    return load_fleet(write(tmp_path, "mode: all\nschedule: {checks: 10 4 * * mon}\n" + text))


def days_asked(definitions: Definitions, schedule: str, planned: datetime) -> list[tuple[str, str]]:
    requests = (
        definitions.resolve_schedule_def(schedule)
        .evaluate_tick(build_schedule_context(scheduled_execution_time=planned))
        .run_requests
    )
    assert requests is not None
    return [
        (request.tags["dagster/asset_partition_range_start"], request.tags["dagster/asset_partition_range_end"])
        for request in requests
    ]


def test_what_is_scheduled_and_when_is_each_clusters_own(own: Fleet) -> None:
    repository = build_defs(own).get_repository_def()
    found = {one.name: (one.cron_schedule, one.execution_timezone) for one in repository.schedule_defs}
    assert found == {
        f"{job_name(dataset_named(EAST, PROCESS))}_daily": ("0 5 * * *", "Asia/Tokyo"),
        f"{checks_job_name(dataset_named(EAST, PROCESS))}_daily": ("10 4 * * mon", "Asia/Tokyo"),
        "all_voice_prod_daily": ("15 1 * * *", "UTC"),
        f"{checks_job_name(dataset_named(VOICE, PROCESS))}_daily": ("10 4 * * mon", "UTC"),
        f"{checks_job_name(dataset_named(VOICE, CONVERSATION))}_daily": ("10 4 * * mon", "UTC"),
    }
    sensors = {one.name: one for one in repository.sensor_defs}
    for cluster, seconds, look_back, settle in ((EAST, 45, 20, "2.5"), (VOICE, 10, 5, "5")):
        for kind in (PROCESS, CONVERSATION):
            sensor = sensors[repair_sensor_name(dataset_named(cluster, kind))]
            assert sensor.minimum_interval_seconds == seconds
            assert f"in the last {look_back} days" in str(sensor.description)
            assert f"younger than {settle} s" in str(sensor.description)


def test_the_operators_word_stands_above_the_files(own: Fleet) -> None:
    names = {one.name for one in build_defs(own, mode=Mode.CONVERSATION).get_repository_def().schedule_defs}
    assert names == {
        f"{named(own.dataset(cluster, CONVERSATION))}_daily"
        for cluster in (EAST, VOICE)
        for named in (job_name, checks_job_name)
    }


def test_days_are_utc_days_wherever_the_clock_of_a_schedule_stands(own: Fleet) -> None:
    definitions = build_defs(own)
    # In Tokyo the 2nd has begun; in UTC the 1st lasts four hours more.
    planned = datetime(2025, 8, 2, 5, tzinfo=TOKYO)
    assert days_asked(definitions, f"{job_name(dataset_named(EAST, PROCESS))}_daily", planned) == [
        ("spirit|2025-07-30", "united-east|2025-07-31")
    ]
    nightly = f"{checks_job_name(dataset_named(EAST, PROCESS))}_daily"
    assert days_asked(definitions, nightly, planned)[0][0] == "spirit|2025-07-13"
    assert days_asked(definitions, nightly, planned)[-1][1] == "united-east|2025-08-01"
    assert days_asked(definitions, f"{checks_job_name(dataset_named(VOICE, PROCESS))}_daily", planned) == [
        ("holiday.inn|2025-07-28", "holiday.inn|2025-08-01")
    ]


def test_two_ticks_of_one_day_are_two_runs(own: Fleet) -> None:
    schedule = build_defs(own).resolve_schedule_def("all_voice_prod_daily")
    keys = set()
    for hour in (1, 13):
        context = build_schedule_context(scheduled_execution_time=datetime(2025, 8, 2, hour, tzinfo=UTC))
        [request] = schedule.evaluate_tick(context).run_requests or ()
        keys.add(request.run_key)
    assert len(keys) == 2


def test_checks_wait_as_long_as_their_clusters_watch_says(
    fleet: Fleet, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    settled = Comparison.settled

    def noted(self: Comparison, slices: Iterable[Slice], settle_seconds: float, samples: int = 0) -> list[SliceParity]:
        waited.append(settle_seconds)
        return settled(self, slices, settle_seconds, samples)

    monkeypatch.setattr(Comparison, "settled", noted)
    cluster = fleet.clusters[CLUSTER].model_copy(update={"watch": Watch(settle_seconds=0.25)})
    job = build_defs(fleet.model_copy(update={"clusters": {CLUSTER: cluster}})).resolve_job_def(
        checks_job_name(dataset_named(CLUSTER, PROCESS))
    )
    tags = range_tags(["acme"], date(2026, 1, 3), date(2026, 1, 3))
    for config in ({}, {"ops": {op_name(dataset_named(CLUSTER, PROCESS)): {"config": {"settle_seconds": 0.125}}}}):
        assert job.execute_in_process(run_config=config, instance=instance, tags=tags).success
    assert waited == [0.25, 0.125]


def test_a_run_is_silent_by_the_limit_of_its_cluster(own: Fleet, instance: DagsterInstance) -> None:
    definitions = build_defs(own)
    runs = {
        cluster: instance.create_run_for_job(
            definitions.resolve_job_def(job_name(dataset_named(cluster, PROCESS))),
            tags={PARTITION_TAG: f"{customer}|2025-07-01"},
            status=DagsterRunStatus.STARTED,
        )
        for cluster, customer in ((EAST, "spirit"), (VOICE, "holiday.inn"))
    }
    for run in runs.values():
        instance.report_engine_event("alive", run)
    # Three minutes are the default, ten are the first cluster's own.
    later = time.time() + 400
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: later)
        ended = end_dead_runs(instance, own)
    assert [run.run_id for run in ended] == [runs[VOICE].run_id]


# --- the commands


def command(*arguments: str, **variables: str) -> tuple[int, str]:
    # As wide as it takes, whatever the environment of the tests says.
    environment = {"REINDEX_MODE": None, "COLUMNS": "250", **variables}
    answer = CliRunner().invoke(app, ["fleet", *arguments], env=environment)
    return answer.exit_code, answer.output


def test_check_prints_each_cluster_and_what_is_not_set(tmp_path: Path, own: Fleet) -> None:
    path = str(tmp_path / "fleet.yaml")
    status, output = command("check", "--fleet", path, VOICE_PASSWORD="hunter2")
    lines = output.splitlines()
    assert status == 0
    [row] = [line for line in lines if f" {EAST} " in line]
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert cells == [
        *(EAST, "2", "2", "1-2", "process", "0 5 * * *", "10 4 * * mon", "Asia/Tokyo", "20 d", "8", "-"),
    ]
    assert "The fleet file is valid: 2 clusters, 3 customers." in lines
    assert lines[-1] == ("Not set in this environment: US_EAST_1_CLICKHOUSE_PASSWORD, US_EAST_1_POSTGRES_PASSWORD")
    assert "hunter2" not in output
    status, output = command("check", "--fleet", path, REINDEX_MODE="process")
    assert "REINDEX_MODE=process overrides" in output
    [row] = [line for line in output.splitlines() if f" {VOICE} " in line]
    assert " process " in row


def test_check_of_an_invalid_file_names_the_line_and_exits_with_2(tmp_path: Path) -> None:
    path = write(tmp_path, EXAMPLE.replace("port: 8443}", "prot: 8443}"))
    status, output = command("check", "--fleet", str(path))
    assert status == 2
    assert (
        "fleet.yaml:19: clusters.us-east-1-prod.clickhouse.shards.0.prot: unknown key: did you mean 'port'?" in output
    )


def test_show_prints_what_holds_with_every_default_and_no_secret(tmp_path: Path, own: Fleet) -> None:
    path = str(tmp_path / "fleet.yaml")
    status, output = command("show", "--fleet", path, VOICE_PASSWORD="hunter2")
    assert status == 0
    assert "hunter2" not in output
    shown = yaml.safe_load(output)
    assert shown == json.loads(command("show", "--json", "--fleet", path, VOICE_PASSWORD="hunter2")[1])
    assert shown == effective(own, {"VOICE_PASSWORD": "hunter2"})
    east, voice = shown["clusters"][EAST], shown["clusters"][VOICE]
    assert (east["mode"], voice["mode"]) == ("process", "all")
    assert east["watch"]["attempts"] == Watch().attempts
    assert east["postgres"]["password"] == {"env": "US_EAST_1_POSTGRES_PASSWORD", "is_set": False}
    assert voice["postgres"]["password"] == {"env": "VOICE_PASSWORD", "is_set": True}
    assert voice["postgres"]["max_connections"] == 8
    assert [len(shard.get("replicas", [])) for shard in east["clickhouse"]["shards"]] == [2, 0]
    assert voice["clickhouse"]["shards"] == [{"host": "voice-0.internal", "port": 8123}]
    assert (voice["customers"], east["customers"]["spirit"]) == (
        *({"holiday.inn": {"profiles": "all"}}, {"profiles": ["main", "voice"]}),
    )


def test_the_schema_knows_every_key_that_a_file_may_have_and_requires_what_must_be_there() -> None:
    status, output = command("schema")
    assert status == 0
    schema = json.loads(output)
    assert schema == fleet_schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    own = OWN.replace("    customers:\n      spirit", "")
    text = DEFAULTS + with_replicas().replace("    customers:\n", own + "    customers:\n", 1)
    assert problems(yaml.safe_load(text), schema, schema) == []
    for before, after, problem in (
        ("frist_day: 1\n", "", "unknown key frist_day"),
        ("", "      host: director.internal\n", "host is required"),
        ("prot: 8443", "port: 8443", "unknown key prot"),
        ("hunter2", "{env: VOICE_PASSWORD}", "is no object"),
        ("host: a", "max_connections: 4", "unknown key host"),
    ):
        wrong = before + text if not after else text.replace(after, before)
        assert any(problem in one for one in problems(yaml.safe_load(wrong), schema, schema)), problem


def problems(value: object, at: dict[str, Any], schema: dict[str, Any], place: str = "") -> Sequence[str]:
    """As much of JSON Schema as an editor needs here: keys, what is required, and objects where there must be some."""
    if "$ref" in at:
        return problems(value, schema["$defs"][at["$ref"].rpartition("/")[2]], schema, place)
    if "anyOf" in at:
        found = [problems(value, option, schema, place) for option in at["anyOf"]]
        return min(found, key=len)
    if at.get("type") == "array":
        assert isinstance(value, list)
        items = at.get("items", {})
        return [one for number, item in enumerate(value) for one in problems(item, items, schema, f"{place}.{number}")]
    if at.get("type") != "object":
        return []
    if not isinstance(value, dict):
        return [f"{place} is no object"]
    known, others = at.get("properties", {}), at.get("additionalProperties", True)
    found_here = [f"{place}: {name} is required" for name in at.get("required", ()) if name not in value]
    if "oneOf" in at and sum(set(option["required"]) <= value.keys() for option in at["oneOf"]) != 1:
        found_here.append(f"{place}: not one of {at['oneOf']}")
    for name, one in value.items():
        if name in known:
            found_here += problems(one, known[name], schema, f"{place}.{name}")
        elif isinstance(others, dict):
            found_here += problems(one, others, schema, f"{place}.{name}")
        elif not others:
            found_here.append(f"{place}: unknown key {name}")
    return found_here
