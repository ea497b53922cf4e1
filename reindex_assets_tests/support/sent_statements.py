"""The statements that the product sends to Postgres and to ClickHouse, as they leave: for the golden files.

What lives here: the recorder, the names of the files, and their comparison with what was sent. What does not: what makes the product send
(golden/test_statements.py), and the layout (support/sql_layout.py).

A statement stands in one file of `golden/postgres` or `golden/clickhouse`, named after the function that sends it and, where that has
several, after what tells them apart. Values that the driver binds (`$1`, `{name:Type}`, `%(name)s`) are not part of a statement, nor is
white space between its words. What differs from run to run has a name of its own: the number of a run in the names of its staging tables.
"""

from __future__ import annotations

import ast
import re
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations, count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from adbc_driver_manager import dbapi
from clickhouse_connect.driver.binding import quote_identifier
from clickhouse_connect.driver.httpclient import HttpClient

import reindex_assets
from reindex_assets_tests.support.sql_layout import laid_out

GOLDEN = Path(__file__).parent.parent / "golden"
POSTGRES, CLICKHOUSE = "postgres", "clickhouse"
ENGINES = (POSTGRES, CLICKHOUSE)

_PRODUCT = "reindex_assets."
_NOT_PRODUCT = "reindex_assets.local."
#: What hands a statement on to the driver for somebody else.
_PASSES_ON = re.compile(
    r"retry\..*|clickhouse\.(shards|answers)\..*|postgres\.session\.SourceSession\.(rows|table|explained)"
    r"|postgres\.extract\.(_counted|stream_as)|postgres\.join_plan\._estimated_rows|placement\.locks\._held"
)
#: It sends one for itself too, before it hands on the other.
_STREAM = "postgres.session.SourceSession.stream"

_STAGING = re.compile(r"reindex_staging_\d+_\d+_")
_DATABASE = re.compile(r"SYNC REPLICA `\w+`")


@dataclass(frozen=True)
class Sent:
    """A statement, by engine, the function that sent it, the line there, and its text."""

    engine: str
    sender: str
    line: int
    text: str


class Recorder:
    """What was sent while `recording`: every statement once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent: set[Sent] = set()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Notes whatever the product's code hands to the drivers, before it leaves."""
        with pytest.MonkeyPatch.context() as patch:
            self._spy(patch, dbapi.Cursor, "execute", POSTGRES, _itself)
            for name in ("command", "query", "query_arrow"):
                self._spy(patch, HttpClient, name, CLICKHOUSE, _itself)
            self._spy(patch, HttpClient, "raw_insert", CLICKHOUSE, _insert)
            yield

    def _spy(self, patch: pytest.MonkeyPatch, driver: type, name: str, engine: str, text: Callable[..., str]) -> None:
        send = getattr(driver, name)

        def noting(client: object, *values: Any, **options: Any) -> Any:
            frame = sys._getframe(1)
            # The drivers ask questions of their own, too.
            sender = _sender(frame) if str(frame.f_globals["__name__"]).startswith(_PRODUCT) else None
            if sender is not None:
                with self._lock:
                    self.sent.add(Sent(engine, *sender, _steady(text(*values, **options))))
            return send(client, *values, **options)

        patch.setattr(driver, name, noting)


def _itself(sql: str, *values: object, **options: object) -> str:
    return sql


def _insert(table: str, columns: Iterable[str], rows: object, *, fmt: str) -> str:
    """The statement that the driver makes of an insert."""
    return f"INSERT INTO {table} ({', '.join(map(quote_identifier, columns))}) FORMAT {fmt}"


def _sender(frame: FrameType | None) -> tuple[str, int] | None:
    """The function of the product that sends, and its line; None of the local stack."""
    is_next_to_driver = True
    while frame is not None:
        module, function = str(frame.f_globals["__name__"]), frame.f_code.co_qualname.split(".<locals>")[0]
        if module.startswith(_NOT_PRODUCT):
            return None
        name = f"{module.removeprefix(_PRODUCT)}.{function}"
        passes_on = _PASSES_ON.fullmatch(name) or (is_next_to_driver and name == _STREAM)
        if module.startswith(_PRODUCT) and not passes_on:
            return name, frame.f_lineno
        is_next_to_driver, frame = False, frame.f_back
    return None


def _steady(sql: str) -> str:
    """A statement without what differs from run to run."""
    sql = _STAGING.sub("reindex_staging_{owner}_{group}_", sql)
    return _DATABASE.sub("SYNC REPLICA `{database}`", sql).replace("\x1f", r"\x1f")


# --- files


def files_of(sent: Iterable[Sent]) -> dict[str, str]:
    """The content of each golden file, by its path below `golden`."""
    by_sender: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for statement in sorted(sent, key=lambda one: (one.line, one.text)):
        by_sender[statement.engine, statement.sender].setdefault(laid_out(statement.text) + "\n", statement.line)
    return {
        f"{engine}/{sender}{label and '.'}{label}.sql": text
        for (engine, sender), texts in by_sender.items()
        for text, label in _labels(list(texts)).items()
    }


def _labels(texts: list[str]) -> Mapping[str, str]:
    """What tells the statements of a function apart: as few words as will do, and a number where no word does."""
    for size in range(len(_FEATURES) + 1):
        for chosen in combinations(_FEATURES, size):
            labels = {text: "-".join(filter(None, (feature(text) for feature in chosen))) for text in texts}
            if len(set(labels.values())) == len(texts):
                return labels
    tables = {_table(text): count(1) for text in texts}
    return {
        text: f"{_table(text)}-{next(tables[_table(text)])}" if len(tables) > 1 else str(number)
        for number, text in enumerate(texts, start=1)
    }


def _table(text: str) -> str:
    """Of what the rows are."""
    scores = r"\bscorecard_scores\b|(FROM|INTO|TABLE|EXISTS) `?score\b|\{group\}_score\b"
    return "scores" if re.search(scores, text) else "scorecards"


def _kind(text: str) -> str:
    """Of which kind they are, by what is asked about conversations."""
    conversations = r"\bapp\.chats\b|FROM conversation\b|toUInt64\(0\) AS misplaced|own_shard,\s+conversation_id"
    return "conversations" if re.search(conversations, text) else "process"


def _target(text: str) -> str:
    """The table that is named first."""
    match = re.search(r"\b(?:FROM|INTO|TABLE|EXISTS) `?(?!IF\b)([\w.{}]+)", text)
    return match[1].replace("reindex_staging_{owner}_{group}", "staging") if match else ""


def _verb(text: str) -> str:
    return text.split()[0].lower()


def _function(text: str) -> str:
    match = re.search(r"pg_\w+", text)
    return match[0] if match else ""


def _days(text: str) -> str:
    return "scattered_days" if re.search(r"< '[^']+'::timestamptz\s+OR", text) else ""


def _versions(text: str) -> str:
    return "versions" if "xmin" in text else ""


def _checksums(text: str) -> str:
    return "checksums" if " AS checksum" in text else ""


def _ids(text: str) -> str:
    return "by_id" if "{ids:" in text else ""


def _engine(text: str) -> str:
    return "by_path" if "/clickhouse/tables" in text else "replicated" if re.search("Replicated|quorum", text) else ""


_FEATURES = (_table, _kind, _target, _verb, _function, _days, _versions, _checksums, _ids, _engine)


def golden_files() -> dict[str, str]:
    """The golden files as they are, by their path below `golden`."""
    return {
        f"{engine}/{path.name}": path.read_text(encoding="utf-8")
        for engine in ENGINES
        for path in sorted((GOLDEN / engine).glob("*.sql"))
    }


def write_golden(files: Mapping[str, str]) -> None:
    """Replaces the golden files by these."""
    for name in golden_files().keys() - files.keys():
        (GOLDEN / name).unlink()
    for name, text in files.items():
        (GOLDEN / name).parent.mkdir(exist_ok=True)
        (GOLDEN / name).write_text(text, encoding="utf-8")


# --- the functions that send, as the code has them

#: What a statement is handed to, and how, by the names that connections have in the product.
_HANDED_TO = re.compile(
    r"self\._ask|stream_as|(.*\.)?(session|shard|one|connection|client|cursor)"
    r"\.(rows|table|stream|explained|command|query|query_arrow|execute|insert|raw_insert)"
)


def functions() -> dict[str, bool]:
    """The functions of the product, and whether a statement is handed to a connection in each."""
    found: dict[str, bool] = {}
    root = Path(reindex_assets.__file__).parent
    for path in root.rglob("*.py"):
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        if not module.startswith(("local.", "defs.", "cli.")):
            for name, sends in _functions_in(ast.parse(path.read_text(encoding="utf-8")), module, is_function=False):
                found[name] = found.get(name, False) or (sends and not _PASSES_ON.fullmatch(name))
    return found


def _functions_in(node: ast.AST, name: str, *, is_function: bool) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef) and not is_function:
            yield from _functions_in(child, f"{name}.{child.name}", is_function=isinstance(child, ast.FunctionDef))
        else:
            yield name, isinstance(child, ast.Call) and _HANDED_TO.fullmatch(ast.unparse(child.func)) is not None
            yield from _functions_in(child, name, is_function=is_function)
