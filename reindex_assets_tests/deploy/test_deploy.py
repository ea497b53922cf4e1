"""The files of deploy/: each says what code and dagster.yaml say, and the commands of compose run and answer, though in no container.

What lives here: what can be known without a container engine or a cluster. What does not: Celery (defs/test_celery.py).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import load_fleet
from reindex_assets.config.settings import Settings
from reindex_assets.defs.dagster_private import InstanceRef
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.local.stack.dagster_processes import DagsterProcesses
from reindex_assets.local.stack.files_of_stack import CLUSTER, Layout, write_environment
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import Slice
from reindex_assets_tests.support.celery_processes import DAGSTER_YAML
from reindex_assets_tests.support.hand_made_rows import add_scorecard
from reindex_assets_tests.support.waiting import until

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
CELERY_COMPOSE = DEPLOY / "compose" / "compose.celery.yaml"
VALUES = DEPLOY / "kubernetes" / "values.yaml"
OURS = ("code", "webserver", "daemon", "worker")


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def services(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(path)["services"]
    return found


def variables_of(document: object) -> set[str]:
    """The names of all environment variables that a dagster.yaml takes something from."""
    if isinstance(document, Mapping):
        if set(document) == {"env"}:
            return {str(document["env"])}
        return {name for value in document.values() for name in variables_of(value)}
    return {name for value in document for name in variables_of(value)} if isinstance(document, list) else set()


# --- the image


def dockerfile() -> list[list[str]]:
    """The instructions of the Dockerfile, each as its words."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [line.split() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def test_the_image_holds_what_production_needs_and_nothing_of_the_local_stack() -> None:
    [install] = [words for words in dockerfile() if words[0] == "RUN" and "/opt/venv/bin/pip" in words]
    [package] = [word.strip('"') for word in install if word.startswith('".')]
    assert set(package.removeprefix(".[").removesuffix("]").split(",")) == {"celery", "k8s"}
    assert install[install.index("--constraint") + 1] == "constraints.txt"
    [user] = [words[1] for words in dockerfile() if words[0] == "USER"]
    assert int(user.partition(":")[0]) > 0
    [image] = [words[1] for words in dockerfile() if words[0] == "ARG" and words[1].startswith("PYTHON_IMAGE")]
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.1[1-3]\.\d+-slim-\w+", image)


def test_the_build_sees_just_what_it_copies() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").split("\n")
    seen = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {
        source
        for words in dockerfile()
        if words[0] == "COPY" and not words[1].startswith("--from")
        for source in words[1:-1]
    }
    assert "*" in ignored
    assert seen == copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_has_the_settings_of_a_runs_memory_and_events(tmp_path: Path) -> None:
    [given] = [words[1:] for words in dockerfile() if words[0] == "ENV"]
    in_image = dict(word.split("=", 1) for word in given)
    local = write_environment(tmp_path, Layout.new(1), "none")
    shared = {name: value for name, value in local.items() if name.startswith(("ARROW", "MALLOC", "DAGSTER_EVENT"))}
    assert len(shared) == 5
    assert shared.items() <= in_image.items()


# --- the fleet file, and the names of variables


def test_the_fleet_file_to_begin_with_is_one() -> None:
    fleet = load_fleet(DEPLOY / "fleet.example.yaml")
    mounts = [volume for volume in services(COMPOSE)["code"]["volumes"] if volume.endswith(":" + fleet.slices)]
    assert mounts == ["slices:" + fleet.slices]
    [deployment] = read(VALUES)["dagster-user-deployments"]["deployments"]
    assert fleet.slices in [mount["mountPath"] for mount in deployment["volumeMounts"]]
    secrets = [line.partition("=")[0] for line in secrets_example().splitlines() if not line.startswith("#")]
    passwords = {
        server.password.env for cluster in fleet.clusters.values() for server in (cluster.postgres, cluster.clickhouse)
    }
    assert passwords <= set(secrets)


def secrets_example() -> str:
    return (DEPLOY / "compose" / "secrets.env.example").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [COMPOSE, CELERY_COMPOSE, VALUES, DEPLOY / "compose" / "secrets.env.example"])
def test_every_setting_that_a_file_names_is_one_that_is_read(path: Path) -> None:
    named = set(re.findall(r"\bREINDEX_[A-Z_]+", path.read_text(encoding="utf-8")))
    assert named
    assert named <= {f"REINDEX_{field.upper()}" for field in Settings.model_fields}


def test_compose_gives_each_process_what_its_dagster_yaml_takes() -> None:
    plain, celery = services(COMPOSE), services(CELERY_COMPOSE)
    needed, needed_with_celery = variables_of(read(ROOT / "dagster.yaml")), variables_of(read(DAGSTER_YAML))
    assert len(needed) == 5
    assert len(needed_with_celery) == 7
    for name in ("code", "webserver", "daemon"):
        assert needed <= plain[name]["environment"].keys()
        assert needed_with_celery <= {**plain[name]["environment"], **celery[name]["environment"]}.keys()
    assert needed_with_celery <= celery["worker"]["environment"].keys()
    assert celery["worker"]["environment"]["DAGSTER_HOME"] == "/opt/dagster/celery_home"


# --- compose


@pytest.mark.parametrize("path", [COMPOSE, CELERY_COMPOSE])
def test_every_service_has_limits_a_health_check_a_pinned_image_and_no_password(path: Path) -> None:
    complete = services(COMPOSE)
    for name, service in services(path).items():
        whole = {**complete.get(name, {}), **service}
        assert re.search(r":v?\d+(\.\d+)+(-\w+)?\}?$", whole["image"]), name
        assert {"cpus", "memory"} <= whole["deploy"]["resources"]["limits"].keys(), name
        assert {"test", "interval", "timeout", "retries"} <= whole["healthcheck"].keys(), name
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable or "AUTH" in variable or "CELERY" in variable:
                assert re.search(r"\$\{\w+:\?", value), f"{variable} of {name} has to come from the environment"
        if name in OURS:
            assert whole["cap_drop"] == ["ALL"], name


def test_there_is_memory_and_there_are_workers_for_as_many_runs_as_dagster_yaml_lets_go() -> None:
    runs = read(ROOT / "dagster.yaml")["concurrency"]["runs"]["max_concurrent_runs"]
    megabytes = 400
    code = services(COMPOSE)["code"]["deploy"]["resources"]["limits"]["memory"]
    assert int(code.removesuffix("g")) * 1024 >= runs * megabytes + 1024
    worker = services(CELERY_COMPOSE)["worker"]
    a_worker = int(worker["command"][worker["command"].index("--runs") + 1])
    # As the file says: two of them.
    assert 2 * a_worker == runs
    assert int(worker["deploy"]["resources"]["limits"]["memory"].removesuffix("g")) * 1024 >= a_worker * megabytes + 512


def test_the_programs_that_compose_starts_are_installed() -> None:
    programs = {script.name for script in entry_points(group="console_scripts")}
    commands = [
        command
        for path in (COMPOSE, CELERY_COMPOSE)
        for name, service in services(path).items()
        if name in OURS
        for command in (service.get("command"), service.get("healthcheck", {}).get("test", [])[1:])
        if command
    ]
    assert {command[0] for command in commands} - {"python"} <= programs
    assert len(commands) >= 7


class Compose:
    """The services of compose.yaml as processes of this machine: the same commands, with this machine's addresses in them."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._environment = {**os.environ, **environment}
        self._services = services(COMPOSE)
        self.code_port, self.web_port = free_port(), free_port()
        workspace = read(DEPLOY / "compose" / "workspace.yaml")
        workspace["load_from"][0]["grpc_server"].update(host="127.0.0.1", port=self.code_port)
        self._workspace = directory / "workspace.yaml"
        self._workspace.write_text(yaml.safe_dump(workspace), encoding="utf-8")
        self._processes: list[subprocess.Popen[bytes]] = []

    def _here(self, command: list[str]) -> list[str]:
        names = {
            "4000": str(self.code_port),
            "3000": str(self.web_port),
            "0.0.0.0": "127.0.0.1",
            "/opt/dagster/workspace.yaml": str(self._workspace),
        }
        words = [names.get(word, word).replace("127.0.0.1:3000", f"127.0.0.1:{self.web_port}") for word in command]
        # The programs of this interpreter, as in the image.
        return [str(Path(sys.executable).with_name(words[0])), *words[1:]]

    def start(self, name: str) -> None:
        """Starts a service; its command is that of the image where compose gives none."""
        [image_command] = [words[1:] for words in dockerfile() if words[0] == "CMD"]
        command = self._services[name].get("command") or yaml.safe_load(" ".join(image_command))
        with (self._directory / f"{name}.log").open("wb") as output:
            self._processes.append(
                subprocess.Popen(
                    self._here(command),
                    env=self._environment,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def wait(self, name: str) -> None:
        """Waits until a service is healthy by its own health check."""
        command = self._here(self._services[name]["healthcheck"]["test"][1:])

        def is_healthy() -> bool:
            return not subprocess.run(command, env=self._environment, capture_output=True, check=False).returncode

        until(is_healthy, lambda: f"{shlex.join(command)}: {self.log(name)}")

    def log(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text(encoding="utf-8")[-3000:]

    def end(self) -> None:
        for process in self._processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def composed(directory: Path, environment: Mapping[str, str]) -> Iterator[Compose]:
    compose = Compose(directory, environment)
    try:
        yield compose
    finally:
        compose.end()


_LAUNCH = """mutation($run: ExecutionParams!) { launchRun(executionParams: $run) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("clean")
def test_the_commands_of_compose_come_up_healthy_and_a_run_starts_in_the_code_location(
    stack: LocalStack, instance: DagsterInstance, source: Connection, tmp_path: Path
) -> None:
    add_scorecard(source, datetime(2026, 1, 5, 12, tzinfo=UTC))
    with composed(tmp_path, {"DAGSTER_HOME": str(instance.root_directory)}) as compose:
        for name in ("code", "webserver", "daemon"):
            compose.start(name)
        for name in ("code", "webserver", "daemon"):
            compose.wait(name)
        dagster = DagsterProcesses(compose.web_port)
        item = Slice("acme", datetime(2026, 1, 5, tzinfo=UTC).date())
        tags = range_tags([item.customer], item.day, item.day)
        answer = dagster.ask(
            _LAUNCH,
            {
                "run": {
                    "selector": {
                        "repositoryName": "__repository__",
                        "repositoryLocationName": "reindex_assets",
                        "jobName": f"process_{CLUSTER}",
                    },
                    "runConfigData": {},
                    "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
                }
            },
        )["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer

        def has_succeeded() -> bool:
            status = dagster.runs()[0]["status"]
            assert status not in ("FAILURE", "CANCELED"), compose.log("code")
            return bool(status == "SUCCESS")

        until(has_succeeded, lambda: compose.log("daemon"))


# --- Kubernetes


def as_the_chart_writes_it(values: Mapping[str, Any]) -> str:
    """The chart's own sections of dagster.yaml, as its template of version 1.13 has them, and behind them what it is given besides."""
    postgresql = values["postgresql"]
    storage = {
        "postgres_db": {
            "username": postgresql["postgresqlUsername"],
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            "hostname": postgresql["postgresqlHost"],
            "db_name": postgresql["postgresqlDatabase"],
            "port": postgresql["service"]["port"],
            "params": {},
            "scheme": postgresql["postgresqlScheme"],
        }
    }
    own = {
        "schedule_storage": {"module": "dagster_postgres.schedule_storage", "class": "PostgresScheduleStorage"},
        "run_storage": {"module": "dagster_postgres.run_storage", "class": "PostgresRunStorage"},
        "event_log_storage": {"module": "dagster_postgres.event_log", "class": "PostgresEventLogStorage"},
    }
    document = {
        **{name: {**section, "config": storage} for name, section in own.items()},
        "telemetry": {"enabled": values["telemetry"]["enabled"]},
    }
    return _in_full(document) + _in_full(values["additionalInstanceConfig"])


def _in_full(document: Mapping[str, Any]) -> str:
    """As YAML without anchors, which Helm writes none of."""
    return yaml.safe_dump(json.loads(json.dumps(document)))


def test_the_instance_of_the_chart_is_that_of_dagster_yaml() -> None:
    here = read(ROOT / "dagster.yaml")
    there = yaml.safe_load(as_the_chart_writes_it(read(VALUES)))
    for storage in ("run_storage", "schedule_storage", "event_log_storage"):
        (one, other) = (document.pop(storage) for document in (here, there))
        assert one["class"] == other["class"]
        assert one["config"]["postgres_db"]["scheme"] == other["config"]["postgres_db"]["scheme"]
    assert there == here


def test_dagster_takes_our_storages_and_not_the_charts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "none")
    (tmp_path / "dagster.yaml").write_text(as_the_chart_writes_it(read(VALUES)), encoding="utf-8")
    ref = InstanceRef.from_dir(str(tmp_path))
    taken = [(one.module_name, one.class_name) for one in (ref.event_storage_data, ref.run_storage_data) if one]
    assert taken == [
        ("reindex_assets.defs.instance.event_storage", "EventStorage"),
        ("reindex_assets.defs.instance.run_storage", "RunStorage"),
    ]
    concurrency = ref.settings["concurrency"]
    assert isinstance(concurrency, dict)
    assert set(read(ROOT / "dagster.yaml")["concurrency"]) == set(concurrency)


def test_the_charts_own_sections_that_would_say_otherwise_are_off() -> None:
    values = read(VALUES)
    daemon = values["dagsterDaemon"]
    assert not daemon["sensors"]["useThreads"]
    assert not daemon["schedules"]["useThreads"]
    sections = (daemon["runCoordinator"], daemon["runMonitoring"], daemon["runRetries"], values["retention"])
    assert not any(section["enabled"] for section in sections)


def test_webserver_daemon_code_and_runs_have_one_image_and_runs_get_what_their_location_has() -> None:
    values = read(VALUES)
    [deployment] = values["dagster-user-deployments"]["deployments"]
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    images = [values["dagsterWebserver"]["image"], values["dagsterDaemon"]["image"], deployment["image"]]
    assert images == [images[0]] * 3
    assert images[0]["tag"] == re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]  # type: ignore[index]
    assert "image" not in launcher, "a run has the image of its code location"
    for name in ("envSecrets", "volumes", "volumeMounts", "resources"):
        assert launcher[name] == deployment[name]
    assert {"name": "REINDEX_FLEET", "value": "/etc/reindex/fleet.yaml"} in deployment["env"]
    for part in (values["dagsterWebserver"], values["dagsterDaemon"], deployment):
        assert {"requests", "limits"} <= part["resources"].keys()
        assert part["podSecurityContext"]["runAsNonRoot"]
    assert not any(
        volume["name"] not in {mount["name"] for mount in launcher["volumeMounts"]} for volume in launcher["volumes"]
    )


def test_what_the_values_name_is_what_kustomize_makes() -> None:
    made = read(DEPLOY / "kubernetes" / "kustomization.yaml")
    claim = read(DEPLOY / "kubernetes" / "slices.yaml")
    launcher = read(VALUES)["runLauncher"]["config"]["k8sRunLauncher"]
    [fleet, slices] = launcher["volumes"]
    assert made["generatorOptions"]["disableNameSuffixHash"]
    assert [one["name"] for one in made["configMapGenerator"]] == [fleet["configMap"]["name"]]
    assert claim["metadata"]["name"] == slices["persistentVolumeClaim"]["claimName"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
