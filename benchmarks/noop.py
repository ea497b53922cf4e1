"""The replay again: when nothing has changed, and when 0.1 % of the rows have, all of them on 5 % of the days.

In each round: the full run onto empty shards, the same call again, 0.1 % of all scorecards with all their scores edited in
Postgres, the same call a third time. The shares are taken within a round, between the runs as the command tells their time: the
start of Python and Dagster, which is the same for all three, would hide what a re-run costs in a backfill or a schedule; the
calls' own times are given beside them. That a re-run wrote nothing, or just the rows that were edited, is demanded of it. Does
not show: changes that are spread over all days.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.data import change_rows
from benchmarks.figures import Figure, Result, WrongRunError
from benchmarks.product import Reindexed, reindex
from benchmarks.proof import Rows, prove, sizes, total
from reindex_assets.model import SCORECARD

NAME = "noop"
SHARE_OF_ROWS = 0.001
SHARE_OF_DAYS = 0.05


def run(bench: Bench) -> Iterator[Result]:
    target, window = bench.replay, bench.window()
    full: list[Reindexed] = []
    unchanged: list[Reindexed] = []
    changed: list[Reindexed] = []
    rows: Rows = Rows()
    edited = ""
    for number in range(bench.size.rounds):
        bench.say(f"round {number + 1} of {bench.size.rounds}: the full run")
        target.reset()
        full.append(reindex(target, window))
        rows = prove(target, window, "the full run")
        bench.say(f"round {number + 1} of {bench.size.rounds}: again, nothing changed")
        unchanged.append(reindex(target, window))
        _assert_wrote(unchanged[-1], 0, "the run with nothing changed")
        prove(target, window, "the run with nothing changed")
        scorecards = max(1, round(total(rows, SCORECARD.name) * SHARE_OF_ROWS))
        with target.source() as source:
            edits = change_rows(source, window, scorecards, SHARE_OF_DAYS, round_number=number + 1)
        edited = f"{edits.scorecards:,} scorecards and {edits.scores:,} scores edited on {edits.days} of {len(window.days)} days"
        bench.say(f"round {number + 1} of {bench.size.rounds}: again, {edited}")
        changed.append(reindex(target, window))
        _assert_wrote(changed[-1], edits.rows, "the run after the edits")
        prove(target, window, "the run after the edits")
    data = sizes(window, rows, target.shard_count)
    for name, runs, of in (
        ("full", full, "the full run onto empty shards"),
        ("unchanged", unchanged, "the same again, nothing changed"),
        ("changed", changed, f"the same again, {edited}"),
    ):
        yield Figure.median(f"{NAME}.{name}.run_seconds", [one.run_seconds for one in runs], "s", of, data)
        walls = [one.measured.wall_seconds for one in runs]
        yield Figure.median(f"{NAME}.{name}.cli_seconds", walls, "s", f"{of}: the whole CLI call", data)
        if runs is not full:
            shares = [one.run_seconds / whole.run_seconds for one, whole in zip(runs, full, strict=True)]
            yield Figure.median(f"{NAME}.{name}.share", shares, "x", f"{of}: its time, of the full run's", data)


def _assert_wrote(found: Reindexed, rows: int, what: str) -> None:
    if found.rows_written != rows or found.rows_deleted not in (0, rows):
        raise WrongRunError(
            f"{what} wrote {found.rows_written:,} rows and deleted {found.rows_deleted:,}: {rows:,} had to be written"
        )
