"""The rows on which drift is planted, and the statements that plant it.

What lives here: choosing scorecards of a slice, and copying and deleting their rows, on one shard or on another. What does not: the
kinds of drift (local/drift/plant.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING
from uuid import UUID

from reindex_assets.model import Kind

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: No deduplication, which would silently drop a copy; and everything is done when a statement returns.
SETTINGS = {"insert_deduplicate": 0, "async_insert": 0, "mutations_sync": 2, "lightweight_deletes_sync": 2}

VICTIM_ROWS = """customer = {customer:String} AND template_type = {template_type:UInt8} AND day = toDate32({day:String})
    AND profile = {profile:String} AND scorecard_id = {scorecard_id:UUID}"""


@dataclass(frozen=True)
class Victim:
    """A scorecard of the slice; `seed` is the seed of the call, and `number` counts the call's victims."""

    customer: str
    day: date
    profile: str
    scorecard_id: UUID
    shard: int
    epoch_microseconds: int
    seed: int
    number: int
    kind: Kind

    def derived_id(self) -> UUID:
        """An id that neither engine has; the same seed gives the same id."""
        return UUID(hashlib.md5(f"{self.seed} {self.profile} {self.scorecard_id}".encode()).hexdigest())

    def parameters(self) -> dict[str, object]:
        return {
            "customer": self.customer,
            "template_type": self.kind.template_type,
            "day": self.day.isoformat(),
            "profile": self.profile,
            "scorecard_id": str(self.scorecard_id),
        }


def choose_victims(
    clients: Sequence[Client], customer: str, day: date, count: int, seed: int, kind: Kind, *, drift: int, drifts: int
) -> list[Victim]:
    """Scorecards of a slice, chosen by the seed; those first that no other of the `drifts` prefers.

    Raises:
        LookupError: there are fewer.
    """
    candidates = []
    for shard, client in enumerate(clients):
        rows = client.query(
            """
            SELECT
                sipHash64(profile, scorecard_id) % {drifts:UInt8} != {drift:UInt8} AS second_choice,
                sipHash64(scorecard_id, profile, {seed:Int64}) AS place,
                profile,
                toString(scorecard_id),
                toUnixTimestamp64Micro(scorecard_time)
            FROM scorecard FINAL
            WHERE customer = {customer:String} AND template_type = {template_type:UInt8} AND day = toDate32({day:String})
            ORDER BY second_choice, place
            LIMIT {count:UInt32}
            """,
            parameters={
                "drifts": drifts,
                "drift": drift,
                "seed": seed,
                "customer": customer,
                "template_type": kind.template_type,
                "day": day.isoformat(),
                "count": count,
            },
        ).result_rows
        candidates += [(*row, shard) for row in rows]
    if len(candidates) < count:
        raise LookupError(
            f"{customer} {day}: only {len(candidates)} {kind.name} scorecards in ClickHouse, and {count} are needed"
        )
    return [
        Victim(customer, day, profile, UUID(scorecard_id), shard, microseconds, seed, number, kind)
        for number, (_, _, profile, scorecard_id, microseconds, shard) in enumerate(sorted(candidates)[:count])
    ]


def copy_rows(
    clients: Sequence[Client],
    table: str,
    victim: Victim,
    *,
    replace: Mapping[str, str] | None = None,
    condition: str = "1",
    target: int | None = None,
    parameters: Mapping[str, object] | None = None,
) -> None:
    """Inserts the victim's visible rows again, with some columns replaced, on its own shard or on another."""
    columns = f"REPLACE ({', '.join(f'{value} AS {name}' for name, value in replace.items())})" if replace else ""
    # The inner SELECT keeps the condition away from the replaced columns, which have the same names.
    rows = clients[victim.shard].raw_query(
        f"SELECT * {columns} FROM (SELECT * FROM {table} FINAL WHERE {VICTIM_ROWS} AND {condition})",
        parameters={**victim.parameters(), **(parameters or {})},
        fmt="Native",
    )
    shard = victim.shard if target is None else target
    clients[shard].raw_insert(table, insert_block=rows, fmt="Native", settings=SETTINGS)


def delete_rows(
    client: Client, table: str, victim: Victim, condition: str = "1", parameters: Mapping[str, object] | None = None
) -> None:
    client.command(
        f"DELETE FROM {table} WHERE {VICTIM_ROWS} AND {condition}",
        parameters={**victim.parameters(), **(parameters or {})},
        settings=SETTINGS,
    )


def score_id_of(clients: Sequence[Client], victim: Victim) -> str:
    query = f"SELECT toString(score_id) FROM score FINAL WHERE {VICTIM_ROWS} ORDER BY sipHash64(score_id, {{seed:Int64}}) LIMIT 1"
    rows = clients[victim.shard].query(query, {**victim.parameters(), "seed": victim.seed}).result_rows
    if not rows:
        raise LookupError(f"{victim.customer} {victim.day}: scorecard {victim.scorecard_id} has no score")
    return str(rows[0][0])


def has_rows(clients: Sequence[Client], victim: Victim, day: date) -> bool:
    """Whether the victim's customer has scorecards of its kind on another day."""
    query = """SELECT count() FROM scorecard
        WHERE customer = {customer:String} AND template_type = {template_type:UInt8} AND day = toDate32({day:String})"""
    parameters = {**victim.parameters(), "day": day.isoformat()}
    return any(client.query(query, parameters=parameters).result_rows[0][0] for client in clients)
