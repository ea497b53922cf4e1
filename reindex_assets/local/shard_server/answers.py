"""Writing an answer: whole with its length, or in chunks as the engine makes it; compressed; and errors in mid-stream.

What lives here: the headers and the bytes of answers. What does not: their content (statements.py), and the texts of errors (errors.py).
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

from reindex_assets.local.shard_server import codecs
from reindex_assets.local.shard_server.errors import Failure, describe, trailer
from reindex_assets.local.shard_server.request import Request
from reindex_assets.local.shard_server.statements import Summary

# How much of a result wait_end_of_query holds back, so that an early error gets an HTTP status of its own. ClickHouse holds back the
# whole result, on disk if necessary; here a later error comes in the trailer.
_HELD_BACK_BYTES = 1024 * 1024
_CONTENT_TYPES = {
    "tabseparated": "text/tab-separated-values; charset=UTF-8",
    "json": "application/json; charset=UTF-8",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "csv": "text/csv; charset=UTF-8; header=absent",
    "native": "application/octet-stream",
    "arrow": "application/octet-stream",
    "arrowstream": "application/octet-stream",
    "parquet": "application/octet-stream",
}


class Answer:
    """The one answer to one request."""

    def __init__(self, handler: BaseHTTPRequestHandler, shard_name: str, request: Request) -> None:
        self.query_id = request.text("query_id") or str(uuid.uuid4())
        self._handler = handler
        self._shard_name = shard_name
        self._begun = False
        self._held_back_bytes = _HELD_BACK_BYTES if request.text("wait_end_of_query") == "1" else 0
        self._tag = secrets.token_hex(8)
        self._coding = ""
        if request.text("enable_http_compression") == "1":
            self._coding = codecs.accepted(request.headers.get("Accept-Encoding", ""))

    def whole(self, data: bytes, *, output_format: str = "", summary: Summary | None = None) -> None:
        """A short answer with its length."""
        coding = self._coding if data and output_format else ""
        encoder = codecs.encoder(coding)
        self._begin(200, output_format, coding, summary)
        self._end_headers_and_send(encoder.feed(data) + encoder.close())

    def not_found(self, path: str) -> None:
        """The answer for an unknown path."""
        self._begin(404, "", "", None)
        self._end_headers_and_send(f"There is no handle {path}\n\nUse / or /ping for health checks.\n".encode())

    def failure(self, failure: Failure) -> None:
        """An error as the answer; an answer that has begun can only be broken off."""
        if self._begun:
            self._handler.close_connection = True
            return
        self._begin(failure.status, "", "", None)
        self._handler.send_header("X-ClickHouse-Exception-Code", str(failure.code))
        try:
            self._end_headers_and_send(failure.text.encode(errors="backslashreplace") + b"\n")
        except OSError:
            self._handler.close_connection = True

    def relay(
        self,
        result: Iterator[bytes],
        output_format: str,
        summary: Summary,
        version: str,
        release: Callable[[], None],
    ) -> None:
        """Sends a result as it arrives. `release` frees the session before the client can see the end of the answer."""
        held: list[bytes] = []
        held_bytes = 0
        for chunk in result:
            held.append(chunk)
            held_bytes += len(chunk)
            if held_bytes > self._held_back_bytes:
                break
        else:
            release()
            self.whole(b"".join(held), output_format=output_format, summary=summary)
            return
        self._begin(200, output_format, self._coding, None)
        self._handler.send_header("Transfer-Encoding", "chunked")
        self._handler.end_headers()
        encoder = codecs.encoder(self._coding)
        for chunk in held:
            self._send_chunk(encoder.feed(chunk))
        held.clear()
        try:
            for chunk in result:
                self._send_chunk(encoder.feed(chunk))
            release()
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - the client must receive any error of the engine
            self._send_chunk(encoder.feed(trailer(describe(error, version), self._tag)) + encoder.close())
            self._handler.wfile.flush()
            # Without the last chunk no client mistakes this for a complete result.
            self._handler.close_connection = True
            return
        self._send_chunk(encoder.close())
        self._handler.wfile.write(b"0\r\n\r\n")
        self._handler.wfile.flush()

    def _begin(self, status: int, output_format: str, coding: str, summary: Summary | None) -> None:
        handler = self._handler
        self._begun = True
        handler.send_response(status)
        headers = {
            "Content-Type": _CONTENT_TYPES.get(output_format.lower(), "text/plain; charset=UTF-8"),
            "X-ClickHouse-Server-Display-Name": self._shard_name,
            "X-ClickHouse-Query-Id": self.query_id,
            "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Exception-Tag": self._tag,
        }
        if output_format:
            headers["X-ClickHouse-Format"] = output_format
        if coding:
            headers["Content-Encoding"] = coding
        if summary is not None:
            headers["X-ClickHouse-Summary"] = json.dumps(
                {
                    "read_rows": str(summary.read_rows),
                    "read_bytes": str(summary.read_bytes),
                    "written_rows": str(summary.written_rows),
                    "written_bytes": str(summary.written_bytes),
                }
            )
        for name, value in headers.items():
            # A value that comes from the client must not be able to end the line.
            handler.send_header(name, value.replace("\r", "").replace("\n", ""))

    def _end_headers_and_send(self, data: bytes) -> None:
        self._handler.send_header("Content-Length", str(len(data)))
        self._handler.end_headers()
        if self._handler.command != "HEAD":
            self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def _send_chunk(self, data: bytes) -> None:
        if data and self._handler.command != "HEAD":
            self._handler.wfile.write(b"%x\r\n" % len(data))
            self._handler.wfile.write(data)
            self._handler.wfile.write(b"\r\n")
