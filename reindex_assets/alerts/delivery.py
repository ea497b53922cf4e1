"""Sends alerts with Apprise: to mail, Slack, Teams, PagerDuty, webhooks and a hundred other services, each given by a URL.

What lives here: the targets, sending to each of them, and keeping their URLs secret. What does not: what is sent.

A target's URL contains its password or token. It is never logged, stored or put into an error: messages name a target by its position in
REINDEX_ALERT_URLS and its scheme, and the state identifies it by a hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from reindex_assets.alerts.message import Message
from reindex_assets.alerts.problems import Severity
from reindex_assets.errors import ConfigurationError, ReindexError

#: For all targets together. Dagster allows a sensor 60 s, and reading comes first.
DEADLINE_SECONDS = 30.0
#: For one connection, or one wait for an answer.
MAX_SOCKET_SECONDS = 15.0

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://")


class UndeliveredError(ReindexError):
    """No alert target could be reached, so no alert was sent."""


@dataclass(frozen=True)
class Target:
    """A service that receives alerts.

    Attributes:
        position: in REINDEX_ALERT_URLS, counted from 1.
    """

    position: int
    scheme: str
    url: SecretStr = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Identifies the target in the state; the URL can't be derived from it."""
        return hashlib.sha256(self.url.get_secret_value().encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return f"target {self.position} ({self.scheme})"


def parse_targets(urls: SecretStr) -> tuple[Target, ...]:
    """The targets in REINDEX_ALERT_URLS, without repetitions.

    Whitespace separates them, because Apprise URLs may contain commas. A comma before the whitespace is ignored.

    Raises:
        ConfigurationError: Apprise does not understand one of them.
    """
    targets: dict[str, Target] = {}
    for position, part in enumerate(urls.get_secret_value().split(), start=1):
        url = part.rstrip(",")
        scheme = _SCHEME.match(url)
        target = Target(position, scheme[1].lower() if scheme else "no scheme", SecretStr(url))
        with _nothing_logged():
            understood = scheme is not None and _service(target) is not None
        if not understood:
            raise ConfigurationError(
                f"REINDEX_ALERT_URLS: {target} is not a URL that Apprise understands. Write scheme://... as in Apprise's documentation "
                "of the service, separate several URLs by spaces, and write a space within a URL as %20"
            )
        targets.setdefault(target.fingerprint, target)
    return tuple(targets.values())


def deliver(messages: Mapping[Target, Message], deadline_seconds: float = DEADLINE_SECONDS) -> dict[Target, str]:
    """Sends each target its message, to all at the same time. Returns the targets that did not get it, with the reason."""
    failures = dict.fromkeys(messages, f"it did not answer within {deadline_seconds:g} s")

    def send(target: Target, message: Message) -> None:
        reason = _send(target, message)
        if reason is None:
            failures.pop(target, None)
        else:
            failures[target] = reason

    # Daemon threads: a thread that hangs must not keep this process from ending.
    threads = [
        threading.Thread(target=send, args=item, name=f"alert-{item[0].position}", daemon=True)
        for item in messages.items()
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + deadline_seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return failures.copy()


def undelivered(failures: Mapping[Target, str]) -> UndeliveredError:
    """The error when no target could be reached."""
    reasons = "; ".join(f"{target}: {reason}" for target, reason in failures.items())
    return UndeliveredError(
        f"no alert target could be reached: {reasons}. Nothing is lost: the next tick tries again. "
        "Check REINDEX_ALERT_URLS, and that this machine can reach the services it names"
    )


def _send(target: Target, message: Message) -> str | None:
    """Sends one message. Returns the reason if that failed, else None."""
    import apprise

    kinds = {Severity.ERROR: apprise.NotifyType.FAILURE, Severity.WARNING: apprise.NotifyType.WARNING}
    with _nothing_logged() as notes:
        try:
            service = _service(target)
            if service is None:
                return "Apprise does not understand its URL"
            sender = apprise.Apprise(asset=_asset())
            sender.add(service)
            sent = sender.notify(
                body=message.body,
                title=message.title,
                notify_type=apprise.NotifyType.SUCCESS if message.worst is None else kinds[message.worst],
                body_format=apprise.NotifyFormat.TEXT,
            )
        except Exception as error:  # noqa: BLE001 - from any of a hundred plug-ins; its text may contain the URL
            return f"Apprise failed with {type(error).__name__}"
    if sent:
        return None
    status = next((match[1] for note in notes if (match := re.search(r"\berror=(\d{3})\b", note))), None)
    return (
        f"it answered with status {status}" if status else "no connection, no answer in time, or it refused the message"
    )


def _asset() -> Any:
    import apprise

    # Each call has one service, so Apprise's own parallelism would be useless.
    return apprise.AppriseAsset(async_mode=False)


def _service(target: Target) -> Any | None:
    """The Apprise service of a target, with bounded timeouts; None when Apprise does not understand the URL."""
    # Imported here, because every run's process loads the definitions, and importing Apprise takes half a second.
    import apprise

    service = apprise.Apprise.instantiate(target.url.get_secret_value(), asset=_asset())
    if service is None:
        return None
    service.socket_connect_timeout = _bounded(service.socket_connect_timeout)
    service.socket_read_timeout = _bounded(service.socket_read_timeout)
    if service.overflow_mode == apprise.OverflowMode.UPSTREAM:
        # Services that accept 2,000 characters would refuse a longer message at every tick.
        service.overflow_mode = apprise.OverflowMode.SPLIT
    return service


def _bounded(seconds: float | None) -> float:
    """The timeout of a URL, if it is positive and not too long (nan is neither), else the longest allowed."""
    return seconds if seconds is not None and 0 < seconds <= MAX_SOCKET_SECONDS else MAX_SOCKET_SECONDS


#: What Apprise logs while a URL is in use; None while none is. Worker threads that Apprise starts inherit it.
_apprise_log: ContextVar[list[str] | None] = ContextVar("apprise_log", default=None)


class _Silence(logging.Filter):
    """Drops every log record while a URL is in use: Apprise logs the URL, and urllib3 the path with the token.

    It is added to each logger once and stays there: removing it while another thread is logging would let a record through.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        notes = _apprise_log.get()
        if notes is not None and record.name == "apprise":
            notes.append(record.getMessage())
        return notes is None and record.name != "apprise"


_SILENCE = _Silence()


@contextlib.contextmanager
def _nothing_logged() -> Iterator[list[str]]:
    """Drops all log records meanwhile. Yields the texts of Apprise's own, which the caller must not pass on."""
    for logger in [logging.root, *list(logging.root.manager.loggerDict.values())]:
        if isinstance(logger, logging.Logger) and _SILENCE not in logger.filters:
            logger.addFilter(_SILENCE)
    notes: list[str] = []
    token = _apprise_log.set(notes)
    try:
        yield notes
    finally:
        _apprise_log.reset(token)
