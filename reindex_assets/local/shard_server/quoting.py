"""Names, texts and settings, written as SQL.

What lives here: quoting. What does not: reading SQL (sql.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from reindex_assets.local.shard_server.errors import ServerError


def quoted_name(name: str) -> str:
    """An identifier in backticks.

    >>> quoted_name("a`b")
    '`a\\\\`b`'
    """
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def quoted_text(text: str) -> str:
    """A string literal.

    >>> quoted_text("it's")
    "'it\\\\'s'"
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def setting_name(name: str) -> str:
    """The name as it came, if it can be a setting's.

    Raises:
        ServerError: it can't (115).
    """
    if not name.replace("_", "a").replace(".", "a").isalnum():
        raise ServerError(115, "UNKNOWN_SETTING", f"Unknown setting {name!r}")
    return name


def set_statement(settings: Mapping[str, str]) -> str:
    """One SET of all these settings.

    >>> set_statement({"max_threads": "1", "log_comment": "a"})
    "SET max_threads = '1', log_comment = 'a'"
    """
    return "SET " + ", ".join(f"{setting_name(name)} = {quoted_text(value)}" for name, value in settings.items())
