"""`local spoil`: rows of the local stack that are wrong on purpose are found by the comparison.

What lives here: the command. What does not: each kind of drift (local/test_drift.py).
"""

from __future__ import annotations

import pytest
from psycopg2.extensions import connection as Connection
from typer.testing import CliRunner

from reindex_assets.__main__ import app
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.drift.plant import Drift
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import PROCESS
from reindex_assets_tests.support.proving import ITEM, SLICES, written_and_proved


@pytest.fixture
def proven(clean: None, fleet: Fleet, source: Connection) -> Fleet:
    return written_and_proved(fleet, source)


def spoil(stack: LocalStack, *arguments: str) -> tuple[int, str]:
    place = ["--customer", ITEM.customer, "--day", str(ITEM.day), "--root", str(stack.root)]
    answer = CliRunner().invoke(app, ["local", "spoil", *place, *arguments], env={"COLUMNS": "200"})
    return answer.exit_code, answer.output


@pytest.mark.parametrize("drift", [Drift.MISSING, Drift.CHANGED])
def test_what_was_spoilt_differs_and_nothing_else(proven: Fleet, stack: LocalStack, drift: Drift) -> None:
    status, output = spoil(stack, "--drift", drift)
    assert status == 0, output
    assert output.startswith(f"{drift}: {ITEM.customer} {ITEM.day}, shard ")
    with Comparison(proven.dataset(CLUSTER, PROCESS)) as comparison:
        assert {parity.slice for parity in comparison.sums(SLICES) if not parity.sums_agree} == {ITEM}


def test_what_cannot_be_spoilt_is_said(proven: Fleet, stack: LocalStack) -> None:
    status, output = spoil(stack, "--count", "5000")
    assert status != 0
    assert "and 5000 are needed: choose another --day, or a smaller --count" in output
    status, output = spoil(stack, "--drift", "nonsense")
    assert status != 0
    assert f"--drift nonsense is none of {', '.join(Drift)}" in output
    status, output = spoil(stack, "--kind", "all")
    assert status != 0
    assert "choose process or conversation" in output


def test_the_help_names_every_kind_of_drift() -> None:
    words = CliRunner().invoke(app, ["local", "spoil", "--help"], env={"COLUMNS": "400"}).output
    assert all(drift in words for drift in Drift)
