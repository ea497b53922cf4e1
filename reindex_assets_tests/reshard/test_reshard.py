"""A reshard: other shards in the fleet file, and every row where it then belongs; until then nobody else writes.

What lives here: whole reshards on a stack of four shards, judged by the oracle, the refusals meanwhile, and kills. What does not: what the
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
from reindex_assets.defs.instance.opening import open_instance
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

TWO = (0, 1)
THREE = (0, 1, 2)
FOUR = (0, 1, 2, 3)


@pytest.fixture(scope="module")
def stack_of_four(stacks_directory: Path) -> Iterator[LocalStack]:
    stack = LocalStack(stacks_directory / "four", shards=4)
    with pytest.MonkeyPatch.context() as environment:
        forget_password_afterwards(environment)
        stack.up(customers=CUSTOMERS, first_day=DAYS[0])
        for name, value in stack.environment().items():
            environment.setenv(name, value)
        yield stack
    stack.down()


@pytest.fixture(scope="module")
def shards(stack_of_four: LocalStack) -> Iterator[Shards]:
    """Rows of both kinds in Postgres, made once."""
    fleet = load_fleet(stack_of_four.fleet_path)
    clients = connect_shards(fleet)
    with closing(connect_source(fleet)) as source:
        summary = make_source(source, PLAN)
        assert summary.conversation_scorecards > 100
        yield Shards(fleet, source, clients)
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def instance(stack_of_four: LocalStack, shards: Shards) -> Iterator[DagsterInstance]:
    """The Dagster instance of this stack."""
    with open_instance() as instance:
        yield instance


@pytest.fixture
def on_two(shards: Shards) -> Shards:
    shards.load(TWO)
    return shards


@pytest.fixture
def on_three(shards: Shards) -> Shards:
    shards.load(THREE)
    return shards


def refusal(fleet: Fleet, options: ReindexOptions | None = None) -> str:
    with pytest.raises(LayoutError) as raised:
        reindex(fleet, options)
    return str(raised.value)


def test_a_growing_cluster_is_moved_under_its_readers_and_nobody_else_writes_meanwhile(
    on_two: Shards, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    two, three = on_two.of(TWO), on_two.of(THREE)
    before = running.content(on_two.clients)
    words = refusal(three)
    assert "lists 3 shards, but the rows are placed on 2" in words
    assert "'reindex-assets reshard --cluster local'" in words
    # A run with the right to move needs a reshard that has begun, too.
    assert words == refusal(three, ReindexOptions(allow_reshard=True))
    assert running.content(on_two.clients) == before

    # Every run of the reshard is one window; before each of them the others are refused.
    refused: list[str] = []
    runs = ReshardWork._runs

    def asking(self: ReshardWork, *args: object) -> Iterator[object]:
        refused.extend(refusal(fleet) for fleet in (two, three))
        yield from runs(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(ReshardWork, "_runs", asking)
    with UnionReader(three) as reader:
        outcome = reshard(three, instance)
    assert outcome.is_finished
    assert outcome.rows_left == 0
    assert reader.missed == {}
    assert reader.samples >= 5
    assert len(refused) >= 4
    assert all("a reshard from 2 to 3 shards is under way" in words for words in refused)

    on_two.assert_placed(THREE)
    assert on_two.settled(THREE)
    assert on_two.rows(2)
    # Runs of Dagster like any other, of both kinds.
    assert {report.rectangle.dataset.kind.name for report in outcome.reports} == {"process", "conversation"}
    assert all(instance.get_run_by_id(report.run_id) is not None for report in outcome.reports)
    told = [running.reported(outcomes) for outcomes in reindex(three, ReindexOptions(everything=True))]
    assert [(one.written, one.deleted) for one in told] == [(0, 0), (0, 0)]
    assert "lists 2 shards, but the rows are placed on 3" in refusal(two)
    assert not reshard(three, None).reports


@pytest.mark.parametrize(
    ("start", "numbers", "retiring", "moved_conversations"),
    [
        (TWO, FOUR, (), True),
        (THREE, TWO, (2,), False),
        (THREE, (1, 0, 2), (), False),
    ],
    ids=["2 to 4", "3 to 2", "another order"],
)
def test_every_row_of_both_kinds_stands_where_the_new_list_of_shards_puts_it(
    shards: Shards,
    instance: DagsterInstance,
    start: Sequence[int],
    numbers: Sequence[int],
    retiring: Sequence[int],
    moved_conversations: bool,
) -> None:
    shards.load(start)
    with Comparison(shards.of(start).dataset(CLUSTER, PROCESS), with_checkpoint=True) as comparison:
        comparison.settled(SLICES, settle_seconds=0)
    CheckpointStore(shards.fleet.dataset(CLUSTER, PROCESS)).update([], comparison.checkpoints)
    if moved_conversations:
        for number in retiring:
            shards.clients[number].command("TRUNCATE TABLE conversation")
        hold_conversations(shards.source, [shards.clients[number] for number in numbers])
    outcome = reshard(shards.of(numbers, retiring), instance)
    assert outcome.is_finished
    shards.assert_placed(numbers)
    assert shards.settled(numbers)
    assert [shards.rows(number) for number in retiring] == [0] * len(retiring)
    assert list(outcome.retiring.values()) == [{"scorecard": 0, "score": 0}] * len(retiring)
    # The emptied ones may go; and an emptied one can't come back unnoticed.
    again = reindex(shards.of(numbers))
    assert [running.errors(outcomes) for outcomes in again] == [[], []]
    # What was proved on the old shards is forgotten.
    proved = [outcome.unchanged for outcome in again[0] if outcome.unchanged is not None]
    assert {len(parity.scorecards.by_shard) for parity in proved} <= {len(numbers)}
    if retiring:
        assert "are in another order" in refusal(shards.of((*numbers[:-1], retiring[0])))


def test_some_days_are_moved_and_the_cluster_stays_closed_until_all_are(
    on_two: Shards, instance: DagsterInstance
) -> None:
    three = on_two.of(THREE)
    first = PLAN.all_days[0]
    partial = reshard(three, instance, first_day=first, last_day=first)
    assert not partial.is_finished
    assert partial.rows_left > 0
    assert {report.rectangle.last_day for report in partial.reports} == {first}
    assert "under way" in refusal(three)
    rest = ReshardWork(three, CLUSTER, DAYS[1], ReshardOptions()).plan()
    assert rest.reshard.is_begun
    assert rest.chosen.rows_to_move == partial.rows_left
    # What has been moved is not looked at again.
    assert all(item.day != first for slices in rest.chosen.slices.values() for item in slices)
    assert reshard(three, instance).is_finished
    on_two.assert_placed(THREE)


def test_the_plan_tells_what_moves_and_writes_nothing(on_three: Shards) -> None:
    before, records = running.content(on_three.clients), on_three.records()
    plan = ReshardWork(on_three.of(TWO, (2,)), CLUSTER, DAYS[1], ReshardOptions()).plan()
    assert (running.content(on_three.clients), on_three.records()) == (before, records)
    assert (plan.reshard.from_shards, plan.reshard.to_shards, plan.reshard.is_begun) == (3, 2, False)
    for index in range(3):
        now, leave, _ = plan.chosen.of_shard(index)
        assert now == running.count_rows(on_three.clients, "scorecard")[index]
        assert 0 < leave <= now
    assert plan.chosen.of_shard(2)[:2] == (now, now)
    customers = plan.chosen.by_customer()
    assert [one.customer for one in customers] == sorted(CUSTOMERS)
    assert sum(one.move["scorecard"] for one in customers) == sum(plan.chosen.of_shard(n)[1] for n in range(3))
    assert sum(sum(one.arrive.values()) for one in customers) == sum(plan.chosen.of_shard(n)[2] for n in range(2))


def test_rows_that_no_run_reaches_are_told_and_hold_up_the_end_until_they_are_left_behind(
    on_three: Shards, instance: DagsterInstance
) -> None:
    # The fleet file of the reshard knows one customer less, and begins a day later: their rows stay where they are.
    later = PLAN.all_days[1]
    fewer = on_three.of(TWO, (2,)).model_copy(update={"first_day": later})
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
    on_two: Shards, instance: DagsterInstance
) -> None:
    # On their right locations under both lists, and wrong: nothing moves there, so only the comparison finds it.
    on_two.clients[0].command(
        "DELETE FROM scorecard WHERE positiveModulo(toUnixTimestamp64Micro(scorecard_time) DIV 1000000, 12) = 0"
    )
    assert reshard(on_two.of(THREE), instance).is_finished
    on_two.assert_placed(THREE)


def test_a_lost_shard_is_refused_until_it_is_said_and_then_written_again(
    on_two: Shards, instance: DagsterInstance
) -> None:
    # Shard 1 burnt down; a new machine stands in its place.
    instead = on_two.of((0, 3))
    hold_conversations(on_two.source, [on_two.clients[number] for number in (0, 3)])
    words = refusal(instead)
    assert "shard 1 (127.0.0.1:" in words
    assert "--lost fills it from Postgres" in words
    with pytest.raises(LayoutError, match=r"shard 1 of the 2 .* neither among 'shards' nor 'retiring'"):
        reshard(instead, None)
    assert reshard(instead, instance, lost=True).is_finished
    on_two.assert_placed((0, 3))


def test_a_change_of_mind_leads_back(on_two: Shards, instance: DagsterInstance) -> None:
    reshard(on_two.of(FOUR), instance, first_day=PLAN.first_day, last_day=PLAN.first_day)
    # Back to two: those that were added may hold rows, and have to be named.
    with pytest.raises(LayoutError, match="2 of the 4 shards of the reshard that is under way"):
        reshard(on_two.of(TWO), None)
    outcome = reshard(on_two.of(TWO, (2, 3)), instance)
    assert outcome.is_finished
    on_two.assert_placed(TWO)
    assert (on_two.rows(2), on_two.rows(3)) == (0, 0)


def test_shards_without_records_are_moved_once_somebody_says_how_many_there_were(on_two: Shards) -> None:
    for client in on_two.clients:
        client.command("TRUNCATE TABLE IF EXISTS reindex_layout")
    four = on_two.of(FOUR)
    with pytest.raises(LayoutError, match="--from-shards N"):
        reshard(four, None)
    with pytest.raises(LayoutError, match="the first 3 shards are not the old ones"):
        reshard(four, None, from_shards=3)
    assert on_two.records() == [None] * 4
    begun = begin_reshard(CLUSTER, four.clusters[CLUSTER], from_shards=2)
    assert (begun.is_begun, begun.from_shards) == (True, 2)
    assert on_two.records()[1:3] == [("moving", 1, 2, 1, 4), ("moving", -1, 2, 2, 4)]


def test_a_reshard_waits_for_those_who_write_and_those_who_come_later_are_refused(on_two: Shards) -> None:
    four = on_two.of(FOUR)
    cluster = four.clusters[CLUSTER]
    done = threading.Event()

    def begin() -> None:
        begin_reshard(CLUSTER, cluster)
        done.set()

    thread = threading.Thread(target=begin)
    with SourceSession(cluster.postgres) as session:
        with writing(session, CLUSTER):
            thread.start()
            while on_two.records()[3] != ("moving", -1, 2, 3, 4):
                assert thread.is_alive()
            # The records say so, and still it waits; who begins now hears why.
            assert "under way" in refusal(on_two.of(TWO))
            waiting = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while session.rows(waiting)[0]["n"] == 0:
                assert thread.is_alive()
            assert not done.is_set()
        thread.join(30)
    assert done.is_set()


def test_the_repair_sensor_says_why_it_does_nothing(on_two: Shards, instance: DagsterInstance) -> None:
    for kind in (PROCESS, CONVERSATION):
        loop = RepairLoop(on_two.of(THREE), instance, kind)
        # The fleet file alone was changed: a person is called, once, by the failing sensor.
        with pytest.raises(LayoutError, match="lists 3 shards, but the rows are placed on 2"):
            loop.tick()
        assert loop.ledger.given_up == {}
    begin_reshard(CLUSTER, on_two.of(THREE).clusters[CLUSTER])
    loop = RepairLoop(on_two.of(THREE), instance, kind=PROCESS)
    for _ in range(3):
        tick = loop.tick()
        assert tick.requests == []
        assert "nothing is looked at or repaired meanwhile" in tick.message
        assert "a reshard from 2 to 3 shards is under way" in tick.message
    assert loop.ledger.given_up == {}
    # A check that is red meanwhile names the cause; one that is green has none.
    remark = _remark(
        CheckPlan(dataset=on_two.of(THREE).dataset(CLUSTER, PROCESS), settle_seconds=0, with_checkpoint=False)
    )
    assert "a reshard from 2 to 3 shards is under way" in remark
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


def test_the_command_shows_asks_moves_and_ends(on_three: Shards, instance: DagsterInstance, tmp_path: Path) -> None:
    numbers, retiring = (0, 3), (2, 1)
    path = write(on_three.of(numbers, retiring), tmp_path)
    shown = command(path, "--json", "--dry-run")
    assert shown.returncode == 1, shown.stderr
    plan = json.loads(shown.stdout)
    assert (plan["from_shards"], plan["to_shards"], plan["begun"], plan["finished"]) == (3, 2, False, False)
    assert [shard["before"] for shard in plan["shards"]] == [0, -1, 2, 1]
    assert [row["customer"] for row in plan["customers"]] == sorted(CUSTOMERS)

    guarded = command(path, "--from-shards", "4", "--yes")
    assert (guarded.returncode, "are placed on 3 shards" in " ".join(guarded.stderr.split())) == (2, True)
    # Without an answer nothing begins.
    asked = command(path)
    assert asked.returncode == 2
    assert "Begin? Until the reshard has ended, nothing else is written to this cluster." in asked.stderr
    assert on_three.settled(THREE)

    done = command(path, "--yes")
    words = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stderr
    assert "Cluster local: from 3 to 2 shards" in words
    assert "every partition of cluster local is equal to Postgres on its 2 shards" in words
    assert words.count("is empty: remove it from the fleet file") == 2
    on_three.assert_placed(numbers)
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
    on_two: Shards, instance: DagsterInstance, tmp_path: Path
) -> None:
    numbers, retiring = (1, 2, 3), (0,)
    fleet = on_two.of(numbers, retiring)
    path = write(fleet, tmp_path)
    rows = []
    with UnionReader(fleet) as reader:
        for moment, number in (
            ("while records are written", 3),
            ("after rows are inserted on an empty shard", 4),
            ("before rows are deleted", 1),
        ):
            killed(path, moment, number)
            for other in (on_two.of(TWO), on_two.of(numbers)):
                assert "under way" in refusal(other), moment
            rows.append(sum(on_two.rows(number) for number in range(4)))
        # Killed before the deletes: rows stood twice.
        assert max(rows) > rows[0]
        # All is moved; only its end is left.
        ReshardWork(fleet, CLUSTER, DAYS[1], ReshardOptions(settle_seconds=0))._move(window_run(instance), SLICES)
        killed(path, "before it ends", 1)
        assert not on_two.settled(numbers)
        killed(path, "while records are written", 3)
        assert "under way" in refusal(on_two.of(numbers))
        with pytest.raises(LayoutError, match="was about to end"):
            reshard(on_two.of(TWO, (2, 3)), None)
        outcome = reshard(fleet, None)
    assert outcome.is_finished
    assert not outcome.reports
    assert reader.missed == {}
    on_two.assert_placed(numbers)
    assert on_two.settled(numbers)
    assert on_two.rows(0) == 0
    assert running.staging_tables(on_two.clients) == []


def test_the_end_of_a_reshard_that_has_been_overtaken_is_refused(on_two: Shards) -> None:
    four, three = on_two.of(FOUR), on_two.of(THREE, (3,))
    old = begin_reshard(CLUSTER, four.clusters[CLUSTER])
    begin_reshard(CLUSTER, three.clusters[CLUSTER])
    with pytest.raises(LayoutError, match="another reshard has begun meanwhile"):
        finish_reshard(old, four.clusters[CLUSTER])
    assert {record and record[0] for record in on_two.records()} == {"moving"}
