"""The DDL of the ClickHouse tables, derived from model.py, and its application to every shard.

What lives here: creating the two tables, and refusing tables of another shape. What does not: any row.
"""

from __future__ import annotations

from reindex_assets.clickhouse.foreign_columns import foreign_columns
from reindex_assets.clickhouse.shards import ShardConnection, ShardSet, merge_tree
from reindex_assets.config.cluster import Cluster
from reindex_assets.config.engines import ClickHouse, Shard
from reindex_assets.errors import SchemaMismatchError
from reindex_assets.model import LAYOUT_TABLE, Table

#: Raise it whenever the shape below changes; it stands in the tables' comment.
SCHEMA_VERSION = 1

VERSION_DEFAULT = "toUnixTimestamp64Micro(now64(6))"
DAY_EXPRESSION = "toDate32(scorecard_time)"
PARTITION_BY = "toYYYYMM(scorecard_time)"


def create_table(table: Table, replicated: bool = False, named_path: bool = False) -> str:
    """The CREATE TABLE statement of a table.

    `version` is the time at which the writer read Postgres, in microseconds: the row that was read last wins.

    Args:
        named_path: the same path in Keeper wherever it is created: the server's own default holds the table's UUID, which differs.
    """
    engine = merge_tree("Replacing", replicated, named_path, "version")
    return "\n".join(
        (
            f"CREATE TABLE IF NOT EXISTS {table.clickhouse}",
            "(",
            f"{column_definitions(table)},",
            f"    version UInt64 DEFAULT {VERSION_DEFAULT}",
            ")",
            f"ENGINE = {engine}",
            f"PARTITION BY {PARTITION_BY}",
            f"ORDER BY ({', '.join(table.key)})",
            f"COMMENT 'reindex_assets schema {SCHEMA_VERSION}'",
        )
    )


def column_definitions(table: Table) -> str:
    """The columns without the version: what a staging table has too."""
    columns = [f"    {column.name} {column.clickhouse}" for column in table.columns]
    columns.append(f"    day Date32 MATERIALIZED {DAY_EXPRESSION}")
    return ",\n".join(columns)


def apply_schema(cluster: Cluster) -> list[str]:
    """Creates what is missing on every shard, on each of its replicas, and checks what is there. Running it again changes nothing.

    Returns:
        A line for each table and shard: what was found or done.

    Raises:
        SchemaMismatchError: a table has another shape; the message names each difference. Nothing of that shard is changed.
        ShardUnreachableError: a shard could not be asked.
    """

    clickhouse = cluster.clickhouse

    def apply(shard: ShardConnection) -> list[str]:
        differences = {table.clickhouse: _differences(shard, table) for table in shard.tables}
        _refuse(shard, differences)
        done = []
        had_layout = has_layout_table(shard)
        shard.command(create_layout_table(clickhouse))
        done.append(f"{shard.label}: {LAYOUT_TABLE} {'is up to date' if had_layout else 'created'}")
        for table in shard.tables:
            if differences[table.clickhouse] is None:
                shard.command(create_table(table, clickhouse.replicated, clickhouse.have_replicas))
                done.append(f"{shard.label}: {table.clickhouse} created (schema {SCHEMA_VERSION})")
            else:
                foreign = ", ".join(foreign_columns(shard, table))
                beside = f"; not compared, and kept as they are: {foreign}" if foreign else ""
                done.append(f"{shard.label}: {table.clickhouse} is up to date (schema {SCHEMA_VERSION}){beside}")
        return done

    done = []
    for alone in _one_by_one(clickhouse):
        with ShardSet(cluster.model_copy(update={"clickhouse": alone}), "reindex_assets schema") as shards:
            done += [line for lines in shards.map(apply) for line in lines]
    return done


def _one_by_one(clickhouse: ClickHouse) -> list[ClickHouse]:
    """The first replica of every shard, then the second of those that have one (of the others the last again), and so on."""
    most = max(len(shard.addresses) for shard in clickhouse.shards)
    return [
        clickhouse.model_copy(
            update={
                "shards": tuple(
                    Shard(**shard.addresses[min(number, len(shard.addresses) - 1)].model_dump())
                    for shard in clickhouse.shards
                )
            }
        )
        for number in range(most)
    ]


def check_schema(shards: ShardSet) -> None:
    """Makes sure that every shard has the tables in the shape that this version writes.

    Raises:
        SchemaMismatchError: a table is absent or has another shape.
    """

    def check(shard: ShardConnection) -> None:
        differences = {table.clickhouse: _differences(shard, table) for table in shard.tables}
        absent = [name for name, of_table in differences.items() if of_table is None]
        if absent:
            raise SchemaMismatchError(
                f"{shard.label} has no table {', '.join(absent)} in database {shard.database}: "
                "create it with 'reindex-assets schema apply'"
            )
        _refuse(shard, differences)

    shards.map(check)


#: The product's own table, which says on which shard a conversation stands; and those of its columns that are read.
CONVERSATION = "conversation"
CONVERSATION_COLUMNS = ("customer", "profile", "conversation_id", "conversation_start_time")


def check_conversations(shards: ShardSet) -> None:
    """Makes sure that every shard has the product's table of conversations, with the columns that are read.

    Raises:
        SchemaMismatchError: it is absent, or lacks a column.
    """

    def check(shard: ShardConnection) -> None:
        columns = {
            str(row["name"])
            for row in shard.rows(
                "SELECT name FROM system.columns WHERE database = {database:String} AND table = {table:String}",
                {"database": shard.database, "table": CONVERSATION},
            )
        }
        absent = [name for name in CONVERSATION_COLUMNS if name not in columns]
        if absent:
            what = f"no column {', '.join(absent)} in its table conversation" if columns else "no table conversation"
            raise SchemaMismatchError(
                f"{shard.label} has {what} (database {shard.database}): without it nobody knows on which shard the scorecards of a "
                "conversation belong. It is the product's own table, and is not created here: name the right database in the fleet file"
            )

    shards.map(check)


def _refuse(shard: ShardConnection, differences: dict[str, list[str] | None]) -> None:
    named = "; ".join(f"table {name}: {', '.join(of_table)}" for name, of_table in differences.items() if of_table)
    if named:
        raise SchemaMismatchError(
            f"{shard.label} has tables of another shape than schema {SCHEMA_VERSION}: {named}. "
            "Rename or alter them by hand (rows are never changed by 'schema apply'), then run it again"
        )


def _differences(shard: ShardConnection, table: Table) -> list[str] | None:
    """How a shard's table differs from the model: [] for not at all, None where it does not exist."""
    rows = shard.rows(
        "SELECT engine, engine_full, sorting_key, partition_key FROM system.tables "
        "WHERE database = {database:String} AND name = {table:String}",
        {"database": shard.database, "table": table.clickhouse},
    )
    if not rows:
        return None
    differences = []
    engine, engine_full = str(rows[0]["engine"]), str(rows[0]["engine_full"])
    if not engine.endswith("ReplacingMergeTree") or "version)" not in engine_full.split(" PARTITION")[0]:
        differences.append(f"its engine is {engine_full.split(' PARTITION')[0]}, not ReplacingMergeTree(version)")
    for name, actual, expected in (
        ("sorting key", str(rows[0]["sorting_key"]), ", ".join(table.key)),
        ("partition key", str(rows[0]["partition_key"]), PARTITION_BY),
    ):
        if actual != expected:
            differences.append(f"its {name} is ({actual}), not ({expected})")

    columns = {
        str(row["name"]): (str(row["type"]), str(row["default_kind"]), str(row["default_expression"]))
        for row in shard.rows(
            "SELECT name, type, default_kind, default_expression FROM system.columns "
            "WHERE database = {database:String} AND table = {table:String}",
            {"database": shard.database, "table": table.clickhouse},
        )
    }
    expected_columns = {column.name: (column.clickhouse, "", "") for column in table.columns}
    expected_columns["day"] = ("Date32", "MATERIALIZED", DAY_EXPRESSION)
    expected_columns["version"] = ("UInt64", "DEFAULT", VERSION_DEFAULT)
    for name, shape in expected_columns.items():
        if name not in columns:
            differences.append(f"column {name} {shape[0]} is absent")
        elif columns[name] != shape:
            actual = " ".join(part for part in columns[name] if part)
            differences.append(f"column {name} is {actual}, not {' '.join(part for part in shape if part)}")
    for name, (column_type, default_kind, _) in columns.items():
        # A column that fills itself is the owner's business; one without a default would stay empty in every row we write.
        if name not in expected_columns and name not in table.ignored and not default_kind:
            differences.append(
                f"column {name} {column_type} is unknown and has no default (if it is somebody else's, add it to `ignore` of tables."
                f"{table.name} in the fleet file)"
            )
    return differences


def create_layout_table(clickhouse: ClickHouse) -> str:
    """The CREATE TABLE statement."""
    engine = merge_tree("", clickhouse.replicated, clickhouse.have_replicas)
    return f"""\
CREATE TABLE IF NOT EXISTS {LAYOUT_TABLE}
(
    layout_id UUID,
    cluster String,
    state LowCardinality(String),
    shard Int32,
    shards Int32,
    next_shard Int32,
    next_shards Int32,
    members Int32,
    version UInt64
)
ENGINE = {engine}
ORDER BY version
COMMENT 'reindex_assets: where the rows of this shard belong. Written by reindex_assets alone'"""


def has_layout_table(shard: ShardConnection) -> bool:
    return bool(
        shard.rows(
            "SELECT 1 AS found FROM system.tables WHERE database = {database:String} AND name = {table:String}",
            {"database": shard.database, "table": LAYOUT_TABLE},
        )
    )
