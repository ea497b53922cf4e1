"""The repair of a fleet's drift: a real Dagster with every repair sensor on, watched until no slice is red.

What lives here: starting Dagster, waiting, and recording what happens. What does not: the repair itself (the product's sensors and runs),
and the other steps of the demonstration (local/demo/fleet_demo.py).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from reindex_assets.comparison.comparison import Comparison
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ReindexError
from reindex_assets.local.stack.dagster_processes import DagsterProcesses, running_dagster
from reindex_assets.local.stack.processes import process_tree, resident_bytes
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import KINDS, Kind, Slice

#: How long the repair may take. On two cores eight clusters take some minutes.
TIMEOUT_SECONDS = 1800
_POLL_SECONDS = 2.0
_COMPARE_SECONDS = 60.0
_UNFINISHED = {"QUEUED", "NOT_STARTED", "MANAGED", "STARTING", "STARTED", "CANCELING"}


class NotHealedError(ReindexError):
    """Some slices are still red after a long time; the message names their clusters and kinds."""


@dataclass
class ClusterStory:
    """What happened to one cluster.

    Attributes:
        red: the slices that differed after the planting, by kind.
        repaired: the red slices that a successful repair run has covered.
        runs: the number of successful repair runs.
        seconds: from the sensors' start until no slice differed; None until then.
    """

    planted: int = 0
    red: dict[Kind, frozenset[Slice]] = field(default_factory=dict)
    repaired: set[tuple[str, Slice]] = field(default_factory=set)
    runs: int = 0
    seconds: float | None = None

    @property
    def red_slices(self) -> int:
        return sum(len(slices) for slices in self.red.values())


def heal(console: Console, stack: LocalStack, fleet: Fleet, stories: Mapping[str, ClusterStory], port: int) -> None:
    """Starts Dagster with every repair sensor on, and waits until no slice is red and no run is in progress.

    Args:
        stories: of each cluster; this function completes them.
        port: the preferred port of the UI.

    Raises:
        NotHealedError: it took longer than `TIMEOUT_SECONDS`.
        LocalStackError: Dagster did not start.
    """
    from reindex_assets.defs.keys.names import repair_sensor_name

    sensors = [repair_sensor_name(dataset) for dataset in fleet.datasets()]
    with running_dagster(stack.root / "dagster-demo.log", stack.environment(), port) as dagster:
        console.print(f"the UI: {dagster.url}", highlight=False)
        for sensor in sensors:
            dagster.start_sensor(sensor)
        begun = time.monotonic()
        memory = _watch(console, fleet, stories, dagster, begun)
        for tags in _repair_runs(dagster):
            _note(fleet, stories, tags)
        ticks = [tick for sensor in sensors for tick in dagster.ticks(sensor)]
    seconds = [tick["endTimestamp"] - tick["timestamp"] for tick in ticks]
    console.print(
        f"{len(sensors)} sensors made {len(ticks)} ticks, {sum(seconds) / len(seconds):.1f} s each on average, the longest "
        f"{max(seconds):.1f} s; Dagster with its runs took {memory / 2**20:,.0f} MiB at most",
        highlight=False,
    )
    failed = [tick for tick in ticks if tick["status"] == "FAILURE"]
    if failed:
        # Dagster breaks off a tick that takes too long on a busy machine; the next tick repeats it.
        cause = failed[0]["error"]["cause"] or failed[0]["error"]
        console.print(
            f"{len(failed)} ticks failed and were repeated, the last: {cause['message'].strip()[:200]}", markup=False
        )


def _watch(
    console: Console, fleet: Fleet, stories: Mapping[str, ClusterStory], dagster: DagsterProcesses, begun: float
) -> int:
    """Compares the red slices again and again until all are equal; returns the peak of Dagster's memory in bytes."""
    red = {dataset: stories[dataset.cluster_name].red[dataset.kind] for dataset in fleet.datasets(*stories)}
    # The number of repair runs, and the time, of the last comparison.
    compared = dict.fromkeys(red, (0, begun))
    main, memory = psutil.Process(dagster.pid), 0
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("green"), TimeElapsedColumn(),
        console=console,
    )  # fmt: skip
    with bar:
        tasks = {name: bar.add_task(name, total=story.red_slices) for name, story in stories.items()}
        while any(red.values()) or any(run["status"] in _UNFINISHED for run in dagster.runs()):
            if time.monotonic() - begun > TIMEOUT_SECONDS:
                where = "; ".join(f"{dataset}: {len(slices)}" for dataset, slices in red.items() if slices)
                raise NotHealedError(f"not green after {TIMEOUT_SECONDS} s: {where or 'runs are still in progress'}")
            repairs = Counter((tags["cluster"], tags["kind"]) for tags in _repair_runs(dagster))
            for dataset, slices in red.items():
                runs, (runs_before, at) = repairs[dataset.cluster_name, dataset.kind.name], compared[dataset]
                # After each repair, and from time to time, because a merge may have removed a duplicated row.
                if slices and (runs > runs_before or time.monotonic() - at > _COMPARE_SECONDS):
                    compared[dataset] = (runs, time.monotonic())
                    with Comparison(dataset) as comparison:
                        parities = comparison.sums(slices)
                    red[dataset] = frozenset(parity.slice for parity in parities if not parity.is_equal)
            for name, story in stories.items():
                still_red = sum(len(red[dataset]) for dataset in fleet.datasets(name))
                bar.update(tasks[name], completed=story.red_slices - still_red)
                if not still_red and story.seconds is None:
                    story.seconds = time.monotonic() - begun
                    bar.stop_task(tasks[name])
            memory = max(memory, resident_bytes(process_tree(main)))
            time.sleep(_POLL_SECONDS)
    return memory


def _repair_runs(dagster: DagsterProcesses) -> list[dict[str, str]]:
    """The tags of the successful runs that the sensors have requested."""
    from reindex_assets.defs.keys.names import REPAIR_TAG

    succeeded = [run for run in dagster.runs() if run["status"] == "SUCCESS"]
    tags_of_runs = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in succeeded]
    return [tags for tags in tags_of_runs if REPAIR_TAG in tags]


def _note(fleet: Fleet, stories: Mapping[str, ClusterStory], tags: Mapping[str, str]) -> None:
    from reindex_assets.defs.keys.partitions import slices_of_range

    name, kind = tags["cluster"], next(kind for kind in KINDS if kind.name == tags["kind"])
    covered = slices_of_range(fleet.clusters[name], tags)
    stories[name].runs += 1
    stories[name].repaired |= {(kind.name, item) for item in covered & stories[name].red[kind]}
