"""One round of the alerts: from the observations to the messages and the new state.

What lives here: the order of a round. What does not: reading the Dagster instance (defs/automation/alert_sensor.py), the rules
(alerts/problems.py), wording (alerts/message.py), storing the state (alerts/cursor.py) and sending (alerts/delivery.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reindex_assets.alerts.cursor import AlertState, rounded, within_limit
from reindex_assets.alerts.delivery import Target, deliver, undelivered
from reindex_assets.alerts.message import Details, compose, plural
from reindex_assets.alerts.problems import (
    Evaluation,
    News,
    OpenState,
    Problem,
    Rules,
    TargetState,
    after_evaluations,
    after_news,
    news_for,
)


@dataclass(frozen=True, kw_only=True)
class Observations:
    """What was read for a round.

    Attributes:
        evaluations: of checks, oldest first.
        failed_runs: the new ones.
        failed_runs_seen: all that were read, new or not.
        position: the storage id up to which events were read.
        is_behind: there are more events to read.
        red_now: every check that is red now; None when they were not looked up.
        failing: sensors and schedules whose latest tick failed.
    """

    evaluations: Sequence[Evaluation]
    failed_runs: Sequence[str]
    failed_runs_seen: Sequence[str]
    position: int
    is_behind: bool = False
    red_now: Mapping[Problem, OpenState] | None = None
    failing: Mapping[Problem, OpenState] = field(default_factory=dict)


def run_round(
    state: AlertState,
    observations: Observations,
    is_watched: Callable[[Problem], bool],
    targets: Sequence[Target],
    rules: Rules,
    details: Details,
    ui_url: str,
    now: int,
) -> tuple[AlertState, str]:
    """Sends every target what is new to it. Returns the state to keep, and a sentence that says what was done.

    Raises:
        UndeliveredError: no target could be reached. Keep the old state, so that the next round tries the same again.
    """
    state = _updated(state, observations, is_watched, targets, rules, now)
    if observations.is_behind:
        # What is red so far may be green again in the events not read yet.
        count = plural(len(observations.evaluations), "evaluation")
        return state, f"read {count} of checks, and there are more: sending waits for the next tick"
    open_problems = {**state.open_checks, **observations.failing}
    summary = _summary(open_problems, rules, now)
    if not targets:
        return state, (
            f"REINDEX_ALERT_URLS is not set, so no alerts are sent; {summary}. Set it to Apprise URLs (docs/alerts.md) where the code "
            "location runs, and restart that"
        )
    target_states = dict(state.target_states)
    news = {target: news_for(target_states[target.fingerprint], open_problems, rules, now) for target in targets}
    news = {target: its_news for target, its_news in news.items() if its_news}
    # Targets with the same news get the same message, composed once.
    messages = {
        its_news: compose(its_news, open_problems, details, ui_url, incomplete=state.incomplete)
        for its_news in set(news.values())
    }
    failures = deliver({target: messages[its_news] for target, its_news in news.items()})
    if news and len(failures) == len(news):
        raise undelivered(failures)
    reached = {target: its_news for target, its_news in news.items() if target not in failures}
    for target, its_news in reached.items():
        target_states[target.fingerprint] = after_news(target_states[target.fingerprint], its_news, rules, now)
    return replace(state, target_states=target_states), f"{_what_was_sent(reached, failures)}; {summary}"


def _updated(
    state: AlertState,
    observations: Observations,
    is_watched: Callable[[Problem], bool],
    targets: Sequence[Target],
    rules: Rules,
    now: int,
) -> AlertState:
    """The state after the observations. A new target starts with an empty state, so that it hears of all open problems."""
    open_checks = state.open_checks
    if observations.red_now is not None:
        open_checks = {problem: open_checks.get(problem, red) for problem, red in observations.red_now.items()}
    open_checks = after_evaluations(open_checks, observations.evaluations)
    open_checks = {problem: opened for problem, opened in open_checks.items() if is_watched(problem)}
    target_states = {
        target.fingerprint: state.target_states.get(target.fingerprint, TargetState())
        .keeping(is_watched)
        .with_failed_runs(observations.failed_runs)
        for target in targets
    }
    told = {problem for target_state in target_states.values() for problem in target_state.told}
    open_checks, left_out = within_limit(rounded(open_checks, rules, now), told)
    return AlertState(
        position=observations.position,
        reread_from=state.position,
        failed_runs_seen=tuple(observations.failed_runs_seen),
        open_checks=open_checks,
        target_states=target_states,
        incomplete=left_out > 0 or (state.incomplete and observations.red_now is None),
    )


def _summary(open_problems: Mapping[Problem, OpenState], rules: Rules, now: int) -> str:
    waiting = sum(not rules.is_due(problem, state, now) for problem, state in open_problems.items())
    fresh = f", {waiting} of them red for less than {rules.grace_seconds} s" if waiting else ""
    return f"{len(open_problems)} open{fresh}"


def _what_was_sent(reached: Mapping[Target, News], failures: Mapping[Target, str]) -> str:
    targets: Counter[str] = Counter()
    for news in reached.values():
        counts = [plural(news.problems, "problem")] if news.problems else []
        counts += [plural(len(news.recovered), "recovery", "recoveries")] if news.recovered else []
        targets[" and ".join(counts)] += 1
    sent = [f"sent {counts} to {plural(number, 'target')}" for counts, number in targets.items()]
    missed = [
        f"{target} did not get it ({reason}): tried again at the next tick" for target, reason in failures.items()
    ]
    return "; ".join([*sent, *missed]) or "nothing new"
