"""What the oracle reads: each row of either engine as one line of text in which equal values, and only those, look equal.

What lives here: the oracle's own column list, its own SQL and its own shard rule. What does not: any import from reindex_assets, and what
lines that differ are called (local/oracle/compare.py).

Texts are written as hex, so that nothing is escaped, trimmed or taken for NULL; floats as the hex of their bits; times as whole
microseconds. A line begins with the shard.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

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
COLUMNS: dict[str, tuple[tuple[str, str, str], ...]] = {
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
NULL = b"\\N"
#: The template type of each kind, and where its time is.
_KINDS = {"conversation": (1, "chat.conversation_start_time"), "process": (2, "c.process_interaction_at")}

Identity = tuple[bytes, ...]


@dataclass(frozen=True)
class Row:
    """One row, of either engine: its shard and its values as the text that both engines write; `row[column]` is one of them."""

    table: str
    shard: int
    values: tuple[bytes, ...]

    @property
    def identity(self) -> Identity:
        return self.values[: _IDENTITY_LENGTH[self.table]]

    @property
    def scorecard(self) -> Identity:
        return self.values[:3]

    def __getitem__(self, column: str) -> bytes:
        return self.values[_place(self.table, column)]

    @property
    def day(self) -> str:
        microseconds = self["scorecard_time"]
        try:
            return str((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(microseconds))).date())
        except (ValueError, OverflowError):
            return f"at {microseconds.decode()} us"

    def __str__(self) -> str:
        customer, profile = (bytes.fromhex(value.decode()).decode() for value in self.values[:2])
        ids = " ".join(value.decode() for value in self.identity[2:])
        return f"{self.table} {customer}/{profile} {ids} of {self.day}"


def postgres_lines(
    connection: Connection,
    table: str,
    shard_count: int,
    customers: Collection[str] | None,
    first_day: date | None,
    last_day: date | None,
    kind: str,
) -> set[bytes]:
    template_type, time = _KINDS[kind]
    of_chats = time.startswith("chat.")
    values = ", ".join(
        _POSTGRES_TEXT[form].format(time if name == "scorecard_time" else source)
        for name, form, source in COLUMNS[table]
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
                WHERE r.template_type = {template_type}
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


def clickhouse_lines(
    client: Client,
    table: str,
    shard: int,
    final: bool,
    customers: Collection[str] | None,
    first_day: date | None,
    last_day: date | None,
    of_kind: str,
) -> list[bytes]:
    values = ", ".join(_CLICKHOUSE_TEXT[kind].format(f"t.{name}") for name, kind, _ in COLUMNS[table])
    # The other kinds of scorecards are not ours to judge. A value of none is wrong.
    others = ", ".join(str(template_type) for kind, (template_type, _) in _KINDS.items() if kind != of_kind)
    conditions = [f"t.template_type NOT IN ({others})"]
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


def homes_of_conversations(shard_clients: Sequence[Client]) -> dict[tuple[bytes, ...], bytes]:
    """The shard of each conversation, the first one that has it: by customer, profile and id in hex."""
    homes: dict[tuple[bytes, ...], bytes] = {}
    for shard, client in enumerate(shard_clients):
        raw = client.raw_query(
            "SELECT lower(hex(customer)), lower(hex(profile)), lower(hex(conversation_id)) FROM conversation",
            fmt="TabSeparated",
        )
        for line in raw.splitlines():
            homes.setdefault(tuple(line.split(b"\t")), str(shard).encode())
    return homes


def at_home(table: str, line: bytes, homes: Mapping[tuple[bytes, ...], bytes]) -> bytes:
    """A line of Postgres with the shard that holds its conversation, if one does."""
    shard, *values = line.split(b"\t")
    conversation = (*values[:2], values[_place(table, "conversation_id")])
    return b"\t".join((homes.get(conversation, shard), *values))


def _place(table: str, column: str) -> int:
    return [name for name, _, _ in COLUMNS[table]].index(column)


def parsed(table: str, lines: Iterable[bytes]) -> list[Row]:
    return sorted((parse(table, line) for line in lines), key=lambda row: (row.identity, row.shard, row.values))


def parse(table: str, line: bytes) -> Row:
    shard, *values = line.split(b"\t")
    return Row(table, int(shard), tuple(values))
