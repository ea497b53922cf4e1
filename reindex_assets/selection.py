"""Which rows belong to a group of slices, in Postgres and in ClickHouse: written once, for reading, comparing and reporting.

What lives here: the group of slices (customers x days), the FROM / WHERE text of both engines and the values
bound to it. What does not: the columns (model.py) and the statements built from these pieces (extract.py, shards.py, comparison.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from reindex_assets.errors import ConfigurationError
from reindex_assets.fleet import Cluster
from reindex_assets.fleet_engines import Relations
from reindex_assets.model import APPEAL_TYPES, END_TIME, FIRST_TIME, PROCESS, Kind, Slice

#: Between the entries of a list that is bound as one text; no name of a fleet file may hold it.
_SEPARATOR = "\x1f"
_A_DAY = timedelta(days=1)
#: Runs of consecutive days in one group: each is a range of its own in every statement of Postgres.
_MAX_SPANS = 20

#: Slices that one session locks at once: Postgres keeps the locks of all its sessions in one table of limited size.
MAX_SLICES = 400


@dataclass(frozen=True)
class SliceGroup:
    """Slices that are read by one query and written together: every one of its days of every one of its customers.

    Attributes:
        customers: each with its profiles; an empty tuple means every profile.
        days: in their order, each once; days between them may be missing.
        floor_day: the fleet's first day. A row whose time lies before it has no slice.
    """

    customers: tuple[tuple[str, tuple[str, ...]], ...]
    days: tuple[date, ...]
    floor_day: date
    kind: Kind = PROCESS

    @property
    def first_day(self) -> date:
        return self.days[0]

    @property
    def spans(self) -> list[tuple[date, date]]:
        """The days as runs of consecutive ones: first and last day of each."""
        return _consecutive(self.days)

    @property
    def customer_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.customers)

    @property
    def slices(self) -> list[Slice]:
        """Every slice of the group, by day and then by customer."""
        return [Slice(customer, day) for day in self.days for customer in self.customer_names]

    @property
    def limited_customers(self) -> tuple[str, ...]:
        """Customers of whom only the listed profiles belong."""
        return tuple(name for name, profiles in self.customers if profiles)

    @property
    def limited_profiles(self) -> tuple[str, ...]:
        return tuple(f"{name}/{profile}" for name, profiles in self.customers for profile in profiles)

    def __str__(self) -> str:
        names = self.customer_names
        who = ", ".join(names) if len(names) <= 3 else f"{names[0]}, {names[1]} and {len(names) - 2} more customers"
        first, last = self.days[0], self.days[-1]
        days = str(first) if first == last else f"{first} to {last}"
        return f"{who}, {days}" if len(self.spans) == 1 else f"{who}, {len(self.days)} days from {days}"


def group_slices(
    slices: Iterable[Slice],
    cluster: Cluster,
    floor_day: date,
    rows: Mapping[Slice, int],
    max_rows: int,
    kind: Kind = PROCESS,
    max_slices: int = MAX_SLICES,
) -> list[SliceGroup]:
    """Puts `slices` into groups of at most `max_rows` rows (a single slice may hold more) and `max_slices` slices.

    The days of one customer come together first, also days that lie apart: each group is one read of the score table and one deletion
    on each shard. Customers with the same days are then put together, so that 95 customers of a few rows cost one read and one write
    instead of 95.

    Raises:
        ConfigurationError: a customer is not of this cluster, or a day lies before `floor_day`.
    """
    days_of: dict[str, list[date]] = {}
    for item in sorted(set(slices)):
        if item.customer not in cluster.customers:
            raise ConfigurationError(
                f"unknown customer {item.customer!r}: this cluster has {', '.join(sorted(cluster.customers))}"
            )
        if item.day < floor_day:
            raise ConfigurationError(f"{item} lies before {floor_day}, the first day of the fleet file")
        days_of.setdefault(item.customer, []).append(item.day)

    same_days: dict[tuple[date, ...], list[list[tuple[str, int]]]] = {}
    for customer, all_days in days_of.items():
        for days, size in _portions(customer, all_days, rows, max_rows, max_slices):
            bundles = same_days.setdefault(days, [[]])
            bundle = bundles[-1]
            full = bundle and (
                sum(rows_of for _, rows_of in bundle) + size > max_rows or (len(bundle) + 1) * len(days) > max_slices
            )
            if full:
                bundle = []
                bundles.append(bundle)
            bundle.append((customer, size))
    return [
        SliceGroup(tuple((name, cluster.customers[name].profiles) for name, _ in bundle), days, floor_day, kind)
        for days, bundles in sorted(same_days.items())
        for bundle in bundles
    ]


def _portions(
    customer: str, days: Sequence[date], rows: Mapping[Slice, int], max_rows: int, max_slices: int
) -> Iterable[tuple[tuple[date, ...], int]]:
    """The days of a customer, cut within the limits: (days, rows)."""
    portion: list[date] = []
    size = 0
    for day in days:
        more = rows.get(Slice(customer, day), 0)
        if portion and (
            size + more > max_rows
            or len(portion) + 1 > max_slices
            or (day - portion[-1] > _A_DAY and len(_consecutive(portion)) == _MAX_SPANS)
        ):
            yield tuple(portion), size
            portion, size = [], 0
        portion.append(day)
        size += more
    yield tuple(portion), size


def _consecutive(days: Iterable[date]) -> list[tuple[date, date]]:
    """Days in their order as runs of consecutive ones.

    >>> [(first.day, last.day) for first, last in _consecutive(date(2026, 1, day) for day in (1, 2, 3, 7, 9, 10))]
    [(1, 3), (7, 7), (9, 10)]
    """
    spans: list[tuple[date, date]] = []
    for day in days:
        if spans and day - spans[-1][1] == _A_DAY:
            spans[-1] = (spans[-1][0], day)
        else:
            spans.append((day, day))
    return spans


# --- Postgres -------------------------------------------------------------------------------------------------------

#: Aliases: c = scorecard, r = template revision, s = score, t = the conversation, of kinds that have one. `{...}` are relation names,
#: checked by fleet.py, and what differs between kinds (`source_sql`).
#: The revision's id alone nearly names it. As four plain conditions the planner would multiply four probabilities, expect a single row
#: of a million, and sort and loop accordingly (26 s instead of 5 s for 5.1 M scores); a CASE counts as one half.
SOURCE_SCORECARDS = """\
{scorecards} AS c
JOIN {template_revisions} AS r
  ON r.template_revision_id = c.template_revision_id
 AND CASE WHEN r.customer = c.customer AND r.profile = c.profile AND r.template_id = c.template_id THEN true ELSE false END
{join_conversations}"""

SCORES_OF_SCORECARDS = """\
JOIN {scores} AS s
  ON s.customer = c.customer AND s.profile = c.profile AND s.scorecard_id = c.scorecard_id"""
SOURCE_SCORES = f"{SOURCE_SCORECARDS}\n{SCORES_OF_SCORECARDS}"
#: The relation in which the time stands, and nothing besides.
SOURCE_TIMES = "{timed} AS {of_time}"

#: Values reach these statements as settings of the snapshot (`source_scope`, SourceSession.snapshot). Nothing here hides a column from
#: its statistics: `coalesce(scorecard_type, 0) = 0` was estimated as one row in 200; again a CASE counts as one half.
_OF_GROUP = r"customer = ANY (string_to_array(current_setting('reindex.customers'), E'\x1f'))"
IN_CUSTOMERS = f"c.{_OF_GROUP}"
_IN_PROFILES = f"""\
{IN_CUSTOMERS}
  AND CASE WHEN c.customer = ANY (string_to_array(current_setting('reindex.limited'), E'\\x1f'))
           THEN c.customer || '/' || c.profile = ANY (string_to_array(current_setting('reindex.profiles'), E'\\x1f'))
           ELSE true END"""
_IN_SCOPE = f"""\
{_IN_PROFILES}
  AND (c.scorecard_type IS NULL OR c.scorecard_type = 0)"""
#: An appeal of the group's customers, of whatever template and day: the rest of the scorecards.
IS_APPEAL = f"""\
{_IN_PROFILES}
  AND c.scorecard_type IN ({", ".join(map(str, APPEAL_TYPES))})"""

_FROM, _UNTIL = "reindex.from", "reindex.until"
_FLOOR = "current_setting('reindex.floor')::timestamptz"
_TYPE = "current_setting('reindex.template_type')::int"

_FIRST_TIME = f"timestamptz '{FIRST_TIME.isoformat()}'"
_END_TIME = f"timestamptz '{END_TIME.isoformat()}'"

#: Times that ClickHouse can hold; infinity is outside too.
_TIMES_HOLD = " AND ".join(
    f"c.{column} >= {_FIRST_TIME} AND c.{column} < {_END_TIME}" for column in ("created_at", "updated_at")
) + (f" AND (c.submitted_at IS NULL OR (c.submitted_at >= {_FIRST_TIME} AND c.submitted_at < {_END_TIME}))")

#: A row that belongs to a slice of the group, and so to ClickHouse.
IN_TIME = "{in_conversations}{in_days}"
BELONGS = f"""\
{_IN_SCOPE}
  AND r.template_type = {_TYPE}
  AND {IN_TIME}
  AND {_TIMES_HOLD}"""
#: The same of `SOURCE_TIMES`: of whatever type and scope, so there may be more.
TIMES_IN_SLICES = f"{{of_time}}.{_OF_GROUP} AND {{in_days}}"

#: A row that should reach ClickHouse and can't. It is reported under its day; one without a usable time, under the day of its
#: creation, or the fleet's first day if that is later. Rows of a time that the fleet leaves out on purpose are nobody's.
_TIME_HAS_A_DAY = f"({{time}} >= {_FLOOR} AND {{time}} < {_END_TIME})"
_MAY_BE_OF_KIND = f"(r.template_type = {_TYPE} OR (r.template_type IS NULL AND {{looks_like_kind}}))"
#: A revision and a conversation may be absent. For few rows only: see SOURCE_SCORECARDS.
SCORECARDS_AND_REVISIONS = """\
{scorecards} AS c
LEFT JOIN {template_revisions} AS r
  ON r.customer = c.customer AND r.profile = c.profile
 AND r.template_id = c.template_id AND r.template_revision_id = c.template_revision_id
{left_join_conversations}"""
_HAS_A_REVISION = """\
((c.customer, c.profile, c.template_id, c.template_revision_id)
  IN (SELECT customer, profile, template_id, template_revision_id FROM {template_revisions}))"""
_IS_OF_KIND = f"""\
(c.customer, c.profile, c.template_id, c.template_revision_id)
  IN (SELECT customer, profile, template_id, template_revision_id FROM {{template_revisions}} WHERE template_type = {_TYPE})"""
#: In two halves, each by an index of its own; no row is in both.
_IN_QUESTION = f"""\
(
    SELECT c.*
    FROM {{scorecards}} AS c {{join_conversations}}
    WHERE {_IN_SCOPE}
      AND {IN_TIME} AND (NOT ({_TIMES_HOLD}) OR {_HAS_A_REVISION} IS NOT TRUE)
    UNION ALL
    SELECT c.*
    FROM {{scorecards}} AS c {{left_join_conversations}}
    WHERE {_IN_SCOPE}
      AND {{created_in_days}}
      AND {_TIME_HAS_A_DAY} IS NOT TRUE
      AND (c.created_at >= {_FLOOR} OR {{time}} IS NULL OR NOT isfinite({{time}}) OR {{time}} >= {_END_TIME})
      AND ({{looks_like_kind}} OR {_IS_OF_KIND})
    OFFSET 0
)"""
#: The few rows in question are found before anything is joined: a join of every row costs as much as reading it.
QUARANTINED = f"""\
SELECT c.customer, c.profile, c.scorecard_id::text AS scorecard_id,
       ((CASE WHEN {_TIME_HAS_A_DAY} THEN {{time}} ELSE greatest(c.created_at, {_FLOOR}) END) AT TIME ZONE 'UTC')::date AS day,
       CASE WHEN r.template_type IS NULL THEN 'its template revision ' || c.template_revision_id || ' does not exist'
            {{no_conversation}}
            WHEN {{time}} IS NULL THEN '{{time_name}} is NULL'
            WHEN NOT isfinite({{time}}) THEN '{{time_name}} is infinite'
            WHEN {{time}} < {_FLOOR} THEN '{{time_name}} lies before the first day of the fleet file: ' || {{time}}
            WHEN {{time}} >= {_END_TIME} THEN '{{time_name}} lies beyond 2299, the last year of ClickHouse: ' || {{time}}
            ELSE 'created_at, updated_at or submitted_at lies outside the years 1900 to 2299'
       END AS reason
FROM {SCORECARDS_AND_REVISIONS.replace("{scorecards}", _IN_QUESTION)}
WHERE {_MAY_BE_OF_KIND}
ORDER BY 1, 4, 2, 3"""

#: Of SCORECARDS_AND_REVISIONS, for a group of the kind CONVERSATION: whether a scorecard of either kind is of one of the group's days. One
#: without a usable time counts under the day of its creation.
_TIME_OF_EITHER_KIND = f"(CASE WHEN {_MAY_BE_OF_KIND} THEN {{time}} ELSE c.{PROCESS.time_column} END)"
_DAY_OF_EITHER_KIND = f"(CASE WHEN isfinite({_TIME_OF_EITHER_KIND}) THEN {_TIME_OF_EITHER_KIND} ELSE c.created_at END)"

_JOIN_CONVERSATIONS = """\
JOIN {chats} AS t ON t.customer = c.customer AND t.profile = c.profile AND t.conversation_id = c.conversation_id"""


def source_sql(text: str, relations: Relations, group: SliceGroup) -> str:
    """`text` with the relation names and the group's days in place, and with what differs between kinds: where the time stands, and how
    it is found."""
    kind = group.kind
    names = relations.model_dump()
    if kind.is_of_conversations:
        join = _JOIN_CONVERSATIONS.format(**names)
        differs = {
            "join_conversations": join,
            "left_join_conversations": f"LEFT {join}",
            "in_conversations": f"t.{_OF_GROUP} AND ",
            "looks_like_kind": "coalesce(c.conversation_id, '') <> ''",
            "no_conversation": "WHEN t.conversation_id IS NULL THEN "
            "'its conversation ' || coalesce(quote_literal(c.conversation_id), 'NULL') || ' is not in "
            + relations.chats
            + "'",
            "version_of_conversation": ", t.xmin, t.ctid",
            "of_time": "t",
            "timed": relations.chats,
        }
    else:
        differs = {
            "join_conversations": "",
            "left_join_conversations": "",
            "in_conversations": "",
            "looks_like_kind": "coalesce(c.conversation_id, '') = ''",
            "no_conversation": "",
            "version_of_conversation": "",
            "of_time": "c",
            "timed": relations.scorecards,
        }
    time = f"{differs['of_time']}.{kind.time_column}"
    days = {"in_days": _in_days(time, group), "created_in_days": _created_in_days(group)}
    return text.format(**names, **differs, **days, time=time, time_name=kind.time_column)


def _in_days(time: str, group: SliceGroup) -> str:
    """A time that lies on one of the group's days: ranges, so that an index finds them and the planner knows how many there are."""
    ranges = (f"{time} >= {_bound(_FROM, n)} AND {time} < {_bound(_UNTIL, n)}" for n in range(len(group.spans)))
    return f"({' OR '.join(ranges)})"


def in_days_of_either_kind(group: SliceGroup) -> str:
    """A scorecard of whatever kind that counts as one of the group's days: text for `source_sql`."""
    return _in_days(_DAY_OF_EITHER_KIND, group)


def _created_in_days(group: SliceGroup) -> str:
    """The same of the creation; what was created before the fleet's first day counts as created on it."""
    first_is_floor = f"c.created_at < {_bound(_UNTIL, 0)} AND {_bound(_FROM, 0)} <= {_FLOOR}"
    return f"({_in_days('c.created_at', group)} OR ({first_is_floor}))"


def _bound(setting: str, span: int) -> str:
    return f"current_setting('{setting}_{span}')::timestamptz"


def relations_of(relations: Relations, kind: Kind) -> tuple[str, ...]:
    """The relations that decide which rows belong, and what stands in them."""
    always = (relations.template_revisions, relations.scorecards, relations.scores)
    return (*always, relations.chats) if kind.is_of_conversations else always


def source_scope(group: SliceGroup) -> dict[str, str]:
    """The settings that the statements above read, by name."""
    return {
        "reindex.customers": _SEPARATOR.join(group.customer_names),
        "reindex.limited": _SEPARATOR.join(group.limited_customers),
        "reindex.profiles": _SEPARATOR.join(group.limited_profiles),
        **{f"{_FROM}_{n}": _midnight(first).isoformat() for n, (first, _) in enumerate(group.spans)},
        **{f"{_UNTIL}_{n}": _midnight(last + _A_DAY).isoformat() for n, (_, last) in enumerate(group.spans)},
        "reindex.floor": _midnight(group.floor_day).isoformat(),
        "reindex.template_type": str(group.kind.template_type),
    }


# --- ClickHouse -----------------------------------------------------------------------------------------------------

#: Rows of the group's customers, wherever they stand.
OF_ANY_PROFILE = "customer IN {customers:Array(String)}"
OF_PROFILES = (
    "(NOT has({limited:Array(String)}, customer) OR has({profiles:Array(String)}, concat(customer, '/', profile)))"
)
OF_CUSTOMERS = f"{OF_ANY_PROFILE}\n  AND {OF_PROFILES}"

#: Rows of either kind that stand on the group's days.
ON_DAYS = "day IN {days:Array(Date32)}"

_RANGE = f"template_type = {{template_type:UInt8}} AND {ON_DAYS}"

#: Rows that stand in a slice of the group; each engine's `day` is the UTC day of the slice's time.
IN_SLICES = f"{OF_CUSTOMERS}\n  AND {_RANGE}"

#: Rows of the group's customers that stand in another slice.
ELSEWHERE = f"{OF_CUSTOMERS}\n  AND NOT ({_RANGE})"


def shard_scope(group: SliceGroup) -> dict[str, object]:
    """The parameters that the predicates above take, bound by the server."""
    return {
        "customers": list(group.customer_names),
        "limited": list(group.limited_customers),
        "profiles": list(group.limited_profiles),
        "template_type": group.kind.template_type,
        "days": list(group.days),
    }


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
