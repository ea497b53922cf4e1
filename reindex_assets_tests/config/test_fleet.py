"""The fleet file: each mistake has an error that names the file, the place and the rule, and a secret is never repeated.

What lives here: texts of fleet files, valid and not. What does not: anything that connects.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from reindex_assets.config.engines import SecretRef
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.errors import ConfigurationError
from reindex_assets_tests.support.fleet_files import EXAMPLE, SECRET, Change, changed, east, write


def test_an_example_as_in_production_is_valid_and_says_what_stands_in_it(tmp_path: Path) -> None:
    fleet = load_fleet(write(tmp_path, EXAMPLE))

    assert (fleet.first_day, fleet.look_back_days, fleet.slices) == (date(2025, 6, 1), 5, "s3://scorecards/slices")
    cluster = fleet.clusters["us-east-1-prod"]
    assert (cluster.postgres.port, cluster.postgres.sslmode) == (5432, "verify-full")
    assert cluster.postgres.relations.scores == "director.historic_scorecard_scores"
    assert cluster.postgres.relations.scorecards == "director.scorecards"
    assert [(shard.host, shard.port) for shard in cluster.clickhouse.shards] == [
        ("shard-0.internal", 8443),
        ("shard-1.internal", 8443),
    ]
    assert cluster.customers["spirit"].profiles == ("main", "voice")
    assert fleet.clusters["voice-prod"].clickhouse.shards[0].port == 8123
    assert [fleet.cluster_of(name) for name in ("united-east", "holiday.inn")] == ["us-east-1-prod", "voice-prod"]
    with pytest.raises(ConfigurationError, match=r"unknown customer 'delta'.*holiday.inn, spirit, united-east"):
        fleet.cluster_of("delta")


@pytest.mark.parametrize(
    ("change", "place", "rule"),
    [
        (lambda d: d.pop("first_day"), "first_day", "required"),
        (lambda d: d.update(first_day="soon"), "first_day", "date"),
        (lambda d: d.update(clusters={}), "clusters", "at least 1"),
        (lambda d: d.update(version=2), "version", "less than or equal to 1"),
        (lambda d: d.update(look_back_days=0), "look_back_days", "greater than or equal to 1"),
        (lambda d: d.update(frist_day=1), "frist_day", "did you mean 'first_day'"),
        (lambda d: east(d).update(postgress={}), "clusters.us-east-1-prod.postgress", "did you mean 'postgres'"),
        (lambda d: east(d)["postgres"].pop("host"), "us-east-1-prod.postgres.host", "required"),
        (lambda d: east(d)["postgres"].update(port=0), "postgres.port", "greater than or equal to 1"),
        (lambda d: east(d)["postgres"].update(port=65536), "postgres.port", "less than or equal to 65535"),
        (lambda d: east(d)["postgres"].update(port="many"), "postgres.port", "integer"),
        (lambda d: east(d)["postgres"].update(sslmode="maybe"), "postgres.sslmode", "pattern"),
        (lambda d: east(d)["postgres"]["relations"].update(scores="a; DROP"), "relations.scores", "schema.table"),
        (lambda d: east(d)["postgres"]["relations"].update(scores='"x"'), "relations.scores", "schema.table"),
        (lambda d: east(d)["postgres"]["relations"].update(scores="a.b.c"), "relations.scores", "schema.table"),
        (lambda d: east(d)["postgres"]["relations"].update(scores=""), "relations.scores", "schema.table"),
        (lambda d: east(d)["postgres"]["relations"].update(scores="x\n"), "relations.scores", "schema.table"),
        (lambda d: east(d)["clickhouse"].update(shards=[]), "clickhouse.shards", "at least 1"),
        (lambda d: east(d)["clickhouse"].pop("shards"), "clickhouse.shards", "required"),
        (
            lambda d: east(d)["clickhouse"]["shards"].append({"host": "shard-0.internal", "port": 8443}),
            "us-east-1-prod.clickhouse",
            "shard-0.internal:8443",
        ),
        (lambda d: east(d)["clickhouse"]["shards"][1].update(port=-1), "shards.1.port", "greater than"),
        (lambda d: east(d)["clickhouse"].update(database="a`; DROP"), "clickhouse.database", "not a database name"),
        (lambda d: east(d).update(customers={}), "us-east-1-prod.customers", "at least 1"),
        (
            lambda d: east(d)["customers"].update({"holiday.inn": {}}),
            "voice-prod.customers.holiday.inn",
            "two clusters",
        ),
        (
            lambda d: east(d)["customers"].update(spirit={"profile": []}),
            "customers.spirit.profile",
            "did you mean 'profiles'",
        ),
        (
            lambda d: d["clusters"].update({"us|east": d["clusters"].pop("voice-prod")}),
            "clusters.us|east",
            "not a valid name",
        ),
    ],
)
def test_a_mistake_is_named_by_file_place_and_rule(tmp_path: Path, change: Change, place: str, rule: str) -> None:
    path = write(tmp_path, changed(change))
    with pytest.raises(ConfigurationError) as error:
        load_fleet(path)
    text = str(error.value)
    assert str(path) in text
    assert place in text
    assert rule in text


@pytest.mark.parametrize(
    "name", ["a|b", "a,b", "a...b", "a..b", "", " ", "a b", "a/b", "../etc", "-a", ".a", "ü", "a\n", "a\x1fb", "x" * 64]
)
def test_a_customer_name_that_dagster_or_a_path_would_misread_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, changed(lambda d: east(d)["customers"].update({name: {}})))
    with pytest.raises(ConfigurationError, match=r"us-east-1-prod\.customers\..* is not a valid name"):
        load_fleet(path)


@pytest.mark.parametrize("name", ["a", "A.b-c_d", "0", "x" * 63, "united-east"])
def test_an_ordinary_customer_name_is_accepted(tmp_path: Path, name: str) -> None:
    def only(document: dict[str, Any]) -> None:
        east(document)["customers"] = {name: {}}

    assert list(load_fleet(write(tmp_path, changed(only))).clusters["us-east-1-prod"].customers) == [name]


@pytest.mark.parametrize(
    "text",
    ["clusters: [", "first_day: 2025-01-01\n  clusters: {}\n", "\ta: 1", "a: *nobody", "!!python/object:os.x {}"],
)
def test_what_is_not_yaml_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError, match="is not valid YAML") as error:
        load_fleet(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: this key is repeated"),
        (EXAMPLE.replace("voice-prod:", "us-east-1-prod:"), "this key is repeated"),
        (EXAMPLE.replace("united-east:", "spirit:"), "line 23, column 7: this key is repeated"),
    ],
)
def test_a_key_that_stands_twice_is_refused_instead_of_forgotten(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_fleet(write(tmp_path, text))


@pytest.mark.parametrize("text", ["password: {0}: x", "password: !{0}", "password: *{0}", "password: '{0}", "p: {0}\0"])
def test_a_password_in_a_file_that_is_not_yaml_is_not_repeated(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "first_day: 2025-06-01\n" + text.format("hunter2"))
    with pytest.raises(ConfigurationError, match="is not valid YAML") as error:
        load_fleet(path)
    assert "hunter2" not in f"{error.value} {error.value.__cause__}"
    assert "line " in str(error.value) or "character" in str(error.value)


@pytest.mark.parametrize("text", ["", "just words", "[1, 2]", "null"])
def test_yaml_that_is_no_fleet_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"the whole file"):
        load_fleet(write(tmp_path, text))


def test_an_absent_and_an_unreadable_file_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"there is no fleet file at .*absent.yaml.*REINDEX_FLEET"):
        load_fleet(tmp_path / "absent.yaml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_fleet(tmp_path)
    (tmp_path / "latin").write_bytes(b"first_day: \xe4")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_fleet(tmp_path / "latin")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: east(d)["postgres"].update(password=SECRET),
        lambda d: east(d)["postgres"].update(password={"env": "X", "value": SECRET}),
        lambda d: east(d)["postgres"].update(password={"plain": SECRET}),
        lambda d: east(d)["clickhouse"].update(password=[SECRET]),
        lambda d: east(d)["postgres"].update(port=SECRET),
        lambda d: east(d)["postgres"].update(sslmode=SECRET),
    ],
)
def test_a_password_written_in_clear_is_refused_and_not_repeated(tmp_path: Path, change: Change) -> None:
    with pytest.raises(ConfigurationError) as error:
        load_fleet(write(tmp_path, changed(change)))
    for text in (str(error.value), repr(error.value), repr(error.value.__cause__)):
        assert SECRET not in text


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigurationError, match="the environment variable NO_SUCH_PASSWORD is not set"):
        SecretRef(env="NO_SUCH_PASSWORD").resolve({})
    assert SecretRef(env="EMPTY").resolve({"EMPTY": ""}).get_secret_value() == ""


def test_a_secret_never_shows_in_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("US_EAST_1_POSTGRES_PASSWORD", "US_EAST_1_CLICKHOUSE_PASSWORD", "VOICE_PASSWORD"):
        monkeypatch.setenv(name, SECRET)
    fleet = load_fleet(write(tmp_path, EXAMPLE))
    reference = fleet.clusters["us-east-1-prod"].postgres.password
    secret = reference.resolve()

    assert secret.get_secret_value() == SECRET
    for thing in (fleet, reference, secret):
        assert SECRET not in f"{thing} {thing!r}"
    assert SECRET not in f"{fleet.model_dump()} {fleet.model_dump_json()} {Fleet.model_json_schema()}"


def test_a_fleet_cannot_be_changed_once_it_is_loaded(tmp_path: Path) -> None:
    fleet = load_fleet(write(tmp_path, EXAMPLE))
    with pytest.raises(ValueError, match="frozen"):
        fleet.first_day = date(2020, 1, 1)


# --- the line of a mistake


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        ("look_back_days: 5", "look_back_dys: 5", 2, "look_back_dys: unknown key: did you mean 'look_back_days'?"),
        ("      host: director.internal\n", "", 6, "postgres.host: this required key is missing"),
        ("first_day: 2025-06-01\n", "", 1, "first_day: this required key is missing"),
        ("      sslmode: verify-full", "      sslmode: maybe", 11, "postgres.sslmode: "),
        ("port: 8443}\n        - {host: shard-1", "port: x}\n        - {host: shard-1", 19, "shards.0.port: "),
        (
            "host: shard-1.internal",
            "host: shard-0.internal",
            20,
            "shard 0 already uses the address shard-0.internal:8443",
        ),
        (
            "      united-east: {}",
            "      united-east: {zone: 1}",
            23,
            "united-east.zone: unknown key: valid keys are profiles",
        ),
        ("      holiday.inn: {}", "      spirit: {}", 28, "lives in two clusters: us-east-1-prod and voice-prod"),
        ("  voice-prod:", "  voice prod:", 24, "'voice prod' is not a valid name"),
        ("slices: s3://", "slices: s3://key:secret@", 3, "slices: Value error, a URL with a password"),
        ("host: director.internal", "host: postgres://director.internal", 7, "not a host name"),
        ("host: director.internal", 'host: "[2001:db8::5"', 7, "not a host name"),
        ("host: director.internal", 'host: "[::1]x"', 7, "not a host name"),
        (
            "    customers:\n      spirit",
            "    schedule: {checks: 30 25 * * *}\n    customers:\n      spirit",
            21,
            "bad hour",
        ),
        (
            "    customers:\n      spirit",
            "    schedule: {timezone: Berlin}\n    customers:\n      spirit",
            21,
            "a time zone",
        ),
        (
            "    customers:\n      spirit",
            "    mode: both\n    customers:\n      spirit",
            21,
            "'conversation', 'process' or 'all'",
        ),
        (
            "    customers:\n      spirit",
            "    watch: {settle_seconds: 99}\n    customers:\n      spirit",
            21,
            "less than or",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, before: str, after: str, line: int, words: str) -> None:
    assert before in EXAMPLE
    path = write(tmp_path, EXAMPLE.replace(before, after))
    with pytest.raises(ConfigurationError) as error:
        load_fleet(path)
    [problem] = str(error.value).splitlines()[1:]
    assert problem.startswith(f"  {path}:{line}: ")
    assert words in problem
    assert "secret" not in problem.replace("holds a secret", "")


def test_every_mistake_is_told_each_with_its_line(tmp_path: Path) -> None:
    text = EXAMPLE.replace("port: 8443}", "prt: 8443}").replace("look_back_days: 5", "look_back_days: 0")
    with pytest.raises(ConfigurationError) as error:
        load_fleet(write(tmp_path, text))
    assert [line.split(":")[1] for line in str(error.value).splitlines()[1:]] == ["2", "19", "20"]


@pytest.mark.parametrize(
    "written",
    [
        "hunter2",
        "{plain: hunter2}",
        "{hunter2}",
        "{env: hunter2/x}",
        "{env: X, value: hunter2}",
        "[hunter2]",
        "2",
        "{env: }",
    ],
)
def test_a_plain_password_is_told_the_remedy_with_its_line_and_without_itself(tmp_path: Path, written: str) -> None:
    text = EXAMPLE.replace("password: {env: US_EAST_1_POSTGRES_PASSWORD}", f"password: {written}")
    with pytest.raises(ConfigurationError, match=r"fleet.yaml:10: .*password: name an environment variable") as error:
        load_fleet(write(tmp_path, text))
    assert "password: {env: NAME}" in str(error.value)
    assert len(str(error.value).splitlines()) == 2
    assert "hunter2" not in f"{error.value!r} {error.value} {error.value.__cause__!r}"
