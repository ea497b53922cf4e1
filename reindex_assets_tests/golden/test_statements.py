"""Every statement that leaves for Postgres or ClickHouse stands in a file beside this one, in full: who changes one changes its file.

What lives here: one small scenario on real engines in which the product sends everything that it ever sends, and the comparison with the
files. What does not: the recorder (support/sent_statements.py), and whether any of it is right (all the other tests).

`pytest reindex_assets_tests/golden --write-golden` writes the files. Everything is of one slice, so that the literals in the statements of
Postgres are always the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from psycopg2.extensions import connection as Connection

from reindex_assets.appeals.purge import AppealPurge, PurgeOptions, plan_purges
from reindex_assets.backfill.row_estimates import estimate_rows
from reindex_assets.clickhouse import replicas
from reindex_assets.clickhouse.schema import apply_schema
from reindex_assets.clickhouse.shards import ShardSet
from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.count_queries import count_clickhouse
from reindex_assets.comparison.verification import Depth, verify
from reindex_assets.config.cluster import Watch
from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.engines import Replica, Shard
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.tables import DeclaredTables
from reindex_assets.drift.checkpoint_store import CheckpointStore
from reindex_assets.drift.watch import look
from reindex_assets.drift.watch_state import WatchState
from reindex_assets.errors import ReindexError, SourceBusyError
from reindex_assets.local.data.made_conversations import hold_conversations
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.drift.changes import CHANGES
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.stack import connections
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import KINDS, LAYOUT_TABLE, Kind, Slice
from reindex_assets.placement.records import read_records, write_records
from reindex_assets.postgres import join_plan
from reindex_assets.postgres.extract import count_scorecards, read_rows
from reindex_assets.postgres.session import SourceSession
from reindex_assets.reindex.job import Progress, Reindex, ReindexOptions
from reindex_assets.reindex.run_report import RunReport
from reindex_assets.reindex.writer import WriteOptions
from reindex_assets.reshard.survey import ShardSurvey
from reindex_assets.reshard.work import ReshardOptions, ReshardWork
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.selection.rectangles import Rectangle
from reindex_assets_tests.support.datasets import watched_by
from reindex_assets_tests.support.hand_made_rows import with_clickhouse, with_postgres
from reindex_assets_tests.support.merges import merge_all, merges_put_off, no_merges
from reindex_assets_tests.support.planted_appeals import add_appeal
from reindex_assets_tests.support.running import with_customers, with_shards
from reindex_assets_tests.support.sent_statements import Recorder, files_of, functions, golden_files, write_golden

DAY = date(2026, 1, 20)
ITEM = Slice("acme", DAY)
PLAN = DataPlan({"acme": ("main",)}, DAY, days=1, scale=0.002, seed=3, conversation_share=1.0)
#: Of the tables of this test, on the shards of the session.
DATABASE = "statements"
#: A drift of each kind, but for those that ClickHouse may mend at any moment.
DRIFTS = [drift for drift in Drift if drift is not Drift.DUPLICATED]
SHARDS = 3
HINT = "'pytest reindex_assets_tests/golden --write-golden' writes the files anew: look at what differs then"


class Scenario:
    """One cluster of one slice, on two shards; a third one is free."""

    def __init__(self, fleet: Fleet, source: Connection, clients: list[Client], patch: pytest.MonkeyPatch) -> None:
        self.all_shards = fleet
        self.fleet = with_shards(fleet, (0, 1))
        self.source = source
        self.clients = clients
        self.patch = patch

    def run(self) -> None:
        """Everything, in an order in which each step finds what it needs."""
        apply_schema(self.all_shards.clusters[CLUSTER])
        apply_schema(self.all_shards.clusters[CLUSTER])
        self.leave_staging_table_behind()
        for kind in KINDS:
            self.write_and_look(kind)
        self.ask_for_few_numbers()
        self.ask_for_scattered_days()
        self.wait_for_a_slot()
        self.purge()
        self.reshard()
        self.replicate()

    # --- runs and looks

    def write_and_look(self, kind: Kind) -> None:
        self.scores_are_read(at_once=False)
        with no_merges(self.clients):
            self.reindex(kind, WriteOptions(batch_rows=20))
            self.prove(kind)
            self.reindex(kind)
            seen = self.look(kind, WatchState())
        merge_all(self.clients)
        seen = self.look(kind, seen)
        self.insert_beside()
        self.look(kind, seen)
        self.drift(kind)
        self.reindex(kind, WriteOptions(dry_run=True))
        for depth in Depth:
            verify(self.fleet, ["acme"], DAY, DAY, kind=kind, depth=depth, settle_seconds=0, samples=1)
        self.reindex(kind)
        self.reindex(kind, WriteOptions(clean_up=True))
        self.scores_are_read(at_once=True)
        self.prove(kind)
        self.reindex(kind)
        with merges_put_off(self.clients):
            self.leave_older_copies()
            self.reindex(kind)
        count_clickhouse(self.fleet.dataset(CLUSTER, kind), [ITEM])

    def scores_are_read(self, at_once: bool) -> None:
        """The whole table, or those of each scorecard: the planner's estimates decide, which tests can't."""
        self.patch.setattr(join_plan, "_ROWS_A_LOOK_UP", 10**9 if at_once else 0)

    def reindex(self, kind: Kind, options: WriteOptions | None = None) -> None:
        chosen = ReindexOptions(write=options or WriteOptions(), attempts=1)
        [outcome] = Reindex(self.fleet.dataset(CLUSTER, kind), chosen).run([ITEM])
        assert outcome.error is None, outcome.error

    def prove(self, kind: Kind) -> None:
        dataset = self.fleet.dataset(CLUSTER, kind)
        with Comparison(dataset, with_checkpoint=True) as comparison:
            [parity] = comparison.settled([ITEM], settle_seconds=0)
        assert parity.is_equal
        CheckpointStore(dataset).update([], comparison.checkpoints)

    def look(self, kind: Kind, state: WatchState) -> WatchState:
        dataset = watched_by(self.fleet.dataset(CLUSTER, kind), Watch(settle_seconds=0))
        return look(dataset, (DAY, DAY), state).state

    def insert_beside(self) -> None:
        for table in ("score", "scorecard", "conversation"):
            self.clients[0].command(f"INSERT INTO {table} SELECT * FROM {table} LIMIT 1")

    def leave_older_copies(self) -> None:
        for table in ("score", "scorecard"):
            self.clients[0].command(
                f"INSERT INTO {table} SELECT * REPLACE (toUInt64(version - 1) AS version) FROM {table} LIMIT 1"
            )

    def drift(self, kind: Kind) -> None:
        """The columns that change are one of each table."""
        seed = [change.table for change in CHANGES].index("score") - 1
        for drift in DRIFTS:
            plant(drift, self.clients[:2], "acme", DAY, count=2, seed=seed, source=self.source, kind=kind)

    def leave_staging_table_behind(self) -> None:
        self.clients[0].command("CREATE TABLE reindex_staging_7_1_score (id UInt8) ENGINE = MergeTree ORDER BY id")

    # --- the rest

    def ask_for_few_numbers(self) -> None:
        estimate_rows({dataset: ["acme"] for dataset in self.fleet.datasets(CLUSTER)}, DAY, DAY)
        with SourceSession(self.fleet.clusters[CLUSTER].postgres) as session:
            for kind in KINDS:
                count_scorecards(
                    session,
                    SliceGroup(customers=(("acme", ("main",)),), days=(DAY,), floor_day=DAY, kind=kind, tables=TABLES),
                )

    def ask_for_scattered_days(self) -> None:
        """The one statement here of several customers, and of days that lie apart."""
        group = SliceGroup(
            customers=(("acme", ("main",)), ("globex", ())),
            days=(DAY, DAY + timedelta(days=2)),
            floor_day=DAY,
            kind=KINDS[0],
            tables=TABLES,
        )
        with (
            SourceSession(self.fleet.clusters[CLUSTER].postgres) as session,
            join_plan.group_snapshot(session, group),
        ):
            for table in TABLES:
                assert list(read_rows(session, table, group))

    def wait_for_a_slot(self) -> None:
        few = with_postgres(self.fleet, max_connections=2, connection_wait_seconds=0).clusters[CLUSTER].postgres
        with SourceSession(few), SourceSession(few), pytest.raises(SourceBusyError):
            SourceSession(few)

    def purge(self) -> None:
        time = datetime(2026, 1, 20, 9, 30, tzinfo=UTC)
        for conversation in (False, True):
            add_appeal(self.source, time, conversation=conversation).plant(self.clients[0], time)
        group = plan_purges(self.fleet, ["acme"], DAY, DAY)[CLUSTER]
        report = AppealPurge(self.fleet, CLUSTER, group, PurgeOptions(dry_run=False, attempts=1)).run()
        assert sum(report.deleted.values()) == 6

    def reshard(self) -> None:
        """To the third shard in place of the second one, with rows of a stranger that no run can move."""
        fleet = with_shards(self.all_shards, (0, 2), retiring=(1,))
        for table in ("score", "scorecard"):
            self.clients[1].command(
                f"INSERT INTO {table} SELECT * REPLACE ('stranger' AS customer) FROM {table} LIMIT 1"
            )

        def run(
            rectangle: Rectangle, config: Mapping[str, object], on_progress: Callable[[Progress], None], /
        ) -> RunReport:
            options = ReindexOptions(allow_reshard=True)
            outcomes = Reindex(rectangle.dataset, options).run(rectangle.slices)
            assert [outcome.error for outcome in outcomes] == [None]
            return RunReport(run_id="", rectangle=rectangle, success=True, seconds=0, rows={}, red_checks=[])

        options = ReshardOptions(settle_seconds=0, leave_behind=True)
        assert ReshardWork(fleet, CLUSTER, DAY, options).run(run).is_finished
        for client in self.clients:
            client.command("DROP TABLE conversation")
        with ShardSurvey(fleet.datasets(CLUSTER)) as finder:
            assert finder.left_behind(DAY, DAY)

    def replicate(self) -> None:
        """What is sent where tables are Replicated. No engine here has such: it refuses some of it, after it was sent."""
        one = with_clickhouse(self.fleet, replicated=True)
        address = Replica(**self.fleet.clusters[CLUSTER].clickhouse.shards[0].addresses[0].model_dump())
        two = with_clickhouse(one, shards=(Shard(replicas=(address, address)),))
        with ShardSet(one.clusters[CLUSTER]) as shards, suppress(ReindexError):
            records = [record for record in read_records(shards) if record is not None]
            write_records(shards, one.clusters[CLUSTER], records)
        for table in (*(table.name for table in TABLES), LAYOUT_TABLE):
            self.clients[0].command(f"DROP TABLE {table} SYNC")
            for replicated in (one, two):
                with pytest.raises(ReindexError):
                    apply_schema(replicated.clusters[CLUSTER])
            apply_schema(self.fleet.clusters[CLUSTER])
        with pytest.raises(DatabaseError):
            replicas.catch_up(self.clients[0], "shard 0", DATABASE, ["scorecard"], 1)
        replicas.read_waiting_deletes(self.clients[0], DATABASE, ["scorecard"])


@pytest.fixture
def scenario(
    four_shards: None,
    clean: None,
    fleet: Fleet,
    source: Connection,
    shard_clients: list[Client],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scenario]:
    """Three shards with a database of their own, rows of both kinds in Postgres, and the conversations on two of the shards."""
    changed = with_clickhouse(with_customers(fleet, PLAN.customers), database=DATABASE)
    changed = with_shards(changed, range(SHARDS)).model_copy(update={"first_day": DAY, "slices": str(tmp_path)})
    conversation = resources.files(connections.__package__ or "").joinpath("conversation.sql").read_text("utf-8")
    make_source(source, PLAN)
    connections.create_databases(changed.clusters[CLUSTER])
    with ExitStack() as stack:
        for client in shard_clients[:SHARDS]:
            stack.callback(client.command, f"DROP DATABASE {DATABASE} SYNC")
        clients = [stack.enter_context(client) for client in connections.connect_shards(changed.clusters[CLUSTER])]
        for client in clients:
            client.command(conversation)
        hold_conversations(source, clients[:2])
        yield Scenario(changed, source, clients, monkeypatch)


class OtherNames:
    """A client of a shard on which the tables have other names: what the tests send it about the default ones is about these."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._client, name)
        if not callable(member):
            return member

        def send(*values: Any, **options: Any) -> Any:
            renamed = [_OF_TABLE.sub(_other_name, value) if isinstance(value, str) else value for value in values]
            return member(*renamed, **options)

        return send


_OF_TABLE = re.compile(r"\b((?:FROM|INTO|TABLE|UPDATE)\s+|^)(scorecard|score)\b(?!\s*=)")
_NAMES = {"scorecard": "qa_cards", "score": "qa_marks"}


def _other_name(match: re.Match[str]) -> str:
    return f"{match[1]}{_NAMES[match[2]]}"


@pytest.mark.timeout(900)
def test_with_declared_names_all_the_same_is_sent_about_other_tables(scenario: Scenario) -> None:
    """No statement that the product ever sends is about a table by its default name."""
    tables = DeclaredTables.model_validate({key: {"name": name} for key, name in _NAMES.items()})
    cluster = scenario.all_shards.clusters[CLUSTER].model_copy(update={"tables": tables})
    fleet = scenario.all_shards.model_copy(update={"clusters": {CLUSTER: cluster}})
    clients: list[Any] = [OtherNames(client) for client in scenario.clients]
    recorder = Recorder()
    with recorder.recording():
        Scenario(fleet, scenario.source, clients, scenario.patch).run()
    back = {name: key for key, name in _NAMES.items()}
    sent = files_of(
        replace(one, text=re.sub("|".join(back), lambda match: back[match[0]], one.text)) for one in recorder.sent
    )
    assert any(name in one.text for one in recorder.sent for name in back)
    # The client of these is the one above, and not the product's.
    handed_over = re.compile(r".*replicas\.(catch_up|read_waiting_deletes)\.sql")
    assert sent == {name: text for name, text in golden_files().items() if not handed_over.fullmatch(name)}


@pytest.mark.timeout(900)
def test_what_is_sent_is_what_the_files_say(scenario: Scenario, pytestconfig: pytest.Config) -> None:
    recorder = Recorder()
    with recorder.recording():
        scenario.run()
    sent = files_of(recorder.sent)
    if pytestconfig.getoption("--write-golden"):
        write_golden(sent)
    golden = golden_files()
    assert not sent.keys() - golden.keys(), f"statements that no file says; {HINT}"
    assert not golden.keys() - sent.keys(), f"files of statements that nothing sends; {HINT}"
    for name, text in sent.items():
        assert text == golden[name], f"golden/{name} says another statement; {HINT}"


def test_every_function_that_sends_has_a_file_and_every_file_a_function() -> None:
    """Told from the code alone: a statement that the scenario forgets, and a function that has another name now."""
    found = functions()
    names = [name.partition("/")[2] for name in golden_files()]
    assert [
        sender for sender, sends in found.items() if sends and not any(name.startswith(f"{sender}.") for name in names)
    ] == [], f"let the scenario above call these; {HINT}"
    assert [name for name in names if not any(name.startswith(f"{function}.") for function in found)] == [], HINT
