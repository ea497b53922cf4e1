"""What `reshard` prints: its plan, its outcome, and both as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from rich.console import Console
from rich.table import Table

from reindex_assets.model import SCORE, SCORECARD
from reindex_assets.reshard.survey import LeftBehind
from reindex_assets.reshard.work import ReshardOutcome, ReshardPlan
from reindex_assets.selection.days import range_text

#: Partitions that differ which are named.
_NAMED = 20


def print_plan(console: Console, plan: ReshardPlan) -> None:
    """What moves, per customer and per shard, and what no run can move."""
    reshard = plan.reshard
    if not reshard.is_needed:
        console.print(
            f"Cluster {reshard.cluster_name}: the rows are placed on the {reshard.to_shards} shards of the fleet file, by the shards' own "
            "records. Nothing to reshard."
        )
    else:
        begun = " (under way)" if reshard.is_begun else ""
        order = ", in another order or on other machines" if reshard.from_shards == reshard.to_shards else ""
        days = range_text(plan.first_day, plan.last_day)
        console.print(
            f"Cluster {reshard.cluster_name}: from {reshard.from_shards} to {reshard.to_shards} shards{order}{begun}; {days}",
            highlight=False,
        )
        customers = Table("customer", title="What moves, in rows; arriving ones are scorecards", title_justify="left")
        for heading in ("partitions", "scorecards stay", "move", "scores stay", "move"):
            customers.add_column(heading, justify="right")
        for shard in range(reshard.to_shards):
            customers.add_column(f"to {shard}", justify="right")
        for one in plan.chosen.by_customer():
            customers.add_row(
                one.customer,
                f"{one.partitions:,}",
                *(f"{rows.get(table.name, 0):,}" for table in (SCORECARD, SCORE) for rows in (one.stay, one.move)),
                *(f"{one.arrive.get(shard, 0):,}" for shard in range(reshard.to_shards)),
            )
        console.print(customers)
        shards = Table("shard", title="Scorecards on each shard", title_justify="left")
        for heading in ("number before", "now", "leave", "arrive", "then"):
            shards.add_column(heading, justify="right")
        for index, (label, record) in enumerate(zip(reshard.labels, reshard.records, strict=True)):
            now, leave, arrive = plan.chosen.of_shard(index)
            before = "new" if record.shard < 0 else str(record.shard)
            shards.add_row(label, before, *(f"{rows:,}" for rows in (now, leave, arrive, now - leave + arrive)))
        console.print(shards)
    print_left_behind(console, plan.left_behind)


def print_left_behind(console: Console, found: list[LeftBehind] | Any) -> None:
    """Rows on wrong shards that no run reaches."""
    if not found:
        return
    table = Table(
        "customer", "why", "shard", title="On a wrong shard, and not to be moved by a run", title_justify="left"
    )
    for heading in ("days", "scorecards", "scores"):
        table.add_column(heading, justify="right")
    for one in found:
        days = range_text(one.first_day, one.last_day)
        rows = (f"{one.rows.get(each.name, 0):,}" for each in (SCORECARD, SCORE))
        table.add_row(one.customer, one.reason, one.shard, days, *rows)
    console.print(table)


def print_outcome(console: Console, plan: ReshardPlan, outcome: ReshardOutcome) -> None:
    """What was done, what is left, and what to do next."""
    name, reshard = plan.reshard.cluster_name, plan.reshard
    moved = sum(report.rows["rows_written"] for report in outcome.reports)
    console.print(f"{len(outcome.reports)} runs wrote {moved:,} rows.", highlight=False)
    for report in outcome.failed:
        console.print(f"[red]run {report.run_id[:8]} failed:[/red] {report.error}", soft_wrap=True, highlight=False)
    if outcome.is_finished:
        console.print(
            f"[green]Done:[/green] every partition of cluster {name} is equal to Postgres on its {reshard.to_shards} shards, and the "
            "shards' records say so. Runs and repairs go on.",
            soft_wrap=True,
            highlight=False,
        )
    else:
        console.print(
            f"[yellow]Not ended:[/yellow] until it is, nothing else is written to cluster {name}. Run this command again to go on.",
            soft_wrap=True,
            highlight=False,
        )
    if outcome.rows_left:
        console.print(f"{outcome.rows_left:,} rows are still to be moved.", highlight=False)
    for kind, slices in outcome.different.items():
        named = ", ".join(map(str, slices[:_NAMED])) + (
            f" and {len(slices) - _NAMED} more" if len(slices) > _NAMED else ""
        )
        console.print(
            f"{len(slices)} {kind} partitions differ from Postgres although they were reindexed just now: {named}. Does somebody else "
            "write there? 'reindex-assets verify' shows the rows.",
            soft_wrap=True,
            highlight=False,
        )
    if outcome.left_behind and not outcome.is_finished and not outcome.rows_left:
        print_left_behind(console, outcome.left_behind)
        console.print(
            "Add their customers to the fleet file, or set first_day earlier, and run again; or leave them there by --leave-behind.",
            soft_wrap=True,
        )
    print_retiring(console, outcome.retiring, is_finished=outcome.is_finished)


def print_retiring(console: Console, retiring: Mapping[str, Mapping[str, int]], *, is_finished: bool = True) -> None:
    for label, rows in retiring.items():
        held = ", ".join(f"{number:,} rows of {table}" for table, number in rows.items() if number)
        if held:
            console.print(f"{label} still holds {held}.", highlight=False, soft_wrap=True)
        elif is_finished:
            console.print(
                f"{label} holds nothing more: remove it from the fleet file.", highlight=False, soft_wrap=True
            )


def plan_json(plan: ReshardPlan) -> dict[str, Any]:
    """The plan as JSON."""
    reshard = plan.reshard
    return {
        "cluster": reshard.cluster_name,
        "from_shards": reshard.from_shards,
        "to_shards": reshard.to_shards,
        "needed": reshard.is_needed,
        "begun": reshard.is_begun,
        "first_day": _text(plan.first_day),
        "last_day": _text(plan.last_day),
        "rows_to_move": plan.chosen.rows_to_move,
        "customers": [
            {
                "customer": one.customer,
                "partitions": one.partitions,
                "stay": dict(one.stay),
                "move": dict(one.move),
                "arrive": {str(shard): rows for shard, rows in sorted(one.arrive.items())},
            }
            for one in plan.chosen.by_customer()
        ],
        "shards": [
            {
                "shard": label,
                "before": record.shard,
                **dict(zip(("now", "leave", "arrive"), plan.chosen.of_shard(n), strict=True)),
            }
            for n, (label, record) in enumerate(zip(reshard.labels, reshard.records, strict=True))
        ],
        "left_behind": [_left_behind_json(one) for one in plan.left_behind],
    }


def outcome_json(outcome: ReshardOutcome) -> dict[str, Any]:
    """The outcome as JSON."""
    return {
        "finished": outcome.is_finished,
        "runs": [
            {"run_id": report.run_id, "success": report.success, "error": report.error, "rows": dict(report.rows)}
            for report in outcome.reports
        ],
        "rows_left": outcome.rows_left,
        "different": {kind: [item.partition_key for item in slices] for kind, slices in outcome.different.items()},
        "left_behind": [_left_behind_json(one) for one in outcome.left_behind],
        "retiring": {label: dict(rows) for label, rows in outcome.retiring.items()},
    }


def _left_behind_json(one: LeftBehind) -> dict[str, Any]:
    return {
        "customer": one.customer,
        "reason": one.reason,
        "shard": one.shard,
        "rows": dict(one.rows),
        "first_day": _text(one.first_day),
        "last_day": _text(one.last_day),
    }


def _text(day: date) -> str:
    return day.isoformat()
