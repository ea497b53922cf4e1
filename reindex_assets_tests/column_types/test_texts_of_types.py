"""Both engines write the same text for every value of every type, and another one for every other value.

What lives here: values that Postgres holds, on the way that the rows of a run take: ADBC, Arrow, Parquet, an Arrow insert. What does not:
values that only ClickHouse can hold (test_values_of_shards.py), and which types have a ColumnType (test_parsing.py).
"""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse import evidence
from reindex_assets.clickhouse.evidence import evidence_of, expect
from reindex_assets.clickhouse.insert_block import InsertBlock
from reindex_assets.clickhouse.shards import ShardConnection, ShardSet
from reindex_assets.column_types import parse_type
from reindex_assets.config.fleet import load_fleet
from reindex_assets.local.stack import connections
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import Column
from reindex_assets.postgres.extract import stream_as
from reindex_assets.postgres.session import SourceSession
from reindex_assets.retry import EVIDENCE
from reindex_assets_tests.column_types.values_of_types import CASES, Case

#: Of one batch. It costs the same few statements, whatever its rows.
MOST_VALUES = 60


@dataclass(frozen=True, kw_only=True)
class Engines:
    source: Connection
    session: SourceSession
    shard: ShardConnection
    numbers: Iterator[int]


@pytest.fixture(scope="module")
def both_engines(stack: LocalStack) -> Iterator[Engines]:
    cluster = load_fleet(stack.fleet_path).clusters[CLUSTER]
    source = connections.connect_source(cluster)
    with (
        pytest.MonkeyPatch.context() as patch,
        source.cursor() as cursor,
        SourceSession(cluster.postgres) as session,
        ShardSet(cluster) as shards,
    ):
        cursor.execute("CREATE SCHEMA types")
        patch.setattr(evidence, "EVIDENCE", replace(EVIDENCE, attempts=1))
        numbers = itertools.count()
        shard = shards.connections[0]
        yield Engines(source=source, session=session, shard=shard, numbers=numbers)
        cursor.execute("DROP SCHEMA types CASCADE")
        shard.command(f"DROP TABLE {', '.join(f'types_{number}' for number in range(next(numbers)))} SYNC")
    source.close()


class Both:
    """A table with one column of a type, in both engines."""

    def __init__(self, engines: Engines, case: Case) -> None:
        self.engines = engines
        self.case = case
        parsed = parse_type(case.clickhouse, column="v", source=case.postgres)
        self.column = Column(name="v", type=parsed.type, source="c.v", nullable=parsed.nullable)
        assert self.column.clickhouse == case.clickhouse
        self.name = f"types_{next(engines.numbers)}"
        with engines.source.cursor() as cursor:
            cursor.execute(f"CREATE TABLE types.{self.name} (example int, n int, v {case.postgres})")
        engines.shard.command(
            f"CREATE TABLE {self.name} (example Int32, n Int32, v {self.column.clickhouse}) ENGINE = MergeTree ORDER BY n"
        )

    def put(self, example: int, values: Sequence[str | None]) -> None:
        """Gives values to Postgres."""
        with self.engines.source.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO types.{self.name} SELECT %s, n, v::{self.case.postgres} "
                "FROM unnest(%s::text[]) WITH ORDINALITY AS given (v, n)",
                (example, list(values)),
            )

    def read(self, example: int) -> tuple[pa.Table, dict[int, str]]:
        """Reads the values of Postgres that ClickHouse can hold: their rows on their way, and their texts by their number."""
        column = self.column
        fits = column.type.holds("c.v") if column.type.holds else "true"
        if column.nullable:
            fits = f"(c.v IS NULL OR ({fits}))"
        schema = pa.schema(
            [
                pa.field("example", pa.int32()),
                pa.field("n", pa.int32()),
                pa.field("v", column.type.arrow, nullable=column.nullable),
                pa.field("text", pa.string()),
            ]
        )
        sql = (
            f"SELECT c.example, c.n, {column.type.source_value('c.v')} AS v, {column.source_text} AS text "
            f"FROM types.{self.name} AS c WHERE c.example = {example} AND {fits} ORDER BY c.n"
        )
        # A template, as the product's statements are.
        rows = pa.Table.from_batches(list(stream_as(schema, self.engines.session, sql.format())), schema)
        texts = dict(zip(rows.column("n").to_pylist(), rows.column("text").to_pylist(), strict=True))
        return rows.drop_columns(["text"]), texts

    def send(self, example: int, rows: pa.Table) -> None:
        """Sends rows to the shard, by way of a Parquet file, and looks whether they have arrived."""
        file = pa.BufferOutputStream()
        pq.write_table(rows, file)
        read = pq.read_table(pa.BufferReader(file.getvalue()))
        assert read.schema == rows.schema
        [batch] = read.to_batches()
        block = InsertBlock()
        block.add(batch)
        self.engines.shard.insert(self.name, block.finish())
        sent = evidence_of(batch, [self.column])
        expect(self.engines.shard, "rows", f"{self.name} WHERE example = {example}", [self.column], sent)

    def shown(self, example: int) -> tuple[dict[int, str], dict[int, str]]:
        """The texts that the shard writes, and its own hashes."""
        rows = self.engines.shard.rows(
            f"SELECT n, {self.column.shard_text} AS text, hex(sipHash128({', '.join(self.column.shard_hashed)})) AS hash "
            f"FROM {self.name} WHERE example = {example}"
        )
        return {row["n"]: row["text"] for row in rows}, {row["n"]: row["hash"] for row in rows}


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_both_engines_write_the_same_text_for_every_value(both_engines: Engines, case: Case, campaign: int) -> None:
    both = Both(both_engines, case)
    examples = itertools.count()

    # Smaller examples would say nothing more: the texts that differ are shown.
    @settings(
        max_examples=campaign,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(values=st.lists(case.values, min_size=MOST_VALUES // 3, max_size=MOST_VALUES))
    def check(values: list[str]) -> None:
        _check(both, next(examples), values)

    check()


#: Times and what remains of them with no, one and three digits, on both sides of 1970 and of 2000, from where the engines count.
_ROUNDED = {
    "2026-01-31 23:59:59.999999": ("23:59:59.000000", "23:59:59.900000", "23:59:59.999000"),
    "2026-01-01 00:00:00.0005": ("00:00:00.000000", "00:00:00.000000", "00:00:00.000000"),
    "2026-01-01 00:00:00.0015": ("00:00:00.000000", "00:00:00.000000", "00:00:00.001000"),
    "1999-12-31 23:59:59.999999": ("23:59:59.000000", "23:59:59.900000", "23:59:59.999000"),
    "1970-01-01 00:00:00.123456": ("00:00:00.000000", "00:00:00.100000", "00:00:00.123000"),
    "1969-12-31 23:59:59.000001": ("23:59:59.000000", "23:59:59.000000", "23:59:59.000000"),
    "1900-01-01 00:00:00.0009": ("00:00:00.000000", "00:00:00.000000", "00:00:00.000000"),
}


@pytest.mark.parametrize(("place", "clickhouse"), [*enumerate(("DateTime64(0)", "DateTime64(1)", "DateTime64(3)"))])
@pytest.mark.parametrize("postgres", ["timestamptz", "timestamp"])
def test_a_time_is_rounded_down(both_engines: Engines, place: int, clickhouse: str, postgres: str) -> None:
    both = Both(both_engines, Case(clickhouse=clickhouse, postgres=postgres, values=st.nothing()))
    both.put(0, list(_ROUNDED))
    rows, texts = both.read(0)
    both.send(0, rows)
    shown, _ = both.shown(0)

    expected = [f"{time[:10]} {rounded[place]}" for time, rounded in _ROUNDED.items()]
    assert [both.column.readable(text) for text in texts.values()] == expected
    assert [both.column.readable(shown[n]) for n in sorted(shown)] == expected


@pytest.mark.parametrize(
    ("clickhouse", "postgres", "bits"),
    [
        ("Float64", "float8", [0x7FF8000000000000, 0x7FF0000000000001, 0xFFF8000000000123, 0x8000000000000000, 0]),
        ("Float32", "float4", [0x7FC00000, 0x7F800001, 0xFFC00123, 0x80000000, 0]),
    ],
)
def test_a_nan_keeps_its_bits(both_engines: Engines, clickhouse: str, postgres: str, bits: list[int]) -> None:
    both = Both(both_engines, Case(clickhouse=clickhouse, postgres=postgres, values=st.nothing()))
    size = int(clickhouse[-2:]) // 8
    with both_engines.source.cursor() as cursor:
        # No text that Postgres reads says which NaN it is.
        rows = [
            struct.pack("!hiiiii", 3, 4, 0, 4, n, size) + number.to_bytes(size, "big") for n, number in enumerate(bits)
        ]
        file = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0) + b"".join(rows) + struct.pack("!h", -1)
        cursor.copy_expert(f"COPY types.{both.name} FROM STDIN (FORMAT binary)", io.BytesIO(file))

    sent, texts = both.read(0)
    both.send(0, sent)

    shown, hashes = both.shown(0)
    assert shown == texts == {n: f"{number:0{2 * size}x}" for n, number in enumerate(bits)}
    assert len(set(hashes.values())) == len(bits)


def _check(both: Both, example: int, values: list[str]) -> None:
    case = both.case
    nulls = [None] if both.column.nullable or not both.column.type.can_be_null else []
    inside = [*case.inside, *nulls]
    both.put(example, [*inside, *case.outside, *values])
    rows, texts = both.read(example)
    # What the type says of its range: numbers begin with 1.
    for n, value in enumerate([*inside, *case.outside], 1):
        assert (n in texts) == (n <= len(inside)), value

    both.send(example, rows)
    shard_texts, hashes = both.shown(example)
    assert shard_texts == texts

    # A text stands for one value, a value has one text, and the shard's own hash tells as much.
    value_of = dict(zip(texts, map(_plain, rows.column("v").to_pylist()), strict=True))
    distinct = {(texts[n], value_of[n], hashes[n]) for n in texts}
    assert len(distinct) == len(set(texts.values())) == len(set(value_of.values())) == len(set(hashes.values()))
    # Where one text ends and the next one begins can be told.
    apart = set(texts.values())
    assert len({f"{first},{second}" for first in apart for second in apart}) == len(apart) ** 2
    assert all(map(both.column.readable, apart))


def _plain(value: object) -> str:
    # Pairs of a map, in an order of their own.
    return repr(sorted(value)) if isinstance(value, list) and value and isinstance(value[0], tuple) else repr(value)
