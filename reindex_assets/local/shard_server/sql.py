"""Reading just enough of a SQL text to serve it: its kind, its output format, an INSERT's head, and what must be refused.

What lives here: a lexer that knows strings, quoted names and comments, and functions over its tokens. What does not: a grammar; the engine
decides what is valid SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from reindex_assets.local.shard_server.errors import ServerError

_TOKEN = re.compile(
    r"""
      (?P<comment> --[^\n]*(?:\n|\Z) | \#(?:!|\ )[^\n]*(?:\n|\Z) | /\*.*?(?:\*/|\Z) )
    | (?P<heredoc> \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
    | (?P<string> '(?:[^'\\]|\\.|'')*(?:'|\Z) )
    | (?P<quoted> "(?:[^"\\]|\\.|"")*(?:"|\Z) | `(?:[^`\\]|\\.|``)*(?:`|\Z) )
    | (?P<number> \d\w* )
    | (?P<word> [^\W\d]\w* )
    | (?P<mark> [();=.,{}] )
    """,
    re.VERBOSE | re.DOTALL,
)

# Functions, table functions, engines and dictionary sources that read or write the disk, run programs, or connect to other stores. The
# shard listens on loopback only, but a client must not read this machine through it.
_REFUSED_CALLS = frozenset((
    "file", "filecluster", "url", "urlcluster", "urlwithheaders", "s3", "s3cluster", "s3queue", "gcs", "oss", "cosn", "hdfs", "hdfscluster",
    "azureblobstorage", "azureblobstoragecluster", "azurequeue", "iceberg", "iceberglocal", "icebergs3", "icebergazure", "iceberghdfs",
    "icebergcluster", "iceberglocalcluster", "icebergs3cluster", "icebergazurecluster", "iceberghdfscluster", "deltalake", "deltalakelocal",
    "deltalakes3", "deltalakeazure", "deltalakecluster", "deltalakes3cluster", "deltalakeazurecluster", "hudi", "hudicluster", "paimon",
    "paimonlocal", "paimons3", "paimonazure", "paimonhdfs", "paimoncluster", "sqlite", "python", "executable", "executablepool",
    "filesystem", "filelog", "mergetreetextindex", "overlay", "arrowflight", "ytsaurus", "hive", "odbc", "jdbc", "disk", "http",
))  # fmt: skip
_STREAMED_INSERT_WORDS = ("FORMAT", "VALUES")
_RESULT_KINDS = frozenset({"SELECT", "WITH", "FROM", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN", "CHECK", "KILL"})
_STREAMED_KINDS = frozenset({"SELECT", "WITH", "FROM"})
_LEAVE_NOTHING = frozenset({
    "SELECT", "WITH", "FROM", "SHOW", "EXISTS", "INSERT", "WITH INSERT", "DELETE", "ALTER", "OPTIMIZE", "DROP",
})  # fmt: skip


@dataclass(frozen=True)
class Token:
    """One lexeme: `kind` is word, quoted, string, heredoc, number or mark; `text` is as written."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def upper(self) -> str:
        """The word in capitals; an empty string for anything but a bare word."""
        return self.text.upper() if self.kind == "word" else ""


@dataclass(frozen=True)
class InsertHead:
    """An INSERT's statement without its data: `sql`, the input format, and where the data begins in the text."""

    sql: str
    format: str
    data_start: int


def tokens(sql: str) -> Iterator[Token]:
    """The lexemes of a SQL text, without comments, and without operators that nothing here needs.

    >>> [t.text for t in tokens("SELECT 'a''b' -- c")]
    ['SELECT', "'a''b'"]
    """
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup or "mark"
        if match.group("heredoc") is not None:
            kind = "heredoc"
        if kind != "comment":
            yield Token(kind, match.group(), match.start(), match.end())


def kind(sql: str) -> str:
    """The statement's first word in capitals, past opening brackets; a WITH that inserts is an INSERT ... SELECT.

    >>> kind("(select 1) union all (select 2)"), kind("/* x */ system flush logs")
    ('SELECT', 'SYSTEM')
    """
    depth = 0
    first = ""
    for token in tokens(sql):
        if token.text == "(":
            depth += 1
        elif token.text == ")":
            depth -= 1
        elif not first:
            first = token.upper
            if first != "WITH":
                return first
        elif depth == 0 and token.upper == "INSERT":
            return "WITH INSERT"
    return first


def has_result(statement_kind: str) -> bool:
    """Whether statements of this kind return rows in an output format."""
    return statement_kind in _RESULT_KINDS


def leaves_nothing(sql: str, statement_kind: str) -> bool:
    """Whether a connection is as it was after a statement: without other settings, another database or temporary tables.

    >>> leaves_nothing("SET final = 1", "SET"), leaves_nothing("CREATE OR REPLACE TEMPORARY TABLE t (a Int8)", "CREATE")
    (False, False)
    >>> leaves_nothing("CREATE TABLE t (a Int8)", "CREATE")
    True
    """
    if statement_kind == "CREATE":
        return all(token.upper != "TEMPORARY" for token in islice(tokens(sql), 4))
    return statement_kind in _LEAVE_NOTHING


def is_select(statement_kind: str) -> bool:
    """Whether the engine can stream the statement's result."""
    return statement_kind in _STREAMED_KINDS


def output_format(sql: str) -> tuple[str, int] | None:
    """The trailing FORMAT clause's name and where the clause begins, or None.

    >>> output_format("SELECT 1 FORMAT Native SETTINGS max_threads = 1")
    ('Native', 9)
    >>> output_format("SELECT format('{}', 1)") is None
    True
    """
    clause: tuple[str, int] | None = None
    depth = 0
    pending: Token | None = None
    for token in tokens(sql):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if pending is not None and token.kind == "word":
            clause = (token.text, pending.start)
        pending = token if depth == 0 and token.upper == "FORMAT" else None
    return clause


def without_end(sql: str) -> str:
    """The statement without its closing semicolon; a second statement after it is refused, as in ClickHouse (62)."""
    end: int | None = None
    for token in tokens(sql):
        if token.text == ";":
            end = token.start if end is None else end
        elif end is not None:
            raise ServerError(
                62, "SYNTAX_ERROR", f"Syntax error (Multi-statements are not allowed): failed at position {end + 1}"
            )
    return sql if end is None else sql[:end]


def insert_head(text: str, *, complete: bool) -> InsertHead | None:
    """Splits `INSERT ... FORMAT x <data>` or `INSERT ... VALUES <data>`; None if the statement has no data.

    `complete` means that no text follows: then a FORMAT at the very end is a head without data.

    >>> insert_head("INSERT INTO t (a) FORMAT Native\\nxyz", complete=True)
    InsertHead(sql='INSERT INTO t (a) ', format='Native', data_start=32)
    """
    depth = 0
    stream = tokens(text)
    into = False
    selects = False
    for token in stream:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        into = into or token.upper in ("INTO", "TABLE", "FUNCTION")
        selects = selects or (depth == 0 and token.upper in ("SELECT", "WITH"))
        if depth or not into or token.upper not in _STREAMED_INSERT_WORDS:
            continue
        if token.upper == "VALUES":
            if selects:
                continue
            return InsertHead(text[: token.start], "Values", token.end)
        name = next(stream, None)
        if name is None or name.kind != "word":
            return None
        if name.upper == "VALUES":
            return InsertHead(text[: token.start], "Values", name.end)
        if name.end == len(text) and not complete:
            return None
        return InsertHead(text[: token.start], name.text, _data_start(text, name.end))
    return None


def insert_settings(head: str) -> int:
    """The position of the SETTINGS clause in an INSERT's head, or the head's length; a SELECT over the data is refused (48).

    >>> insert_settings("INSERT INTO settings (a) SETTINGS x = 1")
    25
    """
    lexemes = list(tokens(head))
    depth = 0
    for position, token in enumerate(lexemes):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and token.upper in ("SELECT", "WITH"):
            raise ServerError(48, "NOT_IMPLEMENTED", "No INSERT ... SELECT over data that comes with it (input()) here")
        following = [after.text for after in lexemes[position + 2 : position + 3]]
        if depth == 0 and token.upper == "SETTINGS" and following == ["="]:
            return token.start
    return len(head)


def _data_start(text: str, position: int) -> int:
    """ClickHouse skips blanks, one optional semicolon and one line end after the format's name."""
    match = re.compile(r"[ \t\f]*;?[ \t\f]*\r?\n?").match(text, position)
    return match.end() if match else position


def refuse_outside_access(sql: str) -> None:
    """Raises ACCESS_DENIED (497) if the statement would read or write outside the shard's tables."""
    previous: tuple[Token | None, Token | None] = (None, None)
    first = ""
    for token in tokens(sql):
        before, last = previous
        first = first or token.upper
        # In `INSERT INTO url (a)` and `CREATE TABLE url (a ...)` it is the name of a table.
        after = before.upper if before is not None and first in ("INSERT", "CREATE") else ""
        names_a_table = after in ("INTO", "TABLE", "EXISTS")
        if token.text == "(" and last is not None and _name(last) in _REFUSED_CALLS and not names_a_table:
            _refuse(f"{last.text}()")
        if before is not None and before.upper == "ENGINE" and last is not None and last.text == "=":
            _refuse_engine(token)
        if last is not None:
            if last.upper == "ENGINE" and token.text != "=":
                _refuse_engine(token)
            if (last.upper, token.upper) in (("INTO", "OUTFILE"), ("FROM", "INFILE")):
                _refuse(f"{last.upper} {token.upper}")
            if first == "ATTACH" and last.upper == "FROM" and token.kind == "string":
                _refuse("ATTACH ... FROM a path")
        previous = (last, token)
    if first in ("BACKUP", "RESTORE"):
        _refuse(first)


def _name(token: Token) -> str:
    """A bare or quoted name in lower case."""
    if token.kind == "quoted":
        return token.text[1:-1].lower()
    return token.text.lower() if token.kind == "word" else ""


def _refuse_engine(token: Token) -> None:
    if _name(token) in _REFUSED_CALLS:
        _refuse(f"ENGINE = {token.text}")


def _refuse(what: str) -> None:
    raise ServerError(497, "ACCESS_DENIED", f"This local shard refuses {what}: clients may not reach past its tables")
