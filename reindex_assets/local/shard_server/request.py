"""One HTTP request.

What lives here: its parameters, its credentials, and its body as a stream of plain bytes. What does not: sockets (the body is read from a
file object), and SQL.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from typing import BinaryIO
from urllib.parse import parse_qsl

from reindex_assets.local.shard_server.codecs import decoded
from reindex_assets.local.shard_server.errors import ServerError

_CHUNK_BYTES = 256 * 1024
_LONGEST_FORM_BYTES = 64 * 1024 * 1024

# Parameters of the HTTP interface itself; `param_*` binds a value; all others are settings.
_INTERFACE_PARAMETERS = frozenset((
    "database", "default_database", "default_format", "query", "query_id", "session_id", "session_timeout", "session_check",
    "close_session", "user", "password", "quota_key", "stacktrace", "compress", "decompress", "buffer_size", "wait_end_of_query",
    "client_protocol_version", "role",
))  # fmt: skip
_EXTERNAL_SUFFIXES = ("_format", "_structure", "_types")


class BodyCutShort(ConnectionError):
    """The client disconnected, or broke the protocol, within its body."""


@dataclass
class ExternalTable:
    """A file of a multipart request: a temporary table for one query."""

    name: str
    structure: str
    format: str
    data: bytes


@dataclass
class Request:
    """A request without the bytes of its body."""

    parameters: dict[str, str]
    headers: Message
    external: list[ExternalTable] = field(default_factory=list)

    def text(self, name: str, default: str = "") -> str:
        """A parameter of the HTTP interface."""
        return self.parameters.get(name, default)

    def _header(self, name: str) -> str:
        """A header's text; http.server reads headers as Latin-1, clients write UTF-8."""
        return self.headers.get(name, "").encode("latin-1").decode(errors="surrogateescape")

    @property
    def database(self) -> str:
        return self.text("database") or self._header("X-ClickHouse-Database") or self.text("default_database")

    @property
    def default_format(self) -> str:
        return self.text("default_format") or self.headers.get("X-ClickHouse-Format", "") or "TabSeparated"

    @property
    def bound(self) -> dict[str, str]:
        """The values for `{name:Type}`."""
        return {name[6:]: value for name, value in self.parameters.items() if name.startswith("param_")}

    @property
    def settings(self) -> dict[str, str]:
        """Every parameter that is not the interface's is a setting; the engine refuses unknown ones."""
        external = {table.name + suffix for table in self.external for suffix in _EXTERNAL_SUFFIXES}
        return {
            name: value
            for name, value in self.parameters.items()
            if name not in _INTERFACE_PARAMETERS and not name.startswith("param_") and name not in external
        }

    @property
    def session_timeout_seconds(self) -> float:
        try:
            return float(self.text("session_timeout", "60"))
        except ValueError:
            raise ServerError(455, "INVALID_SESSION_TIMEOUT", "Invalid session timeout") from None

    @property
    def credentials(self) -> tuple[str, str]:
        """The user and the password, from any of ClickHouse's places; the default user is `default`."""
        authorization = self.headers.get("Authorization", "")
        if authorization.lower().startswith("basic "):
            try:
                user, _, password = base64.b64decode(authorization[6:].strip(), validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise ServerError(516, "AUTHENTICATION_FAILED", "Invalid HTTP basic authentication") from None
            return user, password
        if "X-ClickHouse-User" in self.headers or "X-ClickHouse-Key" in self.headers:
            return self._header("X-ClickHouse-User") or "default", self._header("X-ClickHouse-Key")
        return self.text("user", "default"), self.text("password")


def parameters_of(query_string: str) -> dict[str, str]:
    """The parameters of a URL; bytes that are not UTF-8 survive."""
    return dict(parse_qsl(query_string, keep_blank_values=True, errors="surrogateescape"))


class Body:
    """The body of a request, read from the connection in chunks."""

    def __init__(self, stream: BinaryIO, headers: Message) -> None:
        self._stream = stream
        self._chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        try:
            self._left = int(headers.get("Content-Length", "0"))
        except ValueError:
            raise ServerError(381, "RECEIVED_ERROR_TOO_MANY_REQUESTS", "Bad Content-Length") from None
        self._coding = headers.get("Content-Encoding", "").strip().lower()
        self._content_type = headers.get("Content-Type", "")
        # Whether the whole body has been read; if not, the connection can't serve another request.
        self.finished = not self._chunked and self._left == 0

    def chunks(self) -> Iterator[bytes]:
        """The decoded body."""
        return decoded(self._raw(), self._coding)

    def _raw(self) -> Iterator[bytes]:
        return self._chunked_raw() if self._chunked else self._counted_raw()

    def _counted_raw(self) -> Iterator[bytes]:
        while self._left:
            data = self._stream.read(min(self._left, _CHUNK_BYTES))
            if not data:
                raise BodyCutShort("The client closed the connection within its body")
            self._left -= len(data)
            self.finished = self._left == 0
            yield data

    def _chunked_raw(self) -> Iterator[bytes]:
        while not self.finished:
            line = self._stream.readline(1024)
            try:
                size = int(line.partition(b";")[0].strip(), 16)
            except ValueError:
                raise BodyCutShort("The client closed the connection, or broke the chunked encoding") from None
            while size:
                data = self._stream.read(min(size, _CHUNK_BYTES))
                if not data:
                    raise BodyCutShort("The client closed the connection within a chunk")
                size -= len(data)
                yield data
                if not size and self._stream.read(2) != b"\r\n":
                    raise BodyCutShort("A chunk does not end with a line end")
            if line.partition(b";")[0].strip(b" \r\n0") == b"":
                while self._stream.readline(65536) not in (b"\r\n", b"\n", b""):
                    pass
                self.finished = True

    def drain(self, most_bytes: int) -> None:
        """Reads and drops the rest, so that the connection can serve another request; gives up beyond a limit."""
        taken = 0
        for data in self._raw():
            taken += len(data)
            if taken > most_bytes:
                return

    def merge_form(self, request: Request) -> bool:
        """Copies the fields of a multipart form to the request; False if the body is no form."""
        if not self._content_type.lower().startswith("multipart/form-data"):
            return False
        pieces = [f"Content-Type: {self._content_type}\r\n\r\n".encode()]
        for data in self.chunks():
            pieces.append(data)
            if sum(map(len, pieces)) > _LONGEST_FORM_BYTES:
                raise ServerError(62, "SYNTAX_ERROR", f"A form is limited to {_LONGEST_FORM_BYTES} bytes")
        form = BytesParser(policy=HTTP).parsebytes(b"".join(pieces))
        for part in form.iter_parts():
            name = str(part.get_param("name", header="content-disposition"))
            payload = part.get_payload(decode=True)
            if not isinstance(payload, bytes):
                raise ServerError(36, "BAD_ARGUMENTS", f"The form field {name} has no plain content")
            if part.get_filename() is None:
                request.parameters[name] = payload.decode(errors="surrogateescape")
            else:
                request.external.append(_external_table(name, payload, request.parameters))
        return True


def _external_table(name: str, data: bytes, parameters: Mapping[str, str]) -> ExternalTable:
    structure = parameters.get(f"{name}_structure", "")
    if not structure:
        types = [kind for kind in parameters.get(f"{name}_types", "").split(",") if kind]
        structure = ", ".join(f"_{number} {kind}" for number, kind in enumerate(types, 1))
    if not structure:
        raise ServerError(36, "BAD_ARGUMENTS", f"The external table {name} has neither structure nor types")
    return ExternalTable(name, structure, parameters.get(f"{name}_format", "TabSeparated"), data)
