"""What is installed and checked: the version stands everywhere, and pre-commit runs what `make lint` runs.

What lives here: pyproject.toml, constraints.txt and .pre-commit-config.yaml against each other and the Makefile. What does not: deploy/
beyond its version (test_deploy.py).
"""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def version() -> str:
    found: str = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    return found


def test_every_image_is_of_the_version_of_the_package_and_the_changelog_begins_with_it() -> None:
    named = set()
    for path in (
        "deploy/compose/compose.yaml",
        "deploy/compose/compose.celery.yaml",
        "deploy/Dockerfile",
        "docs/deploy.md",
    ):
        found = set(re.findall(r"\breindex-assets:(\d+\.\d+\.\d+)", read(path)))
        assert found, path
        named |= found
    named.add(yaml.safe_load(read("deploy/kubernetes/values.yaml"))["x-reindex"]["image"]["tag"])
    assert named == {version()}
    assert re.findall(r"^## (\d+\.\d+\.\d+)", read("CHANGELOG.md"), re.MULTILINE)[0] == version()


def test_pre_commit_runs_what_make_lint_runs_and_downloads_nothing() -> None:
    needed, *recipe = read("Makefile").partition("\nlint: setup")[2].partition("\n\n")[0].splitlines()
    linted = [f"make {target}" for target in needed.split()]
    linted += [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe]
    [repository] = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    assert [hook["entry"] for hook in repository["hooks"]] == linted


def test_the_package_says_that_it_is_typed_and_brings_what_it_reads() -> None:
    package = files("reindex_assets")
    patterns = tomllib.loads(read("pyproject.toml"))["tool"]["setuptools"]["package-data"]["reindex_assets"]
    assert "py.typed" in patterns
    assert (package / "py.typed").is_file()
    brought = {f".{pattern.rpartition('.')[2]}" for pattern in patterns}
    others = {path.suffix for path in Path(str(package)).rglob("*") if path.is_file()} - {".py", ".pyc"}
    assert others <= brought


def test_constraints_hold_a_version_of_everything_and_no_address() -> None:
    lines = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[\w.]+", line) for line in lines)
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0].lower()) for line in lines}
    project = tomllib.loads(read("pyproject.toml"))["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[<>=\[ ]", one)[0].lower()) for one in asked}
    assert names <= pinned
