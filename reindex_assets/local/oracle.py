"""The oracle of tests and demonstrations: does ClickHouse show exactly what Postgres holds? It shares no code with the product.

What lives here: its own column list, its own SQL, its own shard rule, and words for each difference. What does not: any
import from reindex_assets (a mistake would then be made, and forgiven, on both sides), and any tolerance.

Both engines write each row as one line of text in which equal values, and only those, look equal: texts as hex, so that
nothing is escaped, trimmed or taken for NULL; floats as the hex of their bits; times as whole microseconds. The lines
are compared as sets, and only those that differ are read. Meant for a quiet database: it reads without a snapshot.

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

import io
import struct
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import chain

from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

LISTED = 20

# (column in ClickHouse, kind of value, expression in Postgres); what identifies a row comes first.
_IDENTITY = (
    ("customer", "text", "c.customer"),
    ("profile", "text", "c.profile"),
    ("scorecard_id", "plain", "c.scorecard_id"),
)
_SHARED = (
    ("template_type", "plain", "r.template_type"),
    ("template_id", "plain", "c.template_id"),
    ("template_revision_id", "plain", "c.template_revision_id"),
    ("conversation_id", "text", "coalesce(c.conversation_id, '')"),
    ("agent_user_id", "text", "c.agent_user_id"),
    ("scorecard_time", "time", "c.process_interaction_at"),
)
_COLUMNS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "scorecard": (
        *_IDENTITY,
        *_SHARED,
        ("creator_user_id", "text", "c.creator_user_id"),
        ("submission_source", "plain", "c.submission_source"),
        ("created_at", "time", "c.created_at"),
        ("updated_at", "time", "c.updated_at"),
        ("submitted_at", "time", "c.submitted_at"),
        ("score", "float", "c.score"),
    ),
    "score": (
        *_IDENTITY,
        ("score_id", "plain", "s.score_id"),
        *_SHARED,
        ("criterion_id", "text", "s.criterion_id"),
        ("numeric_value", "float", "s.numeric_value"),
        ("ai_value", "float", "s.ai_value"),
        ("text_value", "text", "s.text_value"),
        ("weight", "float", "s.weight"),
        ("percentage", "float", "s.percentage"),
        ("not_applicable", "bool", "s.not_applicable"),
        ("auto_failed", "bool", "s.auto_failed"),
        ("comment", "text", "s.comment"),
    ),
}
_IDENTITY_LENGTH = {"scorecard": 3, "score": 4}
_POSTGRES_TEXT = {
    "text": "encode(convert_to({0}, 'UTF8'), 'hex')",
    "plain": "({0})::text",
    "bool": "({0})::int::text",
    "float": "encode(float8send({0}), 'hex')",
    "time": "trim_scale(extract(epoch FROM {0}) * 1000000)::text",
}
_CLICKHOUSE_TEXT = {
    "text": "lower(hex({0}))",
    "plain": "toString({0})",
    "bool": "toString(toUInt8({0}))",
    "float": "lower(leftPad(hex(reinterpretAsUInt64({0})), 16, '0'))",
    "time": "toString(toUnixTimestamp64Micro({0}))",
}
_POSTGRES_FROM = {
    "scorecard": "director.scorecards AS c",
    "score": "director.scorecards AS c JOIN historic.scorecard_scores AS s USING (customer, profile, scorecard_id)",
}
_NULL = b"\\N"
_TYPES = {"conversation": 1, "process": 2}

Identity = tuple[bytes, ...]


@dataclass(frozen=True)
class _Row:
    """One row, of either engine: its shard and its values as the text that both engines write."""

    table: str
    shard: int
    values: tuple[bytes, ...]

    @property
    def identity(self) -> Identity:
        return self.values[: _IDENTITY_LENGTH[self.table]]

    @property
    def scorecard(self) -> Identity:
        return self.values[:3]

    @property
    def time(self) -> bytes:
        return self.values[[name for name, _, _ in _COLUMNS[self.table]].index("scorecard_time")]

    @property
    def day(self) -> str:
        try:
            return str((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(self.time))).date())
        except (ValueError, OverflowError):
            return f"at {self.time.decode()} us"

    def __str__(self) -> str:
        customer, profile = (bytes.fromhex(value.decode()).decode() for value in self.values[:2])
        ids = " ".join(value.decode() for value in self.identity[2:])
        return f"{self.table} {customer}/{profile} {ids} of {self.day}"


@dataclass(frozen=True)
class _Known:
    """What Postgres knows of a scorecard that ClickHouse shows wrongly."""

    scorecard_type: int | None
    template_type: int | None


def assert_equal(
    source_connection: Connection,
    shard_clients: Sequence[Client],
    customers: Collection[str] | None = None,
    first_day: date | None = None,
    last_day: date | None = None,
    kind: str = "process",
) -> None:
    """Fails with the first differences, if there are any. See `differences`."""
    found = differences(source_connection, shard_clients, customers, first_day, last_day, kind)
    if found:
        rest = f"\n... and {len(found) - LISTED} more" if len(found) > LISTED else ""
        kinds = Counter(line.split(":", 1)[0] for line in found)
        listed = "\n".join(found[:LISTED])
        raise AssertionError(f"ClickHouse differs from Postgres in {len(found)} rows: {dict(kinds)}\n{listed}{rest}")


def differences(
    source_connection: Connection,
    shard_clients: Sequence[Client],
    customers: Collection[str] | None = None,
    first_day: date | None = None,
    last_day: date | None = None,
    kind: str = "process",
) -> list[str]:
    """Every difference between the scorecards of a kind in Postgres and what the shards show, with FINAL and without.

    Args:
        shard_clients: of all the shards, in their order.
        customers: only these.
        first_day: only rows that stand on this day or later, in either engine.
        last_day: only rows that stand on this day or before.
        kind: "process" or "conversation".
    """
    scope = (customers, first_day, last_day, kind)
    expected = {table: _postgres_lines(source_connection, table, len(shard_clients), *scope) for table in _COLUMNS}
    if kind == "conversation":
        homes = _homes(shard_clients)
        expected = {table: {_at_home(table, line, homes) for line in lines} for table, lines in expected.items()}
    views: list[list[str]] = []
    for final in (False, True):
        found = {
            table: list(chain.from_iterable(
                _clickhouse_lines(client, table, shard, final, *scope) for shard, client in enumerate(shard_clients)
            ))
            for table in _COLUMNS
        }  # fmt: skip
        views.append(_compare(source_connection, expected, found))
    plain, with_final = views
    # Lists, not sets: a row that is there three times is two differences.
    only_final, only_plain = Counter(with_final) - Counter(plain), Counter(plain) - Counter(with_final)
    return [
        *(f"{line} (without FINAL only)" if line in only_plain else line for line in plain),
        *(f"{line} (with FINAL only)" for line in only_final.elements()),
    ]


def _postgres_lines(
    connection: Connection,
    table: str,
    shard_count: int,
    customers: Collection[str] | None,
    first_day: date | None,
    last_day: date | None,
    kind: str,
) -> set[bytes]:
    of_chats = kind == "conversation"
    time = "chat.conversation_start_time" if of_chats else "c.process_interaction_at"
    values = ", ".join(
        _POSTGRES_TEXT[form].format(time if name == "scorecard_time" else source)
        for name, form, source in _COLUMNS[table]
    )
    # floor, because a cast rounds; and once more mod, because the rest of a negative number is negative.
    seconds = f"floor(extract(epoch FROM {time}))::bigint"
    chats = (
        "JOIN app.chats AS chat ON (chat.customer, chat.profile, chat.conversation_id)"
        " = (c.customer, c.profile, c.conversation_id)"
    )
    with connection.cursor() as cursor:
        query = cursor.mogrify(
            f"""
            COPY (
                SELECT mod(mod({seconds}, %(shards)s) + %(shards)s, %(shards)s), {values}
                FROM {_POSTGRES_FROM[table]}
                JOIN director.scorecard_template_revisions AS r
                    ON (r.customer, r.profile, r.template_id, r.template_revision_id)
                    = (c.customer, c.profile, c.template_id, c.template_revision_id)
                {chats if of_chats else ""}
                WHERE r.template_type = {_TYPES[kind]}
                    AND (c.scorecard_type IS NULL OR c.scorecard_type = 0)
                    AND {time} >= %(first)s
                    AND {time} < %(end)s
                    AND (%(customers)s::text[] IS NULL OR c.customer = ANY (%(customers)s::text[]))
            ) TO STDOUT
            """,
            {
                "shards": shard_count,
                "first": f"{first_day or date(1900, 1, 1)} 00:00:00+00",
                "end": f"{last_day + timedelta(days=1) if last_day else date(2300, 1, 1)} 00:00:00+00",
                "customers": None if customers is None else list(customers),
            },
        )
        buffer = io.BytesIO()
        cursor.copy_expert(query.decode(), buffer)
    return set(buffer.getvalue().split(b"\n")) - {b""}


def _clickhouse_lines(
    client: Client,
    table: str,
    shard: int,
    final: bool,
    customers: Collection[str] | None,
    first_day: date | None,
    last_day: date | None,
    of_kind: str,
) -> list[bytes]:
    values = ", ".join(_CLICKHOUSE_TEXT[kind].format(f"t.{name}") for name, kind, _ in _COLUMNS[table])
    # The other kind of scorecard is not ours to judge. A value of neither is wrong.
    conditions = ["t.template_type != 1" if of_kind == "process" else "t.template_type = 1"]
    parameters: dict[str, object] = {}
    if customers is not None:
        conditions.append("t.customer IN {customers:Array(String)}")
        parameters["customers"] = list(customers)
    if first_day:
        conditions.append(f"t.scorecard_time >= toDateTime64('{first_day} 00:00:00', 6, 'UTC')")
    if last_day:
        conditions.append(f"t.scorecard_time < toDateTime64('{last_day + timedelta(days=1)} 00:00:00', 6, 'UTC')")
    raw = client.raw_query(
        f"SELECT {shard}, {values} FROM {table} AS t {'FINAL' if final else ''} WHERE {' AND '.join(conditions)}",
        parameters=parameters,
        fmt="TabSeparated",
    )
    return [line for line in raw.split(b"\n") if line]


def _homes(shard_clients: Sequence[Client]) -> dict[tuple[bytes, ...], bytes]:
    """The shard of each conversation, the first one that has it: by customer, profile and id in hex."""
    found: dict[tuple[bytes, ...], bytes] = {}
    for shard, client in enumerate(shard_clients):
        raw = client.raw_query(
            "SELECT lower(hex(customer)), lower(hex(profile)), lower(hex(conversation_id)) FROM conversation",
            fmt="TabSeparated",
        )
        for line in raw.splitlines():
            found.setdefault(tuple(line.split(b"\t")), str(shard).encode())
    return found


def _at_home(table: str, line: bytes, homes: Mapping[tuple[bytes, ...], bytes]) -> bytes:
    """A line of Postgres with the shard that holds its conversation, if one does."""
    shard, *values = line.split(b"\t")
    place = [name for name, _, _ in _COLUMNS[table]].index("conversation_id")
    return b"\t".join((homes.get((values[0], values[1], values[place]), shard), *values))


def _compare(
    connection: Connection, expected: Mapping[str, set[bytes]], found: Mapping[str, Sequence[bytes]]
) -> list[str]:
    """The differences of one view (with FINAL or without)."""
    distinct = {table: set(lines) for table, lines in found.items()}
    missing = {table: _rows(table, expected[table] - distinct[table]) for table in _COLUMNS}
    extra = {table: _rows(table, distinct[table] - expected[table]) for table in _COLUMNS}
    words = [
        f"duplicated: {_parse(table, line)}: {count} times on shard {_parse(table, line).shard}"
        for table, lines in found.items()
        if len(lines) > len(distinct[table])
        for line, count in sorted(Counter(lines).items())
        if count > 1
    ]
    if not any(chain(missing.values(), extra.values())):
        return words
    known = _known_scorecards(connection, {row.scorecard for rows in extra.values() for row in rows})
    shown = {tuple(line.split(b"\t", 4)[1:4]) for line in distinct["scorecard"]}
    for table in _COLUMNS:
        wanted = {row.scorecard for row in extra[table]}
        # Parsing is for the few lines that matter.
        lines = (line for line in expected[table] if tuple(line.split(b"\t", 4)[1:4]) in wanted)
        rightful = {row.identity: row for row in _rows(table, lines)}
        absent = {row.identity: row for row in missing[table]}
        explained: set[Identity] = set()
        for row in extra[table]:
            right = rightful.get(row.identity)
            if right is None:
                words.append(_describe_unwanted(row, known.get(row.scorecard), row.scorecard in shown))
            elif row.values == right.values:
                also = "" if row.identity in absent else ", and there too"
                words.append(f"wrong_shard: {row}: on shard {row.shard}, belongs on shard {right.shard}{also}")
                explained.add(row.identity)
            elif row.day != right.day:
                words.append(
                    f"stale: {row}: on shard {row.shard}, though Postgres has it on {right.day}, shard {right.shard}"
                    + (", where it is missing" if row.identity in absent else ", where it stands too")
                )
                explained.add(row.identity)
            else:
                also = "" if row.identity in absent else ", beside the right row"
                elsewhere = f" (belongs on shard {right.shard})" if right.shard != row.shard else ""
                words.append(f"changed: {row}: on shard {row.shard}{elsewhere}{also}: {_unequal_columns(right, row)}")
                explained.add(row.identity)
        words += [
            f"missing: {row}: not on shard {row.shard}" for row in missing[table] if row.identity not in explained
        ]
    return words


def _describe_unwanted(row: _Row, known: _Known | None, scorecard_is_shown: bool) -> str:
    where = f"{row}: on shard {row.shard}"
    if known is None:
        if row.table == "score" and not scorecard_is_shown:
            return f"orphan_score: {where}: neither engine has its scorecard"
        return f"extra: {where}: Postgres has no such scorecard"
    if known.scorecard_type in (1, 2, 3):
        return f"appeal: {where}: scorecard_type {known.scorecard_type} never belongs in ClickHouse"
    if (
        str(known.template_type).encode()
        != row.values[[name for name, _, _ in _COLUMNS[row.table]].index("template_type")]
    ):
        return f"extra: {where}: its template type is {known.template_type} in Postgres"
    return f"extra: {where}: Postgres has the scorecard, but not this row here"


def _unequal_columns(right: _Row, row: _Row) -> str:
    return "; ".join(
        f"{name}: Postgres {_readable(kind, mine)}, ClickHouse {_readable(kind, theirs)}"
        for (name, kind, _), mine, theirs in zip(_COLUMNS[row.table], right.values, row.values, strict=True)
        if mine != theirs
    )


def _readable(kind: str, value: bytes) -> str:
    if value == _NULL:
        return "NULL"
    text = value.decode()
    if kind == "text":
        shown = bytes.fromhex(text).decode("utf-8", "replace")
        return repr(shown if len(shown) <= 60 else f"{shown[:40]}...{shown[-15:]}")
    if kind == "float":
        return f"{struct.unpack('>d', bytes.fromhex(text))[0]!r} (0x{text})"
    return f"{text} us" if kind == "time" else text


def _known_scorecards(connection: Connection, identities: Collection[Identity]) -> dict[Identity, _Known]:
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
            (customer.encode(), profile.encode(), scorecard_id.encode()): _Known(scorecard_type, template_type)
            for customer, profile, scorecard_id, scorecard_type, template_type in cursor.fetchall()
        }


def _rows(table: str, lines: Iterable[bytes]) -> list[_Row]:
    return sorted((_parse(table, line) for line in lines), key=lambda row: (row.identity, row.shard, row.values))


def _parse(table: str, line: bytes) -> _Row:
    shard, *values = line.split(b"\t")
    return _Row(table, int(shard), tuple(values))
