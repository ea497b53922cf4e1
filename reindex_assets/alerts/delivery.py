"""The delivery of alerts by Apprise: mail, Slack, Teams, PagerDuty, webhooks and a hundred others, each named by a URL.

What lives here: the targets, sending to each of them, and the guard that keeps their URLs secret. What does not: what is sent.

A target's URL holds its password or token. It is never logged, stored or put into an error: a target is named by its position in
REINDEX_ALERT_URLS and its scheme, and remembered by a hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
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

#: All targets together: a sensor is given 60 s by Dagster, and reading comes first.
DEADLINE_SECONDS = 30.0
#: One connection, or one wait for an answer.
MOST_SOCKET_SECONDS = 15.0

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,31})://")


class UndeliveredError(ReindexError):
    """No target of the alerts could be reached: nobody has been told."""


@dataclass(frozen=True)
class Target:
    """Somebody who is told.

    Attributes:
        position: in REINDEX_ALERT_URLS, from 1.
    """

    position: int
    scheme: str
    url: SecretStr = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """What the target is remembered by; the URL can't be had from it."""
        return hashlib.sha256(self.url.get_secret_value().encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return f"target {self.position} ({self.scheme})"


def parse_targets(urls: SecretStr) -> tuple[Target, ...]:
    """The targets of REINDEX_ALERT_URLS: separated by whitespace, because commas occur within Apprise URLs; one before the space may stand.

    Raises:
        ConfigurationError: Apprise does not understand one of them.
    """
    targets: list[Target] = []
    for position, part in enumerate(urls.get_secret_value().split(), start=1):
        url = part.rstrip(",")
        scheme = _SCHEME.match(url)
        target = Target(position, scheme[1].lower() if scheme else "no scheme", SecretStr(url))
        with _nothing_logged():
            understood = scheme is not None and _service(target) is not None
        if not understood:
            raise ConfigurationError(
                f"REINDEX_ALERT_URLS: {target} is not a URL that Apprise understands. Write scheme://... as its documentation "
                "gives it for the service, separate several by spaces, and write %20 for a space within one"
            )
        if all(target.fingerprint != other.fingerprint for other in targets):
            targets.append(target)
    return tuple(targets)


def deliver(messages: Mapping[Target, Message], deadline_seconds: float = DEADLINE_SECONDS) -> dict[Target, str]:
    """Sends each target its message, all at the same time. Returns the targets that did not get it, with the reason."""
    failures = dict.fromkeys(messages, f"it did not answer within {deadline_seconds:g} s")

    def send(target: Target, message: Message) -> None:
        reason = _send(target, message)
        if reason is None:
            failures.pop(target, None)
        else:
            failures[target] = reason

    # Daemon threads: one that hangs must not hold up this process when it ends.
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
    """The error when nobody could be told."""
    named = "; ".join(f"{target}: {reason}" for target, reason in failures.items())
    return UndeliveredError(
        f"no target of the alerts could be reached: {named}. Nothing is lost: it is tried again at the next tick. "
        "Look at REINDEX_ALERT_URLS, and whether this machine reaches the services it names"
    )


def _send(target: Target, message: Message) -> str | None:
    """Sends one message; the reason if it failed, None if it did not."""
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
        except Exception as error:  # noqa: BLE001 - of a hundred plug-ins; its text may hold the URL
            return f"Apprise failed with {type(error).__name__}"
    if sent:
        return None
    status = next((found[1] for note in notes if (found := re.search(r"\berror=(\d{3})\b", note))), None)
    return (
        f"it answered with status {status}" if status else "no connection, no answer in time, or it refused the message"
    )


def _asset() -> Any:
    import apprise

    # One service at a time and none besides: Apprise's own parallelism has nothing to do.
    return apprise.AppriseAsset(async_mode=False)


def _service(target: Target) -> Any | None:
    """The Apprise service of a target, with finite timeouts; None when Apprise does not understand the URL."""
    # Imported late: every run's process loads the definitions, and Apprise would cost each of them half a second.
    import apprise

    service = apprise.Apprise.instantiate(target.url.get_secret_value(), asset=_asset())
    if service is None:
        return None
    service.socket_connect_timeout = _finite(service.socket_connect_timeout)
    service.socket_read_timeout = _finite(service.socket_read_timeout)
    if service.overflow_mode == apprise.OverflowMode.UPSTREAM:
        # Sent whole, a long message is refused by services that take 2,000 characters, again at every tick.
        service.overflow_mode = apprise.OverflowMode.SPLIT
    return service


def _finite(seconds: float | None) -> float:
    usable = seconds is not None and math.isfinite(seconds) and 0 < seconds <= MOST_SOCKET_SECONDS
    return seconds if usable and seconds is not None else MOST_SOCKET_SECONDS


#: What is logged while a URL is handled; None while none is. Worker threads that Apprise starts inherit it.
_kept: ContextVar[list[str] | None] = ContextVar("kept", default=None)


class _Silence(logging.Filter):
    """Drops what is logged while a URL is handled, whoever logs it: Apprise its URLs, urllib3 the path with the token.

    It is added to each logger once and stays: a filter that is taken away while another thread passes it lets that one through.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        notes = _kept.get()
        if notes is not None and record.name == "apprise":
            notes.append(record.getMessage())
        return notes is None and record.name != "apprise"


_SILENCE = _Silence()


@contextlib.contextmanager
def _nothing_logged() -> Iterator[list[str]]:
    """Drops what is logged meanwhile; the texts of Apprise's own records are given to the caller, and must go no further."""
    for logger in [logging.root, *list(logging.root.manager.loggerDict.values())]:
        if isinstance(logger, logging.Logger) and _SILENCE not in logger.filters:
            logger.addFilter(_SILENCE)
    notes: list[str] = []
    token = _kept.set(notes)
    try:
        yield notes
    finally:
        _kept.reset(token)
