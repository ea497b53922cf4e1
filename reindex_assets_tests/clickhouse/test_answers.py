"""Answers that are not whole: each is read again, and is an error in the end. None is taken for a shorter one.

What lives here: reading from a shard, and what a command makes of it. What does not: statements that write (reindex/test_evidence.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from uuid import UUID

import pytest
import yaml
from clickhouse_connect.driver.client import Client
from typer.testing import CliRunner

from reindex_assets.__main__ import app
from reindex_assets.clickhouse.answers import read_rows
from reindex_assets.clickhouse.shards import ShardConnection, ShardSet
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ShardUnreachableError
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets_tests.support.faulty_shard import Fault, FaultyShard, faulty_shard

ROWS = 50_000
_BLOCK_ROWS = 10_000
QUESTION = f"SELECT number FROM numbers({ROWS}) SETTINGS max_block_size = {_BLOCK_ROWS}"
#: The first block of the answer, had it ClickHouse's Native format: one column, the rows, its name, its type, the numbers.
FIRST_BLOCK = len(b"\x01" + b"\x90\x4e" + b"\x06number" + b"\x06UInt64") + 8 * _BLOCK_ROWS

FAULTS = [Fault.SHORT, Fault.FAILED_LATE]


@pytest.fixture
def faulty(fleet: Fleet) -> Iterator[tuple[Fleet, FaultyShard]]:
    with faulty_shard(fleet) as (changed, shard):
        shard.kept_bytes = FIRST_BLOCK
        yield changed, shard


@pytest.fixture
def connection(faulty: tuple[Fleet, FaultyShard]) -> Iterator[ShardConnection]:
    """The connection of the shard, which works."""
    with ShardSet(faulty[0].clusters[CLUSTER]) as shards:
        shards.connections[1].rows("SELECT 1 AS one")
        yield shards.connections[1]


@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_that_is_not_whole_is_asked_for_again(
    faulty: tuple[Fleet, FaultyShard], connection: ShardConnection, fault: Fault
) -> None:
    faulty[1].once("numbers(", fault)
    assert [row["number"] for row in connection.rows(QUESTION)] == list(range(ROWS))
    faulty[1].once("numbers(", fault)
    assert connection.table(QUESTION).column("number").to_pylist() == list(range(ROWS))
    assert faulty[1].seen == {fault: 2}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_answer_that_is_never_whole_is_an_error(
    faulty: tuple[Fleet, FaultyShard], connection: ShardConnection, fault: Fault
) -> None:
    faulty[1].always("numbers(", fault)
    for ask in (connection.rows, connection.table, connection.row):
        with pytest.raises(ShardUnreachableError, match="shard 1"):
            ask(QUESTION)


def test_a_statement_that_fails_once_it_was_acknowledged_is_an_error(
    faulty: tuple[Fleet, FaultyShard], connection: ShardConnection
) -> None:
    faulty[1].always("DROP TABLE", Fault.FAILED_LATE)
    with pytest.raises(ShardUnreachableError, match=r"has acknowledged .* Memory limit"):
        connection.command("DROP TABLE IF EXISTS nothing")


@pytest.mark.parametrize("code", [241, 252])
def test_a_shard_that_is_short_of_something_is_not_said_to_be_out_of_reach(
    connection: ShardConnection, code: int
) -> None:
    """Memory, or room for more parts."""
    failing = f"SELECT throwIf(1, 'short of it', {code}::Int16) AS one SETTINGS allow_custom_error_code_in_throwif = 1"
    with pytest.raises(ShardUnreachableError, match=f"can't do this now: .*{code}.*short of it") as refused:
        connection.rows(failing)
    assert "reached" not in str(refused.value)


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_comparison_of_half_an_answer_could_not_tell(
    faulty: tuple[Fleet, FaultyShard], tmp_path: Path, fault: Fault
) -> None:
    fleet, shard = faulty
    shard.kept_bytes = None
    shard.always("FROM score", fault)
    path = tmp_path / "fleet.yaml"
    path.write_text(yaml.safe_dump(fleet.model_dump(mode="json", exclude_unset=True)))
    day = str(date(2026, 1, 5))
    for depth in ("counts", "fingerprint"):
        answer = CliRunner().invoke(
            app, ["verify", "--from", day, "--to", day, "--fleet", str(path), "--settle", "0", "--depth", depth]
        )
        assert answer.exit_code == 2, answer.output
        assert "shard 1" in answer.output
        assert "Traceback" not in answer.output
    assert shard.seen[fault]


def test_rows_have_the_values_that_were_asked_for(shard_clients: list[Client]) -> None:
    [row] = read_rows(
        shard_clients[0],
        "SELECT toLowCardinality('text') AS text, unhex('ff') AS no_text, toDate32('2026-01-05') AS day, "
        "toUUID('00112233-4455-6677-8899-aabbccddeeff') AS id, CAST(NULL AS Nullable(String)) AS nothing, "
        "18446744073709551615 AS large, true AS yes",
    )
    assert row == {
        "text": "text",
        "no_text": "ff",
        "day": date(2026, 1, 5),
        "id": UUID("00112233-4455-6677-8899-aabbccddeeff"),
        "nothing": None,
        "large": 2**64 - 1,
        "yes": True,
    }
    assert read_rows(shard_clients[0], "SELECT 1 AS one WHERE 0") == []
