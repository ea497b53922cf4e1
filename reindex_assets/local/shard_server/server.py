"""The listening server.

What lives here: its account, its running statements, clients that disconnect, and stopping. What does not: a request and its answer
(handler.py).
"""

from __future__ import annotations

import hmac
import logging
import select
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from reindex_assets.local.shard_server.engine import Engine
from reindex_assets.local.shard_server.sessions import Sessions
from reindex_assets.local.stack.processes import LOOPBACK

_log = logging.getLogger(__name__)

_WATCH_SECONDS = 0.2


@dataclass(frozen=True)
class Account:
    """The one user of a shard."""

    user: str
    password: str = field(repr=False)

    def admits(self, user: str, password: str) -> bool:
        """Compares in constant time, as for any password."""
        names_agree = hmac.compare_digest(self.user.encode(), user.encode(errors="surrogateescape"))
        return hmac.compare_digest(self.password.encode(), password.encode(errors="surrogateescape")) and names_agree


class ShardServer(ThreadingHTTPServer):
    """The listening server with the engine behind it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, engine: Engine, account: Account, handler: type[BaseHTTPRequestHandler]) -> None:
        self.engine = engine
        self.account = account
        self.sessions = Sessions(engine)
        self.running: dict[str, socket.socket | None] = {}
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        super().__init__((LOOPBACK, port), handler)
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    @contextmanager
    def watched(self, connection: socket.socket | None) -> Iterator[str]:
        """A tag for one running statement; with its connection, the statement is killed when the client disconnects."""
        tag = uuid.uuid4().hex
        with self._guard:
            self.running[tag] = connection
        try:
            yield tag
        finally:
            with self._guard:
                del self.running[tag]

    def _watch(self) -> None:
        killed: set[str] = set()
        while not self._stopping.wait(_WATCH_SECONDS):
            with self._guard:
                watched = {tag: connection for tag, connection in self.running.items() if connection is not None}
            killed &= watched.keys()
            for tag, connection in watched.items():
                if tag not in killed and _has_gone(connection):
                    killed.add(tag)
                    _log.info("the client of %s has disconnected: its query is cancelled", tag)
                    self.engine.kill(tag)
            self.sessions.drop_idle()

    def stop(self, patience_seconds: float) -> bool:
        """Stops serving, lets running statements end, and kills those that don't; True when none is left."""
        self._stopping.set()
        self.shutdown()
        self.server_close()
        deadline = time.monotonic() + patience_seconds
        asked = False
        while self.running and time.monotonic() < deadline:
            if not asked and time.monotonic() > deadline - patience_seconds / 2:
                self.engine.kill()
                asked = True
            time.sleep(0.02)
        self.sessions.close()
        return not self.running

    def server_close(self) -> None:
        """Closes only the listening socket, without waiting for idle keep-alive threads."""
        self.socket.close()


def _has_gone(connection: socket.socket) -> bool:
    poll = select.poll()
    try:
        poll.register(connection, select.POLLRDHUP if hasattr(select, "POLLRDHUP") else select.POLLHUP)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True
