"""What it costs Dagster to load and to show a fleet of 8 clusters with 95 customers: definitions, code location and pages of the UI.

Nothing connects to an engine: the addresses of the fleet file don't exist. Its days reach back a year, so that each asset of the largest
cluster has 34 x 366 partitions. Dagster runs as an operator starts it (`dg dev`), with its storage in Postgres. Some days of the
largest asset are marked as materialized, so that the partitions page has something to show.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Result, WrongRunError
from benchmarks.fleet_file import PASSWORD_VARIABLE, fleet_text
from benchmarks.stacks import FLEET
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.defs.keys.names import asset_key_of
from reindex_assets.local.stack.dagster_processes import DagsterProcesses, running_dagster
from reindex_assets.local.stack.processes import process_tree
from reindex_assets.model import KINDS, PROCESS, Slice, Step

NAME = "fleet_load"

_DAYS = 366
#: Runs in a new process, so that the imports are measured too.
_LOAD = """\
import json, resource, sys, time
times = [time.perf_counter()]
from reindex_assets.definitions import build_defs
from reindex_assets.config.fleet import load_fleet
times.append(time.perf_counter())
fleet = load_fleet(sys.argv[1])
times.append(time.perf_counter())
build_defs(fleet).get_repository_def().get_all_jobs()
times.append(time.perf_counter())
print(json.dumps([later - sooner for sooner, later in zip(times, times[1:])] + [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3]))
"""

#: Marks the partitions on its input as materialized.
_MARK = """\
import sys
from dagster import AssetKey, AssetMaterialization, DagsterInstance
with DagsterInstance.get() as instance:
    for partition in sys.stdin.read().split():
        instance.report_runless_asset_event(AssetMaterialization(AssetKey(sys.argv[1:]), partition=partition))
"""

#: The queries of two pages: the graph of all assets, and the partitions of one asset.
_ASSETS = """query { assetNodes { id groupName kinds owners { __typename } description isPartitioned partitionDefinition { description }
    dependencyKeys { path } hasMaterializePermission } }"""
_PARTITIONS = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode { id
    partitionKeysByDimension { name type partitionKeys }
    assetPartitionStatuses { ... on MultiPartitionStatuses { primaryDimensionName ranges { primaryDimStartKey primaryDimEndKey
        secondaryDim { ... on DefaultPartitionStatuses { materializedPartitions failedPartitions materializingPartitions } } } } }
    } } }"""


def run(bench: Bench) -> Iterator[Result]:
    with tempfile.TemporaryDirectory(prefix="reindex-fleet-") as directory:
        root = Path(directory)
        path = root / "fleet.yaml"
        first_day = datetime.now(UTC).date() - timedelta(days=_DAYS - 1)
        path.write_text(fleet_text(first_day, str(root / "slices")), encoding="utf-8")
        fleet = load_fleet(path)
        largest = len(next(iter(fleet.clusters.values())).customers) * _DAYS
        customers = sum(len(cluster.customers) for cluster in fleet.clusters.values())
        data = f"{len(fleet.clusters)} clusters, {customers} customers, {_DAYS} days, at most {largest:,} partitions per asset"
        environment = {PASSWORD_VARIABLE: "not used"}

        bench.say(f"loading a fleet file of {data}")
        loads = [_loaded(path, environment) for _ in range(bench.size.rounds)]
        for number, (name, unit, of) in enumerate(
            (
                ("import.seconds", "s", "importing this package with Dagster"),
                ("read.seconds", "s", "reading and validating the fleet file"),
                ("build.seconds", "s", "building and resolving all definitions"),
                ("process_mb", "MB", "memory of a process that has them"),
            )
        ):
            yield Figure.median(f"{NAME}.{name}", [load[number] for load in loads], unit, of, data)
        yield from _shown(bench, root, fleet, environment, data)


def _loaded(path: Path, environment: Mapping[str, str]) -> list[float]:
    loading = subprocess.run(
        [sys.executable, "-c", _LOAD, str(path)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    numbers: list[float] = json.loads(loading.stdout)
    return numbers


def _shown(bench: Bench, root: Path, fleet: Fleet, environment: Mapping[str, str], data: str) -> Iterator[Result]:
    target = bench.stacks.new(FLEET, {"nobody": ()}, fleet.first_day, shards=1)
    cluster_name = next(iter(fleet.clusters))
    asset = asset_key_of(cluster_name, PROCESS.name, Step.WRITE)
    days = bench.size.window_days
    # The fleet file sets the mode.
    settings = {name: value for name, value in target.environment.items() if name != "REINDEX_MODE"}
    settings = {**settings, **environment, "REINDEX_FLEET": str(root / "fleet.yaml")}
    bench.say(f"marking {days} days of {asset.to_user_string()} as materialized")
    partitions = [
        Slice(customer, fleet.first_day + timedelta(days=_DAYS - 1 - day)).partition_key
        for day in range(days)
        for customer in fleet.clusters[cluster_name].customers
    ]
    subprocess.run(
        [sys.executable, "-c", _MARK, *asset.path],
        env={**os.environ, **settings},
        input="\n".join(partitions),
        text=True,
        check=True,
    )
    bench.say("starting Dagster")
    begun = time.perf_counter()
    with running_dagster(root / "dagster.log", settings) as dagster:
        started = time.perf_counter() - begun
        yield Figure(f"{NAME}.dagster.seconds", started, "s", "'dg dev' until its code location is loaded", data)
        reloads = [_seconds(dagster, _RELOAD) for _ in range(bench.size.rounds)]
        yield Figure.median(f"{NAME}.reload.seconds", reloads, "s", "reloading the code location in the UI", data)
        sizes = sorted(
            (
                process.memory_info().rss / 1e6
                for process in process_tree(psutil.Process(dagster.pid))
                if {"api", "grpc"} <= set(process.cmdline()[:6])
            ),
            reverse=True,
        )
        yield Figure(f"{NAME}.code_server_mb", sizes[0], "MB", "memory of the code location's server", data)
        for name, query, variables, of in (
            ("assets_page", _ASSETS, {}, "the query of the page of all assets"),
            (
                "partitions_page",
                _PARTITIONS,
                {"key": {"path": list(asset.path)}},
                f"the query of the partitions page of the largest asset, with {days} days materialized",
            ),
        ):
            # The first answer fills Dagster's caches.
            first, *later = [_seconds(dagster, query, variables) for _ in range(bench.size.rounds + 1)]
            yield Figure.median(f"{NAME}.{name}.seconds", later, "s", of, data, detail=f"the first time {first:.2f} s")
        _assert_whole(dagster, fleet, asset.path, len(partitions))


def _assert_whole(dagster: DagsterProcesses, fleet: Fleet, asset: Sequence[str], materialized: int) -> None:
    """The pages must show everything."""
    assets = dagster.ask(_ASSETS)["assetNodes"]
    node = dagster.ask(_PARTITIONS, {"key": {"path": list(asset)}})["assetNodeOrError"]
    keys = {dimension["name"]: len(dimension["partitionKeys"]) for dimension in node["partitionKeysByDimension"]}
    expected = {"customer": len(fleet.clusters[asset[0]].customers), "day": _DAYS}
    ranges = node["assetPartitionStatuses"]["ranges"]
    # Of each cluster the steps of each kind, and the purge of appeals.
    if (
        len(assets) != len(fleet.clusters) * (len(KINDS) * len(Step) + 1)
        or keys != expected
        or bool(ranges) != bool(materialized)
    ):
        raise WrongRunError(f"the pages show {len(assets)} assets, partitions {keys}, {len(ranges)} ranges")


_RELOAD = """mutation { reloadRepositoryLocation(repositoryLocationName: "reindex_assets.definitions") { __typename
    ... on WorkspaceLocationEntry { loadStatus locationOrLoadError { __typename } } } }"""


def _seconds(dagster: DagsterProcesses, query: str, variables: Mapping[str, object] | None = None) -> float:
    begun = time.perf_counter()
    dagster.ask(query, variables)
    return time.perf_counter() - begun
