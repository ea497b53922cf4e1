"""The oracle of tests and demonstrations: does ClickHouse show exactly what Postgres holds? It shares no code with the product.

What lives here: the comparison, and words for each difference. What does not: reading (local/oracle/rows.py), any import from
reindex_assets (a mistake would then be made, and forgiven, on both sides), and any tolerance.

The lines of both engines are compared as sets, and only those that differ are read. Meant for a quiet database: it reads without a
snapshot.

    missing       a row that ClickHouse lacks
    extra         a row that Postgres has not
    changed       a row with another value in some column
    duplicated    the same row more than once
    wrong_shard   the right row where it does not belong
    stale         an old row, left on another day
    orphan_score  a score whose scorecard neither engine has
    appeal        a row of an appeal
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from itertools import chain

from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.local.oracle.rows import (
    COLUMNS,
    NULL,
    Identity,
    Row,
    at_home,
    clickhouse_lines,
    homes_of_conversations,
    parse,
    parsed,
    postgres_lines,
)

LISTED = 20
#: The scorecard_type and the template_type of a scorecard in Postgres.
_Types = tuple[int | None, int | None]


def assert_equal(
    source_connection: Connection,
    shard_clients: Sequence[Client],
    customers: Collection[str] | None = None,
    first_day: date | None = None,
    last_day: date | None = None,
    *,
    kind: str,
) -> None:
    """Fails with the first differences, if there are any. See `differences`."""
    lines = differences(source_connection, shard_clients, customers, first_day, last_day, kind=kind)
    if lines:
        rest = f"\n... and {len(lines) - LISTED} more" if len(lines) > LISTED else ""
        kinds = Counter(line.split(":", 1)[0] for line in lines)
        listed = "\n".join(lines[:LISTED])
        raise AssertionError(f"ClickHouse differs from Postgres in {len(lines)} rows: {dict(kinds)}\n{listed}{rest}")


def differences(
    source_connection: Connection,
    shard_clients: Sequence[Client],
    customers: Collection[str] | None = None,
    first_day: date | None = None,
    last_day: date | None = None,
    *,
    kind: str,
) -> list[str]:
    """Every difference between the scorecards of a kind in Postgres and what the shards show, with FINAL and without.

    Args:
        shard_clients: of all the shards, in their order.
        customers: only these.
        first_day: only rows of this day or later, in either engine.
        last_day: only rows of this day or before.
        kind: its name.
    """
    scope = (customers, first_day, last_day, kind)
    expected = {table: postgres_lines(source_connection, table, len(shard_clients), *scope) for table in COLUMNS}
    if kind == "conversation":
        homes = homes_of_conversations(shard_clients)
        expected = {table: {at_home(table, line, homes) for line in lines} for table, lines in expected.items()}
    views: list[list[str]] = []
    for final in (False, True):
        shown = {
            table: list(chain.from_iterable(
                clickhouse_lines(client, table, shard, final, *scope) for shard, client in enumerate(shard_clients)
            ))
            for table in COLUMNS
        }  # fmt: skip
        views.append(_compare(source_connection, expected, shown))
    plain, with_final = views
    # Lists, not sets: a row that is there three times is two differences.
    only_final, only_plain = Counter(with_final) - Counter(plain), Counter(plain) - Counter(with_final)
    return [
        *(f"{line} (without FINAL only)" if line in only_plain else line for line in plain),
        *(f"{line} (with FINAL only)" for line in only_final.elements()),
    ]


def _compare(
    connection: Connection, expected: Mapping[str, set[bytes]], shown: Mapping[str, Sequence[bytes]]
) -> list[str]:
    """The differences of one view (with FINAL or without)."""
    distinct = {table: set(lines) for table, lines in shown.items()}
    missing = {table: parsed(table, expected[table] - distinct[table]) for table in COLUMNS}
    extra = {table: parsed(table, distinct[table] - expected[table]) for table in COLUMNS}
    words = [
        f"duplicated: {parse(table, line)}: {count} times on shard {parse(table, line).shard}"
        for table, lines in shown.items()
        if len(lines) > len(distinct[table])
        for line, count in sorted(Counter(lines).items())
        if count > 1
    ]
    if not any(chain(missing.values(), extra.values())):
        return words
    types = _types_of_scorecards(connection, {row.scorecard for rows in extra.values() for row in rows})
    shown_scorecards = {tuple(line.split(b"\t", 4)[1:4]) for line in distinct["scorecard"]}
    for table in COLUMNS:
        wanted = {row.scorecard for row in extra[table]}
        # Parsing is for the few lines that matter.
        lines = (line for line in expected[table] if tuple(line.split(b"\t", 4)[1:4]) in wanted)
        rightful = {row.identity: row for row in parsed(table, lines)}
        absent = {row.identity for row in missing[table]}
        explained: set[Identity] = set()
        for row in extra[table]:
            right, is_absent = rightful.get(row.identity), row.identity in absent
            if right is None:
                words.append(_describe_unwanted(row, types.get(row.scorecard), row.scorecard in shown_scorecards))
                continue
            explained.add(row.identity)
            if row.values == right.values:
                also = "" if is_absent else ", and there too"
                words.append(f"wrong_shard: {row}: on shard {row.shard}, belongs on shard {right.shard}{also}")
            elif row.day != right.day:
                also = ", where it is missing" if is_absent else ", where it is too"
                words.append(
                    f"stale: {row}: on shard {row.shard}, though Postgres has it on {right.day}, shard {right.shard}{also}"
                )
            else:
                also = "" if is_absent else ", beside the right row"
                elsewhere = f" (belongs on shard {right.shard})" if right.shard != row.shard else ""
                words.append(f"changed: {row}: on shard {row.shard}{elsewhere}{also}: {_unequal_columns(right, row)}")
        words += [
            f"missing: {row}: not on shard {row.shard}" for row in missing[table] if row.identity not in explained
        ]
    return words


def _describe_unwanted(row: Row, types: _Types | None, scorecard_is_shown: bool) -> str:
    where = f"{row}: on shard {row.shard}"
    if types is None:
        if row.table == "score" and not scorecard_is_shown:
            return f"orphan_score: {where}: neither engine has its scorecard"
        return f"extra: {where}: Postgres has no such scorecard"
    scorecard_type, template_type = types
    if scorecard_type in (1, 2, 3):
        return f"appeal: {where}: scorecard_type {scorecard_type} never belongs in ClickHouse"
    if str(template_type).encode() != row["template_type"]:
        return f"extra: {where}: its template type is {template_type} in Postgres"
    return f"extra: {where}: Postgres has the scorecard, but not this row here"


def _unequal_columns(right: Row, row: Row) -> str:
    return "; ".join(
        f"{name}: Postgres {_readable(kind, mine)}, ClickHouse {_readable(kind, theirs)}"
        for (name, kind, _), mine, theirs in zip(COLUMNS[row.table], right.values, row.values, strict=True)
        if mine != theirs
    )


def _readable(kind: str, value: bytes) -> str:
    if value == NULL:
        return "NULL"
    text = value.decode()
    if kind == "text":
        shown = bytes.fromhex(text).decode("utf-8", "replace")
        return repr(shown if len(shown) <= 60 else f"{shown[:40]}...{shown[-15:]}")
    if kind == "float":
        return f"{struct.unpack('>d', bytes.fromhex(text))[0]!r} (0x{text})"
    return f"{text} us" if kind == "time" else text


def _types_of_scorecards(connection: Connection, identities: Collection[Identity]) -> dict[Identity, _Types]:
    """What Postgres has under these identities, of whatever day and type."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT encode(convert_to(c.customer, 'UTF8'), 'hex'), encode(convert_to(c.profile, 'UTF8'), 'hex'),
                c.scorecard_id::text, c.scorecard_type, r.template_type
            FROM director.scorecards AS c
            LEFT JOIN director.scorecard_template_revisions AS r
                USING (customer, profile, template_id, template_revision_id)
            WHERE c.scorecard_id = ANY (%s::uuid[])
            """,
            ([identity[2].decode() for identity in identities],),
        )
        return {
            (customer.encode(), profile.encode(), scorecard_id.encode()): (scorecard_type, template_type)
            for customer, profile, scorecard_id, scorecard_type, template_type in cursor.fetchall()
        }
