"""The writing protocol, searched to its end: it keeps every right row visible, heals whatever happened, and each of its rules is needed.

What lives here: the searches. What does not: the model (reindex/writing_model.py).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import pytest

from reindex_assets_tests.reindex.writing_model import Protocol, Row, Search, Source, State, Writer

RIGHT = Source(value=0, shard=0)


@dataclass(frozen=True, kw_only=True)
class Depth:
    """How far a search goes.

    Attributes:
        attempts: of each writer.
    """

    edits: int
    faults: int
    attempts: tuple[int, ...]
    with_repeats: bool = True


#: A fault in each of many attempts; two edits; two writers.
DEPTHS = (
    Depth(edits=1, faults=4, attempts=(5,), with_repeats=False),
    Depth(edits=2, faults=1, attempts=(2,)),
    Depth(edits=2, faults=1, attempts=(1, 1)),
)


def broken(protocol: Protocol, depth: Depth) -> list[str] | None:
    start = State(
        source=RIGHT,
        rows=(Row(shard=0, version=0, value=0),),
        writers=tuple(Writer(attempts=number) for number in depth.attempts),
        edits=depth.edits,
        faults=depth.faults,
    )
    return Search(protocol, with_repeats=depth.with_repeats).run(start)


@pytest.mark.parametrize("depth", DEPTHS, ids=str)
def test_no_order_of_steps_edits_and_faults_breaks_the_protocol(depth: Depth) -> None:
    assert broken(Protocol(), depth) is None


#: What goes wrong without each rule, and where the search finds it.
NEEDED = {
    "expects_upserts": (DEPTHS[1], "a row is invisible"),
    "keeps_right_rows": (DEPTHS[0], "versions of a row that is right"),
    "inserts_first": (DEPTHS[1], "after a healthy run there is ()"),
    "bounds_by_version": (DEPTHS[1], "after a healthy run there is ()"),
    "waits_for_late_deletes": (DEPTHS[1], "a row is invisible"),
    "locks": (Depth(edits=2, faults=0, attempts=(1, 1)), "a row is invisible"),
}


@pytest.mark.parametrize("rule", NEEDED)
def test_without_this_rule_the_protocol_breaks(rule: str) -> None:
    depth, problem = NEEDED[rule]
    steps = broken(replace(Protocol(), **{rule: False}), depth)
    assert steps is not None
    assert problem in steps[-1], steps


def test_every_rule_is_one_of_these() -> None:
    assert {field.name for field in fields(Protocol)} == NEEDED.keys()
