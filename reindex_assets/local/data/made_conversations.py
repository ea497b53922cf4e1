"""The product's conversations on the shards of the local stack: each stands on one of them, some on none.

What lives here: putting the source's chats there. What does not: the chats (local/data/made_data.py), and scorecards (reindexing puts
those there).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from psycopg2.extensions import connection as Connection

#: One in so many conversations has not reached any shard yet; of one in so many the shard has another start, by three days.
NOWHERE_ONE_IN = 20
OTHER_START_ONE_IN = 30

_COLUMNS = ("customer", "profile", "conversation_id", "conversation_start_time", "agent_user_id")


def hold_conversations(source: Connection, shard_clients: Sequence[Client]) -> list[int]:
    """Puts every chat with a start on its shard, by a hash of its id. Returns how many each shard then holds."""
    lines: list[list[str]] = [[] for _ in shard_clients]
    copied = io.StringIO()
    with source.cursor() as cursor:
        cursor.copy_expert(
            "COPY (SELECT customer, profile, conversation_id,"
            " to_char(conversation_start_time AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),"
            " to_char((conversation_start_time + interval '3 days') AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), agent_user_id"
            " FROM app.chats WHERE isfinite(conversation_start_time)) TO STDOUT",
            copied,
        )
    for line in copied.getvalue().splitlines():
        customer, profile, conversation_id, start, other_start, agent = line.split("\t")
        number = int.from_bytes(hashlib.blake2b(conversation_id.encode(), digest_size=8).digest(), "big")
        if number % NOWHERE_ONE_IN == 0:
            continue
        shown = other_start if number % OTHER_START_ONE_IN == 1 else start
        lines[(number >> 8) % len(lines)].append("\t".join((customer, profile, conversation_id, shown, agent)))
    for client, mine in zip(shard_clients, lines, strict=True):
        client.command("TRUNCATE TABLE conversation")
        if mine:
            client.raw_insert(
                "conversation",
                column_names=list(_COLUMNS),
                insert_block="\n".join(mine).encode() + b"\n",
                fmt="TabSeparated",
                settings={"async_insert": 0},
            )
    return [len(mine) for mine in lines]
