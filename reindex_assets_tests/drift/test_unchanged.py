"""What a run need not read: slices that nothing has touched since they were proved equal, and no others.

What lives here: each way to touch a slice, on either engine, and what makes a proof void. What does not: marks and lists of parts by
themselves (postgres/test_row_versions.py, drift/test_marks.py, clickhouse/test_parts.py), and runs of Dagster (defs/test_assets.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.comparison import Comparison
from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.fleet import Fleet
from reindex_assets.drift.checkpoint_store import CheckpointStore
from reindex_assets.local.data.made_data import change_source
from reindex_assets.local.drift.plant import Drift, plant
from reindex_assets.local.oracle import compare as oracle
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Kind, Slice, Step
from reindex_assets.postgres.extract import QuarantinedRow, read_quarantined
from reindex_assets.postgres.row_versions import read_table_versions
from reindex_assets.postgres.session import SourceSession
from reindex_assets.reindex.job import ReindexOptions
from reindex_assets.reindex.writer import WriteOptions
from reindex_assets.selection.groups import SliceGroup
from reindex_assets.storage.slice_store import ROWS, SliceStore
from reindex_assets_tests.support import application, running
from reindex_assets_tests.support.application import Scorecard
from reindex_assets_tests.support.hand_made_rows import add_scorecard, with_postgres
from reindex_assets_tests.support.merges import merge_all
from reindex_assets_tests.support.proving import ITEM, PLAN, SLICES, prove, run, unchanged, unread, written_and_proved
from reindex_assets_tests.support.session_stack import CUSTOMERS


@pytest.fixture
def proven(clean: None, fleet: Fleet, source: Connection) -> Fleet:
    return written_and_proved(fleet, source)


def test_nothing_is_read_of_what_nothing_has_touched_and_the_verdict_is_that_of_a_comparison(proven: Fleet) -> None:
    outcomes = running.reindex(proven, SLICES)
    assert unread(outcomes) == set(SLICES)
    assert running.reported(outcomes).read == 0
    with Comparison(proven.dataset(CLUSTER, PROCESS)) as comparison:
        compared = comparison.sums(SLICES)
    found = [outcome.unchanged for outcome in sorted(outcomes, key=lambda outcome: outcome.slice)]
    assert all(parity is not None and 0 < parity.unchanged_since < parity.snapshot for parity in found)
    assert [replace(parity, snapshot=0, unchanged_since=0) for parity in found if parity] == [
        replace(parity, snapshot=0) for parity in compared
    ]


Edit = Callable[[Connection, Scorecard], object]


def _score(statement: str) -> Edit:
    def edit(source: Connection, card: Scorecard) -> None:
        with source.cursor() as cursor:
            cursor.execute(
                f"{statement} WHERE score_id = (SELECT score_id FROM historic.scorecard_scores "
                "WHERE (customer, profile, scorecard_id) = (%s, %s, %s::uuid) ORDER BY 1 LIMIT 1)",
                card.key,
            )
            assert cursor.rowcount == 1

    return edit


def _card(assignments: str) -> Edit:
    return lambda source, card: application.update(source, card, assignments)


EDITS: dict[str, Edit] = {
    "a scorecard's value": _card("score = coalesce(score, 0) + 1"),
    "a scorecard without a change": _card("score = score"),
    "a scorecard that becomes an appeal": _card("scorecard_type = 1"),
    "a scorecard without a revision": _card("template_revision_id = gen_random_uuid()"),
    "a scorecard without a time": _card(
        "created_at = (process_interaction_at AT TIME ZONE 'UTC')::date + interval '12 h', process_interaction_at = NULL"
    ),
    "a scorecard deleted": application.delete,
    "a scorecard added": application.copy_as_new,
    "a score's value": _score("UPDATE historic.scorecard_scores SET numeric_value = 77"),
    "a score deleted": _score("DELETE FROM historic.scorecard_scores"),
}


def test_whatever_happens_in_postgres_has_the_slice_read_again(
    proven: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reindex_assets.drift.unchanged.reads_the_table", lambda session, kind: False)
    # Each to a slice of its own: marks are of slices.
    touched = dict(zip(EDITS, SLICES, strict=False))
    assert len(touched) == len(EDITS)
    for what, item in touched.items():
        [card] = application.scorecards_of(source, item)
        EDITS[what](source, card)
    assert run(proven) == set(SLICES) - set(touched.values())
    oracle.assert_equal(source, shard_clients, kind="process")


@pytest.mark.parametrize("what", ["a scorecard without a change", "a score deleted", "a scorecard added"])
def test_whatever_happens_in_postgres_anywhere_moves_the_mark_of_the_whole_tables(
    proven: Fleet, source: Connection, shard_clients: list[Client], what: str
) -> None:
    [card] = application.scorecards_of(source, ITEM)
    EDITS[what](source, card)
    assert run(proven) == set(SLICES) - {ITEM}
    oracle.assert_equal(source, shard_clients, kind="process")


def test_the_whole_tables_are_read_once_for_all_proofs_and_where_they_have_changed_the_slices_are(
    proven: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in large tables, whatever Postgres has gathered of these small ones yet.
    for module in ("comparison.comparison", "drift.unchanged"):
        monkeypatch.setattr(f"reindex_assets.{module}.reads_the_table", lambda session, group: True)
    # Proofs of five looks.
    for day in PLAN.all_days:
        assert prove(proven, [item for item in SLICES if item.day == day and item.customer != "globex"])
    assert prove(proven, [item for item in SLICES if item.customer == "globex"])
    asked: list[str] = []

    def counted(session: SourceSession, kind: Kind) -> str:
        asked.append(read_table_versions(session, kind))
        return asked[-1]

    monkeypatch.setattr("reindex_assets.drift.unchanged.read_table_versions", counted)
    outcomes = running.reindex(proven, SLICES)
    assert unread(outcomes) == set(SLICES)
    assert len(asked) == 1
    # All of them are as they were in the one snapshot that was asked.
    assert len({outcome.snapshot for outcome in outcomes}) == 1
    [card] = application.scorecards_of(source, ITEM)
    application.update(source, card, "score = coalesce(score, 0) + 1")
    assert run(proven) == set(SLICES) - {ITEM}
    assert len(asked) == 2
    oracle.assert_equal(source, shard_clients, kind="process")


def test_a_row_that_is_held_back_without_ever_having_belonged_has_its_slice_read_again(
    proven: Fleet, source: Connection
) -> None:
    # No mark of a slice moves.
    add_scorecard(source, None, created_at=datetime(2026, 1, 31, 9, tzinfo=UTC))
    outcomes = running.reindex(proven, SLICES)
    assert unread(outcomes) == set(SLICES) - {ITEM}
    [told] = [outcome for outcome in outcomes if outcome.quarantined]
    assert told.slice == ITEM


def test_a_scorecard_that_moves_has_both_its_days_read_again(
    proven: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    [card] = application.scorecards_of(source, ITEM)
    application.update(source, card, "process_interaction_at = process_interaction_at + interval '1 day'")
    assert run(proven) == set(SLICES) - {ITEM, Slice(ITEM.customer, date(2026, 2, 1))}
    oracle.assert_equal(source, shard_clients, kind="process")


def test_a_revision_that_changes_its_kind_has_its_slices_read_again(
    proven: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    [card] = application.scorecards_of(source, ITEM)
    with source.cursor() as cursor:
        cursor.execute(
            "UPDATE director.scorecard_template_revisions SET template_type = 1 WHERE template_revision_id = "
            "(SELECT template_revision_id FROM director.scorecards WHERE (customer, profile, scorecard_id) = (%s, %s, %s::uuid))",
            card.key,
        )
        assert cursor.rowcount
    assert ITEM not in run(proven)
    oracle.assert_equal(source, shard_clients, kind="process")


def test_rows_that_come_while_both_sides_are_compared_are_not_taken_for_proven(
    proven: Fleet, source: Connection, shard_clients: list[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(session: SourceSession, group: SliceGroup) -> list[QuarantinedRow]:
        # The shards have answered by now, and what they are asked next would show the row.
        time.sleep(1)
        plant(Drift.EXTRA, shard_clients, ITEM.customer, ITEM.day, seed=9, kind=PROCESS)
        return read_quarantined(session, group)

    with monkeypatch.context() as patched:
        patched.setattr("reindex_assets.comparison.comparison.read_quarantined", late)
        assert prove(proven, SLICES) == set(SLICES)
    assert ITEM not in run(proven)
    oracle.assert_equal(source, shard_clients, kind="process")


def test_what_an_operator_asks_for_is_done_whatever_is_proved(proven: Fleet) -> None:
    assert run(proven, options=ReindexOptions(everything=True)) == set()
    assert run(proven, options=ReindexOptions(write=WriteOptions(dry_run=True))) == set()
    assert run(proven, options=ReindexOptions(write=WriteOptions(clean_up=True))) == set()
    [outcome, *_] = running.reindex(proven, SLICES, steps=[Step.EXTRACT, Step.ROWS])
    assert outcome.unchanged is None


def test_without_its_files_a_slice_is_read_again(proven: Fleet) -> None:
    store = SliceStore(proven.dataset(CLUSTER, PROCESS))
    Path(store.path(ITEM, ROWS, TABLES.child)).unlink()
    assert run(proven) == set(SLICES) - {ITEM}
    assert store.is_whole(ITEM, 2)


def test_another_list_of_profiles_makes_the_proofs_of_its_customer_void(
    proven: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    fewer = running.with_customers(proven, {**CUSTOMERS, "acme": ("main",)})
    assert run(fewer) == {item for item in SLICES if item.customer != "acme"}
    oracle.assert_equal(source, shard_clients, kind="process")


def test_a_slice_that_differs_is_not_proved(proven: Fleet, source: Connection, shard_clients: list[Client]) -> None:
    plant(Drift.EXTRA, shard_clients, ITEM.customer, ITEM.day, kind=PROCESS)
    # Rows that nothing will ever compare: they are told, and never taken for equal.
    other = Slice("globex", date(2026, 2, 1))
    add_scorecard(source, None, customer=other.customer, created_at=datetime(2026, 2, 1, 9, tzinfo=UTC))
    prove(proven, SLICES)
    assert unchanged(proven) == set(SLICES) - {ITEM, other}
    known = {one.slice for proof in CheckpointStore(proven.dataset(CLUSTER, PROCESS)).load() for one in proof.slices}
    assert ITEM not in known


def test_a_damaged_memory_only_costs_time(proven: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(CheckpointStore(proven.dataset(CLUSTER, PROCESS)).path)
    seal, _, content = path.read_text(encoding="utf-8").partition("\n")
    damaged = {
        "gone": None,
        "cut off": f"{seal}\n{content[: len(content) // 2]}",
        "one number": f"{seal}\n{content.replace('1', '2', 1)}",
        "no memory": "[1]",
    }
    for damage, text in damaged.items():
        if text is None:
            path.unlink()
        else:
            path.write_text(text, encoding="utf-8")
        assert unchanged(proven) == set(), damage
        assert prove(proven, SLICES) == set(SLICES)
        assert unchanged(proven) == set(SLICES)
    with monkeypatch.context() as patched:
        patched.setattr("reindex_assets.drift.checkpoint_store._VERSION", "another")
        assert unchanged(proven) == set()
    # Without its memory a run reads everything, and with it nothing.
    assert run(proven) == set(SLICES)
    path.write_bytes(b"\xff\x00")
    assert run(proven) == set()


def test_a_slice_that_is_found_different_is_forgotten_and_one_that_is_proved_again_replaces_what_was_known(
    proven: Fleet,
) -> None:
    store = CheckpointStore(proven.dataset(CLUSTER, PROCESS))
    store.update({ITEM}, [])
    assert run(proven) == set(SLICES) - {ITEM}
    assert prove(proven, [ITEM]) == {ITEM}
    assert run(proven) == set(SLICES)
    known = [one.slice for proof in store.load() for one in proof.slices]
    assert sorted(known) == sorted(SLICES)


def test_relations_without_row_versions_are_always_read(
    proven: Fleet, source: Connection, shard_clients: list[Client]
) -> None:
    with source.cursor() as cursor:
        cursor.execute("CREATE OR REPLACE VIEW director.scorecards_view AS SELECT * FROM director.scorecards")
    try:
        relations = proven.clusters[CLUSTER].postgres.relations.model_copy(
            update={"scorecards": "director.scorecards_view"}
        )
        viewed = with_postgres(proven, relations=relations)
        assert run(viewed) == set()
        assert prove(viewed, SLICES) == set(SLICES)
        assert run(viewed) == set()
    finally:
        with source.cursor() as cursor:
            cursor.execute("DROP VIEW director.scorecards_view")


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_between_runs_each_of_them_leaves_both_sides_equal(
    proven: Fleet, source: Connection, shard_clients: list[Client], seed: int
) -> None:
    dice = random.Random(seed)
    spared = 0
    for number in range(4):
        if dice.random() < 0.7:
            change_source(source, PLAN, seed=10 * seed + number) if dice.random() < 0.4 else _edit(source, dice)
        for drift in dice.sample([Drift.MISSING, Drift.EXTRA, Drift.CHANGED, Drift.WRONG_SHARD], dice.randint(0, 2)):
            item = dice.choice(SLICES)
            plant(drift, shard_clients, item.customer, item.day, seed=dice.randint(1, 99), kind=PROCESS)
        if dice.random() < 0.5:
            merge_all(shard_clients)
        spared += len(run(proven))
        # A merge first: older versions are left to it, and would show.
        merge_all(shard_clients)
        oracle.assert_equal(source, shard_clients, kind="process")
        prove(proven, SLICES)
    assert spared


def _edit(source: Connection, dice: random.Random) -> None:
    [card] = application.scorecards_of(source, dice.choice(SLICES))
    EDITS[dice.choice(["a scorecard's value", "a scorecard added", "a score's value", "a score deleted"])](source, card)
