"""The loop at work on a fleet's drift: a real Dagster with every repair sensor on, and somebody who watches until nothing is red.

What lives here: starting it, waiting, and what was seen meanwhile. What does not: the loop itself (the product's own sensors and runs), and
the rest of the story (local/demo/fleet_demo.py).
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from reindex_assets.comparison.comparison import Comparison
from reindex_assets.config.dataset import Dataset
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ReindexError
from reindex_assets.local.stack.dagster_processes import DagsterProcesses, running_dagster
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import KINDS, Kind, Slice

#: How long the loop may take. On two cores eight clusters take some minutes.
PATIENCE_SECONDS = 1800
_POLL_SECONDS = 2.0
_LOOK_SECONDS = 60.0
_UNFINISHED = {"QUEUED", "NOT_STARTED", "MANAGED", "STARTING", "STARTED", "CANCELING"}


class NotHealedError(ReindexError):
    """Some slices are still red after a long time: the message names where."""


@dataclass
class ClusterStory:
    """What happened to one cluster.

    Attributes:
        red: the slices that were found different after the planting, by kind.
        repaired: those of them that a successful run of the loop has covered.
        runs: such runs.
        seconds: from the sensors' start until the last red slice was equal; None: not yet.
    """

    planted: int = 0
    red: dict[Kind, frozenset[Slice]] = field(default_factory=dict)
    repaired: set[tuple[str, Slice]] = field(default_factory=set)
    runs: int = 0
    seconds: float | None = None

    @property
    def red_slices(self) -> int:
        return sum(len(slices) for slices in self.red.values())


def heal(console: Console, stack: LocalStack, fleet: Fleet, story: Mapping[str, ClusterStory], port: int) -> None:
    """Starts Dagster with every repair sensor on, and waits until nothing is red any more and no run is under way.

    Args:
        story: of each cluster; what happens is noted there.
        port: of the UI, if it is free.

    Raises:
        NotHealedError: it took longer than `PATIENCE_SECONDS`.
        LocalStackError: Dagster did not start.
    """
    from reindex_assets.defs.keys.names import repair_sensor_name

    sensors = [repair_sensor_name(dataset) for dataset in fleet.datasets()]
    with running_dagster(stack.root / "dagster-demo.log", stack.environment(), port) as dagster:
        console.print(f"the UI: {dagster.url}", highlight=False)
        for sensor in sensors:
            dagster.start_sensor(sensor)
        begun = time.monotonic()
        memory = _watch(console, fleet, story, dagster, begun)
        for run in _repair_runs(dagster):
            _note(fleet, story, run)
        ticks = [tick for sensor in sensors for tick in dagster.ticks(sensor)]
    seconds = [tick["endTimestamp"] - tick["timestamp"] for tick in ticks]
    console.print(
        f"{len(sensors)} sensors made {len(ticks)} ticks, {sum(seconds) / len(seconds):.1f} s each on average, the longest "
        f"{max(seconds):.1f} s; Dagster with its runs took {memory / 2**20:,.0f} MiB at most",
        highlight=False,
    )
    failed = [tick for tick in ticks if tick["status"] == "FAILURE"]
    if failed:
        # The next tick does it again. Dagster breaks off one that takes longer than a minute: this machine has too much to do.
        cause = failed[0]["error"]["cause"] or failed[0]["error"]
        console.print(
            f"{len(failed)} ticks failed and were made again, the last: {cause['message'].strip()[:200]}", markup=False
        )


def _watch(
    console: Console, fleet: Fleet, story: Mapping[str, ClusterStory], dagster: DagsterProcesses, begun: float
) -> int:
    """Compares what was red again and again, until all of it is equal; returns the most memory that Dagster took, bytes."""
    left: dict[Dataset, frozenset[Slice]] = {
        dataset: story[dataset.cluster_name].red[dataset.kind] for dataset in fleet.datasets(*story)
    }
    seen = dict.fromkeys(left, (0, begun))
    memory = 0
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("green"), TimeElapsedColumn(),
        console=console,
    )  # fmt: skip
    with bar:
        tasks = {name: bar.add_task(name, total=one.red_slices) for name, one in story.items()}
        while any(left.values()) or any(run["status"] in _UNFINISHED for run in dagster.runs()):
            if time.monotonic() - begun > PATIENCE_SECONDS:
                red = "; ".join(f"{dataset}: {len(slices)}" for dataset, slices in left.items() if slices)
                raise NotHealedError(f"not green after {PATIENCE_SECONDS} s: {red or 'runs are still under way'}")
            repaired = Counter((tags["cluster"], tags["kind"]) for tags in _repair_runs(dagster))
            for dataset, slices in left.items():
                # After each repair; and now and then, because a doubled row may have been merged away.
                repairs = repaired[dataset.cluster_name, dataset.kind.name]
                due = repairs > seen[dataset][0] or time.monotonic() - seen[dataset][1] > _LOOK_SECONDS
                if slices and due:
                    seen[dataset] = (repairs, time.monotonic())
                    with Comparison(dataset) as comparison:
                        left[dataset] = frozenset(one.slice for one in comparison.sums(slices) if not one.is_equal)
            for name, one in story.items():
                still_red = sum(len(left[dataset]) for dataset in fleet.datasets(name))
                bar.update(tasks[name], completed=one.red_slices - still_red)
                if not still_red and one.seconds is None:
                    one.seconds = time.monotonic() - begun
                    bar.stop_task(tasks[name])
            memory = max(memory, _memory(dagster.pid)) if dagster.pid is not None else memory
            time.sleep(_POLL_SECONDS)
    return memory


def _memory(pid: int) -> int:
    """Resident bytes of a process and all that it began, shared pages counted as often as they are mapped."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += one.memory_info().rss
    return total


def _repair_runs(dagster: DagsterProcesses) -> list[dict[str, str]]:
    """The tags of the successful runs that the sensors have asked for."""
    from reindex_assets.defs.keys.names import REPAIR_TAG

    found = [_tags(run) for run in dagster.runs() if run["status"] == "SUCCESS"]
    return [tags for tags in found if REPAIR_TAG in tags]


def _tags(run: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def _note(fleet: Fleet, story: Mapping[str, ClusterStory], tags: Mapping[str, str]) -> None:
    from reindex_assets.defs.keys.partitions import slices_of_range

    name, kind = tags["cluster"], next(kind for kind in KINDS if kind.name == tags["kind"])
    covered = slices_of_range(fleet.clusters[name], tags)
    story[name].runs += 1
    story[name].repaired |= {(kind.name, item) for item in covered & story[name].red[kind]}
