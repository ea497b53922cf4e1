"""The replay again: with nothing changed, and with 0.1 % of the rows changed, all of them on 5 % of the days.

Each round makes the full run onto empty shards, repeats the call, edits 0.1 % of all scorecards with all their scores in Postgres, makes
the call a third time, which deletes the old rows, and a fourth time with nothing changed. Shares are taken within a round, from the times
that the command reports for its runs: the start of Python and Dagster, the same for all calls, would hide what a repeated run costs in a
backfill or a schedule. The times of the calls are given beside them. A repeated run must write nothing, or only the edited rows. Does not
show: changes spread over all days.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.data import change_rows
from benchmarks.figures import Figure, Result, WrongRunError
from benchmarks.product import Reindexed, reindex
from benchmarks.proof import Rows, prove, sizes, total
from reindex_assets.config.default_tables import SCORECARD

NAME = "noop"
SHARE_OF_ROWS = 0.001
SHARE_OF_DAYS = 0.05


def run(bench: Bench) -> Iterator[Result]:
    target, window = bench.replay, bench.window()
    full: list[Reindexed] = []
    unchanged: list[Reindexed] = []
    changed: list[Reindexed] = []
    after: list[Reindexed] = []
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
        bench.say(f"round {number + 1} of {bench.size.rounds}: again, nothing changed since")
        after.append(reindex(target, window))
        _assert_wrote(after[-1], 0, "the run after the deletions")
        prove(target, window, "the run after the deletions")
    data = sizes(window, rows, target.shard_count)
    for name, runs, of in (
        ("full", full, "the full run onto empty shards"),
        ("unchanged", unchanged, "the same again, nothing changed"),
        ("changed", changed, f"the same again, {edited}"),
        ("after_deletions", after, "the same again, nothing changed since the run that deleted rows"),
    ):
        yield Figure.median(f"{NAME}.{name}.run_seconds", [call.run_seconds for call in runs], "s", of, data)
        walls = [call.measured.wall_seconds for call in runs]
        yield Figure.median(f"{NAME}.{name}.cli_seconds", walls, "s", f"{of}: the whole CLI call", data)
        if runs is not full:
            shares = [again.run_seconds / first.run_seconds for again, first in zip(runs, full, strict=True)]
            yield Figure.median(
                f"{NAME}.{name}.share", shares, "x", f"{of}: its time, relative to the full run's", data
            )


def _assert_wrote(call: Reindexed, rows: int, what: str) -> None:
    if call.rows_written != rows or call.rows_deleted not in (0, rows):
        raise WrongRunError(
            f"{what} wrote {call.rows_written:,} rows and deleted {call.rows_deleted:,}: {rows:,} had to be written"
        )
