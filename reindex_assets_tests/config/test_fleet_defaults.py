"""The fleet file: replicas of shards, and what is written once for all clusters.

What lives here: texts of fleet files, and what holds for a cluster by them. What does not: the words and lines of mistakes in general
(config/test_fleet.py), and anything that connects.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from dagster._utils.schedules import is_valid_cron_string

from reindex_assets.config.cluster import Schedule
from reindex_assets.config.cron import checked_cron
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.config.modes import Mode
from reindex_assets.errors import ConfigurationError
from reindex_assets_tests.support.fleet_files import DEFAULTS, EXAMPLE, with_replicas, write

# --- replicas


def test_a_shard_may_have_replicas(tmp_path: Path) -> None:
    shards = load_fleet(write(tmp_path, with_replicas())).clusters["us-east-1-prod"].clickhouse.shards
    assert [[str(address) for address in shard.addresses] for shard in shards] == [
        ["shard-0a.internal:8443", "shard-0b.internal:8123"],
        ["shard-1.internal:8443"],
    ]


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        (
            "shard-0b.internal}",
            "SHARD-1.internal, port: 8443}",
            20,
            "shard 0 already uses the address shard-1.internal:8443",
        ),
        (
            "shard-0b.internal}",
            "shard-0a.internal, port: 8443}",
            19,
            "shard 0 already uses the address shard-0a.internal:8443",
        ),
        ("replicas: [{", "{host: a, replicas: [{", 19, "either 'host' and 'port', or 'replicas'"),
        (
            "shard-0b.internal}",
            "shard-0b.internal, prot: 1}",
            19,
            "shards.0.replicas.1.prot: unknown key: did you mean 'port'",
        ),
        ("      replicated: true\n", "", 18, "several replicas need 'replicated: true'"),
        ("{host: voice-0.internal}", "{host: shard-0b.internal}", 26, "already a shard of cluster us-east-1-prod"),
        ("{host: voice-0.internal}", "{replicas: []}", 26, "either 'host' and 'port', or 'replicas'"),
    ],
)
def test_replicas_that_would_mix_rows_are_refused(
    tmp_path: Path, before: str, after: str, line: int, words: str
) -> None:
    text = with_replicas()
    assert before in text
    text = text.replace(before, after)
    if after.startswith("{host: a, "):
        text = text.replace("{host: shard-0b.internal}]", "{host: shard-0b.internal}]}")
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as error:
        load_fleet(path)
    assert f"{path}:{line}: " in str(error.value)
    assert words in str(error.value)


def test_two_clusters_may_share_a_server_by_databases_of_their_own(tmp_path: Path) -> None:
    text = with_replicas().replace("[{host: voice-0.internal}]", "[{host: shard-0b.internal}], database: voice")
    assert load_fleet(write(tmp_path, text)).clusters["voice-prod"].clickhouse.database == "voice"


# --- what is written once, and what a cluster says itself


def test_a_cluster_overrides_what_holds_for_the_fleet_key_by_key(tmp_path: Path) -> None:
    fleetwide = "mode: all\nreindex_days: 4\nwatch: {settle_seconds: 7, attempts: 2}\nschedule: {checks: 0 3 * * *, timezone: Asia/Tokyo}\n"
    own = (
        "    mode: process\n    look_back_days: 9\n    watch: {settle_seconds: 1.5}\n    schedule: {reindex: 0 5 * * *}\n"
        "    customers:\n      spirit"
    )
    fleet = load_fleet(write(tmp_path, fleetwide + EXAMPLE.replace("    customers:\n      spirit", own)))
    east, voice = fleet.rules("us-east-1-prod"), fleet.rules("voice-prod")
    assert (east.mode, east.look_back_days, east.reindex_days) == (Mode.PROCESS, 9, 4)
    assert (voice.mode, voice.look_back_days, voice.reindex_days) == (Mode.ALL, 5, 4)
    assert (east.watch.settle_seconds, east.watch.attempts, east.watch.scores) == (1.5, 2, 300_000)
    assert (voice.watch.settle_seconds, voice.watch.attempts) == (7, 2)
    assert (east.schedule.reindex, east.schedule.checks, east.schedule.timezone) == (
        *("0 5 * * *", "0 3 * * *", "Asia/Tokyo"),
    )
    assert voice.schedule.reindex == Schedule().reindex
    # The operator's word stands above.
    assert {fleet.rules(name, Mode.CONVERSATION).mode for name in fleet.clusters} == {Mode.CONVERSATION}
    # Written and read again it says the same: a key that a cluster leaves to the fleet stays the fleet's.
    again = Fleet.model_validate(fleet.model_dump(mode="json"))
    assert again == fleet
    assert all(again.rules(name) == fleet.rules(name) for name in fleet.clusters)


def test_without_a_word_on_it_conversations_are_scheduled_in_the_night(tmp_path: Path) -> None:
    rules = load_fleet(write(tmp_path, EXAMPLE)).rules("voice-prod")
    assert rules.mode is Mode.CONVERSATION
    assert (rules.schedule.reindex, rules.schedule.checks, rules.schedule.timezone) == (
        "15 1 * * *",
        "30 2 * * *",
        "UTC",
    )


def test_defaults_fill_what_a_cluster_does_not_say(tmp_path: Path) -> None:
    text = DEFAULTS + EXAMPLE.replace("user: reader, ", "").replace(
        "{password: {env: VOICE_PASSWORD}, shards", "{shards"
    )
    fleet = load_fleet(write(tmp_path, text))
    east, voice = fleet.clusters["us-east-1-prod"], fleet.clusters["voice-prod"]
    assert (east.postgres.user, voice.postgres.user) == ("reindex_reader", "common")
    assert {cluster.postgres.max_connections for cluster in fleet.clusters.values()} == {4}
    assert {cluster.clickhouse.database for cluster in fleet.clusters.values()} == {"analytics"}
    assert (east.clickhouse.password.env, voice.clickhouse.password.env) == ("US_EAST_1_CLICKHOUSE_PASSWORD", "COMMON")
    assert (east.postgres.relations.chats, east.postgres.relations.scores) == (
        *("app.talks", "director.historic_scorecard_scores"),
    )
    assert Fleet.model_validate(fleet.model_dump(mode="json")) == fleet


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        ("max_connections: 4", "max_conections: 4", 2, "defaults.postgres.max_conections: unknown key: did you mean"),
        ("max_connections: 4", "max_connections: 0", 2, "defaults.postgres.max_connections: "),
        ("{env: COMMON}", "hunter2", 3, "defaults.clickhouse.password: name an environment variable"),
        ("{user: common", "{host: a, user: common", 2, "defaults.postgres.host: an address belongs to one cluster"),
        ("  clickhouse: {", "  clickhose: {", 3, "defaults.clickhose: unknown key: did you mean 'clickhouse'?"),
        (
            "  postgres: {user: common, max_connections: 4, relations: {chats: app.talks}}",
            "  postgres: x",
            2,
            "dictionary",
        ),
    ],
)
def test_a_mistake_in_the_defaults_is_told_once_and_there(
    tmp_path: Path, before: str, after: str, line: int, words: str
) -> None:
    text = (DEFAULTS + EXAMPLE).replace(before, after, 1)
    text = text.replace("{password: {env: VOICE_PASSWORD}, shards", "{shards") if "hunter2" in after else text
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as error:
        load_fleet(path)
    [problem] = str(error.value).splitlines()[1:]
    assert problem.startswith(f"  {path}:{line}: ")
    assert words in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("line", "is_valid"),
    [
        ("15 1 * * *", True),
        ("*/10 0-5/2 1,15 jan-mar mon,FRI", True),
        ("0 0 31 12 7", True),
        ("0 0 29,30 2 *", True),
        ("5/10 0 * jan-mar/2 *", True),
        ("0 0 30 2 *", False),
        ("0 0 31 apr,jun *", False),
        ("60 1 * * *", False),
        ("1 24 * * *", False),
        ("1 1 0 * *", False),
        ("1 1 * 13 *", False),
        ("1 1 * * 8", False),
        ("5-1 1 * * *", False),
        ("*/0 1 * * *", False),
        ("1 1 * *", False),
        ("1 1 * * * *", False),
        ("@daily", False),
        ("", False),
        ("a b c d e", False),
        ("0 0 LW * *", False),
        ("0 0 * * 5L", False),
    ],
)
def test_a_cron_line_that_is_accepted_is_one_for_dagster_too(line: str, is_valid: bool) -> None:
    if is_valid:
        assert is_valid_cron_string(checked_cron(line))
    else:
        with pytest.raises(ValueError, match="not a cron line"):
            checked_cron(line)
