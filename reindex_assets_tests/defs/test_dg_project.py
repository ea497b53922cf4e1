"""The project as Dagster's own command `dg` sees it, by pyproject.toml.

What lives here: `dg` as a user runs it, with the example of a fleet file, behind which there are no engines: loading definitions connects
to nothing. What does not: what the definitions hold.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reindex_assets.config.fleet import load_fleet
from reindex_assets.defs.build import build_defs

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy" / "fleet.example.yaml"

pytestmark = pytest.mark.usefixtures("engines")


def dg(home: Path, *arguments: str, fleet: Path = EXAMPLE) -> subprocess.CompletedProcess[str]:
    """Runs `dg` in the repository, with an instance of its own: that of dagster.yaml needs a Postgres."""
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}")
    said = subprocess.run(
        [Path(sys.executable).with_name("dg"), *arguments],
        cwd=ROOT,
        # Without the mode of the local stack that the other tests use: the definitions are those of the fleet file alone.
        env={
            **{name: value for name, value in os.environ.items() if name != "REINDEX_MODE"},
            "DAGSTER_HOME": str(home),
            "REINDEX_FLEET": str(fleet),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        },
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert "superseded" not in said.stderr
    assert "warning" not in said.stderr.lower()
    return said


def test_dg_accepts_the_configuration_and_the_definitions(tmp_path: Path) -> None:
    configuration = dg(tmp_path, "check", "toml")
    assert configuration.returncode == 0, configuration.stdout + configuration.stderr
    definitions = dg(tmp_path, "check", "defs")
    assert definitions.returncode == 0, definitions.stderr
    assert "All definitions loaded successfully." in definitions.stdout


def test_dg_says_what_is_wrong_with_a_fleet_file(tmp_path: Path) -> None:
    broken = tmp_path / "fleet.yaml"
    broken.write_text(EXAMPLE.read_text().replace("first_day: 2026-01-01", "first_day: yesterday"))
    said = dg(tmp_path, "check", "defs", fleet=broken)
    assert said.returncode == 1
    assert f"{broken}:3: first_day" in said.stdout


def test_dg_lists_every_definition(tmp_path: Path) -> None:
    said = dg(tmp_path, "list", "defs", "--json")
    assert said.returncode == 0, said.stderr
    listed = json.loads(said.stdout)
    repository = build_defs(load_fleet(EXAMPLE)).get_repository_def()
    graph = repository.asset_graph
    names = {
        section: {item.get("key") or item.get("asset_key") or item["name"] for item in items}
        for section, items in listed.items()
    }
    assert names == {
        "assets": {key.to_user_string() for key in graph.get_all_asset_keys()},
        "asset_checks": {key.to_user_string() for key in graph.asset_check_keys},
        "resources": set(),
        "jobs": {name for name in repository.job_names if not name.startswith("__")},
        "schedules": {schedule.name for schedule in repository.schedule_defs},
        "sensors": {sensor.name for sensor in repository.sensor_defs},
    }
