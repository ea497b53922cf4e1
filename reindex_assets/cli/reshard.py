"""The command `reshard`: moves the rows of a cluster to the shards of its fleet file.

What lives here: its arguments, the question before it begins, and what it prints. What does not: the work (reshard/work.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from reindex_assets.cli.options import COULD_NOT_TELL, DIFFERENT, FleetOption, JsonOption, exit_statuses, open_fleet
from reindex_assets.cli.render.json import print_json
from reindex_assets.cli.render.reshard import outcome_json, plan_json, print_outcome, print_plan, print_retiring
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ConfigurationError
from reindex_assets.reshard.work import ReshardOptions, ReshardPlan, ReshardProgress, ReshardWork

_DAY = ["%Y-%m-%d"]


def reshard(
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="The cluster; needless where the fleet file has one.")
    ] = None,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=_DAY, help="Move only these days: the first UTC day.")
    ] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=_DAY, help="The last UTC day, included.")] = None,
    from_shards: Annotated[
        int | None,
        typer.Option("--from-shards", min=1, help="Go on only if the rows are placed on so many shards now."),
    ] = None,
    to_shards: Annotated[
        int | None, typer.Option("--to-shards", min=1, help="Go on only if the fleet file lists so many shards.")
    ] = None,
    lost: Annotated[
        bool, typer.Option("--lost", help="A shard is gone for good: write again from Postgres what it held.")
    ] = False,
    leave_behind: Annotated[
        bool,
        typer.Option("--leave-behind", help="End it although rows that no run reaches stay on wrong shards."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: JsonOption = False,
    settle: Annotated[
        float, typer.Option("--settle", min=0, help="Look at a difference again after so many seconds.")
    ] = ReshardOptions().settle_seconds,
    fleet: FleetOption = None,
) -> None:
    """Moves rows to the shards of the fleet file after these have changed. Run again, it goes on with what is left.

    Exit status: 0 the rows stand on the fleet file's shards, 1 something is left to do, 2 could not tell.
    """
    with exit_statuses():
        known = open_fleet(fleet)
        options = ReshardOptions(
            first_day=first and first.date(),
            last_day=last and last.date(),
            from_shards=from_shards,
            to_shards=to_shards,
            lost=lost,
            leave_behind=leave_behind,
            settle_seconds=settle,
        )
        console = Console(stderr=as_json)
        name = _cluster(known, cluster)
        with _progress(Console(stderr=True, quiet=as_json)) as tell:
            work = ReshardWork(known, name, datetime.now(UTC).date(), options, tell)
            plan = work.plan()
        print_plan(console, plan)
        if not plan.reshard.is_needed or dry_run:
            retiring = work.held_by_retiring()
            print_retiring(console, retiring)
            if as_json:
                print_json(plan_json(plan) | {"finished": not plan.reshard.is_needed, "retiring": retiring})
            raise typer.Exit(DIFFERENT if plan.reshard.is_needed else 0)
        if not yes and not _confirmed(plan, as_json=as_json):
            raise typer.Exit(DIFFERENT)
        # Dagster takes seconds to import; a plan does without it.
        from reindex_assets.defs.instance.opening import open_instance
        from reindex_assets.defs.runs.launch import launch

        with _progress(Console(stderr=True, quiet=as_json)) as tell, open_instance() as instance:
            outcome = ReshardWork(known, name, datetime.now(UTC).date(), options, tell).run(
                lambda rectangle, dataset, config, on_progress: launch(
                    known, instance, rectangle, config, kind=dataset.kind, on_progress=on_progress
                )
            )
        print_outcome(console, plan, outcome)
        if as_json:
            print_json(plan_json(plan) | outcome_json(outcome))
        if outcome.failed:
            raise typer.Exit(COULD_NOT_TELL)
        if not outcome.is_finished:
            raise typer.Exit(DIFFERENT)


def _cluster(fleet: Fleet, named: str | None) -> str:
    known = list(fleet.clusters)
    if named is None and len(known) == 1:
        return known[0]
    if named not in known:
        what = "name one of them by --cluster" if named is None else f"unknown cluster {named!r}"
        raise ConfigurationError(f"{what}: the fleet file has {', '.join(known)}")
    return named


def _confirmed(plan: ReshardPlan, *, as_json: bool) -> bool:
    if as_json:
        raise ConfigurationError("--json asks nothing: say --yes too, or --dry-run")
    begun = plan.reshard.is_begun
    return typer.confirm(
        "Go on with this reshard?" if begun else "Begin? Until it has ended, nothing else is written to this cluster.",
        err=True,
    )


@contextmanager
def _progress(console: Console) -> Iterator[Any]:
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("partitions"),
        TimeElapsedColumn(),
        console=console,
    )
    tasks: dict[str, Any] = {}

    def tell(progress: ReshardProgress) -> None:
        task = tasks.setdefault(progress.doing, None) or bar.add_task(progress.doing)
        tasks[progress.doing] = task
        bar.update(task, completed=progress.done, total=progress.total)

    with bar:
        yield tell
