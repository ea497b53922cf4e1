"""The demonstration of one cluster, from an empty stack to a proven repair.

What lives here: its steps and its data. What does not: the work of the production commands, which it calls.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Mapping, Sequence
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
from reindex_assets.local.stack.connections import connect_source, open_engines
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.processes import LOOPBACK
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import PROCESS

if TYPE_CHECKING:
    from reindex_assets.reindex.run_report import RunReport

#: Without options.
SCALE, DAYS = 0.02, 14
UI_PORT = 3000


class DemoError(ReindexError):
    """A step of the demonstration has the wrong outcome: the product is broken, or something else writes to the local stack."""


def run_demo(console: Console, scale: float, days: int, shards: int) -> None:
    """Starts a stack, makes data, loads ClickHouse, plants drift, and shows verify red, the reindex, and verify green.

    Raises:
        DemoError: a step had the wrong outcome.
    """
    from reindex_assets.cli.reindex import reindex_range

    first, last = ended_days(days)

    console.print(Rule("1. A real Postgres and real ClickHouse shards, on loopback"))
    stack = LocalStack(shards=shards)
    stack.reset()
    fleet = stack.up(DEFAULT_CUSTOMERS, first)
    use_local_environment(stack.root)
    for server in stack.status():
        console.print(f"{server.name}: {server.state}, {LOOPBACK}:{server.port}")

    console.print(Rule("2. Scorecards, as the product's Postgres has them"))
    summary = _make_data(fleet, first, days, scale)
    console.print(
        f"{summary.process_scorecards:,} process scorecards with {summary.process_scores:,} scores, of "
        f"{len(DEFAULT_CUSTOMERS)} customers on {days} days; also {summary.conversation_scorecards:,} scorecards of "
        f"conversations, which this demonstration leaves out, and {summary.appeal_scorecards:,} appeals, which never leave Postgres"
    )

    console.print(Rule("3. The first load of the empty shards"))
    _reindexed(console, reindex_range(fleet, [], first, last, Mode.PROCESS, {}, console))

    console.print(Rule("4. Drift: wrong rows are planted in ClickHouse"))
    cluster = fleet.clusters[CLUSTER]
    customers = list(DEFAULT_CUSTOMERS)
    with open_engines(cluster) as (source, clients):
        for number, drift in enumerate(Drift):
            day = first + timedelta(days=number % days)
            customer = customers[number % len(customers)]
            for planted in plant(drift, clients, customer, day, count=2, seed=number, source=source, kind=PROCESS):
                console.print(
                    f"{planted.drift}: {planted.customer} {planted.day}, shard {planted.shard}: {planted.detail}",
                    soft_wrap=True,
                )

    console.print(Rule("5. reindex-assets verify: red"))
    verification = verify(fleet, [], first, last, kind=PROCESS, settle_seconds=0)
    print_verification(console, verification)
    if verification.agrees:
        raise DemoError("drift was planted and verify did not see it")

    console.print(Rule("6. reindex-assets reindex: only the difference is written"))
    _reindexed(console, reindex_range(fleet, [], first, last, Mode.PROCESS, {}, console))

    console.print(Rule("7. reindex-assets verify: green"))
    verification = verify(fleet, [], first, last, kind=PROCESS)
    print_verification(console, verification)
    if not verification.agrees:
        raise DemoError("the reindex did not make both sides equal")
    print_next_steps(
        console,
        f"the Dagster UI on these data, http://{LOOPBACK}:{UI_PORT}: Lineage, then shard_writes",
        {
            f"local spoil --customer {customers[0]} --day {last}": "wrong rows again, as often as you like",
            f"reindex --from {first} --to {last} --dry-run": "what a run would write",
            f"verify --from {first} --to {last} --json": "the comparison, for a program",
        },
    )


def ended_days(days: int) -> tuple[date, date]:
    """The first and the last of some days up to yesterday."""
    last = datetime.now(UTC).date() - timedelta(days=1)
    return last - timedelta(days=days - 1), last


def print_next_steps(console: Console, user_interface: str, commands: Mapping[str, str]) -> None:
    """Says what to look at next: the UI, and commands of `reindex-assets` with what each shows."""
    # The command as the reader can type it: after `make demo` it is in the virtual environment only.
    program = "reindex-assets" if shutil.which("reindex-assets") else sys.argv[0]
    console.print(Rule("What to look at next"))
    for line, what in (
        ("make dev", user_interface),
        *((f"{program} {command}", what) for command, what in commands.items()),
        (f"{program} local status", "the servers; 'local down' stops them, 'local reset' removes them"),
    ):
        console.print(f"[bold]{line}[/bold]\n    {what}", soft_wrap=True, highlight=False)


def ensure_data(console: Console) -> None:
    """Starts the local stack, and makes data if its Postgres is empty."""
    stack = LocalStack()
    first, last = ended_days(DAYS)
    new = not stack.fleet_path.exists()
    fleet = stack.up(DEFAULT_CUSTOMERS, first) if new else stack.up()
    use_local_environment(stack.root)
    if CLUSTER not in fleet.clusters:
        return  # a fleet has its data from `demo --fleet`
    with contextlib.closing(connect_source(fleet.clusters[CLUSTER])) as source, source.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM director.scorecards)")
        [(has_data,)] = cursor.fetchall()
    if not has_data:
        summary = _make_data(fleet, first, DAYS, SCALE)
        console.print(f"made {summary.process_scorecards:,} process scorecards from {first} to {last}")


def _make_data(fleet: Fleet, first: date, days: int, scale: float) -> SourceSummary:
    with contextlib.closing(connect_source(fleet.clusters[CLUSTER])) as source:
        return make_source(source, DataPlan(DEFAULT_CUSTOMERS, first, days, scale))


def _reindexed(console: Console, reports: Sequence[RunReport]) -> None:
    print_reports(console, reports, dry_run=False)
    if not all(report.success and not report.red_checks for report in reports):
        raise DemoError("the reindex failed or left a red check")
