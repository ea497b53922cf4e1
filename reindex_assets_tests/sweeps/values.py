"""Which values each setting of an engine is tried with.

What lives here: the values, by the type of a setting and for some by name. What does not: what comes of them (sweeps/world.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from uuid import uuid4

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from psycopg2 import Error as DatabaseRefusal
from psycopg2.extensions import connection as Connection

#: Settings and their values.
Profile = Mapping[str, str]

_NUMBERS = ("0", "1", "7")
_BY_TYPE: Mapping[str, tuple[str, ...]] = {
    "Bool": ("0", "1"),
    "BoolAuto": ("0", "1"),
    "Float": ("0", "0.5", "1"),
    "Double": ("0", "0.5", "1"),
    "FloatAuto": ("0", "1"),
    "Timezone": ("Asia/Kathmandu", "America/New_York"),
    "Char": (";",),
    "Map": ("{'scorecard':'0','score':'0'}",),
    "String": ("0", "x"),
    "URI": ("http://127.0.0.1:1/",),
    **dict.fromkeys(
        ("UInt64", "Int64", "Int32", "NonZeroUInt64", "UInt64Auto", "MaxThreads", "Seconds", "Milliseconds"), _NUMBERS
    ),
}
_BY_NAME: Mapping[str, tuple[str, ...]] = {
    # A version: the defaults of that time.
    "compatibility": ("21.8", "23.3", "24.3", "25.3"),
}
_CHOICES = re.compile(r"Must be one of \[(?P<choices>[^\]]*)")

#: Settings that mean something only beside others: each way of overflowing, with its limits.
_LIMITS: Mapping[str, tuple[str, ...]] = {
    "distinct_overflow_mode": ("max_rows_in_distinct",),
    "group_by_overflow_mode": ("max_rows_to_group_by",),
    "join_overflow_mode": ("max_rows_in_join",),
    "read_overflow_mode": ("max_rows_to_read",),
    "read_overflow_mode_leaf": ("max_rows_to_read_leaf",),
    "result_overflow_mode": ("max_result_rows",),
    "set_overflow_mode": ("max_rows_in_set",),
    "sort_overflow_mode": ("max_rows_to_sort",),
    "transfer_overflow_mode": ("max_rows_to_transfer",),
    "timeout_overflow_mode": ("max_execution_time",),
    "timeout_overflow_mode_leaf": ("max_execution_time_leaf",),
}
_CACHE: Profile = {
    "use_query_cache": "1",
    "query_cache_ttl": "600",
    "query_cache_nondeterministic_function_handling": "save",
    "query_cache_system_table_handling": "save",
    "query_cache_share_between_users": "1",
}


def clickhouse_profiles(client: Client) -> Iterator[Profile]:
    """Each setting of the server with each value, and those that go together."""
    rows = client.query("SELECT name, type, value FROM system.settings WHERE NOT is_obsolete ORDER BY name").result_rows
    for name, kind, value in rows:
        for other in _BY_NAME.get(name) or _BY_TYPE.get(kind) or _choices(client, name):
            if other != value:
                yield {name: other}
    for mode, limits in _LIMITS.items():
        for limit in limits:
            for other in ("break", "any") if mode == "group_by_overflow_mode" else ("break",):
                for number in ("1", "20"):
                    yield {mode: other, limit: number, "max_block_size": "5"}
    yield _CACHE
    yield {"lightweight_delete_mode": "lightweight_update", "enable_lightweight_update": "1"}
    yield {"parallel_replicas_count": "2", "parallel_replica_offset": "1", "max_parallel_replicas": "2"}


def merge_tree_profiles(client: Client) -> Iterator[Profile]:
    """The same of the settings of a table."""
    rows = client.query(
        "SELECT name, type, value FROM system.merge_tree_settings WHERE NOT is_obsolete ORDER BY name"
    ).result_rows
    for name, kind, value in rows:
        for other in _BY_TYPE.get(kind) or _choices_of_table(client, name):
            if other != value:
                yield {name: other}


def postgres_profiles(source: Connection) -> Iterator[Profile]:
    """Each setting that a role may have for its sessions, with each value of its type, or the least and some small ones."""
    with source.cursor() as cursor:
        cursor.execute(
            "SELECT name, vartype, setting, enumvals, min_val FROM pg_settings WHERE context = 'user' ORDER BY name"
        )
        rows = cursor.fetchall()
    for name, kind, value, choices, least in rows:
        others = {
            "bool": ["on", "off"],
            "enum": choices,
            "string": ["x", "LATIN1", "German", "Asia/Kathmandu", ""],
        }.get(kind) or [str(least), "1", "1000"]
        for other in dict.fromkeys(others):
            if other != value and _postgres_accepts(source, name, other):
                yield {name: other}


def _postgres_accepts(source: Connection, name: str, value: str) -> bool:
    with source.cursor() as cursor:
        try:
            cursor.execute("SELECT set_config(%s, %s, true)", (name, value))
        except DatabaseRefusal:
            return False
    return True


def is_accepted(client: Client, profile: Profile) -> bool:
    """Whether a server takes these settings at all."""
    try:
        settings = ", ".join(f"{name} = {_quoted(value)}" for name, value in profile.items())
        # In a session of its own, which nobody uses again.
        client.command(f"SET {settings}", settings={"session_id": uuid4().hex})
    except DatabaseError:
        return False
    return True


def _choices(client: Client, name: str) -> list[str]:
    try:
        client.command(f"SET {name} = 'no such value'", settings={"session_id": uuid4().hex})
    except DatabaseError as error:
        return _named(str(error))
    return []


def _choices_of_table(client: Client, name: str) -> list[str]:
    try:
        client.command(
            f"CREATE TABLE no_such (a UInt8) ENGINE = MergeTree ORDER BY a SETTINGS {name} = 'no such value'"
        )
    except DatabaseError as error:
        return _named(str(error))
    client.command("DROP TABLE no_such SYNC")
    return []


def _named(text: str) -> list[str]:
    found = _CHOICES.search(text)
    return re.findall(r"'([^']*)'", found["choices"]) if found else []


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
