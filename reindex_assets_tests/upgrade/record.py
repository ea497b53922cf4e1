"""Records what a deployment of one version leaves behind, for the tests of the versions after it: `python record.py FOLDER`.

What lives here: a small deployment's life, and copies of all that it stores. What does not: the tests (test_upgrade.py).

It is run by the Python of the version that is to be recorded, in a checkout of that version, on a local stack with data: the commands
stand in fixtures/README.md. So it imports nothing of the product but `reindex_assets.definitions`, which Dagster loads under that name,
and does everything else by the command line and by plain SQL.
"""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import yaml

DAYS = ("--from", "2026-01-05", "--to", "2026-01-06")
#: The slice that no repair mends, as every shard refuses its rows.
POISONED_CUSTOMER, POISONED_DAY = "globex", "2026-01-06"
KINDS = ("process", "conversation")
LOCAL = Path(".local").resolve()
COMMAND = [sys.executable, "-m", "reindex_assets"]
DAGSTER = [sys.executable, "-m", "dagster"]
ALERT_PORT = 18_765
ALERTS = {"REINDEX_ALERT_URLS": f"json://127.0.0.1:{ALERT_PORT}/", "REINDEX_ALERT_GRACE_SECONDS": "0"}
#: Tables of Dagster's own that say nothing of a deployment's past.
LEFT_OUT = ("alembic_version", "secondary_indexes", "daemon_heartbeats", "concurrency_limits", "concurrency_slots")


def main(folder: Path) -> None:
    """The life of the deployment, then the copies."""
    os.environ.update(_environment())
    # The code server's sockets go into the states of sensors.
    os.environ.update({**ALERTS, "TMPDIR": str(LOCAL)})
    _make_patient_and_wide()
    run("reindex", *DAYS, "--kind", "all")
    folder.mkdir(parents=True)
    names = record_names()
    with receiver(), dagster_dev():
        for name in names["sensors"]:
            if name != "alerts":
                subprocess.run([*DAGSTER, "sensor", "start", "-w", "workspace.yaml", name], check=True)
        run("backfill", *DAYS, "--customers", "acme", "--window", "1d", "--name", "done", "--yes")
        until(is_done)
        poison()
        until(lambda: all('"given_up_at":1' in cursor_of(f"{kind}_local_drift_repair_sensor") for kind in KINDS))
        until(lambda: "nothing_left_failed" in cursor_of("alerts") and '"told":[{' in cursor_of("alerts"))
    # Nobody is there to begin it.
    run("backfill", *DAYS, "--customers", "globex", "--kind", "conversation", "--name", "waiting", "--yes")
    copy(folder, names)


def _environment() -> dict[str, str]:
    lines = (LOCAL / "env").read_text().splitlines()
    return {
        name: shlex.split(value)[0]
        for name, _, value in (line.partition("=") for line in lines if "=" in line and line[0] != "#")
    }


def _make_patient_and_wide() -> None:
    path = LOCAL / "fleet.yaml"
    fleet = yaml.safe_load(path.read_text())
    fleet["look_back_days"] = 366
    fleet["watch"] |= {"interval_seconds": 5, "settle_seconds": 1.0, "attempts": 1, "cool_down_seconds": 0.0}
    path.write_text(yaml.safe_dump(fleet, sort_keys=False))


def run(*arguments: str, check: bool = True) -> str:
    """A command of the version; what it printed."""
    done = subprocess.run([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 0 or not check, (arguments, done.stdout)
    return done.stdout


def is_done() -> bool:
    windows = json.loads(run("status", "--name", "done", "--json", check=False))["windows"]
    return {state for state, count in windows.items() if count} == {"done"}


def until(condition: Callable[[], object], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(1)


@contextlib.contextmanager
def receiver() -> Iterator[None]:
    """Takes the alerts."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

    with http.server.ThreadingHTTPServer(("127.0.0.1", ALERT_PORT), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@contextlib.contextmanager
def dagster_dev() -> Iterator[None]:
    process = subprocess.Popen([*DAGSTER, "dev", "-w", "workspace.yaml", "-p", "18766"], start_new_session=True)
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def database(name: str) -> Iterator[Any]:
    connection = psycopg2.connect(
        host=os.environ["DAGSTER_PG_HOST"],
        port=os.environ["DAGSTER_PG_PORT"],
        user=os.environ["DAGSTER_PG_USER"],
        password=os.environ["DAGSTER_PG_PASSWORD"],
        dbname=name,
    )
    with contextlib.closing(connection), connection, connection.cursor() as cursor:
        yield cursor


def cursor_of(sensor: str) -> str:
    """The sensor's own, out of its state."""
    with database("dagster") as cursor:
        cursor.execute("SELECT job_body FROM jobs WHERE job_body LIKE %s", (f'%"{sensor}"%',))
        bodies = [json.loads(body) for (body,) in cursor.fetchall()]
    return next((body["job_specific_data"]["cursor"] or "" for body in bodies if body["job_specific_data"]), "")


def ask_shard(number: int, sql: str) -> str:
    port = json.loads((LOCAL / "stack.json").read_text())["shard_ports"][number]
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", sql.encode())
    request.add_header("X-ClickHouse-User", "default")
    request.add_header("X-ClickHouse-Key", os.environ["REINDEX_LOCAL_PASSWORD"])
    with urllib.request.urlopen(request, timeout=60) as answer:
        text: str = answer.read().decode()
    return text


def shards() -> range:
    return range(len(json.loads((LOCAL / "stack.json").read_text())["shard_ports"]))


def poison() -> None:
    """The shards refuse a slice's rows, and then these change in Postgres."""
    for number in shards():
        ask_shard(
            number,
            "ALTER TABLE scorecard ADD CONSTRAINT poisoned CHECK NOT "
            f"(customer = '{POISONED_CUSTOMER}' AND toDate32(scorecard_time) = '{POISONED_DAY}')",
        )
    with database("app") as cursor:
        cursor.execute(
            "UPDATE director.scorecards SET score = 1.5 WHERE customer = %s"
            " AND (process_interaction_at AT TIME ZONE 'UTC')::date = %s",
            (POISONED_CUSTOMER, POISONED_DAY),
        )


def record_names() -> dict[str, Any]:
    """Every name that Dagster stores."""
    from dagster import AssetSelection  # noqa: F401 - Dagster before the definitions

    from reindex_assets.definitions import defs

    found = defs() if callable(defs) else defs
    repository = found.get_repository_def()
    graph = repository.asset_graph
    return {
        "assets": sorted(key.to_user_string() for key in graph.get_all_asset_keys()),
        "checks": sorted(key.to_user_string() for key in graph.asset_check_keys),
        "jobs": sorted(job.name for job in repository.get_all_jobs()),
        "ops": sorted({node.name for job in repository.get_all_jobs() for node in job.nodes}),
        "pools": sorted(
            {pool for job in repository.get_all_jobs() for node in job.nodes for pool in node.definition.pools}
        ),
        "groups": sorted({node.group_name for node in graph.asset_nodes}),
        "schedules": sorted(schedule.name for schedule in repository.schedule_defs),
        "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
    }


def copy(folder: Path, names: dict[str, Any]) -> None:
    (folder / "names.json").write_text(json.dumps(names, indent=1) + "\n")
    shutil.copy(LOCAL / "fleet.yaml", folder / "fleet.yaml")
    shutil.copy(LOCAL / "dagster" / "dagster.yaml", folder / "dagster.yaml")
    shutil.copy("workspace.yaml", folder / "workspace.yaml")
    shutil.copytree(LOCAL / "slices", folder / "slices")
    with database("app") as cursor:
        cursor.execute(
            "SELECT system_identifier::text, timeline_id::text FROM pg_control_system(), pg_control_checkpoint()"
        )
        system, timeline = cursor.fetchone()
    said = {
        "postgres": {"system": system, "timeline": timeline},
        "alert_urls": ALERTS["REINDEX_ALERT_URLS"],
        "tables": [
            ask_shard(0, f"SHOW CREATE TABLE {name} FORMAT TSVRaw") for name in ("score", "scorecard", "reindex_layout")
        ],
        "layout": [
            [
                json.loads(line)
                for line in ask_shard(number, "SELECT * FROM reindex_layout FORMAT JSONEachRow").splitlines()
            ]
            for number in shards()
        ],
        "repairs": json.loads(run("repairs", "--json", check=False)),
        "status": {
            name: json.loads(run("status", "--name", name, "--json", check=False)) for name in ("done", "waiting")
        },
    }
    (folder / "said.json").write_text(json.dumps(said, indent=1) + "\n")
    with database("dagster") as cursor, gzip.open(folder / "dagster.jsonl.gz", "wt") as file:
        cursor.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name"
        )
        for (table,) in cursor.fetchall():
            if table not in LEFT_OUT:
                cursor.execute(f"SELECT to_jsonb(one)::text FROM {table} AS one ORDER BY 1")
                file.writelines(f'{{"table": "{table}", "row": {row}}}\n' for (row,) in cursor.fetchall())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
