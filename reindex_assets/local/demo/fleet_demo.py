"""The demonstration of a fleet: many clusters, every kind, drift everywhere; then the living loop has to bring all of it to green.

What lives here: the story, and what it prints. What does not: the plan of the fleet (local/demo/fleet_plan.py), the faults
(local/demo/fleet_faults.py), the loop (local/demo/fleet_healing.py), and the two judges (comparison/verification.py, and
local/oracle/compare.py, which shares no code with it).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from reindex_assets.cli.render.tables import print_reports
from reindex_assets.comparison.verification import Verification, verify
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.local_environment import DEFAULT_ROOT, use_local_environment
from reindex_assets.config.modes import Mode
from reindex_assets.local.data.made_conversations import hold_conversations
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.demo.demo import DemoError
from reindex_assets.local.demo.fleet_faults import plant_everywhere
from reindex_assets.local.demo.fleet_healing import ClusterStory, heal
from reindex_assets.local.demo.fleet_plan import FleetPlan, weights
from reindex_assets.local.drift.plant import Drift
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack.connections import connect_shards, connect_source
from reindex_assets.local.stack.files_of_stack import Layout
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import KINDS, SCORE, SCORECARD, Kind, Slice, days_between

if TYPE_CHECKING:
    from reindex_assets.reindex.run_report import RunReport

UI_PORT = 3000


def run_fleet_demo(
    console: Console, plan: FleetPlan, days: int, scale: float, root: Path = DEFAULT_ROOT, port: int = UI_PORT
) -> None:
    """Fleet up, data made, loaded in mode `all`, drift planted everywhere, red, the loop, green.

    Raises:
        DemoError: a step showed something else than it must, or the loop took too long.
    """
    from reindex_assets.cli.reindex import reindex_range

    last = datetime.now(UTC).date() - timedelta(days=1)
    first = last - timedelta(days=days - 1)

    console.print(
        Rule(f"1. {len(plan.clusters)} clusters on one PostgreSQL and {plan.engines} ClickHouse engines, on loopback")
    )
    stack = LocalStack(root, plan=plan)
    stack.reset()
    fleet = stack.up(first_day=first)
    use_local_environment(stack.root)
    # The fleet is in mode `all`, whatever the shell says.
    os.environ["REINDEX_MODE"] = Mode.ALL
    _print_fleet(console, stack, fleet)

    console.print(Rule("2. Scorecards of every kind, as the product's Postgres has them"))
    made = make_fleet_data(fleet, first, days, scale)
    console.print(f"{made:,} scorecards and appeals of {plan.customers} customers on {days} days, {first} to {last}")

    console.print(Rule("3. reindex-assets reindex --kind all: the first load of the empty shards"))
    begun = time.monotonic()
    _loaded(console, reindex_range(fleet, [], first, last, Mode.ALL, {}, console), time.monotonic() - begun)

    console.print(Rule("4. Drift in every cluster, at every customer, in every kind"))
    story = {name: ClusterStory() for name in fleet.clusters}
    _plant(console, fleet, days_between(first, last), story)

    console.print(Rule("5. reindex-assets verify: red everywhere"))
    for name, kind, slices in _red(_verified(fleet, first, last, settle_seconds=0)):
        story[name].red[kind] = slices
    _print_red(console, fleet, story, days)

    console.print(Rule("6. The loop: Dagster's daemon with every repair sensor switched on"))
    heal(console, stack, fleet, story, port)

    console.print(Rule("7. Green: the exact comparison, and an oracle that shares no code with it"))
    found = _verified(fleet, first, last)
    differences = _differences(fleet)
    _print_end(console, fleet, story, found, differences)
    if any(slices for _, _, slices in _red(found)) or differences:
        raise DemoError("the loop left differences: " + "; ".join(differences[:5] or ["see the comparison above"]))
    # As the reader can type it: after `make` the command is in the virtual environment only.
    command = "reindex-assets" if shutil.which("reindex-assets") else sys.argv[0]
    console.print(Rule("What to look at next"))
    for line, what in (
        ("make dev", f"the Dagster UI on this fleet, http://127.0.0.1:{UI_PORT}; its repair sensors are on"),
        (f"{command} verify --from {first} --to {last} --kind conversation", "the comparison, per customer and day"),
        (f"{command} local status", "the servers; 'local down' stops them, 'local reset' removes them"),
    ):
        console.print(f"[bold]{line}[/bold]\n    {what}", soft_wrap=True, highlight=False)


def make_fleet_data(fleet: Fleet, first: date, days: int, scale: float) -> int:
    """Fills the empty databases of every cluster: scorecards in Postgres, conversations on the shards. Returns the scorecards made."""

    def make(name: str) -> int:
        cluster = fleet.clusters[name]
        customers = {customer: known.profiles or ("main",) for customer, known in cluster.customers.items()}
        plan = DataPlan(customers, first, days, scale, conversation_share=1.0, weights=weights(customers))
        with contextlib.closing(connect_source(cluster)) as source, contextlib.ExitStack() as stack:
            summary = make_source(source, plan)
            hold_conversations(source, [stack.enter_context(client) for client in connect_shards(cluster)])
        return summary.scorecards

    # Postgres makes the rows: one backend a core.
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(make, fleet.clusters))


def _print_fleet(console: Console, stack: LocalStack, fleet: Fleet) -> None:
    layout = Layout.load(stack.root)
    assert layout is not None, "the stack is up"
    table = _table("cluster", right=("customers", "shards"))
    table.add_column("on the engines")
    table.add_column("database, in all of them")
    for name, cluster in fleet.clusters.items():
        home = layout.homes[name]
        engines = ", ".join(str(number) for number in home.engines)
        table.add_row(name, str(len(cluster.customers)), str(len(home.engines)), engines, home.shard_database)
    console.print(table)
    services = stack.status()
    memory = sum(service.rss_bytes or 0 for service in services) / 2**20
    addresses = ", ".join(f"{service.name} 127.0.0.1:{service.port}" for service in services)
    console.print(f"{addresses}; {memory:,.0f} MiB", highlight=False, soft_wrap=True)


def _loaded(console: Console, reports: list[RunReport], seconds: float) -> None:
    bad = [report for report in reports if not report.success or report.red_checks]
    if bad:
        print_reports(console, bad, dry_run=False)
        raise DemoError("the first load failed or left a red check")
    rows = Counter[str]()
    for report in reports:
        rows.update(report.rows)
    console.print(
        f"{len(reports)} runs, one of each cluster and kind: {rows['rows_read']:,} rows read, {rows['rows_written']:,} written, "
        f"every check green, {seconds:.0f} s",
        highlight=False,
    )


def _plant(console: Console, fleet: Fleet, days: list[date], story: Mapping[str, ClusterStory]) -> None:
    begun = time.monotonic()
    try:
        faults = plant_everywhere(fleet, days)
    except LookupError as error:
        raise DemoError(f"too few scorecards to spoil ({error}): choose a larger --scale") from error
    table = _table(
        "planted faults",
        right=[drift.value.replace("_", "\n").replace("duplicated", "dupli-\ncated") for drift in Drift],
    )
    for name, one in story.items():
        planted = Counter(fault.drift for dataset in fleet.datasets(name) for fault in faults[dataset])
        one.planted = planted.total()
        table.add_row(name, *(str(planted[drift]) if planted[drift] else "-" for drift in Drift))
    console.print(table)
    alone = [name for name, cluster in fleet.clusters.items() if len(cluster.clickhouse.shards) == 1]
    if alone:
        console.print(f"{', '.join(alone)} has one shard, which can't be a wrong one", highlight=False)
    console.print(
        f"{sum(one.planted for one in story.values())} faults, {time.monotonic() - begun:.0f} s", highlight=False
    )


def _verified(fleet: Fleet, first: date, last: date, settle_seconds: float = 5.0) -> dict[Kind, Verification]:
    return {kind: verify(fleet, [], first, last, settle_seconds=settle_seconds, kind=kind) for kind in KINDS}


def _red(found: Mapping[Kind, Verification]) -> list[tuple[str, Kind, frozenset[Slice]]]:
    """The slices that differ, of each cluster and kind; empty where none does."""
    return [
        (cluster.name, kind, frozenset(day.slice for day in one.different if day.cluster == cluster.name))
        for kind, one in found.items()
        for cluster in one.clusters
    ]


def _print_red(console: Console, fleet: Fleet, story: Mapping[str, ClusterStory], days: int) -> None:
    table = _table("cluster", right=("customer-days", *(f"{kind.name}: red" for kind in KINDS), "verdict"))
    for name, one in story.items():
        red = [len(one.red[kind]) for kind in KINDS]
        verdict = "[red]red[/red]" if all(red) else "[green]not seen[/green]"
        table.add_row(name, str(len(fleet.clusters[name].customers) * days), *map(str, red), verdict)
    console.print(table)
    blind = [f"{name} {kind.name}" for name, one in story.items() for kind in KINDS if not one.red[kind]]
    if blind:
        raise DemoError(f"drift was planted and verify did not see it: {', '.join(blind)}")


def _table(first: str, right: Sequence[str]) -> Table:
    """A table that fits a terminal of 80 columns."""
    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column(first, no_wrap=True)
    for column in right:
        table.add_column(column, justify="right")
    return table


def _differences(fleet: Fleet) -> list[str]:
    """What the oracle finds in the whole fleet: every row of every cluster, of every kind, with FINAL and without."""
    found = []
    for name, cluster in fleet.clusters.items():
        with contextlib.closing(connect_source(cluster)) as source, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(client) for client in connect_shards(cluster)]
            for client in clients:
                for table in (SCORECARD.name, SCORE.name):
                    # What a repair has superseded, or deleted, is folded away sooner or later: here now.
                    client.command(f"OPTIMIZE TABLE {table} FINAL")
            for kind in KINDS:
                found += [f"{name}: {line}" for line in oracle.differences(source, clients, kind=kind.name)]
    return found


def _print_end(
    console: Console,
    fleet: Fleet,
    story: Mapping[str, ClusterStory],
    found: Mapping[Kind, Verification],
    differences: list[str],
) -> None:
    numbered = (
        "cus-\ntomers", "slices", "score-\ncards", "scores", "planted\nfaults", "red\nslices", "re-\npaired", "runs"
    )  # fmt: skip
    table = _table("cluster", right=(*numbered, "green\nafter"))
    totals = [0] * len(numbered)
    for name, one in story.items():
        days = [day for verification in found.values() for day in verification.days if day.cluster == name]
        numbers = (
            len(fleet.clusters[name].customers),
            len(days),
            sum(day.rows[SCORECARD.name][0] for day in days),
            sum(day.rows[SCORE.name][0] for day in days),
            one.planted,
            one.red_slices,
            len(one.repaired),
            one.runs,
        )
        totals = [before + number for before, number in zip(totals, numbers, strict=True)]
        equal = all(day.agrees for day in days) and not any(line.startswith(f"{name}:") for line in differences)
        verdict = f"[green]{one.seconds or 0:.0f} s[/green]" if equal else "[red]red[/red]"
        table.add_row(name, *(f"{number:,}" for number in numbers), verdict)
    table.add_section()
    table.add_row(
        "all", *(f"{number:,}" for number in totals), f"{max(one.seconds or 0 for one in story.values()):.0f} s"
    )
    console.print(table)
    console.print(
        "a slice is a customer's day of one kind; repaired: covered by a run that a sensor asked for; green after: from the sensors' start",
        highlight=False,
    )
    by_itself = sum(one.red_slices - len(one.repaired) for one in story.values())
    if by_itself:
        console.print(
            f"{by_itself} red slices were equal again before a sensor looked: a merge folds a doubled row away",
            highlight=False,
        )
    for verification in found.values():
        console.print(verification.sentence, style="green" if verification.agrees else "red")
    if differences:
        console.print(f"The oracle finds {len(differences):,} differences", style="red")
        for line in differences[:10]:
            console.print(line, markup=False, soft_wrap=True)
    else:
        console.print(
            "The oracle finds no difference in any cluster, in any kind, with FINAL or without.", style="green"
        )
