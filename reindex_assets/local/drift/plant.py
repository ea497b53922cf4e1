"""Plants known drift in ClickHouse, so that tests and demonstrations know what is wrong.

What lives here: each kind of drift, planted with plain SQL on rows of a slice (customer, day, kind), and a description of it. What does
not: the product's own reading and writing (its mistakes must not hide here), the statements (local/drift/rows.py), a column's wrong value
(local/drift/changes.py), appeals (local/drift/appeals.py), and made data.

A planted row has its original's version, or the next one, so that it is never newer than a run's snapshot.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from reindex_assets.config.default_tables import TABLES
from reindex_assets.local.drift.appeals import appeals_of, insert_appeal
from reindex_assets.local.drift.changes import CHANGES
from reindex_assets.local.drift.rows import (
    VICTIM_ROWS,
    Victim,
    choose_victims,
    copy_rows,
    delete_rows,
    has_rows,
    score_id_of,
)
from reindex_assets.model import Kind

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from psycopg2.extensions import connection as Connection

#: A visible scorecard has its scores, so they are inserted first and deleted last.
INSERT_ORDER = tuple(table.name for table in TABLES)
DELETE_ORDER = INSERT_ORDER[::-1]


class Drift(enum.StrEnum):
    """What can be wrong with a slice.

    MISSING: a scorecard and its scores are missing; with an even seed, only one of its scores.
    EXTRA: a scorecard with scores that Postgres never had.
    CHANGED: one column of a scorecard or of a score has another value, under a higher version. The seed chooses the column of the first
        victim; each further victim has the next column.
    DUPLICATED: a scorecard row (with an even seed: a score row) exists twice, with the same key and version. FINAL hides it, and a merge of
        the two parts may remove it at any time.
    WRONG_SHARD: a scorecard and its scores are on another shard than they should be.
    STALE_AFTER_MOVE: a copy of a scorecard and its scores is on the day before or after, as if Postgres had moved them and nobody had
        deleted the old rows.
    ORPHAN_SCORE: scores of a scorecard that neither engine has.
    APPEAL: an appeal's scorecard with its scores, as in Postgres.
    """

    MISSING = "missing"
    EXTRA = "extra"
    CHANGED = "changed"
    DUPLICATED = "duplicated"
    WRONG_SHARD = "wrong_shard"
    STALE_AFTER_MOVE = "stale_after_move"
    ORPHAN_SCORE = "orphan_score"
    APPEAL = "appeal"


@dataclass(frozen=True)
class PlantedDrift:
    """One scorecard that ClickHouse now shows wrongly.

    Attributes:
        day: the day of the wrong slice; for STALE_AFTER_MOVE the day of the copy, not that of the original.
        shard: the shard that has, or had, the wrong rows.
        detail: what was done, in words.
        tables: the tables with wrong rows.
    """

    drift: Drift
    customer: str
    day: date
    scorecard_id: UUID
    shard: int
    detail: str
    profile: str
    tables: tuple[str, ...]


def plant(
    drift: Drift,
    shard_clients: Sequence[Client],
    customer: str,
    day: date,
    count: int = 1,
    seed: int = 1,
    source: Connection | None = None,
    *,
    kind: Kind,
) -> list[PlantedDrift]:
    """Plants one kind of drift on `count` scorecards of a slice.

    Different kinds of drift prefer different scorecards, so a slice can have several of them, but not the same one twice.

    Args:
        shard_clients: of all shards, in their order.
        seed: chooses the scorecards, and the variant of the drift.
        source: the Postgres source, from which APPEAL takes its rows.
        kind: the kind of the scorecards.

    Raises:
        LookupError: the slice has fewer scorecards.
        ValueError: the drift needs a source or a second shard.
    """
    if drift is Drift.APPEAL:
        return _appeal(shard_clients, customer, day, count, seed, source, kind)
    if drift is Drift.WRONG_SHARD and len(shard_clients) < 2:
        raise ValueError("wrong_shard needs a second shard")
    victims = choose_victims(
        shard_clients, customer, day, count, seed, kind, drift=list(Drift).index(drift), drifts=len(Drift)
    )
    return [_PLANTERS[drift](shard_clients, victim) for victim in victims]


def _planted(drift: Drift, victim: Victim, detail: str, tables: tuple[str, ...] = INSERT_ORDER) -> PlantedDrift:
    return PlantedDrift(
        drift, victim.customer, victim.day, victim.scorecard_id, victim.shard, detail, victim.profile, tables
    )


def _missing(clients: Sequence[Client], victim: Victim) -> PlantedDrift:
    if victim.seed % 2:
        for table in DELETE_ORDER:
            delete_rows(clients[victim.shard], table, victim)
        return _planted(Drift.MISSING, victim, "the scorecard and its scores were deleted")
    score_id = score_id_of(clients, victim)
    delete_rows(clients[victim.shard], "score", victim, "score_id = {score_id:UUID}", {"score_id": score_id})
    return _planted(Drift.MISSING, victim, f"its score {score_id} was deleted", ("score",))


def _extra(clients: Sequence[Client], victim: Victim) -> PlantedDrift:
    new = victim.derived_id()
    for table in INSERT_ORDER:
        copy_rows(clients, table, victim, replace=_new_ids(table), parameters={"new_id": str(new)})
    detail = f"a copy of scorecard {victim.scorecard_id} with its scores was added under a new id"
    return replace(_planted(Drift.EXTRA, victim, detail), scorecard_id=new)


def _orphan_score(clients: Sequence[Client], victim: Victim) -> PlantedDrift:
    new = victim.derived_id()
    copy_rows(clients, "score", victim, replace=_new_ids("score"), parameters={"new_id": str(new)})
    detail = f"copies of the scores of {victim.scorecard_id} were added under the id of no scorecard"
    return replace(_planted(Drift.ORPHAN_SCORE, victim, detail, ("score",)), scorecard_id=new)


def _changed(clients: Sequence[Client], victim: Victim) -> PlantedDrift:
    change = CHANGES[(victim.seed + victim.number) % len(CHANGES)]
    client = clients[victim.shard]
    condition, parameters, of = "1", {}, ""
    if change.table == "score":
        score_id = score_id_of(clients, victim)
        condition, parameters, of = "score_id = {score_id:UUID}", {"score_id": score_id}, f" of score {score_id}"
    version = client.query(
        f"SELECT max(version) FROM {change.table} WHERE {VICTIM_ROWS} AND {condition}",
        parameters={**victim.parameters(), **parameters},
    ).result_rows[0][0]
    wrong = {change.column: change.expression, "version": "version + 1"}
    copy_rows(clients, change.table, victim, replace=wrong, condition=condition, parameters=parameters)
    parameters = {**parameters, "old_version": version}
    delete_rows(client, change.table, victim, f"{condition} AND version <= {{old_version:UInt64}}", parameters)
    return _planted(Drift.CHANGED, victim, f"{change.column}{of} was changed: {change.words}", (change.table,))


def _duplicated(clients: Sequence[Client], victim: Victim) -> PlantedDrift:
    if victim.seed % 2:
        copy_rows(clients, "scorecard", victim)
        return _planted(Drift.DUPLICATED, victim, "the scorecard row was inserted again", ("scorecard",))
    score_id = score_id_of(clients, victim)
    copy_rows(clients, "score", victim, condition="score_id = {score_id:UUID}", parameters={"score_id": score_id})
    return _planted(Drift.DUPLICATED, victim, f"the row of score {score_id} was inserted again", ("score",))


def _wrong_shard(clients: Sequence[Client], victim: Victim) -> PlantedDrift:
    target = (victim.shard + 1 + (victim.seed + victim.number) % (len(clients) - 1)) % len(clients)
    for table in INSERT_ORDER:
        copy_rows(clients, table, victim, target=target)
    for table in DELETE_ORDER:
        delete_rows(clients[victim.shard], table, victim)
    detail = f"the scorecard and its scores were moved from shard {victim.shard} to shard {target}"
    return replace(_planted(Drift.WRONG_SHARD, victim, detail), shard=target)


def _stale_after_move(clients: Sequence[Client], victim: Victim) -> PlantedDrift:
    step = 1 if (victim.seed + victim.number) % 2 else -1
    neighbours = [victim.day + timedelta(days=step), victim.day - timedelta(days=step)]
    # A day on which the customer has rows, if possible: the first and the last day have only one such neighbour.
    day = next((neighbour for neighbour in neighbours if has_rows(clients, victim, neighbour)), neighbours[0])
    day_microseconds = 86_400_000_000
    number, within = divmod(victim.epoch_microseconds, day_microseconds)
    # One second later within the day, so that the copy is on another shard too.
    moved = (number + (day - victim.day).days) * day_microseconds + (within + 1_000_000) % day_microseconds
    # A conversation stays on its shard.
    target = victim.shard if victim.kind.is_of_conversations else moved // 1_000_000 % len(clients)
    time = {"scorecard_time": "fromUnixTimestamp64Micro({moved:Int64}, 'UTC')"}
    for table in INSERT_ORDER:
        copy_rows(clients, table, victim, replace=time, target=target, parameters={"moved": moved})
    detail = f"a copy of the scorecard and its scores, which belong on {victim.day}, shard {victim.shard}, was added"
    return replace(_planted(Drift.STALE_AFTER_MOVE, victim, detail), day=day, shard=target)


_PLANTERS: Mapping[Drift, Callable[[Sequence[Client], Victim], PlantedDrift]] = {
    Drift.MISSING: _missing,
    Drift.EXTRA: _extra,
    Drift.CHANGED: _changed,
    Drift.DUPLICATED: _duplicated,
    Drift.WRONG_SHARD: _wrong_shard,
    Drift.STALE_AFTER_MOVE: _stale_after_move,
    Drift.ORPHAN_SCORE: _orphan_score,
}


def _appeal(
    clients: Sequence[Client], customer: str, day: date, count: int, seed: int, source: Connection | None, kind: Kind
) -> list[PlantedDrift]:
    if source is None:
        raise ValueError("appeal needs the source: it copies rows of Postgres")
    planted = []
    for appeal in appeals_of(source, customer, day, count, seed, kind):
        shard = appeal.epoch_seconds % len(clients)
        insert_appeal(source, clients[shard], customer, appeal, kind)
        detail = f"an appeal (scorecard_type {appeal.scorecard_type}) with its scores was copied from Postgres"
        planted.append(
            PlantedDrift(Drift.APPEAL, customer, day, appeal.scorecard_id, shard, detail, appeal.profile, INSERT_ORDER)
        )
    return planted


def _new_ids(table: str) -> dict[str, str]:
    ids = {"scorecard_id": "{new_id:UUID}"}
    if table == "score":
        ids["score_id"] = "reinterpretAsUUID(MD5(concat({new_id:String}, toString(score_id))))"
    return ids
