"""The faults: those of cosmic-ray that matter here, and two kinds that it lacks, in SQL and by leaving out a statement.

What lives here: the operators, and which of cosmic-ray's are used. What does not: where they are used (campaign.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from cosmic_ray.operators.operator import Example, Operator
from parso.python.tree import Name

#: parso's nodes and leaves: it has no usable types.
Node = Any
Positions = Iterator[tuple[tuple[int, int], tuple[int, int]]]

#: Of cosmic-ray's own, by a pattern of their names. Not: `is` for `==`, which is the same here; other arithmetic than + - * %.
OF_COSMIC_RAY = re.compile(
    r"core/(AddNot|Replace(True|False|And|Or|Break|Continue)With\w+|ZeroIterationForLoop|NumberReplacer|ExceptionReplacer"
    r"|ReplaceUnaryOperator_Delete_Not"
    r"|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Add|Mod_Mul|BitOr_BitAnd|BitAnd_BitOr)"
    r"|ReplaceComparisonOperator_(?!Is_Eq|IsNot_NotEq|Eq_Is$|NotEq_IsNot)\w+)"
)

#: What a statement of SQL may have instead: names of the faults, patterns, and what comes in their place.
_IN_SQL: dict[str, tuple[str, str]] = {
    "AndToOr": (r"\bAND\b", "OR"),
    "OrToAnd": (r"\bOR\b", "AND"),
    "NotInToIn": (r"\bNOT IN\b", "IN"),
    "InToNotIn": (r"(?<!NOT )\bIN\b(?= ?[({\w])", "NOT IN"),
    "LeftJoinToJoin": (r"\bLEFT (ANTI |SEMI |ANY )?JOIN\b", "JOIN"),
    "NoDistinct": (r"\bDISTINCT\b", ""),
    "NoFinal": (r"\bFINAL\b", ""),
    "Nullness": (r"\bIS NULL\b", "IS NOT NULL"),
    "NotNullness": (r"\bIS NOT NULL\b", "IS NULL"),
    "LessToLessOrEqual": (r" < ", " <= "),
    "LessOrEqualToLess": (r" <= ", " < "),
    "GreaterToGreaterOrEqual": (r" > ", " >= "),
    "GreaterOrEqualToGreater": (r" >= ", " > "),
    "EqualToUnequal": (r" = ", " != "),
    "UnequalToEqual": (r" != ", " = "),
    "MinToMax": (r"\bmin(If)?\(", r"max\1("),
    "MaxToMin": (r"\b(arg)?[mM]ax(If)?\(", r"min\2("),
    "SumToMax": (r"\bsum(If)?\(", r"max\1("),
    "CountToSumOfNothing": (r"\bcount\(\)", "0"),
    "PlusToMinus": (r" \+ ", " - "),
    "Descending": (r"\bDESC\b", "ASC"),
    "AllToDistinct": (r"\bUNION ALL\b", "UNION DISTINCT"),
}
#: A text is taken for SQL that holds a word of it in capitals, or a call of an aggregate.
_SQL = re.compile(
    r"\b(SELECT|FROM|WHERE|AND|OR|HAVING|GROUP BY|JOIN|INSERT|DELETE|IN|UNION|FINAL|count\(|sum\(|max\(|min\()"
)


class _InSql(Operator):  # type: ignore[misc]  # cosmic-ray has no types
    """Replaces one occurrence of a pattern in a text that holds SQL."""

    pattern: re.Pattern[str]
    replacement: str
    example: tuple[str, str]

    def mutation_positions(self, node: Node) -> Positions:
        if _holds_sql(node):
            for _ in self.pattern.finditer(node.value):
                yield node.start_pos, node.end_pos

    def mutate(self, node: Node, index: int) -> Node:
        match = list(self.pattern.finditer(node.value))[index]
        node.value = node.value[: match.start()] + match.expand(self.replacement) + node.value[match.end() :]
        return node

    @classmethod
    def examples(cls) -> Iterable[Example]:
        return ()


def _holds_sql(node: Node) -> bool:
    is_text = node.type in ("string", "fstring_string")
    return is_text and not _is_docstring(node) and bool(_SQL.search(node.value))


def _is_docstring(node: Node) -> bool:
    return node.type == "string" and node.parent is not None and node.parent.type in ("simple_stmt", "file_input")


class LeaveOut(Operator):  # type: ignore[misc]  # cosmic-ray has no types
    """Leaves out a call whose result nobody uses, or the raising of an error."""

    def mutation_positions(self, node: Node) -> Positions:
        is_statement = node.parent is not None and node.parent.type == "simple_stmt"
        if is_statement and (node.type == "raise_stmt" or _is_call(node)):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Node, index: int) -> Node:
        nothing = Name("None", node.start_pos, prefix=node.get_first_leaf().prefix)
        nothing.parent = node.parent
        return nothing

    @classmethod
    def examples(cls) -> Iterable[Example]:
        return (
            Example("raise ValueError(1)\n", "None\n"),
            Example("wait(1)\n", "None\n"),
            Example("self.wait(1)[0].go()\n", "None\n"),
        )


def _is_call(node: Node) -> bool:
    if node.type != "atom_expr":
        return False
    last = node.children[-1]
    return bool(last.type == "trailer" and last.children[0].value == "(")


class Faults:
    """A provider of operators, as cosmic-ray looks for them."""

    def __init__(self) -> None:
        self._operators: dict[str, type[Operator]] = {"LeaveOut": LeaveOut}
        for name, (pattern, replacement) in _IN_SQL.items():
            self._operators[name] = type(name, (_InSql,), {"pattern": re.compile(pattern), "replacement": replacement})

    def __iter__(self) -> Iterator[str]:
        return iter(self._operators)

    def __getitem__(self, name: str) -> type[Operator]:
        return self._operators[name]
