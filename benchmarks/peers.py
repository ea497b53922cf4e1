"""Other ways to do the same work on the same data, and how the product's speed compares with theirs.

In each round the product's CLI call (with its start, its comparison and its checks) and every peer take turns on the same rows, and
ratios are taken within a round. The peers run in this process, so their times don't include the start of a process, which favours them.
A peer's copy is proved like the product's. A peer whose copy is wrong is reported with the error and not timed.

The peers: ClickHouse's `postgresql()` (into one engine, and to the shards), a plain ADBC-to-insert_arrow copy without any guarantee, the
raw read, the seeds' algorithm on a sample, and, for the comparison, reladiff against `verify`. Does not show: what a peer would need
besides its copy to be right a second time.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.data import Window
from benchmarks.figures import Figure, NotRun, Result, WrongRunError
from benchmarks.peer_plain_copy import plain_copy
from benchmarks.peer_postgresql_function import to_one_engine, to_the_shards
from benchmarks.peer_reladiff import compare_by_reladiff, missing
from benchmarks.peer_seeds import seeds_algorithm
from benchmarks.product import reindex
from benchmarks.proof import Rows, prove, prove_beginning, sizes, total, verify_window
from benchmarks.raw_read import Moved, raw_read
from benchmarks.target import Target

NAME = "peers"


@dataclass(frozen=True)
class Peer:
    """One other way.

    Attributes:
        proof: proves the rows in the shards' tables afterwards, if it has written there.
        whole: whether it moves all rows of the window, or a sample.
    """

    name: str
    what: str
    move: Callable[[Target, Window], Moved]
    proof: Callable[[Target, Window, str], object] | None = None
    whole: bool = True


def run(bench: Bench) -> Iterator[Result]:
    yield from _copies(bench)
    yield from _comparison(bench)


def _peers(bench: Bench) -> list[Peer]:
    sample = bench.size.seeds_scorecards
    return [
        Peer("raw_read", "a raw read, which writes nothing", raw_read),
        Peer("postgresql_one_engine", "postgresql() into a MergeTree of one engine", to_one_engine),
        Peer("postgresql_shards", "postgresql() to the shards", to_the_shards, prove),
        Peer("plain_copy", "a plain ADBC-to-insert_arrow copy", plain_copy, prove),
        Peer(
            "seeds",
            f"the seeds' algorithm, on {sample:,} scorecards",
            lambda target, window: seeds_algorithm(target, window, sample),
            lambda target, window, what: prove_beginning(target, window, sample, what),
            whole=False,
        ),
    ]


def _copies(bench: Bench) -> Iterator[Result]:
    target, window = bench.replay, bench.window()
    peers = _peers(bench)
    product: list[float] = []
    rates: dict[str, list[float]] = defaultdict(list)
    wrong: dict[str, str] = {}
    rows: Rows = Rows()
    for number in range(bench.size.rounds):
        bench.say(f"round {number + 1} of {bench.size.rounds}: the product")
        target.reset()
        call = reindex(target, window)
        rows = prove(target, window, "the product's copy")
        product.append(total(rows) / call.measured.wall_seconds)
        for peer in peers:
            if peer.name in wrong:
                continue
            bench.say(f"round {number + 1} of {bench.size.rounds}: {peer.what}")
            target.reset()
            try:
                moved = peer.move(target, window)
                if peer.whole and moved.rows != total(rows):
                    raise WrongRunError(f"it has moved {moved.rows:,} of {total(rows):,} rows")
                if peer.proof is not None:
                    peer.proof(target, window, peer.what)
            except Exception as error:  # noqa: BLE001 - a peer that fails is reported, and the others go on
                wrong[peer.name] = _reason(bench, error)
            else:
                rates[peer.name].append(moved.rows / moved.seconds)
    data = sizes(window, rows, target.shard_count)
    yield Figure.median(f"{NAME}.product.rows_per_second", product, "rows/s", "the product, by one CLI call", data)
    for peer in peers:
        if peer.name in wrong:
            yield NotRun(f"{NAME}.{peer.name}", wrong[peer.name])
            continue
        yield Figure.median(f"{NAME}.{peer.name}.rows_per_second", rates[peer.name], "rows/s", peer.what, data)
        ratios = [ours / theirs for ours, theirs in zip(product, rates[peer.name], strict=True)]
        of = f"the product's rate, relative to {peer.what}"
        yield Figure.median(f"{NAME}.{peer.name}.ratio", ratios, "x", of, data)
    # The faster of the two ways of postgresql() is the one that somebody would choose.
    functions = [name for name in ("postgresql_one_engine", "postgresql_shards") if name not in wrong]
    if functions:
        best = max(functions, key=lambda name: statistics.median(rates[name]))
        ratios = [ours / theirs for ours, theirs in zip(product, rates[best], strict=True)]
        of = f"the product's rate, relative to the faster one: {best}"
        yield Figure.median(f"{NAME}.against_postgresql_function", ratios, "x", of, data)


def _comparison(bench: Bench) -> Iterator[Result]:
    """Compares verify with reladiff over some equal days."""
    reason = missing()
    if reason is not None:
        yield NotRun(f"{NAME}.reladiff", reason)
        return
    target, window = bench.replay, bench.window(bench.size.reladiff_days)
    bench.say("loading the days to compare")
    target.reset()
    reindex(target, window)
    rows = prove(target, window, "the days to compare")
    ours: list[float] = []
    theirs: list[float] = []
    try:
        for number in range(bench.size.rounds):
            bench.say(f"round {number + 1} of {bench.size.rounds}: verify")
            begun = time.perf_counter()
            verification = verify_window(target.fleet, window)
            ours.append(total(rows) / (time.perf_counter() - begun))
            if not verification.agrees:
                raise WrongRunError(f"verify: {verification.sentence}")
            bench.say(f"round {number + 1} of {bench.size.rounds}: reladiff")
            compared = compare_by_reladiff(target, window)
            if compared.rows != total(rows):
                raise WrongRunError(f"it has compared {compared.rows:,} of {total(rows):,} rows")
            theirs.append(compared.rows / compared.seconds)
    except Exception as error:  # noqa: BLE001 - as above
        yield NotRun(f"{NAME}.reladiff", _reason(bench, error))
        return
    data = sizes(window, rows, target.shard_count)
    yield Figure.median(f"{NAME}.verify.rows_per_second", ours, "rows/s", "verify --depth fingerprint", data)
    yield Figure.median(f"{NAME}.reladiff.rows_per_second", theirs, "rows/s", "reladiff, shard by shard", data)
    ratios = [our_rate / their_rate for our_rate, their_rate in zip(ours, theirs, strict=True)]
    yield Figure.median(f"{NAME}.reladiff.ratio", ratios, "x", "verify's rate, relative to reladiff's", data)


def _reason(bench: Bench, error: Exception) -> str:
    # An engine's error may quote the statement.
    return bench.stacks.without_password(f"{type(error).__name__}: {error}")[:1_500]
