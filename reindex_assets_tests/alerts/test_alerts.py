"""The rules of the alerts, their memory and their words, without Dagster and without anything sent.

What lives here: who is told what and when, over invented histories. What does not: reading it from Dagster (defs/test_alert_sensor.py) and
the delivery (alerts/test_alert_delivery.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reindex_assets.alerts.cursor import AlertState, count_ranges, from_cursor, rounded, to_cursor, within_limit
from reindex_assets.alerts.message import MAX_LINES, Detail, Details, compose, days_text
from reindex_assets.alerts.problems import (
    MAX_WAITING_RUNS,
    Evaluation,
    News,
    OpenState,
    Problem,
    ProblemKind,
    Rules,
    Severity,
    TargetState,
    after_evaluations,
    after_news,
    check_problem,
    news_for,
)
from reindex_assets.model import GIVEN_UP_CHECK
from reindex_assets.selection.days import day_ranges

ASSET = "local/process/shard_writes"
RULES = Rules(grace_seconds=120, repeat_seconds=86_400)
NOW = int(datetime(2026, 2, 1, 12, tzinfo=UTC).timestamp())
OPEN_LONG = OpenState(NOW - 3_600, Severity.ERROR)
NOTHING = Details(lambda problem: None, lambda run_id: None)


def red(partition: str = "acme|2026-01-02", check: str = "rows_agree", asset: str = ASSET) -> Problem:
    return check_problem(asset, check, partition)


def reds(customer: str, first: date, days: Iterable[int], check: str = "rows_agree") -> list[Problem]:
    return [red(f"{customer}|{first + timedelta(days=offset)}", check) for offset in days]


# --- histories ---------------------------------------------------------------------------------------------------------------

PROBLEMS = (
    red("acme|2026-01-02"),
    red("acme|2026-01-03"),
    red("acme|2026-01-02", GIVEN_UP_CHECK),
    red("", "right_shard"),
)


@dataclass(frozen=True)
class Step:
    """What happens until a tick, and whether the target can be reached at it."""

    seconds: int
    verdicts: tuple[tuple[int, bool], ...]
    reached: bool


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from([10, 30, 60, 130, 1_800, 3_600, 40_000, 86_400]),
        st.lists(st.tuples(st.integers(0, len(PROBLEMS) - 1), st.booleans()), max_size=4).map(tuple),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_over_any_history_each_problem_and_each_recovery_is_told_exactly_as_often_as_it_should(
    steps: list[Step],
) -> None:
    state = AlertState(position=0, reread_from=0, target_states={"target": TargetState()})
    now = NOW
    red_since: dict[Problem, int] = {}
    told_at: dict[Problem, int] = {}
    for step in steps:
        evaluations = []
        for number, passed in step.verdicts:
            problem = PROBLEMS[number]
            evaluations.append(Evaluation(problem=problem, passed=passed, severity=Severity.ERROR, time=now))
            if passed:
                red_since.pop(problem, None)
            else:
                red_since.setdefault(problem, now)
        now += step.seconds
        open_checks = rounded(after_evaluations(state.open_checks, evaluations), RULES, now)
        target_state = state.target_states["target"]
        news = news_for(target_state, open_checks, RULES, now)
        assert set(open_checks) == set(red_since)
        if step.reached:
            target_state = after_news(target_state, news, RULES, now)
            # A problem is new to the target exactly when it knows of none, and it waits for the grace, not much longer.
            for problem in news.first:
                assert problem not in told_at
                assert problem.kind is not ProblemKind.CHECK or now - red_since[problem] >= RULES.grace_seconds
            for problem, since in red_since.items():
                waits = problem.kind is ProblemKind.CHECK and now - since < RULES.grace_seconds + 10
                assert problem in news.first or problem in told_at or waits
            # It is told again after the window, not before, and not much later.
            for problem in news.again:
                assert now - told_at[problem] >= RULES.repeat_seconds
            for problem in set(red_since) & set(told_at) - set(news.again):
                red_anew = now - red_since[problem] < RULES.grace_seconds + 10
                assert now - told_at[problem] < RULES.repeat_seconds * 25 // 24 + 1 or red_anew
            # It is told to be over exactly when it had been told and is over.
            assert set(news.recovered) == set(told_at) - set(red_since)
            told_at |= dict.fromkeys((*news.first, *news.again), now)
            told_at = {problem: at for problem, at in told_at.items() if problem in red_since}
        state = AlertState(position=0, reread_from=0, open_checks=open_checks, target_states={"target": target_state})
        assert from_cursor(to_cursor(state)) == state


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 1_000)), max_size=20),
    st.integers(0, 20),
)
def test_reading_the_latest_evaluations_again_changes_nothing_that_is_open(
    verdicts: list[tuple[int, bool, int]], start: int
) -> None:
    evaluations = [
        Evaluation(problem=PROBLEMS[number], passed=passed, severity=Severity.ERROR, time=at)
        for number, passed, at in verdicts
    ]
    once = after_evaluations({}, evaluations)
    assert set(after_evaluations(once, evaluations[start:])) == set(once)


def test_a_sensor_that_fails_for_another_reason_does_not_tell_its_engine_is_back() -> None:
    engine, other = Problem(ProblemKind.ENGINE, "sensor drift"), Problem(ProblemKind.AUTOMATION, "sensor drift")
    target_state = after_news(TargetState(), News(first=(engine,)), RULES, NOW)
    news = news_for(target_state, {other: OPEN_LONG}, RULES, NOW)
    assert (news.first, news.recovered) == ((other,), ())
    assert news_for(target_state, {}, RULES, NOW).recovered == (engine,)


def test_of_many_failed_runs_that_wait_the_latest_are_kept_and_the_others_counted() -> None:
    target_state = (
        TargetState().with_failed_runs(f"run-{number}" for number in range(250)).with_failed_runs(["run-250"])
    )
    assert len(target_state.failed_runs) == MAX_WAITING_RUNS
    assert target_state.failed_runs[-1] == "run-250"
    news = news_for(target_state, {}, RULES, NOW)
    assert news.problems == 251
    assert after_news(target_state, news, RULES, NOW) == TargetState()
    assert "- and 2" in compose(news, {}, NOTHING).body


# --- the memory --------------------------------------------------------------------------------------------------------------

DAYS = st.lists(st.dates(date(2026, 1, 1), date(2026, 3, 31)))


@given(DAYS)
def test_ranges_of_days_hold_exactly_the_days_and_never_touch(days: list[date]) -> None:
    ranges = day_ranges(days)
    expanded = [a + timedelta(days=offset) for a, b in ranges for offset in range((b - a).days + 1)]
    assert expanded == sorted(set(days))
    assert all(later[0] - earlier[1] > timedelta(days=1) for earlier, later in pairwise(ranges))


PARTITIONS = st.one_of(
    st.builds(lambda customer, day: f"{customer}|{day}", st.sampled_from(["acme", "a-b.c", "x"]), st.dates()),
    st.text(max_size=12),
    st.sampled_from(["", "|", "acme|", "acme|2026-1-2", "acme|20260102", "|2026-01-02", "a|b|2026-01-02"]),
)
ANY_PROBLEM = st.builds(
    Problem,
    st.sampled_from(ProblemKind),
    st.sampled_from([ASSET, "sensor x"]),
    st.sampled_from(["", "c", "d"]),
    PARTITIONS,
)


@settings(deadline=None)
@given(
    st.dictionaries(ANY_PROBLEM, st.builds(OpenState, st.integers(0, 5), st.sampled_from(Severity)), max_size=30),
    st.dictionaries(
        st.sampled_from(["a1", "b2", "c3"]),
        st.builds(
            TargetState,
            st.dictionaries(ANY_PROBLEM, st.integers(0, 3), max_size=20),
            st.lists(st.text(max_size=5), max_size=3).map(tuple),
            st.integers(0, 3),
        ),
    ),
    st.booleans(),
)
def test_the_cursor_holds_the_whole_state(
    open_checks: dict[Problem, OpenState], target_states: dict[str, TargetState], incomplete: bool
) -> None:
    state = AlertState(
        position=7,
        reread_from=5,
        failed_runs_seen=("run-1",),
        open_checks=open_checks,
        target_states=target_states,
        incomplete=incomplete,
    )
    assert from_cursor(to_cursor(state)) == state


@pytest.mark.parametrize("cursor", ["", "12", "{}", '{"version": 1}', "not JSON", '{"position": "x"}'])
def test_what_is_no_cursor_of_ours_is_no_state(cursor: str) -> None:
    assert from_cursor(cursor) is None


def test_a_fleet_that_is_red_everywhere_for_months_needs_a_small_cursor() -> None:
    problems = [
        problem
        for customer in range(95)
        for check in ("rows_agree", "scorecard_counts_agree")
        for problem in reds(f"customer-{customer}", date(2026, 1, 1), range(120), check)
    ]
    # They turned red one after the other, over half a day.
    open_checks = {problem: OpenState(NOW + number * 2, Severity.ERROR) for number, problem in enumerate(problems)}
    open_checks = rounded(open_checks, RULES, NOW + 3 * 86_400)
    kept, left_out = within_limit(open_checks, set())
    assert (len(kept), left_out) == (len(problems), 0)
    told = TargetState(dict.fromkeys(problems, NOW))
    assert (
        len(to_cursor(AlertState(position=0, reread_from=0, open_checks=kept, target_states={"a": told, "b": told})))
        < 50_000
    )


def test_when_too_much_is_red_what_was_told_is_followed_and_then_the_oldest() -> None:
    scattered = [
        problem for customer in range(20) for problem in reds(f"c{customer}", date(2026, 1, 1), range(0, 20, 2))
    ]
    open_checks = {
        problem: OpenState(NOW - int(problem.partition[1:].split("|")[0]), Severity.ERROR) for problem in scattered
    }
    told = set(reds("c0", date(2026, 1, 1), range(0, 20, 2)))
    kept, left_out = within_limit(open_checks, told, max_ranges=50)
    assert told <= set(kept)
    assert (len(kept), left_out) == (50, 150)
    assert count_ranges(kept) == 50
    assert {problem.partition.split("|")[0] for problem in set(kept) - told} == {"c19", "c18", "c17", "c16"}
    # Even when they alone are too many.
    assert set(within_limit(open_checks, told, max_ranges=3)[0]) == told


# --- the words ---------------------------------------------------------------------------------------------------------------


def all_open(problems: Iterable[Problem], severity: Severity = Severity.ERROR) -> Mapping[Problem, OpenState]:
    return dict.fromkeys(problems, OpenState(NOW, severity))


def test_a_message_names_what_where_why_and_the_remedy() -> None:
    problems = (
        *reds("acme", date(2026, 1, 2), [0, 1, 2, 3, 7]),
        *reds("acme", date(2026, 1, 2), [0, 1, 2, 3, 7], "score_counts_agree"),
        *reds("acme", date(2026, 1, 2), [0], "right_shard"),
    )
    sentences = {
        "rows_agree": "acme 2026-01-09: the rows of table score are not the same on both sides.",
        "score_counts_agree": "acme 2026-01-09: 12 scores in Postgres, 11 in ClickHouse.",
        "right_shard": "acme 2026-01-02: 3 scorecards and 9 scores stand on a wrong shard.",
    }
    look = Details(lambda problem: Detail(sentences[problem.check], "0a1b2c3d-run"), lambda run_id: None)
    message = compose(News(first=problems), all_open(problems), look, "http://ui:3000/")
    assert message.title == "reindex_assets: 11 problems"
    assert message.body.splitlines()[:8] == [
        "RED CHECKS",
        "- local/process/shard_writes: acme 2026-01-02: right_shard, rows_agree, score_counts_agree, since 2026-02-01",
        "    2026-01-02: 3 scorecards and 9 scores stand on a wrong shard; acme 2026-01-09: the rows of table score are not the same "
        "on both sides; acme 2026-01-09: 12 scores in Postgres, 11 in ClickHouse",
        "    run http://ui:3000/runs/0a1b2c3d-run",
        "    partition http://ui:3000/assets/local/process/shard_writes?partition=acme%7C2026-01-02&view=partitions",
        "- local/process/shard_writes: acme 2026-01-03 to 2026-01-05, 2026-01-09 (4 days): rows_agree, score_counts_agree, "
        "since 2026-02-01",
        "    2026-01-09: the rows of table score are not the same on both sides; 12 scores in Postgres, 11 in ClickHouse",
        "    run http://ui:3000/runs/0a1b2c3d-run",
    ]
    assert message.body.splitlines()[-1] == "Dagster UI: http://ui:3000"
    assert "What to do: The automatic repair, if it is on, has not fixed this yet." in message.body


def test_without_the_address_of_the_ui_there_are_no_links() -> None:
    look = Details(lambda problem: Detail("red", "0a1b2c3d"), lambda run_id: Detail("broken", run_id))
    body = compose(News(first=(red(),), failed_runs=("0a1b2c3d-4",)), all_open([red()]), look).body
    assert "http" not in body
    assert "- run 0a1b2c3d: broken" in body


def test_the_most_urgent_kinds_stand_first_and_each_says_what_to_do() -> None:
    problems = (
        red(),
        Problem(ProblemKind.AUTOMATION, "schedule nightly"),
        red(check=GIVEN_UP_CHECK),
        Problem(ProblemKind.ENGINE, "sensor drift"),
    )
    news = News(first=problems, failed_runs=("r1",), recovered=(red("globex|2026-01-05"),))
    blocks = compose(news, all_open(problems), NOTHING).body.split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [
        "ENGINE UNREACHABLE",
        "REPAIR GIVEN UP",
        "RED CHECKS",
        "FAILED RUNS",
        "FAILING SENSORS AND SCHEDULES",
        "GREEN AGAIN",
    ]
    assert all(block.splitlines()[-1].startswith("What to do: ") for block in blocks[:-1])


@settings(max_examples=50, deadline=None)
@given(
    st.sets(st.tuples(st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=300),
    st.integers(0, 60),
    st.integers(0, 60),
)
def test_however_much_is_told_a_message_stays_short_and_says_what_it_leaves_out(
    cells: set[tuple[int, int]], runs: int, recovered: int
) -> None:
    looked_up: list[Problem] = []

    def detail(problem: Problem) -> Detail:
        looked_up.append(problem)
        return Detail("x" * 1_000, "run")

    problems = tuple(reds(f"c{customer}", date(2026, 1, 1), [day])[0] for customer, day in sorted(cells))
    news = News(
        first=problems,
        failed_runs=tuple(f"r{number}" for number in range(runs)),
        recovered=tuple(red(f"d{number}|2026-01-01") for number in range(recovered)),
    )
    look = Details(detail, lambda run_id: Detail("y" * 1_000, run_id))
    message = compose(news, all_open(problems), look, "http://ui")
    groups = message.body.split("\n\n")
    assert len(message.body.splitlines()) <= MAX_LINES + 5 * len(groups)
    assert len(message.body) < 12_000
    assert len(looked_up) <= MAX_LINES
    shown = sum(line.startswith("- run") for line in message.body.splitlines())
    hidden = [line for line in message.body.splitlines() if line.endswith("not shown here")]
    if runs > shown:
        assert f"- and {runs - shown} more, not shown here" in hidden
    assert f"{len(problems) + runs} problem" in message.title


def test_days_beyond_the_cap_are_counted() -> None:
    text = days_text(date(2026, 1, 1) + timedelta(days=2 * number) for number in range(12))
    assert text.endswith("2026-01-15 and 4 more days")


def test_only_warnings_are_a_warning_and_only_recoveries_are_good_news() -> None:
    assert compose(News(first=(red(),)), all_open([red()], Severity.WARNING), NOTHING).worst is Severity.WARNING
    assert compose(News(again=(red(),)), all_open([red()]), NOTHING).worst is Severity.ERROR
    assert compose(News(recovered=(red(),)), {}, NOTHING).worst is None
    both = News(first=(red(),), failed_runs=("r",))
    assert compose(both, all_open([red()], Severity.WARNING), NOTHING).worst is Severity.ERROR


def test_it_is_said_when_more_is_red_than_is_followed() -> None:
    assert (
        "The others are reported when fewer are open"
        in compose(News(first=(red(),)), all_open([red()]), NOTHING, incomplete=True).body
    )
