"""The demo: from nothing to a proven repair, told step by step.

What lives here: the story and its data. What does not: anything a production command does; it calls those.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from rich.console import Console
from rich.rule import Rule

from reindex_assets.cli.render.tables import print_reports, print_verification
from reindex_assets.comparison.verification import verify
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.local_environment import use_local_environment
from reindex_assets.config.modes import Mode
from reindex_assets.errors import ReindexError
from reindex_assets.local.data.made_data import DEFAULT_CUSTOMERS, DataPlan, SourceSummary, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.stack.connections import connect_shards, connect_source
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import PROCESS

if TYPE_CHECKING:
    from reindex_assets.reindex.run_report import RunReport


class DemoError(ReindexError):
    """The demo did not come out as it must: the product is broken, or something else writes to the local stack."""


def run_demo(console: Console, scale: float, days: int, shards: int) -> None:
    """Stack up, data made, ClickHouse loaded, drift planted, verify red, reindex, verify green.

    Raises:
        DemoError: a step showed something else than it must.
    """
    from reindex_assets.cli.reindex import reindex_range

    last = datetime.now(UTC).date() - timedelta(days=1)
    first = last - timedelta(days=days - 1)

    console.print(Rule("1. A real Postgres and real ClickHouse shards, on loopback"))
    stack = LocalStack(shards=shards)
    # A demo tells its story from the beginning.
    stack.reset()
    fleet = stack.up(DEFAULT_CUSTOMERS, first)
    use_local_environment(stack.root)
    for service in stack.status():
        console.print(f"{service.name}: {service.state}, 127.0.0.1:{service.port}")

    console.print(Rule("2. Scorecards, as the product's Postgres has them"))
    summary = _make_data(fleet, first, days, scale)
    console.print(
        f"{summary.process_scorecards:,} process scorecards with {summary.process_scores:,} scores, of "
        f"{len(DEFAULT_CUSTOMERS)} customers on {days} days; beside them {summary.conversation_scorecards:,} scorecards of "
        f"conversations and {summary.appeal_scorecards:,} appeals, which do not belong here"
    )

    console.print(Rule("3. The first load of the empty shards"))
    _reindexed(console, reindex_range(fleet, [], first, last, Mode.PROCESS, {}, console))

    console.print(Rule("4. Drift: what goes wrong in ClickHouse, planted"))
    cluster = fleet.clusters[CLUSTER]
    customers = list(DEFAULT_CUSTOMERS)
    with contextlib.closing(connect_source(cluster)) as source, contextlib.ExitStack() as stack_of_clients:
        clients = [stack_of_clients.enter_context(client) for client in connect_shards(cluster)]
        for number, drift in enumerate(Drift):
            day = first + timedelta(days=number % days)
            customer = customers[number % len(customers)]
            for planted in plant(drift, clients, customer, day, count=2, seed=number, source=source, kind=PROCESS):
                console.print(
                    f"{planted.drift}: {planted.customer} {planted.day}, shard {planted.shard}: {planted.detail}",
                    soft_wrap=True,
                )

    console.print(Rule("5. reindex-assets verify: red"))
    found = verify(fleet, [], first, last, kind=PROCESS, settle_seconds=0)
    print_verification(console, found)
    if found.agrees:
        raise DemoError("drift was planted and verify did not see it")

    console.print(Rule("6. reindex-assets reindex: only the difference is written"))
    _reindexed(console, reindex_range(fleet, [], first, last, Mode.PROCESS, {}, console))

    console.print(Rule("7. reindex-assets verify: green"))
    found = verify(fleet, [], first, last, kind=PROCESS)
    print_verification(console, found)
    if not found.agrees:
        raise DemoError("the reindex did not make both sides equal")

    # As the reader can type it: after `make demo` the command is in the virtual environment only.
    command = "reindex-assets" if shutil.which("reindex-assets") else sys.argv[0]
    console.print(Rule("What to look at next"))
    for line, what in (
        ("make dev", "the Dagster UI on these data, http://127.0.0.1:3000: Lineage, then shard_writes"),
        (f"{command} reindex --from {first} --to {last} --dry-run", "what a run would write: nothing"),
        (f"{command} verify --from {first} --to {last} --json", "the comparison, for a program"),
        (f"{command} local status", "the servers; 'local down' stops them, 'local reset' removes them"),
    ):
        console.print(f"[bold]{line}[/bold]\n    {what}", soft_wrap=True, highlight=False)


def ensure_data(console: Console, scale: float = 0.02, days: int = 14) -> None:
    """The local stack up, with made data if its Postgres is empty."""
    stack = LocalStack()
    last = datetime.now(UTC).date() - timedelta(days=1)
    first = last - timedelta(days=days - 1)
    new = not stack.fleet_path.exists()
    fleet = stack.up(DEFAULT_CUSTOMERS, first) if new else stack.up()
    use_local_environment(stack.root)
    if CLUSTER not in fleet.clusters:
        # A fleet has its data from `demo --fleet`.
        return
    with contextlib.closing(connect_source(fleet.clusters[CLUSTER])) as source, source.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM director.scorecards)")
        row = cursor.fetchone()
    if row is None or not row[0]:
        summary = _make_data(fleet, first, days, scale)
        console.print(f"made {summary.process_scorecards:,} process scorecards from {first} to {last}")


def _make_data(fleet: Fleet, first: date, days: int, scale: float) -> SourceSummary:
    with contextlib.closing(connect_source(fleet.clusters[CLUSTER])) as source:
        return make_source(source, DataPlan(DEFAULT_CUSTOMERS, first, days, scale))


def _reindexed(console: Console, reports: Sequence[RunReport]) -> None:
    print_reports(console, reports, dry_run=False)
    if not all(report.success and not report.red_checks for report in reports):
        raise DemoError("a reindex of the demo failed or left a red check")
