"""Two writers, edits, drift and a network that breaks its word, in any order: what runs on real engines never do, however they end.

What lives here: a state machine over the real writer and real shards, each behind a proxy that commits a fault at any statement. What
does not: single faults (reindex/test_evidence.py), and the same protocol searched to its end as a model (reindex/test_writing_model.py).
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field

import pytest
from clickhouse_connect.driver.client import Client
from hypothesis import Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from psycopg2.extensions import connection as Connection

from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ReindexError
from reindex_assets.local.data.made_data import DataPlan, change_source, make_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle.compare import assert_equal
from reindex_assets.model import PROCESS, Slice, Table
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.retry import Pauses
from reindex_assets_tests.support.application import scorecards_of, update, write_as_application
from reindex_assets_tests.support.faulty_shard import Fault, FaultyShard, faulty_shard
from reindex_assets_tests.support.merges import merges_put_off
from reindex_assets_tests.support.plain_loader import load_plainly
from reindex_assets_tests.support.running import attempt, errors, reindex, reported, slices_of, staging_tables
from reindex_assets_tests.support.session_stack import CUSTOMERS, FIRST_DAY, connect_shards, empty_shards, empty_source
from reindex_assets_tests.support.shard_readers import Reader, rows_of

PLAN = DataPlan(CUSTOMERS, FIRST_DAY, days=2, scale=0.001, seed=17)
SLICES = slices_of(PLAN)
#: An appeal is not ours.
DRIFTS = [drift for drift in Drift if drift is not Drift.APPEAL]
#: What is late comes while the run is still at work, or right after it.
LATE_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class Happening:
    """What happens at the n-th statement of a run on a shard that holds `part`, or from then on; None: the application edits a
    scorecard."""

    shard: int
    part: str
    number: int
    fault: Fault | None
    lasts: bool = False

    def is_due(self, number: int) -> bool:
        return number >= self.number if self.lasts else number == self.number


#: The statements that change something, by a part of their text: into staging, from there into the live tables, and deletes.
WRITES = (
    "_score` (",
    "_scorecard` (",
    "_identities` (",
    "INSERT INTO score (",
    "INSERT INTO scorecard (",
    "DELETE FROM s",
)
#: Whoever is lied to doesn't try again.
LIES = (Fault.NOT_DONE, Fault.NOT_DONE, Fault.HTML, Fault.LATE, Fault.REPEATED)
SHARDS = st.integers(0, 1)
#: Of each write a run has one or two on a shard.
LIES_ABOUT_WRITES = st.builds(
    Happening, shard=SHARDS, part=st.sampled_from(WRITES), number=st.just(0), fault=st.sampled_from(LIES)
)
#: A run has about 60 statements on a shard.
ANYTHING_ANYWHERE = st.one_of(
    st.builds(
        Happening, shard=SHARDS, part=st.just(""), number=st.integers(0, 60), fault=st.sampled_from([*Fault, None])
    ),
    st.builds(
        Happening,
        shard=SHARDS,
        part=st.sampled_from(WRITES),
        number=st.integers(0, 1),
        fault=st.sampled_from([*Fault, None]),
    ),
)
#: As with a missing grant, or too many mutations: a write that no attempt gets done.
FAILS_FOR_GOOD = st.builds(
    Happening,
    shard=SHARDS,
    part=st.sampled_from(WRITES),
    number=st.integers(0, 3),
    fault=st.sampled_from([Fault.REFUSED, Fault.UNANSWERED, Fault.NOT_DONE]),
    lasts=st.just(True),
)
HAPPENINGS = st.one_of(
    st.lists(ANYTHING_ANYWHERE, max_size=3),
    st.lists(LIES_ABOUT_WRITES, min_size=1, max_size=2),
    st.tuples(LIES_ABOUT_WRITES, ANYTHING_ANYWHERE).map(list),
    st.tuples(FAILS_FOR_GOOD).map(list),
)
#: At which statement a run dies, of those on both shards together: nothing of it reaches a shard any more. Most run to their end.
DEATHS = st.sampled_from([False, False, False, True]).flatmap(lambda dies: st.integers(0, 150) if dies else st.none())


@dataclass
class Network:
    """What is to happen to the statements of the runs under way.

    Attributes:
        committed: the faults that a statement has met.
    """

    happenings: list[Happening]
    dies_at: int | None
    edit: Callable[[], None]
    seen: Counter[tuple[int, str]] = field(default_factory=Counter)
    statements: int = 0
    committed: list[tuple[Fault, str]] = field(default_factory=list)
    edits: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def decide(self, shard: int, statement: str) -> Fault | None:
        with self.lock:
            self.statements += 1
            if self.dies_at is not None and self.statements > self.dies_at:
                return Fault.REFUSED
            due = []
            for part in {happening.part for happening in self.happenings}:
                if part in statement:
                    due += [
                        happening
                        for happening in self.happenings
                        if (happening.shard, happening.part) == (shard, part)
                        and happening.is_due(self.seen[shard, part])
                    ]
                    self.seen[shard, part] += 1
            for happening in due:
                if happening.fault is None:
                    self.edit()
                    self.edits += 1
            faults = [happening.fault for happening in due if happening.fault is not None]
            self.committed += [(fault, statement) for fault in faults[:1]]
            return faults[0] if faults else None

    def has(self, *faults: Fault) -> bool:
        return any(fault in faults for fault, _ in self.committed)


@dataclass(frozen=True, kw_only=True)
class World:
    """The engines, and who talks to them. A client serves one thread."""

    fleet: Fleet
    behind_proxies: Fleet
    proxies: Sequence[FaultyShard]
    source: Connection
    shard_clients: list[Client]
    of_application: list[Client]
    of_readers: list[Client]


@pytest.fixture
def world(
    clean: None, fleet: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    # Nothing here comes right by waiting: what is late is so by less than the pauses add up to, or not at all.
    monkeypatch.setattr(Pauses, "after", lambda pauses, failed: 0.1)
    with ExitStack() as stack:
        behind, proxies = fleet, []
        for number in range(len(shard_clients)):
            behind, proxy = stack.enter_context(faulty_shard(behind, number))
            proxy.late_seconds = LATE_SECONDS
            proxies.append(proxy)
        clients = [[stack.enter_context(closing(client)) for client in connect_shards(fleet)] for _ in range(2)]
        # No merge hides a copy.
        stack.enter_context(merges_put_off(shard_clients))
        yield World(
            fleet=fleet,
            behind_proxies=behind,
            proxies=proxies,
            source=source,
            shard_clients=shard_clients,
            of_application=clients[0],
            of_readers=clients[1],
        )


class WritingMachine(RuleBasedStateMachine):
    """Edits of Postgres, drift of ClickHouse, and runs: after each of them the invariants hold, whatever came of it."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.seeds = itertools.count(1)
        #: How many copies a row may have: one more for each edit and each drift since a run of everything succeeded.
        self.copies = 1

    @initialize(is_loaded=st.booleans())
    def begin(self, is_loaded: bool) -> None:
        empty_source(self.world.source)
        empty_shards(self.world.shard_clients)
        make_source(self.world.source, PLAN)
        if is_loaded:
            load_plainly(self.world.source, self.world.shard_clients)

    @rule()
    def edit_many(self) -> None:
        change_source(self.world.source, PLAN, next(self.seeds))
        self.copies += 1

    @rule(drift=st.sampled_from(DRIFTS), item=st.sampled_from(SLICES), seed=st.integers(1, 4))
    def spoil(self, drift: Drift, item: Slice, seed: int) -> None:
        # An earlier one may have left too few scorecards for it.
        with suppress(LookupError):
            plant(
                drift,
                self.world.shard_clients,
                item.customer,
                item.day,
                seed=seed,
                source=self.world.source,
                kind=PROCESS,
            )
            self.copies += 1

    @rule(happenings=HAPPENINGS, dies_at=DEATHS, attempts=st.integers(1, 2))
    def run(self, happenings: list[Happening], dies_at: int | None, attempts: int) -> None:
        with self.watched(Network(happenings, dies_at, self.edit_as_application)) as network:
            has_succeeded = self.attempt(SLICES, attempts)
        # What is late may come after the run, and what came twice is tidied up by the next one.
        if has_succeeded and not network.has(Fault.LATE, Fault.REPEATED):
            event("a run succeeds" + (", whatever happens" if network.committed else ""))
            assert_equal(self.world.source, self.world.shard_clients, kind="process")
            self.copies = 1

    @rule(happenings=HAPPENINGS, dies_at=DEATHS, where=st.integers(1, len(SLICES) - 1))
    def run_two(self, happenings: list[Happening], dies_at: int | None, where: int) -> None:
        """Two runs at once, of other slices each; scorecards may have moved from those of one to those of the other."""
        with self.watched(Network(happenings, dies_at, self.edit_as_application)), ThreadPoolExecutor() as pool:
            for done in [pool.submit(self.attempt, some, 1) for some in (SLICES[:where], SLICES[where:])]:
                done.result()

    def teardown(self) -> None:
        """One healthy run makes everything right, and the one after it has nothing to do."""
        reindex(self.world.fleet, SLICES)
        assert_equal(self.world.source, self.world.shard_clients, kind="process")
        assert staging_tables(self.world.shard_clients) == []
        assert reported(reindex(self.world.fleet, SLICES)).written == 0

    def attempt(self, slices: Sequence[Slice], attempts: int) -> bool:
        """Whether every slice of a run succeeds. Any other error than one of ours fails the test."""
        try:
            return not errors(attempt(self.world.behind_proxies, slices, ReindexOptions(attempts=attempts)))
        except ReindexError:
            return False

    def edit_as_application(self) -> None:
        """The application edits a scorecard, and its real-time writer writes it."""
        seed = next(self.seeds)
        [scorecard] = scorecards_of(self.world.source, SLICES[seed % len(SLICES)])
        update(self.world.source, scorecard, f"score = {seed}")
        write_as_application(self.world.source, self.world.of_application, scorecard)

    @contextmanager
    def watched(self, network: Network) -> Iterator[Network]:
        """Runs meet what happens in this network; readers look on."""
        shard_clients = self.world.shard_clients
        readers = [Reader(client, {}) for client in self.world.of_readers]
        for reader, client in zip(readers, shard_clients, strict=True):
            reader.before = {table.name: rows_of(client, table.name, final=True) for table in TABLES}
            reader.start()
        for number, proxy in enumerate(self.world.proxies):
            proxy.decide = functools.partial(network.decide, number)
        try:
            yield network
        finally:
            for proxy in self.world.proxies:
                proxy.heal()
            for reader in readers:
                reader.stop()
        for fault, _ in network.committed:
            event(f"a statement meets: {fault.value}")
        self.copies += network.edits + sum(
            fault in (Fault.REPEATED, Fault.LATE) and "INSERT" in statement for fault, statement in network.committed
        )
        for number, (reader, client) in enumerate(zip(readers, shard_clients, strict=True)):
            after = {table.name: rows_of(client, table.name, final=True) for table in TABLES}
            holes = {row for row in reader.missed if row[1] in after[row[0]]}
            assert holes == set(), f"shard {number}: rows that are right before and after were not there meanwhile"
        for table in TABLES:
            most = max(most_copies(client, table) for client in shard_clients)
            assert most <= self.copies, f"{most} copies of a row of {table.name}"


def most_copies(client: Client, table: Table) -> int:
    [[most]] = client.query(
        f"SELECT max(copies) FROM (SELECT count() AS copies FROM {table.name} GROUP BY {', '.join(table.key)})"
    ).result_rows
    return int(most)


@pytest.mark.timeout(1800)
def test_whatever_happens_no_right_row_is_missed_no_copies_pile_up_and_one_healthy_run_makes_everything_right(
    world: World, campaign: int
) -> None:
    class Machine(WritingMachine):
        pass

    Machine.world = world
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=4 * campaign,
            stateful_step_count=8,
            # To shrink a failure takes hundreds of tries, each of which takes seconds.
            phases=(Phase.reuse, Phase.generate),
        ),
    )
