"""Checks a piece of Postgres' SQL out of the fleet file before it becomes a part of every statement.

What lives here: what such a piece may be. What does not: whether Postgres understands it, which Postgres says.

Whether a row has changed is told from the row's own version (postgres/row_versions.py). So a piece may depend on nothing but the columns of
its row: a subquery, or a function of the clock, would change values without a sign.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(
    r"""
    (?P<blank>\s+)
  | (?P<string>'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")+")
  | (?P<number>\d+(?:\.\d+)?)
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<refused>--|/\*|\*/)
  | (?P<sign>[()\[\],.:+\-*/%<>=!~|&^\#@?])
    """,
    re.VERBOSE,
)

#: Words that begin a subquery or a window, or whose value is not the row's own.
_REFUSED = re.compile(
    r"select|with|values|table|over|union|now|age|random|gen_random_uuid|timeofday|current_\w+|local(time|timestamp)"
    r"|(clock|statement|transaction)_timestamp|(session_)?user|txid_\w+|nextval|currval|lastval",
    re.IGNORECASE,
)
#: Texts that are another time at each look, as a date or a time.
_MOVING = re.compile(r"'\s*(now|today|tomorrow|yesterday)\s*'", re.IGNORECASE)
_NOTHING = (("", ""),) * 3


def checked_sql(text: str, alias: str) -> str:
    """Returns `text` as a part of a template, in which braces are doubled.

    Args:
        alias: the row's name in every statement. Its columns are written with it, as other rows of a statement may have such columns, too.

    Raises:
        ValueError: it is not one expression over the columns of its row.

    >>> checked_sql("c.state <> 'a;b' AND (c.score > 0.5 OR c.tags @> '{x}')", "c")
    "c.state <> 'a;b' AND (c.score > 0.5 OR c.tags @> '{{x}}')"
    >>> checked_sql("c.state = (SELECT max(state) FROM x)", "c")
    Traceback (most recent call last):
    ValueError: 'SELECT' is not allowed: only the columns of its own row may decide
    >>> checked_sql("true) OR (c.score > 0", "c")
    Traceback (most recent call last):
    ValueError: a bracket closes that is not open
    >>> checked_sql("s.score > 0", "c")
    Traceback (most recent call last):
    ValueError: 's.score': write c.score, of the only row that is known here
    """
    open_brackets: list[str] = []
    tokens = _tokens(text)
    for position, (kind, token) in enumerate(tokens):
        before = tokens[position - 1][1] if position else ""
        following, name, then = (text for _, text in (*tokens[position + 1 : position + 4], *_NOTHING)[:3])
        if token in ("(", "["):
            open_brackets.append(")" if token == "(" else "]")
        elif token in (")", "]") and (not open_brackets or open_brackets.pop() != token):
            raise ValueError("a bracket closes that is not open")
        elif (kind == "word" and _REFUSED.fullmatch(token) and before != ".") or (
            # A function by its schema, or in quotation marks.
            kind in ("word", "quoted") and following == "(" and _REFUSED.fullmatch(token.strip('"'))
        ):
            raise ValueError(f"{token!r} is not allowed: only the columns of its own row may decide")
        elif _MOVING.fullmatch(token):
            raise ValueError(f"{token} is not allowed: as a time, it is another one at each look")
        elif kind in ("word", "quoted") and following == "." != before and then != "(" and token != alias:
            # It is no function of a schema.
            raise ValueError(f"'{token}.{name}': write {alias}.{name}, of the only row that is known here")
    if open_brackets:
        raise ValueError(f"a bracket is not closed: {open_brackets[-1]!r} is missing")
    if not any((token, tokens[place + 1][1]) == (alias, ".") for place, (_, token) in enumerate(tokens[:-1])):
        raise ValueError(f"it names no column of its row: write columns as {alias}.column")
    return text.replace("{", "{{").replace("}", "}}")


def is_one_call(text: str) -> bool:
    """Whether the bracket that a function's name opens is closed by the last character.

    >>> is_one_call("coalesce(s.a, '')"), is_one_call("coalesce(s.a, '') || s.b || coalesce(s.c, '')")
    (True, False)
    """
    depth = 0
    tokens = [token for _, token in _tokens(text)]
    for position, token in enumerate(tokens):
        depth += (token in ("(", "[")) - (token in (")", "]"))
        if depth == 0 and position:
            return position == len(tokens) - 1
    return False


def _tokens(text: str) -> list[tuple[str, str]]:
    """The kind and the text of each token; blanks are left out."""
    tokens: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        kind = (match.lastgroup or "") if match else ""
        if match is None or kind == "refused":
            raise ValueError(f"{text[position : position + 2].strip()!r} is not allowed in an expression")
        # E'...' and its like have rules of their own for what ends them.
        if kind == "string" and position and (text[position - 1].isalnum() or text[position - 1] in "_&'\""):
            raise ValueError("write a text as '...', with nothing before the first quote")
        if kind != "blank":
            tokens.append((kind, match[0]))
        position = match.end()
    return tokens
