"""The demonstration of a fleet: many clusters, every kind, drift everywhere, and the repair sensors that bring all of it to green.

What lives here: its steps, and what they print. What does not: the plan of the fleet (local/demo/fleet_plan.py), the faults
(local/demo/fleet_faults.py), the repair (local/demo/fleet_healing.py), and the two comparisons (comparison/verification.py, and
local/oracle/compare.py, which shares no code with it).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from reindex_assets.cli.render.tables import print_line, print_reports
from reindex_assets.comparison.comparison import SETTLE_SECONDS
from reindex_assets.comparison.verification import Verification, verify
from reindex_assets.config.default_tables import SCORE, SCORECARD, TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.local_environment import DEFAULT_ROOT, use_local_environment
from reindex_assets.config.modes import Mode
from reindex_assets.local.data.made_conversations import hold_conversations
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.demo.demo import UI_PORT, DemoError, ended_days, print_next_steps
from reindex_assets.local.demo.fleet_faults import plant_everywhere
from reindex_assets.local.demo.fleet_healing import ClusterStory, heal
from reindex_assets.local.demo.fleet_plan import FleetPlan, weights
from reindex_assets.local.drift.plant import Drift
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack.connections import open_engines
from reindex_assets.local.stack.files_of_stack import Layout
from reindex_assets.local.stack.processes import LOOPBACK
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import KINDS, Kind, Slice, days_between

if TYPE_CHECKING:
    from reindex_assets.reindex.run_report import RunReport


def run_fleet_demo(
    console: Console, plan: FleetPlan, days: int, scale: float, root: Path = DEFAULT_ROOT, port: int = UI_PORT
) -> None:
    """Starts a fleet, makes data, loads both kinds, plants drift everywhere, and shows verify red, the repair, and verify green.

    Raises:
        DemoError: a step had the wrong outcome.
        NotHealedError: the repair took too long.
    """
    from reindex_assets.cli.reindex import reindex_range

    first, last = ended_days(days)

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
    _print_load(console, reindex_range(fleet, [], first, last, Mode.ALL, {}, console), time.monotonic() - begun)

    console.print(Rule("4. Drift in every cluster, at every customer, in every kind"))
    stories = {name: ClusterStory() for name in fleet.clusters}
    _plant(console, fleet, days_between(first, last), stories)

    console.print(Rule("5. reindex-assets verify: red everywhere"))
    for name, kind, slices in _red(_verified(fleet, first, last, settle_seconds=0)):
        stories[name].red[kind] = slices
    _print_red(console, fleet, stories, days)

    console.print(Rule("6. The repair: Dagster's daemon with every repair sensor switched on"))
    heal(console, stack, fleet, stories, port)

    console.print(Rule("7. Green: the exact comparison, and an oracle that shares no code with it"))
    verifications = _verified(fleet, first, last)
    differences = _differences(fleet)
    _print_end(console, fleet, stories, verifications, differences)
    if any(slices for _, _, slices in _red(verifications)) or differences:
        raise DemoError("the repair left differences: " + "; ".join(differences[:5] or ["see the comparison above"]))
    print_next_steps(
        console,
        f"the Dagster UI on this fleet, http://{LOOPBACK}:{UI_PORT}; its repair sensors are on",
        {f"verify --from {first} --to {last} --kind conversation": "the comparison, per customer and day"},
    )


def make_fleet_data(fleet: Fleet, first: date, days: int, scale: float) -> int:
    """Fills every cluster's empty Postgres with scorecards and its shards with conversations; returns the number of scorecards."""

    def make(name: str) -> int:
        cluster = fleet.clusters[name]
        customers = {name: customer.profiles or ("main",) for name, customer in cluster.customers.items()}
        plan = DataPlan(customers, first, days, scale, conversation_share=1.0, weights=weights(customers))
        with open_engines(cluster) as (source, clients):
            summary = make_source(source, plan)
            hold_conversations(source, clients)
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
    servers = stack.status()
    memory = sum(server.resident_bytes or 0 for server in servers) / 2**20
    addresses = ", ".join(f"{server.name} {LOOPBACK}:{server.port}" for server in servers)
    print_line(console, f"{addresses}; {memory:,.0f} MiB")


def _print_load(console: Console, reports: list[RunReport], seconds: float) -> None:
    bad = [report for report in reports if not report.success or report.red_checks]
    if bad:
        print_reports(console, bad, dry_run=False)
        raise DemoError("the first load failed or left a red check")
    rows = sum((Counter(report.rows) for report in reports), Counter[str]())
    print_line(
        console,
        f"{len(reports)} runs, one for each cluster and kind: {rows['rows_read']:,} rows read, {rows['rows_written']:,} written, "
        f"every check green, {seconds:.0f} s",
    )


def _plant(console: Console, fleet: Fleet, days: list[date], stories: Mapping[str, ClusterStory]) -> None:
    begun = time.monotonic()
    try:
        faults = plant_everywhere(fleet, days)
    except LookupError as error:
        raise DemoError(f"too few scorecards to spoil ({error}): choose a larger --scale") from error
    table = _table(
        "planted faults",
        right=[drift.value.replace("_", "\n").replace("duplicated", "dupli-\ncated") for drift in Drift],
    )
    for name, story in stories.items():
        planted = Counter(fault.drift for dataset in fleet.datasets(name) for fault in faults[dataset])
        story.planted = planted.total()
        table.add_row(name, *(str(planted[drift]) if planted[drift] else "-" for drift in Drift))
    console.print(table)
    alone = [name for name, cluster in fleet.clusters.items() if len(cluster.clickhouse.shards) == 1]
    if alone:
        print_line(console, f"{', '.join(alone)} has one shard, which can't be a wrong one")
    faults_planted = sum(story.planted for story in stories.values())
    print_line(console, f"{faults_planted} faults, {time.monotonic() - begun:.0f} s")


def _verified(
    fleet: Fleet, first: date, last: date, settle_seconds: float = SETTLE_SECONDS
) -> dict[Kind, Verification]:
    return {kind: verify(fleet, [], first, last, settle_seconds=settle_seconds, kind=kind) for kind in KINDS}


def _red(verifications: Mapping[Kind, Verification]) -> list[tuple[str, Kind, frozenset[Slice]]]:
    """The slices that differ, for each cluster and kind."""
    return [
        (cluster.name, kind, frozenset(day.slice for day in verification.different if day.cluster == cluster.name))
        for kind, verification in verifications.items()
        for cluster in verification.clusters
    ]


def _print_red(console: Console, fleet: Fleet, stories: Mapping[str, ClusterStory], days: int) -> None:
    table = _table("cluster", right=("customer-days", *(f"{kind.name}: red" for kind in KINDS), "verdict"))
    for name, story in stories.items():
        red = [len(story.red[kind]) for kind in KINDS]
        verdict = "[red]red[/red]" if all(red) else "[green]not seen[/green]"
        table.add_row(name, str(len(fleet.clusters[name].customers) * days), *map(str, red), verdict)
    console.print(table)
    unseen = [f"{name} {kind.name}" for name, story in stories.items() for kind in KINDS if not story.red[kind]]
    if unseen:
        raise DemoError(f"drift was planted and verify did not see it: {', '.join(unseen)}")


def _table(first: str, right: Sequence[str]) -> Table:
    """A table that fits a terminal of 80 columns."""
    table = Table(box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column(first, no_wrap=True)
    for column in right:
        table.add_column(column, justify="right")
    return table


def _differences(fleet: Fleet) -> list[str]:
    """The oracle's differences in the whole fleet: in every row of every cluster, of every kind, with FINAL and without."""
    differences = []
    for name, cluster in fleet.clusters.items():
        with open_engines(cluster) as (source, clients):
            for client in clients:
                for table in TABLES:
                    # A merge removes superseded and deleted rows at some time; this does it now.
                    client.command(f"OPTIMIZE TABLE {table.name} FINAL")
            for kind in KINDS:
                differences += [f"{name}: {line}" for line in oracle.differences(source, clients, kind=kind.name)]
    return differences


def _print_end(
    console: Console,
    fleet: Fleet,
    stories: Mapping[str, ClusterStory],
    verifications: Mapping[Kind, Verification],
    differences: list[str],
) -> None:
    titles = (
        "cus-\ntomers", "slices", "score-\ncards", "scores", "planted\nfaults", "red\nslices", "re-\npaired", "runs"
    )  # fmt: skip
    table = _table("cluster", right=(*titles, "green\nafter"))
    rows = []
    for name, story in stories.items():
        days = [day for verification in verifications.values() for day in verification.days if day.cluster == name]
        numbers = (
            len(fleet.clusters[name].customers),
            len(days),
            sum(day.rows[SCORECARD.name][0] for day in days),
            sum(day.rows[SCORE.name][0] for day in days),
            story.planted,
            story.red_slices,
            len(story.repaired),
            story.runs,
        )
        rows.append(numbers)
        equal = all(day.agrees for day in days) and not any(line.startswith(f"{name}:") for line in differences)
        verdict = f"[green]{story.seconds or 0:.0f} s[/green]" if equal else "[red]red[/red]"
        table.add_row(name, *(f"{number:,}" for number in numbers), verdict)
    table.add_section()
    longest = max(story.seconds or 0 for story in stories.values())
    table.add_row("all", *(f"{sum(column):,}" for column in zip(*rows, strict=True)), f"{longest:.0f} s")
    console.print(table)
    print_line(
        console,
        "a slice is a customer's day of one kind; repaired: a run of a sensor has covered it; green after: since the start of the sensors",
    )
    by_itself = sum(story.red_slices - len(story.repaired) for story in stories.values())
    if by_itself:
        print_line(
            console,
            f"{by_itself} red slices were equal again before a sensor saw them: a merge removes a duplicated row",
        )
    for verification in verifications.values():
        console.print(verification.sentence, style="green" if verification.agrees else "red")
    if differences:
        console.print(f"The oracle finds {len(differences):,} differences", style="red")
        for line in differences[:10]:
            console.print(line, markup=False, soft_wrap=True)
    else:
        console.print("The oracle finds no difference in any cluster or kind, with FINAL or without.", style="green")
