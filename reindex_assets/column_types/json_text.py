"""Texts in JSON, as Postgres writes them.

What lives here: the expression of ClickHouse. What does not: arrays and maps of texts (containers.py).
"""

from __future__ import annotations

#: By the code of the character; other control characters are written as numbers.
_SHORT_ESCAPES = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r"}


def json_text(value: str) -> str:
    """A text as Postgres writes it in JSON, in ClickHouse, whose own functions escape other characters."""
    text = f"replaceAll(replaceAll({value}, '\\\\', '\\\\\\\\'), '\"', '\\\\\"')"
    escaped = text
    for code in range(32):
        short = _SHORT_ESCAPES.get(code, f"u{code:04x}")
        escaped = f"replaceAll({escaped}, '\\x{code:02x}', '\\\\{short}')"
    return f"concat('\"', if(match({value}, '[\\x01-\\x1f\\\\x00]'), {escaped}, {text}), '\"')"
