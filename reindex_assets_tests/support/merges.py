"""Merges of the shards: held back (a merge heals a duplicate before anybody has seen it), asked
for, and one that hides that a part is gone.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence

from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.config.default_tables import TABLES
from reindex_assets.model import Slice
from reindex_assets_tests.support import application


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


@contextlib.contextmanager
def merges_put_off(shard_clients: list[Client]) -> Iterator[None]:
    """No merge of the live tables within the block, and deletes as ever."""
    tables = ("scorecard", "score")
    for client, table in itertools.product(shard_clients, tables):
        client.command(f"ALTER TABLE {table} MODIFY SETTING min_parts_to_merge_at_once = 1000")
    try:
        yield
    finally:
        for client, table in itertools.product(shard_clients, tables):
            client.command(f"ALTER TABLE {table} RESET SETTING min_parts_to_merge_at_once")


def merge_all(shard_clients: Sequence[Client]) -> None:
    """What a newer version has superseded, and a duplicate, is folded away."""
    for client in shard_clients:
        for table in TABLES:
            client.command(f"OPTIMIZE TABLE {table.name} FINAL")


def merge_over_a_dropped_part(
    source: Connection, shard_clients: list[Client], slices: Sequence[Slice], before_the_drop: Callable[[], None]
) -> Slice:
    """Scores go with a dropped part between two others, and a merge over the gap hides it: of the list of parts, nothing tells.

    Args:
        before_the_drop: called when the parts are written and none has gone.

    Returns:
        The slice whose scores have gone.
    """
    # Blocks are numbered over all months of a table: only in the month that was loaded last the next ones leave no gap.
    last = (
        "SELECT partition_id FROM system.parts WHERE active AND table = 'score' ORDER BY max_block_number DESC LIMIT 1"
    )
    months = [client.query(last).result_rows[0][0] for client in shard_clients]
    written: dict[int, list[application.Scorecard]] = {}
    with no_merges(shard_clients):
        for item in slices:
            new = application.copy_as_new(source, application.scorecards_of(source, item)[0])
            rows = application.read_as_application(source, new, len(shard_clients))
            if f"{item.day:%Y%m}" != months[rows.shard]:
                application.delete(source, new)
                continue
            rows.write(shard_clients)
            written.setdefault(rows.shard, []).append(new)
            if len(written[rows.shard]) == 2:
                break
        first, _ = written[rows.shard]
        client = shard_clients[rows.shard]
        before_the_drop()
        [(part,)] = client.query(
            "SELECT DISTINCT _part FROM score WHERE customer = {customer:String} AND scorecard_id = {id:UUID}",
            parameters={"customer": first.customer, "id": first.scorecard_id},
        ).result_rows
        client.command(f"ALTER TABLE score DROP PART '{part}'")
    client.command("OPTIMIZE TABLE score FINAL")
    return first.slice
