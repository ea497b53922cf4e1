"""What `reshard` prints: its plan, its outcome, and both as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from reindex_assets.cli.render.tables import print_errors, print_line
from reindex_assets.cli.render.terminal import print_table
from reindex_assets.model import CHILD, PARENT
from reindex_assets.reshard.survey import LeftBehind
from reindex_assets.reshard.work import ReshardOutcome, ReshardPlan
from reindex_assets.selection.days import range_text

#: How many differing partitions are named.
_NAMED = 20


def print_plan(console: Console, plan: ReshardPlan) -> None:
    """What moves, per customer and per shard, and what no run can move."""
    reshard = plan.reshard
    if not reshard.is_needed:
        print_line(
            console,
            f"Cluster {reshard.cluster_name}: according to the shards' own records, its rows are already on the {reshard.to_shards} "
            "shards of the fleet file. Nothing to reshard.",
        )
    else:
        begun = " (under way)" if reshard.is_begun else ""
        order = ", in another order or on other machines" if reshard.from_shards == reshard.to_shards else ""
        days = range_text(plan.first_day, plan.last_day)
        print_line(
            console,
            f"Cluster {reshard.cluster_name}: from {reshard.from_shards} to {reshard.to_shards} shards{order}{begun}; {days}",
        )
        customers = Table("customer", title="Rows to move", title_justify="left")
        for heading in ("partitions", "scorecards\nstay", "scorecards\nmove", "scores\nstay", "scores\nmove"):
            customers.add_column(heading, justify="right")
        for moves in plan.chosen.by_customer():
            customers.add_row(
                moves.customer,
                f"{moves.partitions:,}",
                *(f"{rows.get(name, 0):,}" for name in (PARENT, CHILD) for rows in (moves.stay, moves.move)),
            )
        print_table(console, customers)
        shards = Table("shard", title="Scorecards on each shard", title_justify="left")
        for heading in ("number before", "now", "leave", "arrive", "then"):
            shards.add_column(heading, justify="right")
        for index, (label, record) in enumerate(zip(reshard.labels, reshard.records, strict=True)):
            now, leave, arrive = plan.chosen.of_shard(index)
            before = "new" if record.shard < 0 else str(record.shard)
            shards.add_row(label, before, *(f"{rows:,}" for rows in (now, leave, arrive, now - leave + arrive)))
        print_table(console, shards)
    print_left_behind(console, plan.left_behind)


def print_left_behind(console: Console, left_behind: Sequence[LeftBehind]) -> None:
    """Rows on wrong shards that no run reaches."""
    if not left_behind:
        return
    table = Table("customer", "why", "shard", title="On a wrong shard, where no run reaches them", title_justify="left")
    for heading in ("days", "scorecards", "scores"):
        table.add_column(heading, justify="right")
    for group in left_behind:
        rows = (f"{group.rows.get(name, 0):,}" for name in (PARENT, CHILD))
        table.add_row(group.customer, group.reason, group.shard, range_text(group.first_day, group.last_day), *rows)
    print_table(console, table)


def print_outcome(console: Console, plan: ReshardPlan, outcome: ReshardOutcome) -> None:
    """What was done, what is left, and what to do next."""
    name, reshard = plan.reshard.cluster_name, plan.reshard
    moved = sum(report.rows["rows_written"] for report in outcome.reports)
    print_line(console, f"{len(outcome.reports)} runs wrote {moved:,} rows.")
    print_errors(console, outcome.failed)
    if outcome.is_finished:
        print_line(
            console,
            f"[green]Done:[/green] every partition of cluster {name} is equal to Postgres on its {reshard.to_shards} shards, and the "
            "shards' records say so. Runs and repairs continue.",
        )
    else:
        print_line(
            console,
            f"[yellow]Not finished:[/yellow] until it is, nothing else is written to cluster {name}. Run this command again to continue.",
        )
    if outcome.rows_left:
        print_line(console, f"{outcome.rows_left:,} rows are left to move.")
    for kind, slices in outcome.different.items():
        named = ", ".join(map(str, slices[:_NAMED]))
        more = f" and {len(slices) - _NAMED} more" if len(slices) > _NAMED else ""
        print_line(
            console,
            f"{len(slices)} {kind} partitions differ from Postgres although they were just reindexed: {named}{more}. Does something else "
            "write to them? 'reindex-assets verify' shows the rows.",
        )
    if outcome.left_behind and not outcome.is_finished and not outcome.rows_left:
        print_left_behind(console, outcome.left_behind)
        print_line(
            console,
            "Add their customers to the fleet file or set an earlier first_day, then run this again; or leave them there with "
            "--leave-behind.",
        )
    print_retiring(console, outcome.retiring, is_finished=outcome.is_finished)


def print_retiring(console: Console, retiring: Mapping[str, Mapping[str, int]], *, is_finished: bool = True) -> None:
    for label, rows in retiring.items():
        held = ", ".join(f"{number:,} rows of {table}" for table, number in rows.items() if number)
        if held:
            print_line(console, f"{label} still holds {held}.")
        elif is_finished:
            print_line(console, f"{label} is empty: remove it from the fleet file.")


def plan_json(plan: ReshardPlan) -> dict[str, Any]:
    reshard = plan.reshard
    return {
        "cluster": reshard.cluster_name,
        "from_shards": reshard.from_shards,
        "to_shards": reshard.to_shards,
        "needed": reshard.is_needed,
        "begun": reshard.is_begun,
        "first_day": plan.first_day,
        "last_day": plan.last_day,
        "rows_to_move": plan.chosen.rows_to_move,
        "customers": [vars(moves) for moves in plan.chosen.by_customer()],
        "shards": [
            {
                "shard": label,
                "before": record.shard,
                **dict(zip(("now", "leave", "arrive"), plan.chosen.of_shard(n), strict=True)),
            }
            for n, (label, record) in enumerate(zip(reshard.labels, reshard.records, strict=True))
        ],
        "left_behind": [vars(group) for group in plan.left_behind],
    }


def outcome_json(outcome: ReshardOutcome) -> dict[str, Any]:
    return {
        "finished": outcome.is_finished,
        "runs": [
            {"run_id": report.run_id, "success": report.success, "error": report.error, "rows": dict(report.rows)}
            for report in outcome.reports
        ],
        "rows_left": outcome.rows_left,
        "different": {kind: [item.partition_key for item in slices] for kind, slices in outcome.different.items()},
        "left_behind": [vars(group) for group in outcome.left_behind],
        "retiring": {label: dict(rows) for label, rows in outcome.retiring.items()},
    }
