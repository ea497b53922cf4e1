"""Merges of the shards, held back: a merge heals a duplicate before anybody has seen it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from clickhouse_connect.driver.client import Client


@contextlib.contextmanager
def no_merges(shard_clients: list[Client]) -> Iterator[None]:
    """No merge within the block. No deletes in it: they wait for the merges."""
    for client in shard_clients:
        client.command("SYSTEM STOP MERGES")
    try:
        yield
    finally:
        for client in shard_clients:
            client.command("SYSTEM START MERGES")
