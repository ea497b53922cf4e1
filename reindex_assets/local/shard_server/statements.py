"""Running one statement on a connection: results as chunks, inserts from chunks.

Three ways out, because chdb has three: `send_query` streams formats whose blocks can be laid end to end; every other
format goes through a named pipe by INTO OUTFILE; statements without a stream are answered whole (they are small).

One way in: a named pipe by FROM INFILE. chdb has `send_insert` for it, but chdb 4.4.0 was measured to swallow every error
of the sink: an INSERT that breaks a CONSTRAINT (469) or makes too many partitions (252) returned from `finish()` as a
success with rows_written = N, and nothing was stored. FROM INFILE raises them, at the same speed.

Not here: settings and sessions (sessions.py), HTTP (server.py).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reindex_assets.local.shard_server import sql
from reindex_assets.local.shard_server.errors import ServerError
from reindex_assets.local.shard_server.sessions import quoted_name, quoted_text

_log = logging.getLogger(__name__)

# An INSERT's statement, without its data, must end within this many bytes, as within ClickHouse's max_query_size.
HEAD_BYTES = 256 * 1024
# Any other statement is read whole; beyond this it is refused. The engine itself stops at max_query_size.
LONGEST_STATEMENT_BYTES = 64 * 1024 * 1024
_PIPE_CHUNK_BYTES = 1024 * 1024
_F_SETPIPE_SZ = 1031
# How often an upload looks whether the engine has opened its pipe, which takes a millisecond or two.
_OPEN_POLL_SECONDS = 0.0005
# The engine ends an Arrow stream with its end mark (8 bytes) even when the query failed, which would pass for a whole
# result. So the last bytes go out only after the query has succeeded.
_ENDING_BYTES = 8

# Formats without header or footer, so that blocks encoded one by one make one valid output.
_BLOCKWISE_FORMATS = frozenset(
    (
        "native",
        "rowbinary",
        "csv",
        "tabseparated",
        "tabseparatedraw",
        "tsv",
        "tsvraw",
        "raw",
        "jsoneachrow",
        "jsonlines",
        "ndjson",
    )
)


@dataclass
class Summary:
    """What the answer's X-ClickHouse-Summary says."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0

    def add(self, result: Any) -> None:
        """Count in a result or chunk of the engine."""
        self.read_rows += result.storage_rows_read()
        self.read_bytes += result.storage_bytes_read()
        self.written_rows += result.rows_written()
        self.written_bytes += result.bytes_written()


@dataclass
class Statement:
    """One statement with what it needs from the request."""

    text: str
    kind: str
    default_format: str
    parameters: Mapping[str, str]

    @property
    def format(self) -> str:
        """The output format, or an empty string when the statement has no result."""
        if not sql.has_result(self.kind):
            return ""
        found = sql.output_format(self.text)
        return found[0] if found else self.default_format


def run(connection: Any, statement: Statement, pipes: Path, summary: Summary) -> Generator[bytes, None, None]:
    """The result's bytes, as the engine makes them. Closing the iterator cancels the query."""
    if not sql.is_select(statement.kind):
        result = connection.query(
            _engine_text(statement.text), statement.default_format, params=dict(statement.parameters)
        )
        summary.add(result)
        data: bytes = result.bytes()
        if data:
            yield data
    elif statement.format.lower() in _BLOCKWISE_FORMATS:
        yield from _streamed(connection, statement, summary)
    else:
        yield from _piped(connection, statement, pipes, summary)


def _engine_text(text: str) -> str | bytes:
    """Bytes that were no UTF-8 (raw bytes within a literal) go to the engine as they came."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="surrogateescape")
    return text


def _streamed(connection: Any, statement: Statement, summary: Summary) -> Iterator[bytes]:
    stream = connection.send_query(
        _engine_text(statement.text), statement.default_format, params=dict(statement.parameters)
    )
    try:
        for chunk in stream:
            summary.read_rows = max(summary.read_rows, chunk.storage_rows_read())
            summary.read_bytes = max(summary.read_bytes, chunk.storage_bytes_read())
            data = chunk.bytes()
            if data:
                yield data
    finally:
        stream.close()


def _piped(connection: Any, statement: Statement, pipes: Path, summary: Summary) -> Iterator[bytes]:
    pipe = pipes / uuid.uuid4().hex
    os.mkfifo(pipe, 0o600)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    # Held open until the query ends, so that "no writer yet" and "the writer is done" can't be confused.
    holder = os.open(pipe, os.O_WRONLY)
    os.set_blocking(reader, True)
    with suppress(OSError):
        fcntl.fcntl(reader, _F_SETPIPE_SZ, _PIPE_CHUNK_BYTES)
    text = _engine_text(_into_pipe(statement, pipe))
    failures: list[BaseException] = []

    def query() -> None:
        try:
            summary.add(connection.query(text, "TSV", params=dict(statement.parameters)))
        except Exception as error:  # noqa: BLE001 - handed to the reading thread, which raises it
            failures.append(error)
        finally:
            os.close(holder)

    worker = threading.Thread(target=query, name=f"pipe-{pipe.name[:8]}", daemon=True)
    worker.start()
    ending = b""
    try:
        while chunk := os.read(reader, _PIPE_CHUNK_BYTES):
            data = ending + chunk
            ending = data[-_ENDING_BYTES:]
            if len(data) > _ENDING_BYTES:
                yield data[:-_ENDING_BYTES]
    finally:
        # With the reading end closed the engine's next write fails, and with it a query nobody waits for.
        os.close(reader)
        worker.join()
        pipe.unlink()
    if failures:
        raise failures[0]
    if ending:
        yield ending


def _into_pipe(statement: Statement, pipe: Path) -> str:
    found = sql.output_format(statement.text)
    format_at = found[1] if found else len(statement.text)
    tail = statement.text[format_at:] if found else f"FORMAT {statement.default_format}"
    # The line end closes a comment that may stand at the end of the query.
    return f"{statement.text[:format_at]}\nINTO OUTFILE {quoted_text(str(pipe))} TRUNCATE COMPRESSION 'none' {tail}"


@dataclass(frozen=True)
class Inlet:
    """An upload's way into the engine: a named pipe of its own, and how to kill the query that reads it."""

    pipe: Path
    kill: Callable[[], None]


def insert(
    connection: Any,
    head: str,
    input_format: str,
    data: Iterable[bytes],
    summary: Summary,
    inlet: Inlet,
    parameters: Mapping[str, str],
) -> None:
    """Feed an INSERT; an error while the data comes in (a client that went away, say) cancels it."""
    text = _engine_text(_from_pipe(head, input_format, inlet.pipe))
    os.mkfifo(inlet.pipe, 0o600)
    results: list[Any] = []
    failures: list[Exception] = []
    ended = threading.Event()

    def query() -> None:
        try:
            results.append(connection.query(text, "TSV", params=dict(parameters)))
        except Exception as error:  # noqa: BLE001 - handed to the writing thread, which raises it
            failures.append(error)
        finally:
            ended.set()

    worker = threading.Thread(target=query, name=f"inlet-{inlet.pipe.name[:8]}", daemon=True)
    worker.start()
    rest = iter(data)
    try:
        writer = _opened_by_reader(inlet.pipe, ended)
        if writer is not None:
            try:
                _pour(rest, writer)
            except BaseException:
                # To the engine a closed pipe is the data's end, and it would store what came so far. So the query dies
                # first; should even the kill fail, the pipe stays open rather than commit half an upload.
                inlet.kill()
                os.close(writer)
                worker.join()
                if results:
                    _log.error("an upload broke off, yet the engine stored %d rows of it", results[0].rows_written())
                raise
            os.close(writer)
        worker.join()
    finally:
        inlet.pipe.unlink()
    if failures:
        raise RuntimeError(str(failures[0]).replace(f": (in file/uri {inlet.pipe})", "")) from failures[0]
    # A format with an end of its own may have left something unread after it, as it may in ClickHouse.
    for _ in rest:
        pass
    # Rows that the pipeline wrote, into the table and its materialized views, as ClickHouse counts them. A block that
    # deduplication dropped is counted too, here as there.
    summary.written_rows += results[0].rows_written()
    summary.written_bytes += results[0].bytes_written()


def _from_pipe(head: str, input_format: str, pipe: Path) -> str:
    if not input_format.isidentifier():
        raise ServerError(73, "UNKNOWN_FORMAT", f"Unknown format {input_format}")
    settings_at = sql.insert_settings(head)
    # The line ends close a comment that may stand at the end of the head.
    return f"{head[:settings_at]}\nFROM INFILE {quoted_text(str(pipe))} COMPRESSION 'none' {head[settings_at:]}\nFORMAT {input_format}"


def _opened_by_reader(pipe: Path, ended: threading.Event) -> int | None:
    """The pipe's writing end once the engine has opened the other; None when the query ended without doing so."""
    while True:
        try:
            writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if ended.wait(_OPEN_POLL_SECONDS):
                return None
            continue
        os.set_blocking(writer, True)
        with suppress(OSError):
            fcntl.fcntl(writer, _F_SETPIPE_SZ, _PIPE_CHUNK_BYTES)
        return writer


def _pour(data: Iterator[bytes], writer: int) -> None:
    """Write until the data ends, or the engine reads no further: it then has failed, or has seen the format's end."""
    for chunk in data:
        rest = memoryview(chunk)
        while rest:
            try:
                rest = rest[os.write(writer, rest) :]
            except BrokenPipeError:
                return


def load_external_table(
    connection: Any, name: str, structure: str, input_format: str, data: bytes, inlet: Inlet
) -> None:
    """External data of a query: a temporary table on its connection."""
    sql.refuse_outside_access(structure)
    connection.query(f"CREATE TEMPORARY TABLE {quoted_name(name)} ({structure})")
    insert(connection, f"INSERT INTO {quoted_name(name)} ", input_format, [data], Summary(), inlet, {})


def read_statement(first: bytes, rest: Iterator[bytes]) -> str:
    """A statement that isn't a streamed INSERT, whole."""
    pieces = [first]
    size = len(first)
    for chunk in rest:
        size += len(chunk)
        if size > LONGEST_STATEMENT_BYTES:
            raise ServerError(62, "SYNTAX_ERROR", f"Max query size exceeded: over {LONGEST_STATEMENT_BYTES} bytes")
        pieces.append(chunk)
    return b"".join(pieces).decode(errors="surrogateescape")
