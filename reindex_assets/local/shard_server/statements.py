"""Running one statement on a connection.

What lives here: results as chunks, and inserts from chunks. What does not: settings and sessions (sessions.py), and HTTP (server.py).

Results leave in three ways: `send_query` streams formats whose blocks can be concatenated; every other format goes through a named pipe by
INTO OUTFILE; statements that chdb can't stream are answered whole (they are small).

Data enter in one way, through a named pipe by FROM INFILE. chdb has `send_insert` too, but chdb 4.4.0 was measured to swallow every error
of the sink: an INSERT that breaks a CONSTRAINT (469) or makes too many partitions (252) returned from `finish()` as a success with
rows_written = N, and nothing was stored. FROM INFILE raises these errors, at the same speed.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from reindex_assets.local.shard_server import sql
from reindex_assets.local.shard_server.errors import ServerError
from reindex_assets.local.shard_server.quoting import quoted_name, quoted_text

_log = logging.getLogger(__name__)

T = TypeVar("T")

# An INSERT's statement without its data must end within this many bytes, like ClickHouse's max_query_size.
HEAD_BYTES = 256 * 1024
# Any other statement is read whole, and refused beyond this size. The engine itself stops at max_query_size.
LONGEST_STATEMENT_BYTES = 64 * 1024 * 1024
_PIPE_CHUNK_BYTES = 1024 * 1024
_F_SETPIPE_SZ = 1031
# How often an upload checks whether the engine has opened its pipe, which takes a millisecond or two.
_OPEN_POLL_SECONDS = 0.0005
# The engine writes the end mark of an Arrow stream (8 bytes) even if the query fails, which would look like a complete result. So the last
# bytes are sent only after the query has succeeded.
_ENDING_BYTES = 8

# Formats without header or footer: blocks that are encoded one by one make one valid output.
_BLOCKWISE_FORMATS = frozenset((
    "native", "rowbinary", "csv", "tabseparated", "tabseparatedraw", "tsv", "tsvraw", "raw", "jsoneachrow", "jsonlines", "ndjson",
))  # fmt: skip


@dataclass
class Summary:
    """The numbers of the answer's X-ClickHouse-Summary."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0

    def add(self, result: Any) -> None:
        """Adds a result or chunk of the engine."""
        self.read_rows += result.storage_rows_read()
        self.read_bytes += result.storage_bytes_read()
        self.written_rows += result.rows_written()
        self.written_bytes += result.bytes_written()


@dataclass
class Statement:
    """One statement with what it takes from the request."""

    text: str
    kind: str
    default_format: str
    parameters: Mapping[str, str]

    @property
    def format(self) -> str:
        """The output format, or an empty string if the statement has no result."""
        if not sql.has_result(self.kind):
            return ""
        clause = sql.output_format(self.text)
        return clause[0] if clause else self.default_format


def run(connection: Any, statement: Statement, pipes: Path, summary: Summary) -> Generator[bytes, None, None]:
    """The bytes of the result, as the engine makes them. Closing the iterator cancels the query."""
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
    """The text for the engine; bytes that are not UTF-8 (raw bytes within a literal) stay as they came."""
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

    def run_query() -> None:
        try:
            summary.add(connection.query(text, "TSV", params=dict(statement.parameters)))
        finally:
            os.close(holder)

    query = _in_thread(run_query)
    ending = b""
    try:
        while chunk := os.read(reader, _PIPE_CHUNK_BYTES):
            data = ending + chunk
            ending = data[-_ENDING_BYTES:]
            if len(data) > _ENDING_BYTES:
                yield data[:-_ENDING_BYTES]
    finally:
        # With the reading end closed the engine's next write fails, and ends a query whose result nobody reads.
        os.close(reader)
        wait((query,))
        pipe.unlink()
    query.result()
    if ending:
        yield ending


def _in_thread(work: Callable[[], T]) -> Future[T]:
    """Runs `work` in a daemon thread, which does not keep the process alive as a pool's threads do."""
    future: Future[T] = Future()

    def run_work() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is read
            future.set_exception(error)

    threading.Thread(target=run_work, daemon=True).start()
    return future


def _into_pipe(statement: Statement, pipe: Path) -> str:
    clause = sql.output_format(statement.text)
    format_at = clause[1] if clause else len(statement.text)
    tail = statement.text[format_at:] if clause else f"FORMAT {statement.default_format}"
    # The line end closes a comment at the end of the query.
    return f"{statement.text[:format_at]}\nINTO OUTFILE {quoted_text(str(pipe))} TRUNCATE COMPRESSION 'none' {tail}"


@dataclass(frozen=True)
class Inlet:
    """The way of an upload into the engine: its named pipe, and how to kill the query that reads it."""

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
    """Feeds an INSERT; an error while the data arrives (a client that disconnects, for example) cancels it."""
    text = _engine_text(_from_pipe(head, input_format, inlet.pipe))
    os.mkfifo(inlet.pipe, 0o600)
    query = _in_thread(lambda: connection.query(text, "TSV", params=dict(parameters)))
    rest = iter(data)
    try:
        writer = _opened_by_reader(inlet.pipe, query)
        if writer is not None:
            try:
                _pour(rest, writer)
            except BaseException:
                # To the engine a closed pipe is the end of the data, and it would store what has arrived. So the query is killed first;
                # if even that fails, the pipe stays open rather than commit half an upload.
                inlet.kill()
                os.close(writer)
                if query.exception() is None:
                    stored = query.result().rows_written()
                    _log.error("an upload broke off, but the engine stored %d rows of it", stored)
                raise
            os.close(writer)
        error = query.exception()
    finally:
        inlet.pipe.unlink()
    if error is not None:
        raise RuntimeError(str(error).replace(f": (in file/uri {inlet.pipe})", "")) from error
    # A format that marks its own end may leave unread data after it, as in ClickHouse.
    for _ in rest:
        pass
    # The rows that the pipeline wrote to the table and its materialized views, counted as in ClickHouse: a block that deduplication
    # dropped counts too.
    summary.written_rows += query.result().rows_written()
    summary.written_bytes += query.result().bytes_written()


def _from_pipe(head: str, input_format: str, pipe: Path) -> str:
    if not input_format.isidentifier():
        raise ServerError(73, "UNKNOWN_FORMAT", f"Unknown format {input_format}")
    settings_at = sql.insert_settings(head)
    # The line ends close a comment at the end of the head.
    return f"{head[:settings_at]}\nFROM INFILE {quoted_text(str(pipe))} COMPRESSION 'none' {head[settings_at:]}\nFORMAT {input_format}"


def _opened_by_reader(pipe: Path, query: Future[Any]) -> int | None:
    """The pipe's writing end, once the engine has opened the other end; None if the query ended without that."""
    while True:
        try:
            writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if wait((query,), _OPEN_POLL_SECONDS).done:
                return None
            continue
        os.set_blocking(writer, True)
        with suppress(OSError):
            fcntl.fcntl(writer, _F_SETPIPE_SZ, _PIPE_CHUNK_BYTES)
        return writer


def _pour(data: Iterator[bytes], writer: int) -> None:
    """Writes until the data ends, or until the engine stops reading because it has failed or has read the format's end."""
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
    """Loads the external data of a query into a temporary table on its connection."""
    sql.refuse_outside_access(structure)
    connection.query(f"CREATE TEMPORARY TABLE {quoted_name(name)} ({structure})")
    insert(connection, f"INSERT INTO {quoted_name(name)} ", input_format, [data], Summary(), inlet, {})


def read_statement(first: bytes, rest: Iterator[bytes]) -> str:
    """The whole text of a statement that is not a streamed INSERT."""
    pieces = [first]
    size = len(first)
    for chunk in rest:
        size += len(chunk)
        if size > LONGEST_STATEMENT_BYTES:
            raise ServerError(62, "SYNTAX_ERROR", f"Max query size exceeded: over {LONGEST_STATEMENT_BYTES} bytes")
        pieces.append(chunk)
    return b"".join(pieces).decode(errors="surrogateescape")
