"""The documentation says what the code says: its links lead somewhere, its commands exist, its examples are valid, its tables are whole.

What lives here: what can be known without engines. What does not: what the commands do (docs/test_commands.py), and taking pages apart
(support/pages.py).
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from dagster import Definitions, validate_run_config

import reindex_assets
from benchmarks.__main__ import app as benchmarks_app
from reindex_assets.__main__ import app
from reindex_assets.config.effective import fleet_schema
from reindex_assets.config.fleet import load_fleet
from reindex_assets.config.settings import Settings
from reindex_assets.defs.assets.appeals import PurgeConfig
from reindex_assets.defs.assets.run_config import ReindexConfig
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.checks.specs import CHECKS
from reindex_assets_tests.support.fleet_files import write
from reindex_assets_tests.support.pages import (
    ALL_PAGES,
    PAGES,
    ROOT,
    Block,
    Typed,
    anchors,
    blocks,
    inline_code,
    links,
    prose,
    read,
    rows_of_tables,
    section,
    typed,
)

CLUSTER = "us-east-1-prod"
TYPED = [command for page in ALL_PAGES for command in typed(page)]
YAML = [block for page in ALL_PAGES for block in blocks(page, "yaml")]
#: Programs that are neither ours nor Python's.
FOREIGN = frozenset({"cd", "chmod", "cp", "docker", "echo", "export", "helm", "kubectl", "pip", "psql", "python", "."})


# --- pages and links


@pytest.mark.parametrize("page", ALL_PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for link in links(page):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        assert ROOT in target.resolve().parents
        if anchor:
            assert anchor in anchors(str(target.resolve().relative_to(ROOT))), f"{page} links to {link}"


@pytest.mark.parametrize("page", [page for page in ALL_PAGES if page != "CHANGELOG.md" and "decisions/" not in page])
def test_a_page_begins_with_a_list_of_its_sections(page: str) -> None:
    # Short enough to be read to its end without one.
    if len(anchors(page)) < 3:
        return
    assert len(set(anchors(page))) == len(anchors(page)), "two headings of one name: the second can't be reached"
    beginning = prose(page).partition("\n## ")[0]
    assert re.findall(r"^- \[.*\]\(#(.*)\)$", beginning, re.MULTILINE) == [
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^## (.+)$", prose(page), re.MULTILINE)
    ]


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    assert len(read("README.md").splitlines()) <= 150
    linked = {link.partition("#")[0] for link in links("README.md")}
    for page in ALL_PAGES[1:]:
        assert page in linked or str(Path(page).parent) in linked, f"nothing leads to {page}"


@pytest.mark.parametrize("page", ALL_PAGES)
def test_prose_has_lines_that_can_be_read(page: str) -> None:
    long = [line for line in prose(page).splitlines() if len(line) > 130 and not line.lstrip().startswith(("|", "!["))]
    assert long == []


def files_of_the_product() -> Iterator[Path]:
    for folder in (Path(reindex_assets.__file__).parent, ROOT / "deploy", ROOT / "benchmarks"):
        yield from (path for path in folder.rglob("*") if path.suffix in {".py", ".yaml", ".sql", ".example", ".jinja"})
    yield from (ROOT / name for name in ("dagster.yaml", "pyproject.toml", "Makefile", "deploy/Dockerfile"))


def test_what_the_product_points_to_is_there() -> None:
    pointers = 0
    for path in files_of_the_product():
        text = path.read_text(encoding="utf-8")
        for page in re.findall(r"\b(?:docs/[\w/-]+|CONTRIBUTING|CHANGELOG)\.md\b", text):
            pointers += 1
            assert (ROOT / page).exists(), f"{path} points to {page}"
        if path.suffix == ".py":
            assert "README" not in text, f"{path}: the README is short: point to the page that has it"
    assert pointers >= 10


# --- commands


@cache
def command_of(application: typer.Typer) -> Any:
    return typer.main.get_command(application)


def parsed(application: typer.Typer, words: tuple[str, ...]) -> Any:
    """The context of the command that these words call; a usage error where there is none, or it has no such option."""
    context = command_of(application).make_context("it", list(words))
    while hasattr(context.command, "resolve_command"):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    return context


def of_ours(words: tuple[str, ...]) -> tuple[str, ...]:
    """What follows `reindex-assets`, also where another program calls it; nothing where nobody does."""
    return words[words.index("reindex-assets") + 1 :] if "reindex-assets" in words else ()


@pytest.mark.parametrize("command", [one for one in TYPED if of_ours(one.words)], ids=str)
def test_every_command_line_is_one_that_the_program_understands(command: Typed) -> None:
    if of_ours(command.words) != ("--help",):
        parsed(app, of_ours(command.words))


@pytest.mark.parametrize("page", ALL_PAGES)
def test_what_is_named_in_a_sentence_exists(page: str) -> None:
    for code in inline_code(page):
        program, *words = code.split()
        if program != "reindex-assets" or "..." in code:
            continue
        command: Any = command_of(app)
        for word in words:
            if word.startswith("--"):
                options = {option for parameter in command.params for option in parameter.opts}
                assert word.partition("=")[0] in options | {"--help"}, f"{page}: {code}"
            elif hasattr(command, "commands"):
                assert word in command.commands, f"{page}: {code}"
                command = command.commands[word]


@pytest.mark.parametrize("page", ALL_PAGES)
def test_a_file_of_the_source_that_a_page_names_is_there(page: str) -> None:
    for code in inline_code(page):
        if re.fullmatch(r"[\w/]+/[\w.]+\.(py|sql|jinja)", code):
            assert (ROOT / code).exists() or (ROOT / "reindex_assets" / code).exists(), f"{page}: {code}"


@pytest.mark.parametrize("command", [one for one in TYPED if not one.words[0].startswith("reindex-assets")], ids=str)
def test_every_other_command_is_of_a_program_that_is_there(command: Typed) -> None:
    program, *words = command.words
    scripts = {script.name for script in entry_points(group="console_scripts")}
    assert program in FOREIGN | scripts | {"make"}
    makefile = read("Makefile")
    if program == "make":
        target, *options = words
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), command
        for option in options:
            name = option.partition("=")[0]
            recipe = makefile.partition(f"\n{target}:")[2].partition("\n\n")[0]
            assert f"$({name})" in recipe, command
    if words[:2] == ["-m", "benchmarks"]:
        parsed(benchmarks_app, tuple(words[2:]))
    if program == "pip":
        extras = set(re.findall(r"\[(.*)\]", words[-1]))
        project = tomllib.loads(read("pyproject.toml"))["project"]
        assert extras <= project["optional-dependencies"].keys(), command
    sources = words[:-1] if program == "cp" else words
    for word in sources:
        if word.startswith(("deploy/", "reindex_assets_tests/")) or word in {"constraints.txt", "workspace.yaml"}:
            assert (ROOT / word).exists(), command
        if word.startswith("../") or word.endswith((".env.example", "compose.yaml")):
            assert (ROOT / "deploy" / "compose" / word).exists(), command


def commands_of(command: Any, name: str = "reindex-assets") -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, inner in command.commands.items():
        yield from commands_of(inner, f"{name} {word}")


def test_the_reference_names_every_command_with_every_option() -> None:
    documented = {
        row[0].strip("`"): set(re.findall(r"`(--[\w-]+)`", row[2]))
        for row in rows_of_tables(section("docs/commands.md", "Commands"))
        if row[0].startswith("`reindex-assets ")
    }
    assert documented == {
        name: {
            next(opt for opt in parameter.opts if opt.startswith("--"))
            for parameter in command.params
            if not parameter.hidden
        }
        - {"--help"}
        for name, command in commands_of(command_of(app))
    }


def test_every_target_of_make_is_in_the_reference() -> None:
    [phony] = re.findall(r"^\.PHONY: (.*)$", read("Makefile"), re.MULTILINE)
    documented = set(re.findall(r"`make ([\w-]+)`", read("docs/commands.md") + read("CONTRIBUTING.md")))
    documented |= {command.words[1] for command in TYPED if command.words[0] == "make"}
    assert set(phony.split()) <= documented


# --- examples


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Definitions:
    [example] = [block.text for block in blocks("docs/install.md", "yaml") if "\nclusters:" in block.text]
    return build_defs(load_fleet(write(tmp_path_factory.mktemp("fleet"), example)))


@pytest.mark.parametrize("block", YAML, ids=lambda block: block.page)
def test_every_example_of_yaml_is_valid(block: Block, tmp_path: Path, definitions: Definitions) -> None:
    document = yaml.safe_load(block.text)
    if document is None:
        # A comment for an editor.
        assert block.text.startswith("# yaml-language-server: $schema=")
    elif "clusters" in document:
        fleet = load_fleet(write(tmp_path, block.text))
        assert CLUSTER in fleet.clusters
        assert all(fleet.rules(name) for name in fleet.clusters)
    else:
        assert document.keys() == {"ops"}, f"{block.page}: neither a fleet file nor a run config"
        jobs = [
            job
            for job in definitions.get_repository_def().get_all_jobs()
            if document["ops"].keys() == {*job.graph.node_dict}
        ]
        assert jobs, f"{block.page}: no job has the op {[*document['ops']]}"
        assert all(validate_run_config(job, document) for job in jobs)


# --- tables


def defaults(page: str, heading: str) -> dict[str, str]:
    """The default that a section gives for each key: the second cell of a table's row whose first one is code."""
    found = {}
    for row in rows_of_tables(section(page, heading)):
        for name in re.findall(r"`(\w+)`", row[0]):
            found[name] = row[1]
    return found


def written(value: object) -> str:
    """A default as the pages write it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def schema_of(name: str) -> dict[str, Any]:
    """The keys of a block of the fleet file."""
    schema: Any = fleet_schema()
    keys: dict[str, Any] = (schema["$defs"][name] if name else schema)["properties"]
    return keys


@pytest.mark.parametrize(("block", "heading"), [("Postgres", "`postgres`"), ("ClickHouse", "`clickhouse`")])
def test_every_key_of_an_engine_is_in_the_page_of_the_fleet_file_with_its_default(block: str, heading: str) -> None:
    documented = defaults("docs/fleet-file.md", heading)
    for key, field in schema_of(block).items():
        default = field.get("default")
        if key == "port":
            assert str(default) in documented[key]
        elif isinstance(default, bool | int | float | str):
            assert documented[key].strip("`") == written(default), key
        else:
            assert key in documented


def test_every_other_key_is_in_the_page_of_the_fleet_file() -> None:
    text = section("docs/fleet-file.md", "Keys")
    for block in ("", "Cluster", "Defaults", "Relations", "Schedule", "Shard", "Customer", "Deletions"):
        for key in schema_of(block):
            assert re.search(rf"\b{key}\b", text), f"{block}: {key}"


def test_every_key_of_the_watch_is_in_the_page_of_repairs_with_its_default() -> None:
    documented = defaults("docs/repair.md", "Settings")
    assert documented == {key: written(field["default"]) for key, field in schema_of("Watch").items()}


@pytest.mark.parametrize(
    ("page", "heading", "config"),
    [("docs/backfill.md", "Run config", ReindexConfig), ("docs/appeals.md", "The Dagster job", PurgeConfig)],
)
def test_every_field_of_a_run_config_is_in_its_page_with_its_default(page: str, heading: str, config: Any) -> None:
    documented = defaults(page, heading)
    for name, field in config.model_fields.items():
        assert name in documented, name
        if isinstance(field.default, bool | int):
            assert documented[name].strip("*") == written(field.default), name


def test_every_check_is_in_the_page_of_checks_and_no_other() -> None:
    documented = [row[0] for row in rows_of_tables(section("docs/checks.md", "The ten checks"))][1:]
    expected = [f"`{check.name}`{' (warning)' if check.severity.value == 'WARN' else ''}" for check in CHECKS]
    assert len(CHECKS) == 10
    assert sorted(documented) == sorted(expected)


def test_every_setting_is_in_the_reference_and_those_of_alerts_with_their_defaults() -> None:
    reference = read("docs/commands.md")
    for name, field in Settings.model_fields.items():
        variable = f"REINDEX_{name.upper()}"
        assert f"`{variable}`" in reference
        if name.startswith("alert_") and isinstance(field.default, int):
            assert defaults("docs/alerts.md", "Settings")[variable] == written(field.default)


def test_the_limits_on_runs_are_those_of_dagster_yaml() -> None:
    concurrency = yaml.safe_load(read("dagster.yaml"))["concurrency"]
    limits = {f"tag `{limit['key']}`": limit["limit"] for limit in concurrency["runs"]["tag_concurrency_limits"]}
    limits["`max_concurrent_runs`"] = concurrency["runs"]["max_concurrent_runs"]
    limits["pool `clickhouse_<cluster>`"] = concurrency["pools"]["default_limit"]
    documented = {row[0]: row[1] for row in rows_of_tables(section("docs/backfill.md", "Limits on runs"))[1:]}
    assert documented == {name: str(limit) for name, limit in limits.items()}


def test_the_variables_of_dagster_yaml_are_in_the_reference() -> None:
    for variable in re.findall(r"\{env: (\w+)\}", read("dagster.yaml") + read("deploy/celery/dagster.yaml")):
        assert f"`{variable}`" in read("docs/commands.md")


def test_every_page_of_an_operator_says_what_can_go_wrong() -> None:
    without = {
        *("README.md", "docs/commands.md", "docs/how-it-works.md", "docs/performance.md", "docs/scaling.md"),
        "docs/settings.md",
    }
    for page in set(PAGES) - without:
        if "decisions/" not in page and page != "docs/deploy.md":
            assert "what-can-go-wrong" in anchors(page), page


# --- messages


@cache
def messages_of_the_product() -> str:
    """Every text in the product's source, one in a line; what is filled in is three dots."""
    texts = []
    for path in Path(reindex_assets.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values))  # type: ignore[misc]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(" ".join(text.split()) for text in texts)


@pytest.mark.parametrize("page", [page for page in PAGES if "what-can-go-wrong" in anchors(page)])
def test_the_messages_of_a_page_are_those_of_the_product(page: str) -> None:
    for row in rows_of_tables(section(page, "What can go wrong"))[1:]:
        for message in re.findall(r"`([^`]+)`", row[0]):
            for part in message.split("..."):
                assert part.strip() in messages_of_the_product(), f"{page}: {message}"
