"""Peer: reladiff, which compares tables of two databases by checksums and bisection; measured against `verify --depth fingerprint`.

reladiff's ClickHouse driver uses the native protocol, which the local shards don't have; the subclass here connects by clickhouse-connect
and changes nothing else. reladiff doesn't support shards or LowCardinality, and the two engines write floats and order UUIDs differently.
So it compares views, of each shard's rows in Postgres and of the shard's table, in which every column is a text or an integer that both
engines write alike (floats by their bits, ids as texts). On these it agrees on equal data, and finds what differs.

It bisects into as few segments as it can (two), because the key of such a view has no index, and each segment reads the shard's rows in
Postgres again. It runs in its own process (`python -m benchmarks.peer_reladiff`) because it changes how psycopg2 waits everywhere.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from typing import Any

import pyarrow as pa

from benchmarks.data import Window
from benchmarks.figures import WrongRunError
from benchmarks.measure import measure_command
from benchmarks.raw_read import Moved
from benchmarks.source_query import copy_query
from benchmarks.target import Target
from reindex_assets.config.default_tables import SCORE, TABLES
from reindex_assets.model import Column, Table

_SCHEMA = "benchmark"
_SEGMENTS = 2


def missing() -> str | None:
    """Why it can't run here; None when it can."""
    if importlib.util.find_spec("reladiff") is None:
        return "reladiff is not installed: pip install -c constraints.txt '.[bench]'"
    return None


def compare_by_reladiff(target: Target, window: Window) -> Moved:
    """Compares the window's rows on every shard.

    Raises:
        WrongRunError: it failed, or found a difference in equal data.
    """
    _make_views(target, window)
    postgres = target.cluster.postgres
    clickhouse = target.cluster.clickhouse
    password = postgres.password.resolve().get_secret_value()
    addresses = {
        "postgres": {
            "host": postgres.host,
            "port": postgres.port,
            "dbname": postgres.database,
            "user": postgres.user,
            "password": password,
        },
        "shards": [
            {
                "host": shard.host,
                "port": shard.port,
                "username": clickhouse.user,
                "password": clickhouse.password.resolve().get_secret_value(),
                "database": clickhouse.database,
            }
            for shard in clickhouse.shards
        ],
    }
    finished = measure_command(
        [sys.executable, "-m", "benchmarks.peer_reladiff"],
        # Not in the arguments, which every user of the machine can read.
        {**target.environment, "BENCHMARK_ADDRESSES": json.dumps(addresses)},
        target.servers,
    )
    if finished.status != 0:
        raise WrongRunError(f"reladiff ended with {finished.status}: {finished.errors[-1500:]}")
    result = json.loads(finished.output.splitlines()[-1])
    if result["differences"]:
        raise WrongRunError(f"reladiff found {result['differences']} differences where there are none")
    return Moved(result["rows"], result["seconds"])


def _make_views(target: Target, window: Window) -> None:
    count = target.shard_count
    with target.source() as source, source.cursor() as cursor:
        cursor.execute(f"DROP SCHEMA IF EXISTS {_SCHEMA} CASCADE; CREATE SCHEMA {_SCHEMA}")
        for table in TABLES:
            for shard in range(count):
                columns = ", ".join(f"{_in_postgres(column)} AS {column.name}" for column in table.columns)
                rows = copy_query(table, window, shard, count)
                cursor.execute(f"CREATE VIEW {_SCHEMA}.{table.name}_{shard} AS SELECT {columns} FROM ({rows}) AS found")
    with target.shards() as clients:
        for client in clients:
            for table in TABLES:
                columns = ", ".join(f"{_in_clickhouse(column)} AS {column.name}" for column in table.columns)
                client.command(
                    f"CREATE OR REPLACE VIEW {_SCHEMA}_{table.name} AS SELECT {columns} FROM {_filtered(table, window)}"
                )


def _filtered(table: Table, window: Window) -> str:
    return f"(SELECT * FROM {table.name} WHERE day BETWEEN '{window.first_day}' AND '{window.last_day}')"


def _in_postgres(column: Column) -> str:
    if pa.types.is_timestamp(column.type.arrow):
        return f"floor(extract(epoch FROM {column.name}) * 1000000)::bigint"
    if pa.types.is_floating(column.type.arrow):
        return f"encode(float8send({column.name}), 'hex')"
    if pa.types.is_integer(column.type.arrow):
        return f"{column.name}::bigint"
    if pa.types.is_boolean(column.type.arrow):
        return f"{column.name}::int::bigint"
    return f"{column.name}::text"


def _in_clickhouse(column: Column) -> str:
    if pa.types.is_timestamp(column.type.arrow):
        return f"toUnixTimestamp64Micro({column.name})"
    if pa.types.is_floating(column.type.arrow):
        bits = f"lower(hex(reverse(reinterpretAsString(assumeNotNull({column.name})))))"
        # reinterpretAsString drops zero bytes at its end, which is the front of the number.
        return f"if(isNull({column.name}), NULL, leftPad({bits}, 16, '0'))"
    if pa.types.is_integer(column.type.arrow) or pa.types.is_boolean(column.type.arrow):
        return f"CAST({column.name} AS {'Nullable(Int64)' if column.nullable else 'Int64'})"
    return f"CAST({column.name} AS {'Nullable(String)' if column.nullable else 'String'})"


def _main() -> None:
    import os

    import clickhouse_connect.dbapi
    import reladiff
    from reladiff.databases.clickhouse import Clickhouse
    from reladiff.databases.postgresql import PostgreSQL

    class OverHttp(Clickhouse):  # type: ignore[misc]
        def create_connection(self) -> Any:
            return clickhouse_connect.dbapi.connect(**self._args)

    addresses = json.loads(os.environ.pop("BENCHMARK_ADDRESSES"))
    begun = time.perf_counter()
    rows = differences = 0
    postgres = PostgreSQL(thread_count=1, **addresses["postgres"])
    for shard, address in enumerate(addresses["shards"]):
        clickhouse = OverHttp(thread_count=1, **address)
        for table in TABLES:
            key = "score_id" if table is SCORE else "scorecard_id"
            others = tuple(name for name in table.column_names if name != key)
            sides = [
                reladiff.connect_to_table(postgres, (_SCHEMA, f"{table.name}_{shard}"), key, extra_columns=others),
                reladiff.connect_to_table(
                    clickhouse, (address["database"], f"{_SCHEMA}_{table.name}"), key, extra_columns=others
                ),
            ]
            with reladiff.diff_tables(
                *sides, algorithm=reladiff.Algorithm.HASHDIFF, bisection_factor=_SEGMENTS, threaded=True
            ) as difference:
                differences += sum(1 for _ in difference)
                rows += difference.get_stats_dict()["rows_A"]
    sys.stdout.write(
        json.dumps({"rows": rows, "differences": differences, "seconds": time.perf_counter() - begun}) + "\n"
    )


if __name__ == "__main__":
    _main()
