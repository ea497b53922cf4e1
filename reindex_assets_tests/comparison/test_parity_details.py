"""The comparison to the bit: the digest against an independent computation, values that are nearly equal, rows in flight.

What lives here: rows made by hand, each with one trap. What does not: planted drift (comparison/test_parity.py).
"""

from __future__ import annotations

import hashlib
import re
import struct
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.comparison import comparison
from reindex_assets.comparison.differences import DifferingRows, look_at_rows
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.default_tables import SCORE, SCORECARD
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice, Table
from reindex_assets.placement.resolver import GroupPlacement
from reindex_assets.postgres.session import SourceSession
from reindex_assets.selection.groups import SliceGroup, group_slices
from reindex_assets.selection.row_digest import shard_digest
from reindex_assets.selection.source_sql import source_scope
from reindex_assets_tests.support.comparing import compare, compare_settled
from reindex_assets_tests.support.hand_made_rows import Values, add_scorecard, reindex, succeeded, update_scorecard
from reindex_assets_tests.support.plain_loader import load_plainly

NOON = datetime(2026, 1, 5, 12, 0, 0, 250_001, UTC)
MICROSECOND = timedelta(microseconds=1)

pytestmark = pytest.mark.usefixtures("clean")

#: What a column held when ClickHouse was loaded, and what Postgres holds now: each pair differs as little as it can.
EDITS: list[tuple[Values, Values]] = [
    ({"score": 0.1}, {"score": 0.1 + 2**-56}),
    ({"score": 0.0}, {"score": "-0"}),
    ({"score": None}, {"score": 0.0}),
    ({"score": "NaN"}, {"score": None}),
    ({"creator_user_id": None}, {"creator_user_id": ""}),
    ({"creator_user_id": "~"}, {"creator_user_id": None}),
    ({"creator_user_id": "a"}, {"creator_user_id": "a "}),
    ({"creator_user_id": "caf\u00e9"}, {"creator_user_id": "cafe\u0301"}),
    ({"submitted_at": NOON}, {"submitted_at": NOON + MICROSECOND}),
    ({"submitted_at": None}, {"submitted_at": datetime(1970, 1, 1, tzinfo=UTC)}),
    ({"process_interaction_at": NOON}, {"process_interaction_at": NOON + MICROSECOND}),
    ({"submission_source": None}, {"submission_source": 0}),
    # The same texts in another division between neighbours.
    ({"agent_user_id": "a,b", "creator_user_id": "c"}, {"agent_user_id": "a", "creator_user_id": "b,c"}),
    ({"agent_user_id": "", "creator_user_id": "ab"}, {"agent_user_id": "ab", "creator_user_id": ""}),
    ({"agent_user_id": None, "creator_user_id": "~"}, {"agent_user_id": "~", "creator_user_id": None}),
    ({"agent_user_id": "a,1:b", "creator_user_id": "c"}, {"agent_user_id": "a", "creator_user_id": "b,1:c"}),
    ({"agent_user_id": "1:a", "creator_user_id": "~"}, {"agent_user_id": "1:a,~", "creator_user_id": None}),
]


def test_the_smallest_difference_in_a_value_is_seen(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    days = [NOON + timedelta(days=offset) for offset in range(len(EDITS))]
    ids = []
    for noon, (before, _) in zip(days, EDITS, strict=True):
        # A second row that stays as it is: the difference must show in the sum too.
        add_scorecard(source, noon)
        ids.append(add_scorecard(source, noon, scores=[{}]))
        update_scorecard(source, ids[-1], **_on_day(before, noon))
    load_plainly(source, shard_clients)
    slices = [Slice("acme", noon.date()) for noon in days]
    assert all(found.is_equal for found in compare(fleet.dataset(CLUSTER, PROCESS), slices))

    for noon, scorecard, (_, after) in zip(days, ids, EDITS, strict=True):
        update_scorecard(source, scorecard, **_on_day(after, noon))

    for found, edit in zip(compare(fleet.dataset(CLUSTER, PROCESS), slices), EDITS, strict=True):
        assert not found.is_equal, edit
        assert found.scorecards.counts_agree
        assert not found.scorecards.digests_agree, edit


def _on_day(values: Values, noon: datetime) -> dict[str, object]:
    """`process_interaction_at` moved from the day of NOON to the day of the row."""
    return {
        name: value + (noon - NOON) if name == "process_interaction_at" and isinstance(value, datetime) else value
        for name, value in values.items()
    }


def test_rows_that_cancel_out_in_the_counts_are_seen(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    one_for_another = add_scorecard(source, NOON, customer="acme")
    swapped = [add_scorecard(source, NOON, customer="globex", score=score) for score in (1.0, 2.0)]
    add_scorecard(source, NOON, customer="initech", scores=[{"comment": "kept"}, {"comment": "replaced"}])
    load_plainly(source, shard_clients)
    slices = [Slice(customer, NOON.date()) for customer in ("acme", "globex", "initech")]
    assert all(found.is_equal for found in compare(fleet.dataset(CLUSTER, PROCESS), slices))

    with source.cursor() as cursor:
        new = str(uuid4())
        for relation in ("director.scorecards", "historic.scorecard_scores"):
            cursor.execute(f"UPDATE {relation} SET scorecard_id = %s WHERE scorecard_id = %s", (new, one_for_another))
        cursor.execute("UPDATE historic.scorecard_scores SET score_id = %s WHERE comment = 'replaced'", (str(uuid4()),))
    for scorecard, score in zip(swapped, (2.0, 1.0), strict=True):
        update_scorecard(source, scorecard, score=score)

    acme, globex, initech = compare(fleet.dataset(CLUSTER, PROCESS), slices)
    assert all(table.counts_agree for found in (acme, globex, initech) for table in found.tables.values())
    assert _wrong(acme) == {"scorecard", "score"}
    assert _wrong(globex) == {"scorecard"}
    assert _wrong(initech) == {"score"}


def _wrong(found: SliceParity) -> set[str]:
    return {name for name, table in found.tables.items() if not table.digests_agree}


def test_equal_rows_with_strange_values_are_equal(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    texts = [
        "",
        " ",
        "~",
        "a,b",
        "1:a,~",
        'it\'s "quoted" \\ `',
        "日本語 👩‍👩‍👧‍👦 \u00e9 e\u0301",
        "\t\n\r\u0001",
        None,
    ]
    for text in texts:
        add_scorecard(
            source,
            NOON,
            agent_user_id=text,
            creator_user_id=text,
            scores=[{"text_value": text, "comment": text, "criterion_id": text or ""}],
        )
    for number in ("NaN", "Infinity", "-Infinity", "-0", "0", "5e-324", "1.7976931348623157e308", "0.1", None):
        values = dict.fromkeys(("numeric_value", "ai_value", "weight", "percentage"), number)
        add_scorecard(source, NOON, score=number, scores=[values])
    add_scorecard(source, "2299-12-31 00:00:00+00", submitted_at="1900-01-01 00:00:00.000001+00")
    load_plainly(source, shard_clients)

    found = compare(fleet.dataset(CLUSTER, PROCESS), [Slice("acme", NOON.date()), Slice("acme", date(2299, 12, 31))])

    assert [one.scorecards.postgres_rows for one in found] == [18, 1]
    assert all(one.is_equal for one in found)


def test_the_digests_of_both_engines_are_the_md5_of_the_text_that_is_documented(
    fleet: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    # One scorecard and one score a day, so that a slice's sum is a row's digest.
    rows: list[tuple[dict[str, Any], Values]] = [
        ({}, {}),
        ({"score": "-0", "submission_source": -3, "submitted_at": NOON}, {"numeric_value": "NaN", "comment": "ä, ~"}),
        ({"conversation_id": "c", "agent_user_id": None}, {"text_value": "", "auto_failed": True, "weight": 1e-7}),
    ]
    times: list[datetime | str] = ["1969-12-31 23:59:59.999999+00", NOON, "2299-12-31 23:59:59.999999+00"]
    for time, (card, score) in zip(times, rows, strict=True):
        add_scorecard(source, time, scores=[score], **card)
    days = [date(1969, 12, 31), NOON.date(), date(2299, 12, 31)]
    old = fleet.model_copy(update={"first_day": days[0]})
    succeeded(reindex(old, [Slice("acme", day) for day in days]))

    for table in (SCORECARD, SCORE):
        expected = _independent_digests(source, table)
        assert len(set(expected.values())) == 3
        sql = f"SELECT toString(scorecard_id), {shard_digest(table)} FROM {table.name}"
        assert {card: digest for client in shard_clients for card, digest in client.query(sql).result_rows} == expected
        found: list[int] = []
        for day in days:
            [group] = group_slices([Slice("acme", day)], old.dataset(CLUSTER, PROCESS), {}, 1)
            with (
                SourceSession(fleet.clusters[CLUSTER].postgres) as session,
                session.snapshot(source_scope(group)),
                ShardSet(fleet.clusters[CLUSTER]) as shards,
            ):
                statement = comparison.source_digests(table, group, session, GroupPlacement(shards, group))
                found += [int(row["digest"]) for row in session.rows(statement)]
        assert sorted(found) == sorted(expected.values())


def _independent_digests(source: Connection, table: Table) -> dict[str, int]:
    """By scorecard: MD5 over the row's values as Python sees them, its first 8 bytes as a signed number.

    What a score copies from its scorecard enters as its own MD5, written as that signed number.
    """
    scorecard = ["agent_user_id", "creator_user_id", "submission_source", "process_interaction_at", "created_at"]
    columns = ["c.customer", "c.profile", "r.template_type", "c.scorecard_id::text", "c.template_id::text"]
    columns += ["c.template_revision_id::text", "coalesce(c.conversation_id, '')"]
    copied = 0
    if table is SCORECARD:
        columns += [f"c.{name}" for name in (*scorecard, "updated_at", "submitted_at", "score")]
    else:
        columns += ["c.agent_user_id", "c.process_interaction_at"]
        copied = len(columns)
        columns += ["s.score_id::text", "s.criterion_id"]
        columns += [f"s.{name}" for name in ("numeric_value", "ai_value", "text_value", "weight", "percentage")]
        columns += ["s.not_applicable", "s.auto_failed", "s.comment"]
    with source.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT {", ".join(columns)}
            FROM director.scorecards AS c
            JOIN director.scorecard_template_revisions AS r USING (customer, profile, template_id, template_revision_id)
            {"" if table is SCORECARD else "JOIN historic.scorecard_scores AS s USING (customer, profile, scorecard_id)"}
            """
        )
        return {row[3]: _digest([_digest(row[:copied]), *row[copied:]] if copied else row) for row in cursor.fetchall()}


def _digest(row: Iterable[object]) -> int:
    return int.from_bytes(hashlib.md5(",".join(map(_text, row)).encode()).digest()[:8], "big", signed=True)


def _text(value: object) -> str:
    if value is None:
        return "~"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return struct.pack(">d", value).hex()
    if isinstance(value, datetime):
        return struct.pack(">q", (value - datetime(2000, 1, 1, tzinfo=UTC)) // MICROSECOND).hex()
    # An id stands as it is: it has one length only.
    if isinstance(value, str) and not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value):
        return f"{len(value.encode())}:{value}"
    return str(value)


def test_a_row_on_its_way_is_no_drift_when_it_arrives_in_time(
    fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_scorecard(source, NOON)
    add_scorecard(source, NOON, customer="globex")
    load_plainly(source, shard_clients)
    late = add_scorecard(source, NOON, scores=[])
    slices = [Slice(customer, NOON.date()) for customer in ("acme", "globex")]

    assert [found.is_equal for found in compare_settled(fleet.dataset(CLUSTER, PROCESS), slices, settle_seconds=0)] == [
        False,
        True,
    ]
    assert [
        found.is_equal for found in compare_settled(fleet.dataset(CLUSTER, PROCESS), slices, settle_seconds=0.1)
    ] == [False, True]

    looked = threading.Event()
    looks: list[list[Slice]] = []
    monkeypatch.setattr(comparison, "look_at_rows", _announced(look_at_rows, looked, looks))
    writer = threading.Thread(target=_write_late, args=(source, shard_clients, late, looked))
    writer.start()
    found = compare_settled(fleet.dataset(CLUSTER, PROCESS), slices, settle_seconds=3.0)
    writer.join()

    assert [one.is_equal for one in found] == [True, True]
    assert found[0].differences is not None
    assert found[0].differences.in_flight == 1
    # The rows are looked at where the sums differed, and nowhere else.
    assert looks == [slices[:1], slices[:1]]


def test_rows_that_are_late_one_after_the_other_are_no_drift(
    fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_scorecard(source, NOON)
    load_plainly(source, shard_clients)
    item = Slice("acme", NOON.date())
    late = [add_scorecard(source, NOON, scores=[])]

    def writing_on(session: SourceSession, shards: ShardSet, group: SliceGroup, patience: float) -> DifferingRows:
        # The one arrives, and the next one is committed: the slice differs at both looks, by other rows.
        look = look_at_rows(session, shards, group, patience)
        _write(shard_clients, late[-1])
        late.append(add_scorecard(source, NOON, scores=[]))
        return look

    monkeypatch.setattr(comparison, "look_at_rows", writing_on)
    [found] = compare_settled(fleet.dataset(CLUSTER, PROCESS), [item], settle_seconds=0.1)
    assert len(late) == 3
    assert not found.sums_agree
    assert found.is_equal


def _announced(
    original: Callable[..., DifferingRows], looked: threading.Event, looks: list[list[Slice]]
) -> Callable[..., DifferingRows]:
    def announced(session: SourceSession, shards: ShardSet, group: SliceGroup, patience: float) -> DifferingRows:
        looks.append(group.slices)
        found = original(session, shards, group, patience)
        looked.set()
        return found

    return announced


def _write_late(source: Connection, shard_clients: list[Client], scorecard: str, looked: threading.Event) -> None:
    """What the real-time writer does: it adds the row a moment after the first look."""
    looked.wait(60)
    _write(shard_clients, scorecard)


def _write(shard_clients: list[Client], scorecard: str) -> None:
    shard = int(NOON.timestamp()) % len(shard_clients)
    shard_clients[shard].command(
        "INSERT INTO scorecard SELECT * REPLACE ({new:UUID} AS scorecard_id) FROM scorecard WHERE customer = 'acme'",
        parameters={"new": scorecard},
    )
