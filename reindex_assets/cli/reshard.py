"""The command `reshard`: moves the rows of a cluster to the shards of its fleet file.

What lives here: its arguments, and the question before it begins. What does not: the work (reshard/work.py), and what it prints
(cli/render/reshard.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import TaskID

from reindex_assets.cli import options
from reindex_assets.cli.render.json import print_json
from reindex_assets.cli.render.progress import partitions_bar
from reindex_assets.cli.render.reshard import outcome_json, plan_json, print_outcome, print_plan, print_retiring
from reindex_assets.cli.render.terminal import open_console
from reindex_assets.comparison.comparison import SETTLE_SECONDS
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ConfigurationError
from reindex_assets.reshard.work import ReshardOptions, ReshardPlan, ReshardProgress, ReshardWork


def reshard(
    cluster: Annotated[
        str | None,
        typer.Option("--cluster", metavar="NAME", help="The cluster. May be omitted if the fleet file has only one."),
    ] = None,
    first: options.MaybeFirstDay = None,
    last: options.MaybeLastDay = None,
    from_shards: Annotated[
        int | None,
        typer.Option(
            "--from-shards", metavar="N", min=1, help="Continue only if the rows are now placed on this many shards."
        ),
    ] = None,
    to_shards: Annotated[
        int | None,
        typer.Option("--to-shards", metavar="N", min=1, help="Continue only if the fleet file lists this many shards."),
    ] = None,
    lost: Annotated[
        bool, typer.Option("--lost", help="A shard is gone for good: write its rows again from Postgres.")
    ] = False,
    leave_behind: Annotated[
        bool, typer.Option("--leave-behind", help="Finish even if rows that no run reaches stay on wrong shards.")
    ] = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    as_json: options.Json = False,
    settle: options.Settle = SETTLE_SECONDS,
    fleet: options.FleetFile = None,
) -> None:
    """Moves rows to the shards of the fleet file after these have changed.

    By default, of all days. Run again to continue.
    Exit status: 0 the rows are on the fleet file's shards, 1 something is left to do, 2 could not tell.
    """
    opened = options.open_fleet(fleet)
    choices = ReshardOptions(
        first_day=first,
        last_day=last,
        from_shards=from_shards,
        to_shards=to_shards,
        lost=lost,
        leave_behind=leave_behind,
        settle_seconds=settle,
    )
    console = open_console(stderr=as_json)
    name = _cluster(opened, cluster)
    with _progress(open_console(stderr=True, quiet=as_json)) as tell:
        work = ReshardWork(opened, name, datetime.now(UTC).date(), choices, tell)
        plan = work.plan()
    print_plan(console, plan)
    if not plan.reshard.is_needed or dry_run:
        retiring = work.held_by_retiring()
        print_retiring(console, retiring)
        if as_json:
            print_json(plan_json(plan) | {"finished": not plan.reshard.is_needed, "retiring": retiring})
        raise typer.Exit(options.DIFFERENT if plan.reshard.is_needed else 0)
    if not yes and not _confirmed(plan, as_json=as_json):
        raise typer.Exit(options.DIFFERENT)
    # Dagster takes seconds to import, and a plan doesn't need it.
    from reindex_assets.defs.instance.opening import open_instance
    from reindex_assets.defs.runs.launch import launch

    with _progress(open_console(stderr=True, quiet=as_json)) as tell, open_instance() as instance:
        work = ReshardWork(opened, name, datetime.now(UTC).date(), choices, tell)
        outcome = work.run(partial(launch, instance, on_note=options.note))
    print_outcome(console, plan, outcome)
    if as_json:
        print_json(plan_json(plan) | outcome_json(outcome))
    if outcome.failed:
        raise typer.Exit(options.COULD_NOT_TELL)
    if not outcome.is_finished:
        raise typer.Exit(options.DIFFERENT)


def _cluster(fleet: Fleet, name: str | None) -> str:
    names = list(fleet.clusters)
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        problem = "choose a cluster with --cluster" if name is None else f"unknown cluster {name!r}"
        raise ConfigurationError(f"{problem}: the fleet file has {', '.join(names)}")
    return name


def _confirmed(plan: ReshardPlan, *, as_json: bool) -> bool:
    if as_json:
        raise ConfigurationError("--json can't ask: add --yes to reshard, or --dry-run to see the plan")
    begin = "Begin? Until the reshard has ended, nothing else is written to this cluster."
    return typer.confirm("Continue this reshard?" if plan.reshard.is_begun else begin, err=True)


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[ReshardProgress], None]]:
    tasks: dict[str, TaskID] = {}
    with partitions_bar(console) as bar:

        def show(progress: ReshardProgress) -> None:
            if progress.doing not in tasks:
                tasks[progress.doing] = bar.add_task(progress.doing)
            bar.update(tasks[progress.doing], completed=progress.done, total=progress.total)

        yield show
