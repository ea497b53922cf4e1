"""The retry policy: which errors are tried again, how often, and with what pauses. No engine, no waiting."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from reindex_assets import errors, retry
from reindex_assets.appeals.purge import PurgeOptions
from reindex_assets.errors import (
    LaggingReplicaError,
    ReindexError,
    ShardUnreachableError,
    SliceBusyError,
    SourceBusyError,
    SourceUnreachableError,
    TransientError,
    UnconfirmedWriteError,
    UnreachableError,
)
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.retry import CONNECTION, CONNECTION_SLOT, EVIDENCE, QUESTION, STEP, Retries

EVERY_ERROR = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, ReindexError)]
PASSING = {
    TransientError,
    UnreachableError,
    SourceUnreachableError,
    SourceBusyError,
    ShardUnreachableError,
    UnconfirmedWriteError,
    SliceBusyError,
}
EVERY_POLICY = [CONNECTION, QUESTION, STEP]


class Work:
    """Fails with an error so many times, then answers."""

    def __init__(self, error: Exception, failures: int) -> None:
        self.error, self.failures, self.calls = error, failures, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


@pytest.mark.parametrize("error", EVERY_ERROR)
@pytest.mark.parametrize("policy", EVERY_POLICY)
def test_only_what_may_pass_by_itself_is_tried_again(policy: Retries, error: type[ReindexError]) -> None:
    work = Work(error("it failed"), 1)
    if error in PASSING:
        assert policy.call(work, sleep=lambda seconds: None) == "done"
    else:
        with pytest.raises(error, match="it failed"):
            policy.call(work, sleep=lambda seconds: pytest.fail("a pause, for nothing"))
        assert work.calls == 1


def test_evidence_is_looked_for_again_only_where_the_shard_has_answered() -> None:
    late = Work(UnconfirmedWriteError("shows 0"), EVIDENCE.attempts - 1)
    assert EVIDENCE.call(late, sleep=lambda seconds: None) == "done"
    away = Work(ShardUnreachableError("away"), 1)
    with pytest.raises(ShardUnreachableError):
        EVIDENCE.call(away, sleep=lambda seconds: pytest.fail("the question itself was tried again already"))


def test_a_defect_is_not_tried_again() -> None:
    work = Work(KeyError("a defect"), 1)
    with pytest.raises(KeyError):
        STEP.call(work)
    assert work.calls == 1


@pytest.mark.parametrize("policy", EVERY_POLICY)
def test_the_last_error_is_raised_when_it_has_been_tried_often_enough(policy: Retries) -> None:
    work = Work(ShardUnreachableError("still away"), 100)
    pauses: list[float] = []
    with pytest.raises(ShardUnreachableError, match="still away"):
        policy.call(work, sleep=pauses.append)
    assert (work.calls, len(pauses)) == (policy.attempts, policy.attempts - 1)


def test_an_option_says_how_often_instead() -> None:
    for attempts in (1, 7):
        work = Work(SliceBusyError("busy"), 100)
        with pytest.raises(SliceBusyError):
            STEP.call(work, attempts, sleep=lambda seconds: None)
        assert work.calls == attempts


def test_what_was_begun_is_let_go_of_before_each_pause() -> None:
    told: list[str] = []
    work = Work(LaggingReplicaError("no"), 0)
    assert STEP.call(work, before_again=lambda failed, error: told.append("never")) == "done"
    work = Work(SourceUnreachableError("gone"), 2)
    STEP.call(
        work,
        before_again=lambda failed, error: told.append(f"{failed} {error}"),
        sleep=lambda seconds: told.append("pause"),
    )
    assert told == ["1 gone", "pause", "2 gone", "pause"]


def test_pauses_are_of_random_length_below_a_limit_that_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []
    work = Work(SourceUnreachableError("gone"), 7)
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    STEP.call(work, 8, sleep=drawn.append)
    assert drawn == [1, 2, 4, 8, 15, 15, 15]
    monkeypatch.setattr("random.uniform", lambda low, high: low)
    assert [STEP.pauses.after(failed) for failed in (1, 2, 3)] == [0, 0, 0]
    assert [CONNECTION_SLOT.after(failed) for failed in (1, 2, 9)] == [0.05, 0.1, 2.5]


def test_the_numbers() -> None:
    """A change of them is a change for every operator: docs and options name some."""
    assert [(one.attempts, one.pauses.first_seconds, one.pauses.longest_seconds) for one in EVERY_POLICY] == [
        (3, 0.5, 5),
        (3, 0.3, 3),
        (4, 1, 15),
    ]
    assert ReindexOptions().attempts == PurgeOptions().attempts == STEP.attempts


def test_tenacity_is_used_nowhere_else() -> None:
    package = Path(retry.__file__).parent
    assert [path.name for path in package.rglob("*.py") if "tenacity" in path.read_text()] == ["retry.py"]
