"""Receivers of alerts, as the services that Apprise speaks to: a web server and a mail server on loopback.

What lives here: the servers and what they have received. What does not: tests.
"""

from __future__ import annotations

import contextlib
import email
import email.policy
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

#: Stands in every URL of the tests, and must stand nowhere else.
SECRET = "hunter2-the-token"
#: How long a receiver hangs: whoever gives up sooner has not waited for it.
HANGS_SECONDS = 120


class Mood(Enum):
    WELL = "answers 200"
    BROKEN = "answers 500"
    HANGING = "takes the request and never answers"
    DRIPPING = "answers a byte now and then, without end"


@dataclass
class WebReceiver:
    """A web server that takes the messages of `json://`."""

    port: int
    mood: Mood = Mood.WELL
    received: list[dict[str, str]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def url(self, **options: object) -> str:
        query = "&".join(f"{name}={value}" for name, value in {"rto": 1, **options}.items())
        return f"json://someone:{SECRET}@127.0.0.1:{self.port}/{SECRET}/?{query}"

    def take(self) -> dict[str, str]:
        """The only message since the last time."""
        (message,) = self.received
        self.received.clear()
        return message


@contextlib.contextmanager
def web_receiver() -> Iterator[WebReceiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if receiver.mood is Mood.HANGING:
                receiver.stopped.wait(HANGS_SECONDS)
                return
            if receiver.mood is Mood.WELL:
                # Before the answer: who has it may look at once at what was received.
                receiver.received.append(content)
            self.send_response(500 if receiver.mood is Mood.BROKEN else 200)
            if receiver.mood is Mood.DRIPPING:
                self.send_header("Content-Length", "1000000")
                self.end_headers()
                while not receiver.stopped.wait(0.2):
                    self.wfile.write(b".")
                return
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        receiver = WebReceiver(server.server_port)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.stopped.set()
            server.shutdown()
            thread.join()


@dataclass
class MailReceiver:
    """A mail server without encryption."""

    port: int
    refuses: bool = False
    received: list[email.message.EmailMessage] = field(default_factory=list)

    def url(self) -> str:
        return (
            f"mailto://someone:{SECRET}@127.0.0.1:{self.port}/?from=reindex@example.org"
            "&to=ops@example.org,second@example.org&mode=insecure"
        )

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refuses:
            return "554 not today"
        assert isinstance(envelope.content, bytes)
        self.received.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"


@contextlib.contextmanager
def mail_receiver() -> Iterator[MailReceiver]:
    receiver = MailReceiver(free_port())

    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: object) -> AuthResult:
        return AuthResult(success=isinstance(login, LoginPassword) and login.password == SECRET.encode())

    controller = Controller(
        receiver,
        hostname="127.0.0.1",
        port=receiver.port,
        authenticator=check,
        auth_require_tls=False,
    )
    controller.start()
    try:
        yield receiver
    finally:
        controller.stop()


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
