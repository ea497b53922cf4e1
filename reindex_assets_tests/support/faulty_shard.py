"""A proxy in front of a real shard that breaks its word: what deployments do, and local engines never would.

What lives here: the faults, and the proxy that commits them. What does not: tests, engines, and addresses that die (support/proxies.py).
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import parse_qsl, unquote_plus, urlencode

from reindex_assets.config.fleet import Fleet
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets_tests.support.hand_made_rows import with_shard_port

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})

#: What ClickHouse adds to an answer that it can't finish.
LATE_ERROR = b"Code: 241. DB::Exception: Memory limit (total) exceeded: would use 8.00 GiB. (MEMORY_LIMIT_EXCEEDED)\n"


class Fault(StrEnum):
    """What happens to a statement."""

    REFUSED = "the connection ends before the shard has it"
    UNANSWERED = "the shard does it, and the connection ends"
    NOT_DONE = "it is acknowledged, and never reaches the shard"
    HTML = "it is answered by a page of the proxy's, with 200"
    LATE = "it is acknowledged, and done a while later"
    REPEATED = "the shard gets it twice"
    CUT = "half of its data reach the shard"
    SLOW = "it is done, after a while"
    SHORT = "the beginning of its answer comes, and the connection ends as it should"
    FAILED_LATE = "the beginning of its answer comes, and then the text of an error, with 200"


@dataclass
class FaultyShard:
    """Decides about every statement; `decide` gets its text.

    Attributes:
        profile: settings that a statement has unless it sets them itself, as those of a user's settings profile.
        kept_bytes: of an answer that is cut; None is half of it.
        seen: how often a fault was committed.
    """

    port: int
    profile: dict[str, str] = field(default_factory=dict)
    decide: Callable[[str], Fault | None] = lambda statement: None
    late_seconds: float = 1.0
    kept_bytes: int | None = None
    seen: dict[Fault, int] = field(default_factory=dict)
    late: list[threading.Thread] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def once(self, part: str, fault: Fault, times: int = 1) -> None:
        """The first statements that hold `part` meet the fault."""
        left = [times]

        def decide(statement: str) -> Fault | None:
            with self.lock:
                if part not in statement or not left[0]:
                    return None
                left[0] -= 1
                return fault

        self.decide = decide

    def always(self, part: str, fault: Fault) -> None:
        self.decide = lambda statement: fault if part in statement else None

    def heal(self) -> None:
        """No more faults; what is late has happened."""
        self.decide = lambda statement: None
        for thread in self.late:
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        shard = cast(_Server, self.server).shard
        if shard.profile:
            self.path = _with_profile(self.path, shard.profile)
        body = self._body()
        statement = unquote_plus(self.path) + " " + body[:100_000].decode(errors="replace")
        fault = shard.decide(statement)
        if fault is not None:
            with shard.lock:
                shard.seen[fault] = shard.seen.get(fault, 0) + 1
        if fault is Fault.REFUSED:
            self.close_connection = True
        elif fault is Fault.NOT_DONE:
            self._answer(200, {}, b"")
        elif fault is Fault.HTML:
            self._answer(200, {"Content-Type": "text/html"}, b"<html><body>Please sign in</body></html>")
        elif fault is Fault.LATE:
            # The handler goes on to the connection's next request meanwhile.
            request = (self.command, self.path, self.headers, body)
            thread = threading.Thread(target=_later, args=(shard, *request))
            shard.late.append(thread)
            thread.start()
            self._answer(200, {}, b"")
        else:
            if fault is Fault.SLOW:
                time.sleep(shard.late_seconds)
            if fault is Fault.REPEATED:
                _forwarded(shard.port, self.command, self.path, self.headers, body)
            sent = body[: len(body) // 2] if fault is Fault.CUT else body
            if fault in (Fault.SHORT, Fault.FAILED_LATE):
                # Compression has an end of its own; not every proxy and server keeps it.
                del self.headers["Accept-Encoding"]
            status, headers, data = _forwarded(shard.port, self.command, self.path, self.headers, sent)
            if fault in (Fault.UNANSWERED, Fault.CUT):
                self.close_connection = True
            elif fault in (Fault.SHORT, Fault.FAILED_LATE):
                kept = data[: len(data) // 2 if shard.kept_bytes is None else shard.kept_bytes]
                self._answer(
                    status, headers, kept + (LATE_ERROR if fault is Fault.FAILED_LATE else b""), has_length=False
                )
            else:
                self._answer(status, headers, data)

    do_GET = do_POST

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _answer(self, status: int, headers: dict[str, str], data: bytes, has_length: bool = True) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("server", "date"):
                self.send_header(name, value)
        if has_length:
            self.send_header("Content-Length", str(len(data)))
        else:
            # The end of the connection is the end of the answer.
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)


def _with_profile(path: str, profile: Mapping[str, str]) -> str:
    """A profile's settings come first: what the request says itself holds, also of two names of one setting."""
    address, _, query = path.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    added = urlencode({name: value for name, value in profile.items() if name not in given})
    return f"{address}?{'&'.join(part for part in (added, query) if part)}"


def _later(shard: FaultyShard, command: str, path: str, headers: Message, body: bytes) -> None:
    time.sleep(shard.late_seconds)
    _forwarded(shard.port, command, path, headers, body)


def _forwarded(port: int, command: str, path: str, headers: Message, body: bytes) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    kept = {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}
    connection.request(command, path, body, kept)
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, {n: v for n, v in answer.getheaders() if n.lower() not in _HOP_BY_HOP}, data


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, shard: FaultyShard) -> None:
        self.shard = shard
        super().__init__(("127.0.0.1", 0), _Handler)


@contextmanager
def faulty_shard(fleet: Fleet, number: int = 1) -> Iterator[tuple[Fleet, FaultyShard]]:
    """The fleet with a shard behind such a proxy."""
    address = fleet.clusters[CLUSTER].clickhouse.shards[number].addresses[0]
    shard = FaultyShard(address.port)
    server = _Server(shard)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield with_shard_port(fleet, number, int(server.server_address[1])), shard
    finally:
        server.shutdown()
        server.server_close()
        shard.heal()
