"""The life of the local stack, on real processes: started, asked, stopped, removed.

What lives here: stacks in good health. What does not: crashes (local/test_local_crashes.py), and scorecards.
"""

from __future__ import annotations

import contextlib
import json
import socket
import stat
import subprocess
from datetime import date
from pathlib import Path

import clickhouse_connect
import psutil
import psycopg2
import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError
from typer.testing import CliRunner

import reindex_assets
from reindex_assets.config.fleet import load_fleet
from reindex_assets.config.local_environment import PASSWORD_VARIABLE, use_local_environment
from reindex_assets.errors import ConfigurationError
from reindex_assets.local.commands import local_app
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.processes import LOOPBACK
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets_tests.support.local_stacks import command_line, found_everywhere, pids, states, write_everywhere
from reindex_assets_tests.support.session_stack import BREAKABLE_CUSTOMERS, FIRST_DAY, connect_shards, connect_source


def test_a_new_stack_is_up_and_every_server_answers(empty_stack: LocalStack) -> None:
    fleet = empty_stack.up()
    assert states(empty_stack) == {"postgres": "running", "shard-0": "running"}
    with contextlib.closing(connect_source(fleet)) as source, source.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM director.scorecards")
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT datname FROM pg_database WHERE datname IN ('app', 'dagster') ORDER BY datname")
        assert cursor.fetchall() == [("app",), ("dagster",)]
        cursor.execute("SELECT current_setting('TimeZone'), current_setting('server_encoding'), lower('ÄÖ')")
        assert cursor.fetchone() == ("UTC", "UTF8", "äö")
    for client in connect_shards(fleet):
        assert client.query("SELECT count() FROM scorecard").result_rows == [(0,)]
        assert client.query("SELECT count() FROM score").result_rows == [(0,)]
        client.close()


def test_a_second_up_keeps_every_process_and_every_file(breakable_stack: LocalStack) -> None:
    before = pids(breakable_stack), breakable_stack.fleet_path.stat().st_mtime_ns, breakable_stack.environment()
    breakable_stack.up()
    assert (
        pids(breakable_stack),
        breakable_stack.fleet_path.stat().st_mtime_ns,
        breakable_stack.environment(),
    ) == before


def test_a_wrong_password_is_refused_by_postgres_and_every_shard(breakable_stack: LocalStack) -> None:
    cluster = load_fleet(breakable_stack.fleet_path).clusters[CLUSTER]
    for password in ("wrong", ""):
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(
                host=cluster.postgres.host,
                port=cluster.postgres.port,
                dbname=cluster.postgres.database,
                user=cluster.postgres.user,
                password=password,
            )
        for shard in cluster.clickhouse.shards:
            with pytest.raises(ClickHouseError, match=r"(?i)authentication|403|401"):
                clickhouse_connect.get_client(host=shard.host, port=shard.port, username="default", password=password)


def test_every_server_listens_on_loopback_and_nowhere_else(breakable_stack: LocalStack) -> None:
    services = breakable_stack.status()
    ports = {service.port for service in services}
    servers = {service.pid for service in services}
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for connection in psutil.net_connections("inet")
        if connection.laddr and connection.status == psutil.CONN_LISTEN
        if connection.laddr.port in ports or connection.pid in servers
    }
    assert listening == {(LOOPBACK, port) for port in ports}


def test_the_password_stands_in_the_environment_file_and_nowhere_else(breakable_stack: LocalStack) -> None:
    environment_file = breakable_stack.root / "env"
    password = breakable_stack.environment()[PASSWORD_VARIABLE]
    assert stat.S_IMODE(environment_file.stat().st_mode) == 0o600
    texts = (
        {path for path in breakable_stack.root.glob("*") if path.is_file()}
        | set(breakable_stack.root.glob("*/*/log"))
        | {breakable_stack.postgres.log}
    )
    assert {path for path in texts if password in path.read_text(encoding="utf-8")} == {environment_file}
    assert not [process for process in psutil.process_iter() if password in command_line(process)]


def test_a_shell_can_source_the_environment_file(breakable_stack: LocalStack) -> None:
    command = 'set -a; . "$1"; set +a; python3 -c "import json, os; print(json.dumps(dict(os.environ)))"'
    shell = subprocess.run(
        ["sh", "-c", command, "sh", str(breakable_stack.root / "env")],
        check=True,
        capture_output=True,
        text=True,
        timeout=20,
    )
    environment = breakable_stack.environment()
    assert environment.items() <= json.loads(shell.stdout).items()
    assert environment["REINDEX_FLEET"] == str(breakable_stack.fleet_path)
    assert Path(environment["DAGSTER_HOME"], "dagster.yaml").is_file()


def test_what_the_user_set_stays_but_for_the_password(breakable_stack: LocalStack) -> None:
    environ = {"DAGSTER_PG_HOST": "elsewhere", PASSWORD_VARIABLE: "of another stack"}
    use_local_environment(breakable_stack.root, environ)
    assert environ == {**breakable_stack.environment(), "DAGSTER_PG_HOST": "elsewhere"}


def test_the_fleet_file_is_one_that_every_command_loads(breakable_stack: LocalStack) -> None:
    fleet = load_fleet(breakable_stack.fleet_path)
    cluster = fleet.clusters[CLUSTER]
    assert {name: customer.profiles for name, customer in cluster.customers.items()} == BREAKABLE_CUSTOMERS
    assert fleet.first_day == FIRST_DAY
    assert len(cluster.clickhouse.shards) == 2
    assert Path(fleet.slices) == breakable_stack.root / "slices"


def test_up_keeps_the_customers_and_the_first_day_unless_others_are_given(breakable_stack: LocalStack) -> None:
    kept = breakable_stack.up()
    assert (list(kept.clusters[CLUSTER].customers), kept.first_day) == (["acme", "globex"], FIRST_DAY)
    given = breakable_stack.up(customers={"initech": ("main",)}, first_day=date(2026, 3, 1))
    assert (list(given.clusters[CLUSTER].customers), given.first_day) == (["initech"], date(2026, 3, 1))


def test_up_keeps_what_the_user_wrote_into_the_fleet_file(breakable_stack: LocalStack) -> None:
    text = breakable_stack.fleet_path.read_text(encoding="utf-8")
    edited = text.replace("look_back_days: 60", "look_back_days: 9").replace("app.chats", "app.talks")
    edited = edited.replace("    reindex_days: null", "    reindex_days: 5")
    breakable_stack.fleet_path.write_text(edited, encoding="utf-8")
    fleet = breakable_stack.up()
    breakable_stack.fleet_path.write_text(text, encoding="utf-8")
    cluster = fleet.clusters[CLUSTER]
    assert (fleet.look_back_days, cluster.postgres.relations.chats, cluster.reindex_days) == (9, "app.talks", 5)


def test_a_customer_with_an_invalid_name_is_refused_and_the_fleet_file_stays(breakable_stack: LocalStack) -> None:
    text = breakable_stack.fleet_path.read_text(encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"'a\|b' is not a valid name"):
        breakable_stack.up({"a|b": ()})
    assert breakable_stack.fleet_path.read_text(encoding="utf-8") == text


def test_down_leaves_no_process_and_up_finds_the_rows_and_the_ports_again(breakable_stack: LocalStack) -> None:
    write_everywhere(breakable_stack, 4)
    before = breakable_stack.status()
    breakable_stack.down()
    assert set(states(breakable_stack).values()) == {"stopped"}
    assert not [process for process in psutil.process_iter() if str(breakable_stack.root) in command_line(process)]
    breakable_stack.down()
    breakable_stack.up()
    assert [service.port for service in breakable_stack.status()] == [service.port for service in before]
    assert all(found_everywhere(breakable_stack, 4))


def test_a_port_that_another_program_took_is_replaced_in_the_fleet_file(breakable_stack: LocalStack) -> None:
    breakable_stack.down()
    before = {service.name: service.port for service in breakable_stack.status()}
    with contextlib.ExitStack() as intruders:
        for name in ("postgres", "shard-0"):
            intruder = intruders.enter_context(socket.socket())
            intruder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            intruder.bind((LOOPBACK, before[name] or 0))
            intruder.listen()
        cluster = breakable_stack.up().clusters[CLUSTER]
        after = {service.name: service.port for service in breakable_stack.status()}
        assert {name for name in before if before[name] != after[name]} == {"postgres", "shard-0"}
        assert set(states(breakable_stack).values()) == {"running"}
        assert cluster.postgres.port == after["postgres"]
        assert breakable_stack.environment()["DAGSTER_PG_PORT"] == str(after["postgres"])
        assert [shard.port for shard in cluster.clickhouse.shards] == [after["shard-0"], after["shard-1"]]


def test_another_number_of_shards_is_refused_and_the_message_names_the_remedy(breakable_stack: LocalStack) -> None:
    with pytest.raises(ConfigurationError, match=r"made with 2 shards.*local reset"):
        LocalStack(breakable_stack.root, shards=3).up()
    assert set(states(LocalStack(breakable_stack.root)).values()) == {"running"}


def test_reset_removes_the_stack_and_nothing_else(empty_stack: LocalStack) -> None:
    empty_stack.up()
    processes = [psutil.Process(service.pid) for service in empty_stack.status()]
    (empty_stack.root / "notes.txt").write_text("the user's own")
    empty_stack.reset()
    assert [path.name for path in empty_stack.root.iterdir()] == ["notes.txt"]
    assert not [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    (empty_stack.root / "notes.txt").unlink()
    empty_stack.reset()
    assert not empty_stack.root.exists()


def test_dagster_keeps_its_runs_in_the_second_database(
    breakable_stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dagster import DagsterInstance
    from dagster_postgres import PostgresRunStorage

    environment = breakable_stack.environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with DagsterInstance.from_config(environment["DAGSTER_HOME"]) as instance:
        assert instance.get_runs_count() == 0
        assert isinstance(instance.run_storage, PostgresRunStorage)
        assert instance.run_monitoring_enabled


def test_without_a_dagster_yaml_up_says_where_it_looked(
    empty_stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reindex_assets, "__file__", str(tmp_path / "site-packages" / "package" / "__init__.py"))
    with pytest.raises(ConfigurationError, match=r"no dagster.yaml in .* nor in .*site-packages"):
        empty_stack.up()


def test_the_commands_say_by_their_exit_code_how_it_stands(empty_stack: LocalStack) -> None:
    runner, root = CliRunner(), str(empty_stack.root)
    assert runner.invoke(local_app, ["status", "--root", root]).exit_code == 1
    up = runner.invoke(local_app, ["up", "--root", root, "--shards", "1", "--customer", "acme:main,voice"])
    assert (up.exit_code, "running" in up.output) == (0, True)
    assert load_fleet(empty_stack.fleet_path).clusters[CLUSTER].customers["acme"].profiles == ("main", "voice")
    assert runner.invoke(local_app, ["status", "--root", root]).exit_code == 0
    refused = runner.invoke(local_app, ["up", "--root", root, "--shards", "2"])
    assert (refused.exit_code, "made with 1 shards" in refused.output) == (1, True)
    assert runner.invoke(local_app, ["reset", "--root", root], input="n\n").exit_code == 1
    assert empty_stack.fleet_path.exists()
    assert runner.invoke(local_app, ["down", "--root", root]).exit_code == 0
    assert runner.invoke(local_app, ["reset", "--root", root, "--yes"]).exit_code == 0
    assert not empty_stack.root.exists()
