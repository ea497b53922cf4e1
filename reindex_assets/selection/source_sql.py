"""Which Postgres rows belong to a group of slices: written once, for reading, comparing and reporting.

What lives here: the FROM and WHERE clauses, and the values bound to them. What does not: the columns (model.py), the same for ClickHouse
(selection/shard_sql.py), and the statements built from these pieces (postgres/extract.py, comparison/comparison.py).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time

from reindex_assets.column_types import END_TIME
from reindex_assets.config.engines import Relations
from reindex_assets.model import APPEAL_TYPES, KINDS, Column, Kind, Table
from reindex_assets.selection.days import A_DAY
from reindex_assets.selection.groups import SEPARATOR, SliceGroup

#: Aliases: c = scorecard, r = template revision, s = score, t = conversation, for kinds that have one. `{...}` are relation names,
#: checked by config/engines.py, and what differs between kinds (`source_sql`).
#: The revision's id is almost unique. For four plain conditions the planner multiplies four probabilities, expects a single row
#: instead of a million, and sorts and loops accordingly (26 s instead of 5 s for 5.1 M scores); it estimates a CASE at one half.
SOURCE_SCORECARDS = """\
{scorecards} AS c
JOIN {template_revisions} AS r
  ON r.template_revision_id = c.template_revision_id
 AND CASE WHEN r.customer = c.customer AND r.profile = c.profile AND r.template_id = c.template_id THEN true ELSE false END
{join_conversations}"""

SCORES_OF_SCORECARDS = """\
JOIN {scores} AS s
  ON s.customer = c.customer AND s.profile = c.profile AND s.scorecard_id = c.scorecard_id{where_scores}"""
SOURCE_SCORES = f"{SOURCE_SCORECARDS}\n{SCORES_OF_SCORECARDS}"
#: The relation that holds the time, alone.
SOURCE_TIMES = "{timed} AS {of_time}"

#: Values reach these statements as settings of the snapshot (`source_scope`, SourceSession.snapshot). No condition hides a column from
#: its statistics: `coalesce(scorecard_type, 0) = 0` was estimated at one row in 200. A CASE again counts as one half.
_OF_GROUP = r"customer = ANY (string_to_array(current_setting('reindex.customers'), E'\x1f'))"
IN_CUSTOMERS = f"c.{_OF_GROUP}"
_IN_PROFILES = f"""\
{IN_CUSTOMERS}
  AND CASE WHEN c.customer = ANY (string_to_array(current_setting('reindex.limited'), E'\\x1f'))
           THEN c.customer || '/' || c.profile = ANY (string_to_array(current_setting('reindex.profiles'), E'\\x1f'))
           ELSE true END"""
_APPEAL_TYPES = ", ".join(map(str, APPEAL_TYPES))
_IN_SCOPE = f"""\
{_IN_PROFILES}
  AND (c.scorecard_type IS NULL OR c.scorecard_type = 0){{where_scorecards}}"""
#: An appeal of the group's customers, of any template and day.
IS_APPEAL = f"""\
{_IN_PROFILES}
  AND c.scorecard_type IN ({_APPEAL_TYPES})"""
#: The rest of the scorecards: those in scope, and those of a type that nobody knows.
_IS_NO_APPEAL = f"""\
{_IN_PROFILES}
  AND (c.scorecard_type IS NULL OR c.scorecard_type NOT IN ({_APPEAL_TYPES})){{where_scorecards}}"""
_IS_OF_UNKNOWN_TYPE = "(c.scorecard_type IS NOT NULL AND c.scorecard_type <> 0)"

_FROM, _UNTIL = "reindex.from", "reindex.until"
_FLOOR = "current_setting('reindex.floor')::timestamptz"
_TYPE = "current_setting('reindex.template_type')::int"

_END_TIME = f"timestamptz '{END_TIME.isoformat()}'"


def _values_fit(table: Table) -> str:
    """The condition that ClickHouse can hold a row's values: infinity, it can't. The slice's time is on one of its days, so it fits."""
    fitting = filter(None, (_fits(column) for column in table.columns if column.source != "{time}"))
    return " AND ".join(fitting) or "true"


def _fits(column: Column) -> str | None:
    """The condition that ClickHouse can hold a column's value; None, if it can hold each."""
    if column.type.holds is None:
        return None
    fits = column.type.holds(column.source)
    return f"({column.source} IS NULL OR ({fits}))" if column.nullable else fits


def _unfit(table: Table) -> str:
    """Why a row can't leave Postgres because of a column of the fleet file."""
    return "".join(
        f"\n            WHEN ({_fits(column)}) IS NOT TRUE THEN 'its {column.name} {column.type.limits}'"
        for column in table.columns
        if column.is_declared and column.type.holds
    )


#: A row that belongs to a slice of the group, and so in ClickHouse.
IN_TIME = "{in_conversations}{in_days}"
BELONGS = f"""\
{_IN_SCOPE}
  AND r.template_type = {_TYPE}
  AND {IN_TIME}
  AND {{values_fit}}"""
#: The same for `SOURCE_TIMES`, but of any type and scope: there may be more rows.
TIMES_IN_SLICES = f"{{of_time}}.{_OF_GROUP} AND {{in_days}}"

#: Today, by Postgres' clock. A day to come has no partition yet.
_TODAY = "(date_trunc('day', transaction_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC')"
_TOMORROW = f"({_TODAY} + interval '24 hours')"
_KNOWN_KINDS = ", ".join(str(kind.template_type) for kind in KINDS)

#: A row that should reach ClickHouse and can't. It is reported under its day or, without a usable time, under the day of its
#: creation; that of the fleet's first day or of today, if it was created before or (by its own account) after. Rows of a time that the
#: fleet leaves out on purpose are not reported.
_TIME_HAS_A_DAY = f"({{time}} >= {_FLOOR} AND {{time}} < {_TOMORROW})"
_IS_OF_UNKNOWN_KIND = f"(r.template_type IS NULL OR r.template_type NOT IN ({_KNOWN_KINDS}))"
_MAY_BE_OF_KIND = f"(r.template_type = {_TYPE} OR ({_IS_OF_UNKNOWN_KIND} AND {{looks_like_kind}}))"
#: The revision and the conversation may be absent. For a few rows only: see SOURCE_SCORECARDS.
SCORECARDS_AND_REVISIONS = """\
{scorecards} AS c
LEFT JOIN {template_revisions} AS r
  ON r.customer = c.customer AND r.profile = c.profile
 AND r.template_id = c.template_id AND r.template_revision_id = c.template_revision_id
{left_join_conversations}"""
_HAS_A_KIND = f"""\
((c.customer, c.profile, c.template_id, c.template_revision_id)
  IN (SELECT customer, profile, template_id, template_revision_id FROM {{template_revisions}} WHERE template_type IN ({_KNOWN_KINDS})))"""
_IS_OF_KIND = f"""\
(c.customer, c.profile, c.template_id, c.template_revision_id)
  IN (SELECT customer, profile, template_id, template_revision_id FROM {{template_revisions}} WHERE template_type = {_TYPE})"""
#: Two halves, each with its own index; no row is in both.
_IN_QUESTION = f"""\
(
    SELECT c.*
    FROM {{scorecards}} AS c {{join_conversations}}
    WHERE {_IS_NO_APPEAL}
      AND {IN_TIME} AND (({{values_fit}}) IS NOT TRUE OR {_IS_OF_UNKNOWN_TYPE} OR {_HAS_A_KIND} IS NOT TRUE)
    UNION ALL
    SELECT c.*
    FROM {{scorecards}} AS c {{left_join_conversations}}
    WHERE {_IS_NO_APPEAL}
      AND {{created_in_days}}
      AND {_TIME_HAS_A_DAY} IS NOT TRUE AND ({IN_TIME}) IS NOT TRUE
      AND (c.created_at >= {_FLOOR} OR {{time}} IS NULL OR NOT isfinite({{time}}) OR {{time}} >= {_TOMORROW})
      AND ({{looks_like_kind}} OR {_IS_OF_KIND})
    OFFSET 0
)"""
#: Finds the few rows in question before it joins anything: joining every row costs as much as reading it.
QUARANTINED = f"""\
SELECT c.customer, c.profile, c.scorecard_id::text AS scorecard_id,
       ((CASE WHEN {_TIME_HAS_A_DAY} THEN {{time}} ELSE least(greatest(c.created_at, {_FLOOR}), {_TODAY}) END)
        AT TIME ZONE 'UTC')::date AS day,
       CASE WHEN r.template_type IS NULL THEN 'its template revision ' || c.template_revision_id || ' does not exist'
            {{no_conversation}}
            WHEN {_IS_OF_UNKNOWN_KIND} THEN 'its template type ' || r.template_type || ' is unknown (known are {_KNOWN_KINDS})'
            WHEN {_IS_OF_UNKNOWN_TYPE}
            THEN 'its scorecard_type ' || c.scorecard_type || ' is unknown: neither NULL or 0, nor an appeal ({_APPEAL_TYPES})'
            WHEN {{time}} IS NULL THEN '{{time_name}} is NULL'
            WHEN NOT isfinite({{time}}) THEN '{{time_name}} is infinite'
            WHEN {{time}} < {_FLOOR} THEN '{{time_name}} lies before the first day of the fleet file: ' || {{time}}
            WHEN {{time}} >= {_END_TIME} THEN '{{time_name}} lies beyond 2299, the last year of ClickHouse: ' || {{time}}
            WHEN {{time}} >= {_TOMORROW} THEN '{{time_name}} lies in the future, and is copied once that day has come: ' || {{time}}\
{{unfit}}
            ELSE 'created_at or updated_at is NULL, or one of them or submitted_at lies outside the years 1900 to 2299'
       END AS reason
FROM {SCORECARDS_AND_REVISIONS.replace("{scorecards}", _IN_QUESTION)}
WHERE {_MAY_BE_OF_KIND}
ORDER BY 1, 4, 2, 3"""

#: For SCORECARDS_AND_REVISIONS and a group of the kind CONVERSATION: whether a scorecard of any kind is on one of the group's days.
#: Without a usable time, the day of its creation counts.
_FIRST, *_REST = (kind for kind in KINDS if not kind.is_of_conversations)
_OWN_TIMES = "".join(f" WHEN r.template_type = {kind.template_type} THEN c.{kind.time_column}" for kind in _REST)
_TIME_OF_ANY_KIND = f"(CASE WHEN {_MAY_BE_OF_KIND} THEN {{time}}{_OWN_TIMES} ELSE c.{_FIRST.time_column} END)"
_DAY_OF_ANY_KIND = f"(CASE WHEN isfinite({_TIME_OF_ANY_KIND}) THEN {_TIME_OF_ANY_KIND} ELSE c.created_at END)"

_JOIN_CONVERSATIONS = """\
JOIN {chats} AS t ON t.customer = c.customer AND t.profile = c.profile AND t.conversation_id = c.conversation_id"""


def source_sql(text: str, relations: Relations, group: SliceGroup) -> str:
    """`text` with the relation names, the group's days, and what differs between kinds: which relation holds the time, and its join."""
    kind = group.kind
    names = relations.model_dump()
    if kind.is_of_conversations:
        join = _JOIN_CONVERSATIONS.format(**names)
        differs = {
            "join_conversations": join,
            "left_join_conversations": f"LEFT {join}",
            "in_conversations": f"t.{_OF_GROUP} AND ",
            "looks_like_kind": "coalesce(c.conversation_id, '') <> ''",
            "no_conversation": "WHEN t.conversation_id IS NULL THEN 'its conversation ' || "
            f"coalesce(quote_literal(c.conversation_id), 'NULL') || ' is not in {relations.chats}'",
            "version_of_conversation": ", t.xmin, t.ctid",
            "of_time": "t",
            "timed": relations.chats,
        }
    else:
        differs = {
            "join_conversations": "",
            "left_join_conversations": "",
            "in_conversations": "",
            # A scorecard without a revision is reported once, whatever its kind.
            "looks_like_kind": "coalesce(c.conversation_id, '') = ''" if kind == _FIRST else "false",
            "no_conversation": "",
            "version_of_conversation": "",
            "of_time": "c",
            "timed": relations.scorecards,
        }
    time = f"{differs['of_time']}.{kind.time_column}"
    days = {"in_days": _in_days(time, group), "created_in_days": _created_in_days(group)}
    # These are templates, too.
    for name, part in (
        ("values_fit", _values_fit(group.tables.parent)),
        ("unfit", _unfit(group.tables.parent)),
        ("where_scorecards", _and(group.tables.parent.where)),
        ("where_scores", _and(group.tables.child.where)),
    ):
        text = text.replace(f"{{{name}}}", part)
    return text.format(**names, **differs, **days, time=time, time_name=kind.time_column)


def _and(condition: str) -> str:
    return f"\n  AND ({condition})" if condition else ""


def _in_days(time: str, group: SliceGroup) -> str:
    """A time on one of the group's days: as ranges, which an index can serve and the planner can estimate."""
    ranges = (f"{time} >= {_bound(_FROM, n)} AND {time} < {_bound(_UNTIL, n)}" for n in range(len(group.spans)))
    return f"({' OR '.join(ranges)})"


def in_days_of_any_kind(group: SliceGroup) -> str:
    """A scorecard of any kind that counts under one of the group's days: text for `source_sql`."""
    return _in_days(_DAY_OF_ANY_KIND, group)


def _created_in_days(group: SliceGroup) -> str:
    """Created on one of the group's days; what was created before the fleet's first day counts as created on it, and what was created
    after today (by its own account) as created today."""
    first_is_floor = f"c.created_at < {_bound(_UNTIL, 0)} AND {_bound(_FROM, 0)} <= {_FLOOR}"
    has_today = f"c.created_at >= {_TOMORROW} AND {_in_days(_TODAY, group)}"
    return f"({_in_days('c.created_at', group)} OR ({first_is_floor}) OR ({has_today}))"


def _bound(setting: str, span: int) -> str:
    return f"current_setting('{setting}_{span}')::timestamptz"


def relations_of(relations: Relations, kind: Kind) -> tuple[str, ...]:
    """The relations that decide which rows belong, and what they contain."""
    always = (relations.template_revisions, relations.scorecards, relations.scores)
    return (*always, relations.chats) if kind.is_of_conversations else always


def source_scope(group: SliceGroup) -> dict[str, str]:
    """The settings that the statements read, by name."""
    return {
        "reindex.customers": SEPARATOR.join(group.customer_names),
        "reindex.limited": SEPARATOR.join(group.limited_customers),
        "reindex.profiles": SEPARATOR.join(group.limited_profiles),
        **{f"{_FROM}_{n}": _midnight(first).isoformat() for n, (first, _) in enumerate(group.spans)},
        **{f"{_UNTIL}_{n}": _midnight(last + A_DAY).isoformat() for n, (_, last) in enumerate(group.spans)},
        "reindex.floor": _midnight(group.floor_day).isoformat(),
        "reindex.template_type": str(group.kind.template_type),
    }


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
