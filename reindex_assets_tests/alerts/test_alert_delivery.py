"""The delivery of alerts to real receivers that are well, broken, hanging or gone, and the secrecy of their URLs.

What lives here: what arrives, what is said of what does not, and what is logged. What does not: what the messages say.
"""

from __future__ import annotations

import logging
import threading
import time

import pytest
from pydantic import SecretStr

from reindex_assets.alerts.delivery import Target, deliver, parse_targets, undelivered
from reindex_assets.alerts.message import Message
from reindex_assets.alerts.problems import Severity
from reindex_assets.config.settings import Settings
from reindex_assets.errors import ConfigurationError
from reindex_assets_tests.support.alert_receivers import (
    HANGS_SECONDS,
    SECRET,
    MailReceiver,
    Mood,
    WebReceiver,
    free_port,
)

MESSAGE = Message("reindex_assets: 1 problem", "RED CHECKS\n- acme <b> & *so on*\n    indented", Severity.ERROR)


def targets_of(*urls: str) -> tuple[Target, ...]:
    return parse_targets(SecretStr(" ".join(urls)))


def send_to(*urls: str, message: Message = MESSAGE, deadline_seconds: float = 20) -> dict[Target, str]:
    return deliver(dict.fromkeys(targets_of(*urls), message), deadline_seconds)


@pytest.mark.parametrize(
    ("worst", "kind"), [(Severity.ERROR, "failure"), (Severity.WARNING, "warning"), (None, "success")]
)
def test_a_web_receiver_gets_title_body_and_severity(web: WebReceiver, worst: Severity | None, kind: str) -> None:
    assert send_to(web.url(), message=Message(MESSAGE.title, MESSAGE.body, worst)) == {}
    got = web.take()
    assert (got["title"], got["message"], got["type"]) == (MESSAGE.title, MESSAGE.body, kind)


def test_a_mail_arrives_at_every_address_with_its_lines_as_they_are(mail: MailReceiver) -> None:
    assert send_to(mail.url()) == {}
    assert [message["To"] for message in mail.received] == ["ops@example.org", "second@example.org"]
    for message in mail.received:
        assert message["Subject"] == MESSAGE.title
        assert message.get_content().splitlines() == MESSAGE.body.splitlines()


def test_targets_that_fail_are_named_with_the_reason_and_the_others_get_the_message(
    web: WebReceiver, other_web: WebReceiver, mail: MailReceiver
) -> None:
    other_web.mood = Mood.BROKEN
    mail.refuses = True
    gone = f"json://127.0.0.1:{free_port()}/{SECRET}"
    failures = send_to(web.url(), other_web.url(), mail.url(), gone)
    assert web.take()["title"] == MESSAGE.title
    assert {str(target): reason for target, reason in failures.items()} == {
        "target 2 (json)": "it answered with status 500",
        "target 3 (mailto)": "no connection, no answer in time, or it refused the message",
        "target 4 (json)": "no connection, no answer in time, or it refused the message",
    }
    text = str(undelivered(failures))
    assert "target 2 (json): it answered with status 500" in text
    assert "REINDEX_ALERT_URLS" in text
    assert SECRET not in text


def test_a_target_that_hangs_is_given_up_after_the_time_of_its_url(web: WebReceiver, other_web: WebReceiver) -> None:
    other_web.mood = Mood.HANGING
    begun = time.monotonic()
    # More than the default of 4 s, and less than it hangs.
    failures = send_to(web.url(), other_web.url(rto=5))
    assert 5 <= time.monotonic() - begun < HANGS_SECONDS
    assert [target.position for target in failures] == [2]
    assert web.received


@pytest.mark.parametrize("patience", ["86400", "inf", "nan", "0", "-1"])
def test_no_url_can_ask_for_endless_patience(web: WebReceiver, patience: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reindex_assets.alerts.delivery.MAX_SOCKET_SECONDS", 0.5)
    web.mood = Mood.HANGING
    begun = time.monotonic()
    (reason,) = send_to(web.url(rto=patience, cto=patience)).values()
    assert time.monotonic() - begun < HANGS_SECONDS
    assert "no answer in time" in reason


def test_a_receiver_that_drips_bytes_does_not_hold_up_the_tick(web: WebReceiver) -> None:
    web.mood = Mood.DRIPPING
    failures = send_to(web.url(), deadline_seconds=1.5)
    assert list(failures.values()) == ["it did not answer within 1.5 s"]


def test_a_message_too_long_for_a_service_arrives_in_parts(web: WebReceiver) -> None:
    lines = "\n".join(f"- line {number}" for number in range(10_000))
    assert send_to(web.url(), message=Message("long", lines, None)) == {}
    assert len(web.received) > 1
    assert "".join(part["message"] for part in web.received).count("- line") == 10_000


def test_urls_are_separated_by_whitespace_and_commas_within_them_survive() -> None:
    first = "mailto://mail.example.org/?from=a@example.org&to=b@example.org,c@example.org"
    second = "json://example.org/a,b"
    for text in (f"{first} {second}", f"{first},\n{second}\n", f"  {first}\t{second} "):
        found = parse_targets(SecretStr(text))
        assert [target.url.get_secret_value() for target in found] == [first, second]
        assert [str(target) for target in found] == ["target 1 (mailto)", "target 2 (json)"]


def test_a_url_that_stands_twice_is_told_once() -> None:
    assert len(targets_of("json://example.org/x", "json://example.org/x", "json://example.org/y")) == 2


def test_no_urls_are_no_targets() -> None:
    assert parse_targets(SecretStr(" \n ")) == ()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"nosuchservice://{SECRET}@host", "target 2 (nosuchservice)"),
        (f"slack://{SECRET}", "target 2 (slack)"),
        (SECRET, "target 2 (no scheme)"),
        (f"someone:{SECRET}@host", "target 2 (no scheme)"),
        (f"json://:{SECRET}@", "target 2 (json)"),
    ],
)
def test_a_url_that_is_not_understood_is_named_by_position_and_scheme_only(
    url: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    with pytest.raises(ConfigurationError) as raised:
        targets_of("json://example.org/x", url)
    assert name in str(raised.value)
    assert "Apprise" in str(raised.value)
    assert SECRET not in str(raised.value)
    assert SECRET not in caplog.text


def test_a_target_does_not_show_its_url() -> None:
    (target,) = targets_of(f"json://example.org/{SECRET}")
    assert SECRET not in f"{target} {target!r} {target.fingerprint}"
    assert len(target.fingerprint) == 16
    assert target.fingerprint != targets_of(f"json://example.org/{SECRET}2")[0].fingerprint


def test_settings_hold_the_urls_and_show_them_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINDEX_ALERT_URLS", f"json://example.org/{SECRET}")
    monkeypatch.setenv("REINDEX_ALERT_GRACE_SECONDS", "7")
    settings = Settings()
    assert SECRET not in f"{settings} {settings!r}"
    assert parse_targets(settings.alert_urls)[0].scheme == "json"
    assert settings.alert_grace_seconds == 7
    # Written into the wrong variable, it does not show either.
    monkeypatch.setenv("REINDEX_ALERT_REPEAT_HOURS", SECRET)
    with pytest.raises(ValueError, match="alert_repeat_hours") as raised:
        Settings()
    assert SECRET not in str(raised.value)


def test_nothing_that_is_logged_holds_a_secret_at_any_level(
    web: WebReceiver, mail: MailReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    for name in ("apprise", "urllib3.connectionpool", "requests"):
        caplog.set_level(1, logger=name)
    web.mood = Mood.BROKEN
    gone = f"127.0.0.1:{free_port()}/{SECRET}"
    assert len(send_to(web.url(), mail.url(), f"json://{gone}", f"xml://user:{SECRET}@{gone}", f"form://{gone}")) == 4
    assert SECRET not in caplog.text
    # What other threads log is not held back, and the capture works.
    logging.getLogger("urllib3.connectionpool").debug("a query of a shard")
    assert "a query of a shard" in caplog.text


def test_other_threads_log_while_a_message_is_on_its_way(web: WebReceiver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1, logger="urllib3.connectionpool")
    web.mood = Mood.HANGING
    sending = threading.Thread(target=send_to, args=(web.url(rto=1),))
    sending.start()
    logging.getLogger("urllib3.connectionpool").debug("a query of a shard")
    sending.join()
    assert "a query of a shard" in caplog.text
    assert SECRET not in caplog.text
