"""The sensor `alerts` and whom it tells: nobody, some, or a target that missed something.

What lives here: ticks with several targets. What does not: how a message is sent (alerts/test_alert_delivery.py).
"""

from __future__ import annotations

import pytest
from dagster._utils.error import serializable_error_info_from_exc_info

from reindex_assets.errors import ConfigurationError
from reindex_assets_tests.support.alert_receivers import SECRET, MailReceiver, Mood, WebReceiver
from reindex_assets_tests.support.alerting import (  # noqa: F401 - fixtures
    Alerting,
    Tell,
    alerts_that_have_begun,
    targets_of_the_alerts,
)


def test_without_urls_the_tick_says_how_to_set_them_and_a_later_url_is_told_what_is_open(
    alerting: Alerting, tell: Tell, web: WebReceiver
) -> None:
    alerting.judge(False)
    alerting.judge(False, "globex|2026-01-02")
    said = alerting.tick(after=200)
    assert "REINDEX_ALERT_URLS is not set, so no alerts are sent; 2 open" in said
    alerting.judge(True)
    alerting.tick()
    tell(web.url())
    assert alerting.tick() == "sent 1 problem to 1 target; 1 open"
    assert "globex" in web.take()["message"]


def test_a_target_that_missed_something_gets_it_later_and_the_others_only_once(
    alerting: Alerting, tell: Tell, web: WebReceiver, mail: MailReceiver
) -> None:
    tell(web.url(), mail.url())
    mail.refuses = True
    failed = alerting.fail_a_run()
    alerting.judge(False)
    said = alerting.tick(after=200)
    assert said.startswith("sent 2 problems to 1 target; target 2 (mailto) did not get it (")
    assert web.take()["title"] == "reindex_assets: 2 problems"

    # In the meantime one more: the first hears of that only, the second is missing all of it.
    alerting.judge(False, "globex|2026-01-02")
    assert alerting.tick(after=200).startswith("sent 1 problem to 1 target; target 2 (mailto)")
    assert "acme" not in web.take()["message"]

    mail.refuses = False
    alerting.judge(True)
    assert alerting.tick() == "sent 1 recovery to 1 target; sent 2 problems to 1 target; 1 open"
    assert "GREEN AGAIN" in web.take()["message"]
    text = mail.received[0].get_content()
    assert failed in text
    assert "globex" in text
    # It turned green before this target had heard of it.
    assert "GREEN AGAIN" not in text
    assert alerting.tick() == "nothing new; 1 open"


def test_when_nobody_can_be_reached_the_tick_fails_and_nothing_is_lost(
    alerting: Alerting, tell: Tell, web: WebReceiver, other_web: WebReceiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(1)
    tell(web.url(), other_web.url())
    web.mood, other_web.mood = Mood.BROKEN, Mood.HANGING
    failed = alerting.fail_a_run()
    alerting.judge(False)
    for _ in range(2):
        with pytest.raises(Exception, match="no alert target could be reached") as raised:
            alerting.tick(after=200)
        info = serializable_error_info_from_exc_info((type(raised.value), raised.value, raised.value.__traceback__))  # type: ignore[arg-type]
        assert "target 1 (json): it answered with status 500; target 2 (json): no connection" in info.to_string()
        assert SECRET not in info.to_string()
    web.mood = other_web.mood = Mood.WELL
    assert alerting.tick() == "sent 2 problems to 2 targets; 1 open"
    for receiver in (web, other_web):
        assert failed in receiver.take()["message"]
    assert SECRET not in (alerting.cursor or "")
    assert "127.0.0.1" not in (alerting.cursor or "")
    assert SECRET not in caplog.text


def test_a_url_that_is_not_understood_fails_the_tick_without_showing_it(alerting: Alerting, tell: Tell) -> None:
    tell("json://example.org/x", f"nosuchservice://{SECRET}")
    with pytest.raises(ConfigurationError, match=r"target 2 \(nosuchservice\)") as raised:
        alerting.tick()
    assert SECRET not in str(raised.value)
