"""A reshard: other shards in the fleet file, and every row where it then belongs; until then nobody else writes.

What lives here: whole reshards on a stack of eight shards, judged by the oracle, the refusals meanwhile, and kills. What does not: what the
records say against a fleet file, case by case (placement/test_layout.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest
import yaml
from dagster import DagsterInstance

from reindex_assets.comparison.comparison import Comparison
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.defs.assets.run_checks import CheckPlan, _remark
from reindex_assets.defs.checks.rules import CheckResult
from reindex_assets.defs.checks.specs import ROWS_AGREE, evaluation
from reindex_assets.drift.checkpoint_store import CheckpointStore
from reindex_assets.errors import LayoutError
from reindex_assets.local.data.made_conversations import hold_conversations
from reindex_assets.local.data.made_data import make_source
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets.model import CONVERSATION, PROCESS, Slice
from reindex_assets.placement.locks import writing
from reindex_assets.postgres.session import SourceSession
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.reshard.transition import begin_reshard, finish_reshard
from reindex_assets.reshard.work import ReshardOptions, ReshardWork, windows
from reindex_assets_tests.support import running
from reindex_assets_tests.support.repair_loop import WRITES, RepairLoop
from reindex_assets_tests.support.resharding import (
    DAYS,
    PLAN,
    SLICES,
    Shards,
    UnionReader,
    reindex,
    reshard,
    window_run,
)
from reindex_assets_tests.support.session_stack import (
    CUSTOMERS,
    connect_shards,
    connect_source,
    forget_password_afterwards,
)

FOUR = (0, 1, 2, 3)
SIX = (0, 1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def stack_of_eight(stacks_directory: Path) -> Iterator[LocalStack]:
    stack = LocalStack(stacks_directory / "eight", shards=8)
    with pytest.MonkeyPatch.context() as environment:
        forget_password_afterwards(environment)
        stack.up(customers=CUSTOMERS, first_day=DAYS[0])
        for name, value in stack.environment().items():
            environment.setenv(name, value)
        yield stack
    stack.down()


@pytest.fixture(scope="module")
def shards(stack_of_eight: LocalStack) -> Iterator[Shards]:
    """Rows of both kinds in Postgres, made once."""
    fleet = load_fleet(stack_of_eight.fleet_path)
    clients = connect_shards(fleet)
    with closing(connect_source(fleet)) as source:
        summary = make_source(source, PLAN)
        assert summary.conversation_scorecards > 100
        yield Shards(fleet, source, clients)
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def instance(stack_of_eight: LocalStack, shards: Shards) -> Iterator[DagsterInstance]:
    """The Dagster instance of this stack."""
    with DagsterInstance.get() as found:
        yield found


@pytest.fixture
def on_four(shards: Shards) -> Shards:
    shards.load(FOUR)
    return shards


def refusal(fleet: Fleet, options: ReindexOptions | None = None) -> str:
    with pytest.raises(LayoutError) as raised:
        reindex(fleet, options)
    return str(raised.value)


def test_a_growing_cluster_is_moved_under_its_readers_and_nobody_else_writes_meanwhile(
    on_four: Shards, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    four, six = on_four.of(FOUR), on_four.of(SIX)
    before = running.content(on_four.clients)
    words = refusal(six)
    assert "lists 6 shards, but the rows are placed on 4" in words
    assert "'reindex-assets reshard --cluster local'" in words
    # A run with the right to move needs a reshard that has begun, too.
    assert words == refusal(six, ReindexOptions(allow_reshard=True))
    assert running.content(on_four.clients) == before

    # Every run of the reshard is one window; before each of them the others are refused.
    refused: list[str] = []
    runs = ReshardWork._runs

    def asking(self: ReshardWork, *args: object) -> Iterator[object]:
        refused.extend(refusal(fleet) for fleet in (four, six))
        yield from runs(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(ReshardWork, "_runs", asking)
    with UnionReader(six) as reader:
        outcome = reshard(six, instance)
    assert outcome.is_finished
    assert outcome.rows_left == 0
    assert reader.missed == {}
    assert reader.samples >= 5
    assert len(refused) >= 4
    assert all("a reshard from 4 to 6 shards is under way" in words for words in refused)

    on_four.assert_placed(SIX)
    assert on_four.settled(SIX)
    assert all(on_four.rows(number) for number in (4, 5))
    # Runs of Dagster like any other, of both kinds.
    assert {report.rectangle.dataset.kind.name for report in outcome.reports} == {"process", "conversation"}
    assert all(instance.get_run_by_id(report.run_id) is not None for report in outcome.reports)
    told = [running.reported(outcomes) for outcomes in reindex(six, ReindexOptions(everything=True))]
    assert [(one.written, one.deleted) for one in told] == [(0, 0), (0, 0)]
    assert "lists 4 shards, but the rows are placed on 6" in refusal(four)
    assert not reshard(six, None).reports


@pytest.mark.parametrize(
    ("numbers", "retiring", "moved_conversations"),
    [
        ((0, 1, 2, 3, 4, 5, 6, 7), (), True),
        ((0, 1, 2), (3,), False),
        ((1, 0, 3, 2), (), False),
    ],
    ids=["4 to 8", "4 to 3", "another order"],
)
def test_every_row_of_both_kinds_stands_where_the_new_list_of_shards_puts_it(
    on_four: Shards,
    instance: DagsterInstance,
    numbers: Sequence[int],
    retiring: Sequence[int],
    moved_conversations: bool,
) -> None:
    with Comparison(on_four.of(FOUR).dataset(CLUSTER, PROCESS), with_checkpoint=True) as comparison:
        comparison.settled(SLICES, settle_seconds=0)
    CheckpointStore(on_four.fleet.dataset(CLUSTER, PROCESS)).update([], comparison.checkpoints)
    if moved_conversations:
        for number in retiring:
            on_four.clients[number].command("TRUNCATE TABLE conversation")
        hold_conversations(on_four.source, [on_four.clients[number] for number in numbers])
    outcome = reshard(on_four.of(numbers, retiring), instance)
    assert outcome.is_finished
    on_four.assert_placed(numbers)
    assert on_four.settled(numbers)
    assert [on_four.rows(number) for number in retiring] == [0] * len(retiring)
    assert list(outcome.retiring.values()) == [{"scorecard": 0, "score": 0}] * len(retiring)
    # The emptied ones may go; and an emptied one can't come back unnoticed.
    again = reindex(on_four.of(numbers))
    assert [running.errors(outcomes) for outcomes in again] == [[], []]
    # What was proved on the old shards is forgotten.
    proved = [outcome.unchanged for outcome in again[0] if outcome.unchanged is not None]
    assert {len(parity.scorecards.by_shard) for parity in proved} <= {len(numbers)}
    if retiring:
        assert "stand in another order" in refusal(on_four.of((*numbers[:-1], retiring[0])))


def test_some_days_are_moved_and_the_cluster_stays_closed_until_all_are(
    on_four: Shards, instance: DagsterInstance
) -> None:
    six = on_four.of(SIX)
    first = PLAN.all_days[0]
    partial = reshard(six, instance, first_day=first, last_day=first)
    assert not partial.is_finished
    assert partial.rows_left > 0
    assert {report.rectangle.last_day for report in partial.reports} == {first}
    assert "under way" in refusal(six)
    rest = ReshardWork(six, CLUSTER, DAYS[1], ReshardOptions()).plan()
    assert rest.reshard.is_begun
    assert rest.chosen.rows_to_move == partial.rows_left
    # What has been moved is not looked at again.
    assert all(item.day != first for slices in rest.chosen.slices.values() for item in slices)
    assert reshard(six, instance).is_finished
    on_four.assert_placed(SIX)


def test_the_plan_tells_what_moves_and_writes_nothing(on_four: Shards) -> None:
    before, records = running.content(on_four.clients), on_four.records()
    plan = ReshardWork(on_four.of((0, 1, 2), (3,)), CLUSTER, DAYS[1], ReshardOptions()).plan()
    assert (running.content(on_four.clients), on_four.records()) == (before, records)
    assert (plan.reshard.from_shards, plan.reshard.to_shards, plan.reshard.is_begun) == (4, 3, False)
    for index in range(4):
        now, leave, _ = plan.chosen.of_shard(index)
        assert now == running.count_rows(on_four.clients, "scorecard")[index]
        assert 0 < leave <= now
    assert plan.chosen.of_shard(3)[:2] == (now, now)
    customers = plan.chosen.by_customer()
    assert [one.customer for one in customers] == sorted(CUSTOMERS)
    assert sum(one.move["scorecard"] for one in customers) == sum(plan.chosen.of_shard(n)[1] for n in range(4))
    assert sum(sum(one.arrive.values()) for one in customers) == sum(plan.chosen.of_shard(n)[2] for n in range(3))


def test_rows_that_no_run_reaches_are_told_and_hold_up_the_end_until_they_are_left_behind(
    on_four: Shards, instance: DagsterInstance
) -> None:
    # The fleet file of the reshard knows one customer less, and begins a day later: their rows stay where they are.
    later = PLAN.all_days[1]
    fewer = on_four.of((0, 1, 2), (3,)).model_copy(update={"first_day": later})
    fewer = running.with_customers(fewer, {name: CUSTOMERS[name] for name in ("acme", "globex")})
    fewer = fewer.model_copy(update={"clusters": {CLUSTER: fewer.clusters[CLUSTER]}})
    outcome = reshard(fewer, instance)
    assert not outcome.is_finished
    assert outcome.rows_left == 0
    reasons = {(one.customer, one.reason) for one in outcome.left_behind}
    assert ("initech", "the customer is not in the fleet file") in reasons
    assert ("acme", "before first_day") in reasons
    assert "under way" in refusal(fewer)
    left = reshard(fewer, None, leave_behind=True)
    assert left.is_finished
    [held] = left.retiring.values()
    assert held["scorecard"] == sum(one.rows["scorecard"] for one in left.left_behind if "retiring" in one.shard) > 0


def test_a_row_that_differs_for_another_reason_is_made_good_before_the_end(
    on_four: Shards, instance: DagsterInstance
) -> None:
    # On their right locations under both lists, and wrong: nothing moves there, so only the comparison finds it.
    on_four.clients[0].command(
        "DELETE FROM scorecard WHERE positiveModulo(toUnixTimestamp64Micro(scorecard_time) DIV 1000000, 24) = 0"
    )
    assert reshard(on_four.of(SIX), instance).is_finished
    on_four.assert_placed(SIX)


def test_a_lost_shard_is_refused_until_it_is_said_and_then_written_again(
    on_four: Shards, instance: DagsterInstance
) -> None:
    # Shard 3 burnt down; a new machine stands in its place.
    instead = on_four.of((0, 1, 2, 6))
    hold_conversations(on_four.source, [on_four.clients[number] for number in (0, 1, 2, 6)])
    words = refusal(instead)
    assert "shard 3 (127.0.0.1:" in words
    assert "--lost fills it from Postgres" in words
    with pytest.raises(LayoutError, match=r"shard 3 of the 4 .* neither among 'shards' nor 'retiring'"):
        reshard(instead, None)
    assert reshard(instead, instance, lost=True).is_finished
    on_four.assert_placed((0, 1, 2, 6))


def test_a_change_of_mind_leads_back(on_four: Shards, instance: DagsterInstance) -> None:
    reshard(on_four.of(SIX), instance, first_day=PLAN.first_day, last_day=PLAN.first_day)
    # Back to four: those that were added may hold rows, and have to be named.
    with pytest.raises(LayoutError, match="2 of the 6 shards of the reshard that is under way"):
        reshard(on_four.of(FOUR), None)
    outcome = reshard(on_four.of(FOUR, (4, 5)), instance)
    assert outcome.is_finished
    on_four.assert_placed(FOUR)
    assert (on_four.rows(4), on_four.rows(5)) == (0, 0)


def test_shards_without_records_are_moved_once_somebody_says_how_many_there_were(on_four: Shards) -> None:
    for client in on_four.clients:
        client.command("TRUNCATE TABLE IF EXISTS reindex_layout")
    six = on_four.of(SIX)
    with pytest.raises(LayoutError, match="--from-shards N"):
        reshard(six, None)
    with pytest.raises(LayoutError, match="the first 5 shards are not the old ones"):
        reshard(six, None, from_shards=5)
    assert on_four.records() == [None] * 8
    begun = begin_reshard(CLUSTER, six.clusters[CLUSTER], from_shards=4)
    assert (begun.is_begun, begun.from_shards) == (True, 4)
    assert on_four.records()[3:5] == [("moving", 3, 4, 3, 6), ("moving", -1, 4, 4, 6)]


def test_a_reshard_waits_for_those_who_write_and_those_who_come_later_are_refused(on_four: Shards) -> None:
    six = on_four.of(SIX)
    cluster = six.clusters[CLUSTER]
    done = threading.Event()

    def begin() -> None:
        begin_reshard(CLUSTER, cluster)
        done.set()

    thread = threading.Thread(target=begin)
    with SourceSession(cluster.postgres) as session:
        with writing(session, CLUSTER):
            thread.start()
            while on_four.records()[5] != ("moving", -1, 4, 5, 6):
                assert thread.is_alive()
            # The records say so, and still it waits; who begins now hears why.
            assert "under way" in refusal(on_four.of(FOUR))
            waiting = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while session.rows(waiting)[0]["n"] == 0:
                assert thread.is_alive()
            assert not done.is_set()
        thread.join(30)
    assert done.is_set()


def test_the_repair_sensor_says_why_it_does_nothing(on_four: Shards, instance: DagsterInstance) -> None:
    for kind in (PROCESS, CONVERSATION):
        loop = RepairLoop(on_four.of(SIX), instance, kind)
        # The fleet file alone was changed: a person is called, once, by the failing sensor.
        with pytest.raises(LayoutError, match="lists 6 shards, but the rows are placed on 4"):
            loop.tick()
        assert loop.ledger.given_up == {}
    begin_reshard(CLUSTER, on_four.of(SIX).clusters[CLUSTER])
    loop = RepairLoop(on_four.of(SIX), instance, kind=PROCESS)
    for _ in range(3):
        tick = loop.tick()
        assert tick.requests == []
        assert "nothing is looked at or repaired meanwhile" in tick.message
        assert "a reshard from 4 to 6 shards is under way" in tick.message
    assert loop.ledger.given_up == {}
    # A check that is red meanwhile names the cause; one that is green has none.
    remark = _remark(
        CheckPlan(dataset=on_four.of(SIX).dataset(CLUSTER, PROCESS), settle_seconds=0, with_checkpoint=False)
    )
    assert "a reshard from 4 to 6 shards is under way" in remark
    for passed in (False, True):
        verdict = CheckResult(passed, "2 rows stand on a wrong shard", {})
        found = evaluation(ROWS_AGREE, WRITES, SLICES[0], verdict, None, remark)
        assert (remark in str(found.description)) is not passed


def test_windows_cover_just_the_days_that_have_something_to_move() -> None:
    fleet = load_fleet_of(["a", "b", "c"])
    days = [date(2026, 1, day) for day in (1, 2, 3, 9)]
    chosen = [Slice("a", day) for day in days] + [Slice("c", days[0])]
    found = windows(fleet.dataset(CLUSTER, PROCESS), chosen, 4)
    assert [(one.customers, one.first_day.day, one.last_day.day) for one in found] == [
        (("a",), 1, 2),
        (("c",), 1, 1),
        (("a",), 3, 3),
        (("a",), 9, 9),
    ]


def load_fleet_of(customers: Sequence[str]) -> Fleet:
    return Fleet.model_validate(
        {
            "first_day": "2026-01-01",
            "clusters": {
                CLUSTER: {
                    "postgres": {"host": "p", "database": "d", "user": "u", "password": {"env": "X"}},
                    "clickhouse": {"password": {"env": "X"}, "shards": [{"host": "s"}]},
                    "customers": {name: {} for name in customers},
                }
            },
        }
    )


# --- the command


def command(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reindex_assets", "reshard", "--fleet", str(path), "--settle", "0", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_shows_asks_moves_and_ends(on_four: Shards, instance: DagsterInstance, tmp_path: Path) -> None:
    numbers, retiring = (0, 4, 2), (3, 1)
    path = write(on_four.of(numbers, retiring), tmp_path)
    shown = command(path, "--json", "--dry-run")
    assert shown.returncode == 1, shown.stderr
    plan = json.loads(shown.stdout)
    assert (plan["from_shards"], plan["to_shards"], plan["begun"], plan["finished"]) == (4, 3, False, False)
    assert [shard["before"] for shard in plan["shards"]] == [0, -1, 2, 3, 1]
    assert [row["customer"] for row in plan["customers"]] == sorted(CUSTOMERS)

    guarded = command(path, "--from-shards", "6", "--yes")
    assert (guarded.returncode, "are placed on 4 shards" in " ".join(guarded.stderr.split())) == (2, True)
    # Without an answer nothing begins.
    asked = command(path)
    assert asked.returncode == 1
    assert "Begin? Until the reshard has ended, nothing else is written to this cluster." in asked.stderr
    assert on_four.settled(FOUR)

    done = command(path, "--yes")
    words = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stderr
    assert "Cluster local: from 4 to 3 shards" in words
    assert "every partition of cluster local is equal to Postgres on its 3 shards" in words
    assert words.count("is empty: remove it from the fleet file") == 2
    on_four.assert_placed(numbers)
    again = command(path, "--yes", "--json")
    assert (again.returncode, json.loads(again.stdout)["needed"]) == (0, False)


# --- kills


def write(fleet: Fleet, directory: Path) -> Path:
    path = directory / "fleet.yaml"
    path.write_text(yaml.safe_dump({**fleet.model_dump(mode="json"), "first_day": fleet.first_day}), encoding="utf-8")
    return path


def killed(path: Path, moment: str, number: int) -> None:
    """A reshard that kills itself at a moment."""
    answer = subprocess.run(
        [sys.executable, "-m", "reindex_assets_tests.support.crash_reshard", str(path), moment, str(number)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == -9, (moment, answer.returncode, answer.stderr[-2000:])


def test_a_reshard_that_is_killed_again_and_again_goes_on_and_no_reader_misses_a_row(
    on_four: Shards, instance: DagsterInstance, tmp_path: Path
) -> None:
    numbers, retiring = (1, 0, 4, 5, 2), (3,)
    fleet = on_four.of(numbers, retiring)
    path = write(fleet, tmp_path)
    rows = []
    with UnionReader(fleet) as reader:
        for moment, number in (
            ("while records are written", 3),
            ("after rows are inserted on an empty shard", 4),
            ("before rows are deleted", 1),
        ):
            killed(path, moment, number)
            for other in (on_four.of(FOUR), on_four.of(numbers)):
                assert "under way" in refusal(other), moment
            rows.append(sum(on_four.rows(number) for number in range(6)))
        # Killed before the deletes: rows stood twice.
        assert max(rows) > rows[0]
        # All is moved; only its end is left.
        ReshardWork(fleet, CLUSTER, DAYS[1], ReshardOptions(settle_seconds=0))._move(window_run(instance), SLICES)
        killed(path, "before it ends", 1)
        assert not on_four.settled(numbers)
        killed(path, "while records are written", 3)
        assert "under way" in refusal(on_four.of(numbers))
        with pytest.raises(LayoutError, match="was about to end"):
            reshard(on_four.of(FOUR, (4, 5)), None)
        outcome = reshard(fleet, None)
    assert outcome.is_finished
    assert not outcome.reports
    assert reader.missed == {}
    on_four.assert_placed(numbers)
    assert on_four.settled(numbers)
    assert on_four.rows(3) == 0
    assert running.staging_tables(on_four.clients) == []


def test_the_end_of_a_reshard_that_has_been_overtaken_is_refused(on_four: Shards) -> None:
    six, five = on_four.of(SIX), on_four.of((0, 1, 2, 3, 4), (5,))
    old = begin_reshard(CLUSTER, six.clusters[CLUSTER])
    begin_reshard(CLUSTER, five.clusters[CLUSTER])
    with pytest.raises(LayoutError, match="another reshard has begun meanwhile"):
        finish_reshard(old, six.clusters[CLUSTER])
    assert {record and record[0] for record in on_four.records()[:6]} == {"moving"}
