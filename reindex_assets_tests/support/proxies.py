"""A plain TCP proxy in front of a real engine: an address that can die, at a moment that a test chooses.

What lives here: the proxy. What does not: tests, and engines. Two proxies in front of one engine are one engine by two addresses: enough to
see who changes over when, and nothing like replication.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class Proxy:
    """Relays to a port on loopback until it is stopped. Use as a context.

    Args:
        cut_at: once this stands in what a client sends, the engine still gets it, and the proxy is dead: the answer never comes.
    """

    def __init__(self, target_port: int, cut_at: bytes | None = None) -> None:
        self._target_port = target_port
        self.cut_at = cut_at
        self.is_cut = False
        #: Connections that clients have made.
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._is_stopped = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Breaks every connection; nobody listens any more."""
        with self._lock:
            self._is_stopped = True
            ending = [self._listener, *self._sockets]
        for one in ending:
            # A thread that waits in it is woken only by this.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                engine = socket.create_connection(("127.0.0.1", self._target_port))
                with self._lock:
                    self.connections += 1
                    self._sockets += [client, engine]
                    stopped = self._is_stopped
                if stopped:
                    self.stop()
                    return
                threading.Thread(target=self._relay, args=(client, engine, True), daemon=True).start()
                threading.Thread(target=self._relay, args=(engine, client, False), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket, is_request: bool) -> None:
        tail = b""
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
                if is_request and self.cut_at is not None:
                    tail = tail[-len(self.cut_at) :] + data
                    if self.cut_at in tail:
                        self.is_cut = True
                        self.stop()
                        return
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
