"""Several clusters whose shards share engines: drift everywhere, a real daemon, a sensor for each cluster and kind, all green in the end.

What lives here: the demonstration of a fleet, in small, judged from outside; and that a cluster leaves its neighbours' databases in the
same engines alone. What does not: a fleet of one cluster (end_to_end/test_closed_loop.py), and single ticks (defs/test_repair_sensor.py).
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from rich.console import Console
from typer.testing import CliRunner

from reindex_assets.__main__ import app
from reindex_assets.clickhouse.parts import Parts, compare_parts, read_parts
from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.config.cluster import Cluster
from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.config.local_environment import PASSWORD_VARIABLE
from reindex_assets.errors import ConfigurationError
from reindex_assets.local.demo.fleet_demo import run_fleet_demo
from reindex_assets.local.demo.fleet_faults import plant_everywhere
from reindex_assets.local.demo.fleet_plan import FleetPlan, plan_fleet
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack import connections
from reindex_assets.local.stack.files_of_stack import Home, Layout
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import KINDS, PROCESS, Kind, Slice, days_between
from reindex_assets.reindex.job import Reindex, ReindexOptions
from reindex_assets.reindex.writer import WriteOptions
from reindex_assets_tests.support.local_stacks import pids, states
from reindex_assets_tests.support.running import content, errors

DAYS = 3

#: Three clusters of 3, 2 and 1 shards on three engines, of which each bears at least two clusters.
_PLANNED = plan_fleet(3, 5, engines=3)
PLAN = FleetPlan(
    tuple(replace(one, shards=shards) for one, shards in zip(_PLANNED.clusters, (3, 2, 1), strict=True)), engines=3
)
FIRST, SECOND, THIRD = (one.name for one in PLAN.clusters)

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def told() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def fleet_stack(stacks_directory: Path, told: io.StringIO) -> Iterator[LocalStack]:
    """The stack that the demonstration leaves."""
    stack = LocalStack(stacks_directory / "fleet")
    with pytest.MonkeyPatch.context() as environment:
        for name in ("REINDEX_FLEET", "REINDEX_MODE", PASSWORD_VARIABLE, *(n for n in os.environ if "DAGSTER" in n)):
            # Another stack's; and what the demonstration sets goes with it.
            environment.setenv(name, "")
            environment.delenv(name)
        run_fleet_demo(Console(file=told, width=80), PLAN, DAYS, scale=0.001, root=stack.root)
        yield stack
        stack.reset()


@pytest.fixture
def fleet(fleet_stack: LocalStack) -> Fleet:
    return load_fleet(fleet_stack.fleet_path)


@pytest.fixture
def days(fleet: Fleet) -> list[date]:
    return days_between(fleet.first_day, fleet.first_day + timedelta(days=DAYS - 1))


@contextlib.contextmanager
def shards_of(cluster: Cluster) -> Iterator[list[Client]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(client) for client in connections.connect_shards(cluster)]


def differences(cluster: Cluster, kind: Kind) -> list[str]:
    """What the oracle finds, once merges have folded away what was superseded."""
    with contextlib.closing(connections.connect_source(cluster)) as source, shards_of(cluster) as clients:
        for client in clients:
            for table in TABLES:
                client.command(f"OPTIMIZE TABLE {table.name} FINAL")
        return oracle.differences(source, clients, kind=kind.name)


def rows_of(cluster: Cluster) -> list[tuple[object, ...]]:
    with shards_of(cluster) as clients:
        return content(clients)


def parts_of(cluster: Cluster, kind: Kind) -> Parts:
    with ShardSet(cluster) as shards:
        return read_parts(shards, kind)


def reindex(fleet: Fleet, name: str, kind: Kind, days: Sequence[date], options: ReindexOptions | None = None) -> None:
    slices = [Slice(customer, day) for customer in fleet.clusters[name].customers for day in days]
    assert errors(Reindex(fleet.dataset(name, kind), options).run(slices)) == []


def test_drift_everywhere_is_brought_to_green_by_the_sensors_of_every_cluster(fleet: Fleet, told: io.StringIO) -> None:
    story = told.getvalue()
    for name, cluster in fleet.clusters.items():
        for kind in KINDS:
            assert differences(cluster, kind) == []
            with contextlib.closing(connections.connect_source(cluster)) as source, source.cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM director.scorecards AS c JOIN director.scorecard_template_revisions AS r"
                    " USING (customer, profile, template_id, template_revision_id) WHERE template_type = %s",
                    (kind.template_type,),
                )
                [(made,)] = cursor.fetchall()
            assert made > 100
        assert name in story
    # Nothing of a table is lost on a terminal of 80 columns.
    assert "…" not in story
    assert f"{2 * len(fleet.clusters)} sensors made" in story


def test_the_faults_are_of_every_kind_in_every_cluster_and_meet_every_customer(
    fleet: Fleet, days: Sequence[date]
) -> None:
    planted = plant_everywhere(fleet, days, seed=100)

    assert set(planted) == set(fleet.datasets())
    for dataset, faults in planted.items():
        cluster = dataset.cluster
        expected = set(Drift) - ({Drift.WRONG_SHARD} if len(cluster.clickhouse.shards) == 1 else set())
        assert {fault.drift for fault in faults} == expected
        assert {fault.customer for fault in faults} == set(cluster.customers)
        # The product sees each of them, in the kind in which it was planted.
        slices = {Slice(fault.customer, fault.day) for fault in faults}
        # A merge may fold a doubled row away at any time.
        lasting = {Slice(fault.customer, fault.day) for fault in faults if fault.drift is not Drift.DUPLICATED}
        with Comparison(dataset) as comparison:
            assert lasting <= {one.slice for one in comparison.sums(slices) if not one.is_equal}
        reindex(fleet, dataset.cluster_name, dataset.kind, days)
        assert differences(cluster, dataset.kind) == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_repair_touches_no_row_of_another_cluster_in_the_same_engines(
    fleet: Fleet, days: Sequence[date], kind: Kind
) -> None:
    mine, others = fleet.clusters[FIRST], [fleet.clusters[SECOND], fleet.clusters[THIRD]]
    with shards_of(mine) as clients:
        for number, drift in enumerate((Drift.MISSING, Drift.EXTRA, Drift.WRONG_SHARD, Drift.STALE_AFTER_MOVE)):
            plant(drift, clients, next(iter(mine.customers)), days[number % DAYS], seed=200 + number, kind=kind)
    rows, parts = [rows_of(one) for one in others], [parts_of(one, kind) for one in others]
    own = parts_of(mine, kind)
    left_over = "reindex_staging_7_0_scorecard"
    with shards_of(others[0]) as clients:
        # As of a run of the neighbour's that was killed: its own next run drops it, and no other.
        for client in clients:
            client.command(f"CREATE TABLE {left_over} (x UInt8) ENGINE = MergeTree ORDER BY x")

    reindex(fleet, FIRST, kind, days)
    reindex(fleet, FIRST, kind, days, ReindexOptions(write=WriteOptions(clean_up=True)))

    assert differences(mine, kind) == []
    assert parts_of(mine, kind) != own
    # Not even the parts, but for their merges.
    assert [rows_of(one) for one in others] == rows
    for before, one in zip(parts, others, strict=True):
        assert set(before) == set(parts_of(one, kind)), "a place came or went"
    with shards_of(others[0]) as clients:
        for client in clients:
            assert client.command(f"EXISTS TABLE {left_over}") == 1
    reindex(fleet, SECOND, kind, days, ReindexOptions(everything=True))
    with shards_of(others[0]) as clients:
        for client in clients:
            assert client.command(f"EXISTS TABLE {left_over}") == 0


def test_what_one_cluster_writes_is_no_touch_of_another(fleet: Fleet, days: Sequence[date]) -> None:
    before = {name: parts_of(cluster, PROCESS) for name, cluster in fleet.clusters.items()}
    with shards_of(fleet.clusters[FIRST]) as clients:
        plant(Drift.EXTRA, clients, next(iter(fleet.clusters[FIRST].customers)), days[0], seed=300, kind=PROCESS)

    assert not compare_parts(before[FIRST], parts_of(fleet.clusters[FIRST], PROCESS)).nothing
    for name in (SECOND, THIRD):
        assert compare_parts(before[name], parts_of(fleet.clusters[name], PROCESS)).nothing
    reindex(fleet, FIRST, PROCESS, days)


def test_a_second_up_keeps_the_fleet_and_another_fleet_is_refused(fleet_stack: LocalStack, fleet: Fleet) -> None:
    processes, text = pids(fleet_stack), fleet_stack.fleet_path.read_text(encoding="utf-8")

    # With its plan, and without.
    for stack in (LocalStack(fleet_stack.root, plan=PLAN), LocalStack(fleet_stack.root)):
        assert stack.up() == fleet
    assert pids(fleet_stack) == processes
    assert fleet_stack.fleet_path.read_text(encoding="utf-8") == text
    assert set(states(fleet_stack).values()) == {"running"}
    with pytest.raises(ConfigurationError, match="made with other clusters"):
        LocalStack(fleet_stack.root, plan=replace(PLAN, clusters=PLAN.clusters[:2])).up()
    with pytest.raises(ConfigurationError, match="is a fleet"):
        LocalStack(fleet_stack.root).up({"acme": ()})

    fleet_stack.fleet_path.unlink()
    with pytest.raises(ConfigurationError, match=r"local up --clusters 3"):
        LocalStack(fleet_stack.root).up()
    assert LocalStack(fleet_stack.root, plan=PLAN).up(first_day=fleet.first_day) == fleet


def test_a_stack_of_before_there_were_fleets_is_one_cluster(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text('{"postgres_port": 20001, "shard_ports": [20002, 20003]}', encoding="utf-8")

    found = Layout.load(tmp_path)

    assert found is not None
    assert found.homes == {"local": Home("app", "default", (0, 1))}
    found.save(tmp_path)
    assert Layout.load(tmp_path) == found


def test_a_cluster_of_a_plan_never_has_an_engine_twice() -> None:
    for clusters in range(1, 9):
        for engines in range(1, 9):
            for home in plan_fleet(clusters, None, engines).homes.values():
                assert len(set(home.engines)) == len(home.engines)
                assert set(home.engines) <= set(range(engines))


@pytest.mark.parametrize(
    ("options", "told"),
    [(["--clusters", "9"], "1 to 8 clusters"), (["--clusters", "8", "--customers", "7"], "8 to 100 customers, not 7")],
)
def test_a_fleet_that_cannot_be_made_is_refused(tmp_path: Path, options: list[str], told: str) -> None:
    result = CliRunner().invoke(app, ["local", "up", "--root", str(tmp_path / "none"), *options])

    assert result.exit_code == 1
    assert told in " ".join(result.output.split())
    assert not (tmp_path / "none").exists()
