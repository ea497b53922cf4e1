"""The product's conversations on the shards of the local stack: most are on one shard, some on none.

What lives here: copying the source's chats to the shards. What does not: the chats (local/data/made_data.py), and scorecards, which a
reindex copies.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from psycopg2.extensions import connection as Connection

#: One in 20 conversations is on no shard yet; for one in 30 the shard has a start that is three days later.
NOWHERE_ONE_IN = 20
OTHER_START_ONE_IN = 30

_COLUMNS = ("customer", "profile", "conversation_id", "conversation_start_time", "agent_user_id")


def hold_conversations(source: Connection, shard_clients: Sequence[Client]) -> list[int]:
    """Copies every chat with a start to a shard, chosen by a hash of its id. Returns each shard's number of conversations."""
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
        held_start = other_start if number % OTHER_START_ONE_IN == 1 else start
        lines[(number >> 8) % len(lines)].append("\t".join((customer, profile, conversation_id, held_start, agent)))
    for client, shard_lines in zip(shard_clients, lines, strict=True):
        client.command("TRUNCATE TABLE conversation")
        if shard_lines:
            client.raw_insert(
                "conversation",
                column_names=list(_COLUMNS),
                insert_block="\n".join(shard_lines).encode() + b"\n",
                fmt="TabSeparated",
                settings={"async_insert": 0},
            )
    return [len(shard_lines) for shard_lines in lines]
