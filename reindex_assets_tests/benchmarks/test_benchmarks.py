"""The benchmark suite: a tiny replay through the real thing, the proofs that keep a wrong run from being timed, bars and report.

What lives here: tests. What does not: any limit on a time; the suite itself never asserts one.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection
from rich.console import Console

from benchmarks import noop
from benchmarks.bars import BARS, State, judge
from benchmarks.bench import Bench
from benchmarks.data import Window, change_rows, planned_scorecards, replay_plan, tiny_slices_plan
from benchmarks.figures import Figure, NotRun, WrongRunError
from benchmarks.machine import Machine
from benchmarks.measure import measure_command
from benchmarks.peer_plain_copy import plain_copy
from benchmarks.peer_postgresql_function import to_one_engine, to_the_shards
from benchmarks.peer_seeds import seeds_algorithm
from benchmarks.proof import prove, prove_beginning, total
from benchmarks.raw_read import raw_read
from benchmarks.report import Broken, Report, print_report, to_json, to_markdown
from benchmarks.sizes import SIZES, SMALL, SPIRIT, TINY
from benchmarks.stacks import REPLAY, servers_of
from benchmarks.suite import SUBJECTS, run_suite
from benchmarks.target import Target
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import PROCESS

PLAN = DataPlan({"globex": ("main",)}, date(2026, 1, 30), days=3, scale=0.002, seed=5, criteria=(1, 3, 4))
WINDOW = Window.of(PLAN)

# --- the real thing


def test_a_tiny_replay_is_run_proved_and_reported(stacks_directory: Path, tmp_path: Path) -> None:
    size = replace(TINY, backfills=0)
    document = tmp_path / "found" / "tiny.json"
    report = run_suite(size, stacks_directory, ["spirit_replay"], document, Console(file=io.StringIO()))

    assert report.broken == []
    assert [one.name for one in report.not_run] == ["spirit_replay.backfill"]
    written = json.loads(document.read_text(encoding="utf-8"))
    values = {figure["name"]: figure["value"] for figure in written["figures"]}
    assert values["spirit_replay.cli.run_seconds"] < values["spirit_replay.cli.seconds"]
    assert values["spirit_replay.cli.peak_mb.run"] > 50
    assert values["spirit_replay.cli.cpu_seconds.shards"] > 0
    assert 0 < values["spirit_replay.share_of_raw_read"] < 1
    assert "400 scorecards" in written["figures"][0]["data"]
    assert {"postgres", "clickhouse (chdb)", "dagster", "python"} <= written["versions"].keys()
    assert "spirit_replay" in document.with_suffix(".md").read_text(encoding="utf-8")
    assert not (stacks_directory / REPLAY).exists(), "the stacks are removed at the end"


@pytest.fixture
def target(stack: LocalStack, fleet: Fleet, source: Connection, clean: None, tmp_path: Path) -> Target:
    """The session's stack with made data in Postgres and nothing in ClickHouse."""
    make_source(source, PLAN)
    # Its own slices: a reset removes them.
    own = fleet.model_copy(update={"slices": str(tmp_path / "slices")})
    return Target(own, stack.fleet_path, stack.environment(), servers_of(stack))


def test_every_peer_that_copies_is_proved_like_the_product(target: Target) -> None:
    rows = raw_read(target, WINDOW).rows
    for copy in (plain_copy, to_the_shards):
        target.reset()
        assert copy(target, WINDOW).rows == rows
        assert total(prove(target, WINDOW, copy.__name__)) == rows
    target.reset()
    assert to_one_engine(target, WINDOW).rows == rows
    seeds_algorithm(target, WINDOW, 60)
    prove_beginning(target, WINDOW, 60, "the seeds' algorithm")


@pytest.mark.parametrize("drift", [Drift.CHANGED, Drift.DUPLICATED, Drift.WRONG_SHARD])
def test_a_wrong_copy_is_never_timed(
    target: Target, shard_clients: Sequence[Client], source: Connection, drift: Drift
) -> None:
    plain_copy(target, WINDOW)
    prove(target, WINDOW, "the copy")
    plant(drift, shard_clients, "globex", WINDOW.first_day, source=source, kind=PROCESS)
    with pytest.raises(WrongRunError, match="the copy"):
        prove(target, WINDOW, "the copy")


def test_a_wrong_value_in_a_sample_is_never_timed(target: Target, shard_clients: Sequence[Client]) -> None:
    seeds_algorithm(target, WINDOW, 60)
    plant(Drift.CHANGED, shard_clients, "globex", WINDOW.first_day, kind=PROCESS)
    with pytest.raises(WrongRunError, match="'changed': 1"):
        prove_beginning(target, WINDOW, 60, "the sample")


def test_the_edits_change_just_the_rows_they_say(target: Target, source: Connection) -> None:
    plain_copy(target, WINDOW)
    changed = change_rows(source, WINDOW, scorecards=7, share_of_days=0.4, round_number=1)
    assert (changed.days, changed.scorecards) == (1, 7)
    with pytest.raises(WrongRunError, match=f"in {changed.rows} rows"):
        prove(target, WINDOW, "the copy")


def test_a_command_that_fails_is_told_with_what_it_said(target: Target) -> None:
    finished = measure_command(
        [sys.executable, "-c", "import sys; x = bytearray(80_000_000); print('out'); sys.exit('no')"],
        {},
        target.servers,
    )
    assert (finished.status, finished.output, finished.errors) == (1, "out\n", "no\n")
    assert finished.measured.run.cpu_seconds > 0
    assert finished.measured.max_rss_bytes > 80e6


# --- plans


def test_the_replay_has_exactly_as_many_scorecards_as_the_seeds() -> None:
    plan = replay_plan(SPIRIT)
    assert planned_scorecards(plan) == 1_634_498
    assert (plan.days, len(plan.customers)) == (51, 1)
    assert len(Window.of(tiny_slices_plan(SPIRIT)).slices) == 4_845


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
def test_a_size_is_consistent(size: object) -> None:
    assert size in (TINY, SMALL, SPIRIT)
    assert isinstance(size, type(SMALL))
    assert max(*size.memory_days, *size.growth_days, size.reladiff_days) <= size.days
    assert len(size.growth_days) == 3
    assert planned_scorecards(replay_plan(size)) == size.scorecards


# --- bars and report

FIGURES = [
    Figure.median("spirit_replay.cli.seconds", [38.0, 36.0], "s", "one CLI call", "51 days"),
    Figure("peers.seeds.ratio", 199.0, "x", "of the seeds' | algorithm", "51 days"),
]
REPORT = Report(
    SPIRIT,
    datetime(2026, 3, 1, tzinfo=UTC),
    12.3,
    Machine("a processor", 2, 8.0, "Linux"),
    {"python": "3.11"},
    FIGURES,
    [NotRun("peers.reladiff", "it is not installed")],
    [Broken("noop", "WrongRunError: [a] wrote 3 rows")],
)


def test_a_bar_is_met_missed_or_not_judged() -> None:
    at_spirit = {verdict.bar.figure: verdict.state for verdict in judge(FIGURES, "spirit")}
    assert at_spirit["spirit_replay.cli.seconds"] is State.MET
    assert at_spirit["peers.seeds.ratio"] is State.MISSED
    assert at_spirit["window_cost.seconds"] is State.NOT_MEASURED
    at_small = {verdict.bar.figure: verdict.state for verdict in judge(FIGURES, "small")}
    assert at_small["peers.seeds.ratio"] is State.NOT_JUDGED


def test_each_bar_is_for_another_figure_of_a_known_subject() -> None:
    assert len({bar.figure for bar in BARS}) == len(BARS)
    # What two workers and what is left behind come to has no bar: it is for docs/scaling.md.
    assert {bar.figure.partition(".")[0] for bar in BARS} == SUBJECTS.keys() - {"workers", "footprint"}


def test_the_json_says_of_each_figure_where_it_was_measured() -> None:
    document = json.loads(json.dumps(to_json(REPORT)))
    first = document["figures"][0]
    assert (first["value"], first["samples"], first["data"]) == (37.0, [38.0, 36.0], "51 days")
    assert first["spread"] == pytest.approx(2 / 37)
    assert (first["size"], first["machine"], first["versions"]) == (
        "spirit",
        "a processor, 2 cores, 8 GB, Linux",
        "python 3.11",
    )
    assert document["not_run"] == [{"name": "peers.reladiff", "reason": "it is not installed"}]
    assert document["broken"][0]["subject"] == "noop"


def test_the_tables_hold_every_figure_every_bar_and_what_is_missing() -> None:
    output = io.StringIO()
    print_report(Console(file=output, width=160), REPORT)
    markdown = to_markdown(REPORT)
    for text in (output.getvalue(), markdown):
        for part in (
            "37.0 s",
            "199 x",
            "at least 200 x",
            "missed",
            "it is not installed",
            "[a] wrote 3 rows",
            "a processor",
        ):
            assert part in text
    assert "of the seeds' \\| algorithm" in markdown


def test_what_breaks_is_told_and_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(bench: Bench) -> object:
        yield Figure("noop.full.run_seconds", 1.0, "s", "a run", "no data")
        raise WrongRunError("it wrote too much")

    def fine(bench: Bench) -> object:
        yield NotRun("memory.run", "not here")

    monkeypatch.setitem(SUBJECTS, noop.NAME, replace(SUBJECTS[noop.NAME], run=broken))  # type: ignore[arg-type]
    monkeypatch.setitem(SUBJECTS, "memory", replace(SUBJECTS["memory"], run=fine))  # type: ignore[arg-type]
    report = run_suite(TINY, tmp_path / "root", ["noop", "memory"], None, Console(file=io.StringIO()))
    assert [(one.subject, one.error) for one in report.broken] == [("noop", "WrongRunError: it wrote too much")]
    assert [figure.name for figure in report.figures] == ["noop.full.run_seconds"]
    assert [one.name for one in report.not_run] == ["memory.run"]
