"""One client connection: from a request to a statement, and from its result to an answer.

What lives here: the steps of a request. What does not: reading SQL (sql.py), running it (statements.py), and writing answers (answers.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler
from itertools import chain
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from reindex_assets.local.shard_server import sql
from reindex_assets.local.shard_server.answers import Answer
from reindex_assets.local.shard_server.engine import TAG_SETTING
from reindex_assets.local.shard_server.errors import ServerError, describe
from reindex_assets.local.shard_server.quoting import quoted_name
from reindex_assets.local.shard_server.request import Body, BodyCutShort, Request, parameters_of
from reindex_assets.local.shard_server.server import ShardServer
from reindex_assets.local.shard_server.statements import (
    HEAD_BYTES,
    Inlet,
    Statement,
    Summary,
    insert,
    load_external_table,
    read_statement,
    run,
)

_log = logging.getLogger(__name__)

_MOST_DRAINED_BYTES = 4 * 1024 * 1024
# VALUES may hold expressions, which the engine evaluates. A statement that fits the head is read and refused like any other text; a longer
# list is streamed unread, so it may hold only literals.
_LITERALS_ONLY = {
    "input_format_values_interpret_expressions": "0",
    "input_format_values_deduce_templates_of_expressions": "0",
}


class ShardHandler(BaseHTTPRequestHandler):
    """Serves the requests of one connection, one after another."""

    protocol_version = "HTTP/1.1"
    server_version = "reindex-local-shard"
    # Small answers must not wait for the peer's delayed acknowledgements.
    disable_nagle_algorithm = True
    wbufsize = 64 * 1024

    def log_message(self, format: str, *args: Any) -> None:
        # The URL may hold a query's text, so it is logged only at debug level.
        _log.debug(format, *args)

    @property
    def shard(self) -> ShardServer:
        return cast(ShardServer, self.server)

    def _serve(self) -> None:
        url = urlsplit(self.path)
        request = Request(parameters_of(url.query), self.headers)
        answer = Answer(self, self.shard.engine.name, request)
        body: Body | None = None
        try:
            body = Body(cast(BinaryIO, self.rfile), self.headers)
            asks_nothing = url.path == "/" and self.command != "POST" and not request.text("query") and body.finished
            if url.path in ("/ping", "/replicas_status") or asks_nothing:
                answer.whole(b"Ok.\n")
            elif url.path not in ("", "/"):
                answer.not_found(url.path)
            else:
                self._answer(request, body, answer)
        except (BodyCutShort, ConnectionError, TimeoutError) as error:
            _log.info("the client disconnected: %s", error)
            self.close_connection = True
        except Exception as error:  # noqa: BLE001 - every failure is an answer, and never ends the server
            answer.failure(describe(error, self.shard.engine.version))
        self._skip_to_next_request(body)

    do_GET = do_HEAD = do_POST = _serve

    def _skip_to_next_request(self, body: Body | None) -> None:
        """Reads the rest of a body after an early error, or closes the connection if the body is too long."""
        if body is not None and not body.finished and not self.close_connection:
            try:
                body.drain(_MOST_DRAINED_BYTES)
            except OSError as error:
                _log.info("the client disconnected: %s", error)
        if body is None or not body.finished:
            self.close_connection = True

    def _answer(self, request: Request, body: Body, answer: Answer) -> None:
        user, password = request.credentials
        if not self.shard.account.admits(user, password):
            raise ServerError(
                516,
                "AUTHENTICATION_FAILED",
                f"{user}: Authentication failed: password is incorrect, or there is no user with such name",
            )
        if "1" in (request.text("compress"), request.text("decompress")):
            raise ServerError(48, "NOT_IMPLEMENTED", "No native block compression here: use Content-Encoding")
        chunks = iter(()) if body.merge_form(request) else body.chunks()
        query = request.text("query").encode(errors="surrogateescape")
        first, complete = _head(query + b"\n" if query and not body.finished else query, chunks)
        text = first.decode(errors="surrogateescape")
        kind = sql.kind(text)
        if self.command != "POST" and not sql.has_result(kind):
            raise ServerError(
                164,
                "READONLY",
                "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. "
                "You should use method POST for modifying queries",
            )
        head = sql.insert_head(text, complete=complete) if kind == "INSERT" else None
        if head is not None and head.format == "Values" and complete:
            head = None
        if head is not None:
            sql.refuse_outside_access(head.sql)
        else:
            text = sql.without_end(text if complete else read_statement(first, chunks)).strip()
            sql.refuse_outside_access(text)
        self._run(request, answer, kind, text, head, chunks)

    def _run(
        self,
        request: Request,
        answer: Answer,
        kind: str,
        text: str,
        head: sql.InsertHead | None,
        chunks: Iterator[bytes],
    ) -> None:
        reads_only = sql.has_result(kind) and kind != "KILL"
        query_id = answer.query_id
        summary = Summary()
        with self.shard.watched(self.connection if reads_only else None) as tag, ExitStack() as stack:
            settings = {"log_comment": query_id, **request.settings, TAG_SETTING: tag}
            if head is not None and head.format == "Values":
                settings.update(_LITERALS_ONLY)
            if head is not None and "max_insert_block_size" in settings:
                # The client's setting is for data from the network; the engine's file reader uses this one.
                settings.setdefault("max_block_size", settings["max_insert_block_size"])
            inlet = Inlet(self.shard.engine.pipes / tag, lambda: self.shard.engine.kill(tag))
            connection, session = stack.enter_context(
                self.shard.sessions.connection(
                    request.text("session_id"),
                    request.session_timeout_seconds,
                    request.text("session_check") == "1",
                    request.database,
                    settings,
                    sql.leaves_nothing(text, kind),
                )
            )
            for table in request.external:
                load_external_table(connection, table.name, table.structure, table.format, table.data, inlet)
                stack.callback(connection.query, f"DROP TEMPORARY TABLE IF EXISTS {quoted_name(table.name)}")
            if head is not None:
                data = text[head.data_start :].encode(errors="surrogateescape")
                insert(connection, head.sql, head.format, chain((data,), chunks), summary, inlet, request.bound)
                # The session must be free before the client reads the answer and sends its next request.
                stack.close()
                answer.whole(b"", summary=summary)
                return
            statement = Statement(text, kind, request.default_format, request.bound)
            if session is not None and kind in ("SET", "USE"):
                stack.callback(session.note_own_settings)
            with closing(run(connection, statement, self.shard.engine.pipes, summary)) as result:
                answer.relay(result, statement.format, summary, self.shard.engine.version, stack.close)


def _head(start: bytes, chunks: Iterator[bytes]) -> tuple[bytes, bool]:
    """The beginning of a request's text, long enough for the statement of any INSERT, and whether it is the whole text."""
    pieces = [start]
    size = len(start)
    while size < HEAD_BYTES:
        chunk = next(chunks, None)
        if chunk is None:
            return b"".join(pieces), True
        pieces.append(chunk)
        size += len(chunk)
    return b"".join(pieces), False
