"""SQL laid out to be read: the same statement with other white space between its words.

What lives here: the layout. What does not: statements. Nothing but white space outside of literals and quoted names ever changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

_WIDTH = 110
_INDENT = 4
#: Characters of parentheses that are worth lines of their own, and of a separator between two texts (`|| ','`).
_WORTH_OPENING = 40
_SEPARATOR = 6

#: A literal, a quoted name, a bound value (`{name:Type}`, `%(name)s`), a word, or any other character.
_TOKEN = re.compile(
    r"""E?'(?:[^'\\]|\\.|'')*' | `[^`]*` | "[^"]*" | \{[^{}]*\} | %\(\w+\)s | [\w$.]+ | \S""", re.VERBOSE | re.DOTALL
)
_CLOSED_BY = {"(": ")", "CASE": "END"}
#: Words that begin a line of their own when their statement does not fit on one. JOIN may follow one that has begun it.
_CLAUSES = re.compile(
    r"SELECT|FROM|WHERE|AND|OR|GROUP|ORDER|HAVING|LIMIT|OFFSET|UNION|JOIN|LEFT|INNER|ON|WHEN|ELSE|INSERT|ENGINE|PARTITION|COMMENT"
)
_SUBORDINATE = frozenset({"AND", "OR", "ON"})
_LISTS = frozenset({"SELECT", "DISTINCT", "GROUP", "ORDER", "BY"})


@dataclass(frozen=True)
class _Node:
    """A token and, where it is an opening parenthesis or CASE, what that encloses.

    Attributes:
        is_apart: white space stands before it.
    """

    text: str
    is_apart: bool
    inside: list[_Node] = field(default_factory=list)

    def __str__(self) -> str:
        if self.text == "CASE":
            return f"CASE {_flat(self.inside)} END"
        return f"({_flat(self.inside)})" if self.text == "(" else self.text


_Nodes = Sequence[_Node]


def laid_out(sql: str) -> str:
    """A statement in lines that people can read.

    >>> print(laid_out("SELECT  a,\\n b FROM t WHERE c = 'x  y'"))
    SELECT a, b FROM t WHERE c = 'x  y'
    >>> print(laid_out(f"SELECT {'a' * 55}, f({'b' * 55}) FROM t LEFT JOIN u USING (a) WHERE a IN (SELECT 1) AND b"))
    SELECT
        aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,
        f(bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb)
    FROM t
    LEFT JOIN u USING (a)
    WHERE a IN (SELECT 1)
      AND b
    """
    return "\n".join(_lines(_tree(sql), 0))


def words(sql: str) -> list[str]:
    """A statement without its layout.

    >>> words("SELECT f( 'a  b' )")
    ['SELECT', 'f', '(', "'a  b'", ')']
    """
    return _TOKEN.findall(sql)


def _tree(sql: str) -> _Nodes:
    levels: list[list[_Node]] = [[]]
    end = 0
    for token in _TOKEN.finditer(sql):
        node = _Node(token[0], token.start() > end)
        end = token.end()
        if node.text in _CLOSED_BY.values():
            levels.pop()
            continue
        levels[-1].append(node)
        if node.text in _CLOSED_BY:
            levels.append(node.inside)
    [nodes] = levels
    return nodes


def _flat(nodes: _Nodes) -> str:
    return "".join(f"{' ' if node.is_apart and place else ''}{node}" for place, node in enumerate(nodes))


def _lines(nodes: _Nodes, indent: int) -> Iterator[str]:
    """Nodes on one line if they fit, else a line for each clause."""
    clauses = [nodes] if _fits(nodes, indent) else _cut(nodes, _begins_clause)
    deeper = 2 if _CLAUSES.fullmatch(nodes[0].text) else 0
    for clause in clauses:
        yield from _clause(clause, indent + (deeper if clause[0].text in _SUBORDINATE else 0))


def _clause(nodes: _Nodes, indent: int) -> Iterator[str]:
    """A clause on one line if it fits; else a line for each entry of its list, or each text that is joined; or opened."""
    if _fits(nodes, indent):
        yield " " * indent + _flat(nodes)
        return
    begin = next((place for place, node in enumerate(nodes) if node.text not in _LISTS), 0)
    entries = _parts(nodes[begin:], lambda place, some: some[place - 1].text == ",")
    texts = _parts(nodes, lambda place, some: [node.text for node in some[place : place + 2]] == ["|", "|"])
    if len(entries) > 1:
        if begin:
            yield " " * indent + _flat(nodes[:begin])
        for entry in entries:
            yield from _clause(entry, indent + (_INDENT if begin else 0))
    elif len(texts) > 1:
        for place, text in enumerate(texts):
            yield from _clause(text, indent + (_INDENT if place else 0))
    else:
        yield from _opened(nodes, indent)


def _opened(nodes: _Nodes, indent: int) -> Iterator[str]:
    """Nodes with what their longest parentheses enclose in lines of its own."""
    longest = max(range(len(nodes)), key=lambda place: len(str(nodes[place])) if nodes[place].inside else 0)
    group = nodes[longest]
    if len(str(group)) < _WORTH_OPENING or not group.inside:
        yield " " * indent + _flat(nodes)
        return
    begin = _flat(nodes[:longest]) + (" " if group.is_apart and longest else "") + group.text
    end = _CLOSED_BY[group.text]
    # What encloses nothing but a call is opened with it.
    while len(group.inside) == 2 and group.inside[1].text == "(" and group.text == "(":
        begin, end, group = f"{begin}{group.inside[0]}(", f"{end})", group.inside[1]
    yield " " * indent + begin
    yield from _lines(group.inside, indent + _INDENT)
    yield from _lines([_Node(end, is_apart=False), *nodes[longest + 1 :]], indent)


def _fits(nodes: _Nodes, indent: int) -> bool:
    return indent + len(_flat(nodes)) <= _WIDTH


def _begins_clause(place: int, nodes: _Nodes) -> bool:
    before, here = (_CLAUSES.fullmatch(node.text) for node in nodes[place - 1 : place + 1])
    return here is not None and not (here[0] == "JOIN" and before)


def _cut(nodes: _Nodes, begins: Callable[[int, _Nodes], bool]) -> list[_Nodes]:
    """Nodes in parts, each of which begins where `begins` says so of a place."""
    places = [0, *(place for place in range(1, len(nodes)) if begins(place, nodes)), len(nodes)]
    return [nodes[start:end] for start, end in pairwise(places)]


def _parts(nodes: _Nodes, begins: Callable[[int, _Nodes], bool]) -> list[_Nodes]:
    """The same; a part that is nothing but a separator goes with the next one."""
    parts: list[_Nodes] = []
    waiting: list[_Node] = []
    for part in _cut(nodes, begins):
        waiting += part
        if len(_flat(part)) > _SEPARATOR:
            parts.append(waiting)
            waiting = []
    return [*parts, waiting] if waiting else parts
