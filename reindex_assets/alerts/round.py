"""One round of the alerts: from what was observed to who has been told what.

What lives here: the order of a round. What does not: reading the Dagster instance (defs/automation/alert_sensor.py), the rules
(alerts/problems.py), the words (alerts/message.py), the memory (alerts/cursor.py) and the sending (alerts/delivery.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reindex_assets.alerts.cursor import AlertState, bounded, coarse
from reindex_assets.alerts.delivery import Target, deliver, undelivered
from reindex_assets.alerts.message import Look, Message, compose, plural
from reindex_assets.alerts.problems import (
    Evaluation,
    News,
    Problem,
    Rules,
    Standing,
    TargetState,
    after_telling,
    judged,
    news_for,
)


@dataclass(frozen=True)
class Observed:
    """What was read for a round.

    Attributes:
        evaluations: of checks, oldest first.
        failed_runs: not known before.
        failed_runs_seen: all that were read, known or not.
        position: how far events have been read.
        is_behind: there are more.
        red_now: every check that is red at present, when all were looked up; None when they were not.
        failing: sensors and schedules whose latest tick failed.
    """

    evaluations: Sequence[Evaluation]
    failed_runs: Sequence[str]
    failed_runs_seen: Sequence[str]
    position: int
    is_behind: bool = False
    red_now: Mapping[Problem, Standing] | None = None
    failing: Mapping[Problem, Standing] = field(default_factory=dict)


def play_round(
    state: AlertState,
    observed: Observed,
    is_watched: Callable[[Problem], bool],
    targets: Sequence[Target],
    rules: Rules,
    look: Look,
    ui_url: str,
    now: int,
) -> tuple[AlertState, str]:
    """Tells every target what is news to it. Returns what is to be remembered, and what was done.

    Raises:
        UndeliveredError: nobody could be reached; nothing is to be remembered, so that the next round does the same again.
    """
    state = _taken_in(state, observed, is_watched, targets, rules, now)
    if observed.is_behind:
        # What is red so far may have become green in what is not read yet.
        read = plural(len(observed.evaluations), "evaluation")
        return state, f"read {read} of checks, and there are more: telling waits for the next tick"
    open_problems = dict(state.open_checks) | dict(observed.failing)
    how_many = _how_many(open_problems, rules, now)
    if not targets:
        return state, (
            f"REINDEX_ALERT_URLS is not set, so nobody is told; {how_many}. Set it to Apprise URLs (docs/alerts.md) where the "
            "code location runs, and restart that"
        )
    target_states = dict(state.target_states)
    news = {target: news_for(target_states[target.fingerprint], open_problems, rules, now) for target in targets}
    news = {target: item for target, item in news.items() if item}
    # Targets with the same news get the same message, made once.
    messages: dict[News, Message] = {
        item: compose(item, open_problems, look, ui_url, state.incomplete) for item in set(news.values())
    }
    failures = deliver({target: messages[item] for target, item in news.items()})
    if news and len(failures) == len(news):
        raise undelivered(failures) from None
    reached = {target: item for target, item in news.items() if target not in failures}
    for target, item in reached.items():
        target_states[target.fingerprint] = after_telling(target_states[target.fingerprint], item, rules, now)
    return replace(state, target_states=target_states), f"{_what_was_told(reached, failures)}; {how_many}"


def _taken_in(
    state: AlertState,
    observed: Observed,
    is_watched: Callable[[Problem], bool],
    targets: Sequence[Target],
    rules: Rules,
    now: int,
) -> AlertState:
    """The state with what was observed, and a state for each target: an empty one for a new target, which is told all that is open."""
    known = state.open_checks
    if observed.red_now is not None:
        known = {problem: known.get(problem, standing) for problem, standing in observed.red_now.items()}
    open_checks = {
        problem: standing for problem, standing in judged(known, observed.evaluations).items() if is_watched(problem)
    }
    target_states = {
        target.fingerprint: state.target_states.get(target.fingerprint, TargetState())
        .keeping(is_watched)
        .with_failed_runs(observed.failed_runs)
        for target in targets
    }
    told = {problem for target_state in target_states.values() for problem in target_state.told}
    open_checks, left_out = bounded(coarse(open_checks, rules, now), told)
    return AlertState(
        position=observed.position,
        reread_from=state.position,
        failed_runs_seen=tuple(observed.failed_runs_seen),
        open_checks=open_checks,
        target_states=target_states,
        incomplete=left_out > 0 or (state.incomplete and observed.red_now is None),
    )


def _how_many(open_problems: Mapping[Problem, Standing], rules: Rules, now: int) -> str:
    waiting = sum(not rules.is_ripe(problem, standing, now) for problem, standing in open_problems.items())
    fresh = f", {waiting} of them red for less than {rules.grace_seconds} s" if waiting else ""
    return f"{len(open_problems)} open{fresh}"


def _what_was_told(reached: Mapping[Target, News], failures: Mapping[Target, str]) -> str:
    targets: dict[str, int] = defaultdict(int)
    for item in reached.values():
        counts = [plural(item.problems, "problem")] if item.problems else []
        counts += [plural(len(item.recovered), "recovery", "recoveries")] if item.recovered else []
        targets[" and ".join(counts)] += 1
    told = [f"told {counts} to {plural(number, 'target')}" for counts, number in targets.items()]
    missed = [f"{target} did not get it ({why}): tried again at the next tick" for target, why in failures.items()]
    return "; ".join([*told, *missed]) or "nothing new"
