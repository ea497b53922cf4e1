"""What the tests of conversations share: data of which the shards hold the conversations, and finding one of them.

What lives here: the plan, the fixture `held`, runs and looks at this kind, and where a conversation and its scorecards stand. What does
not: tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.comparison.comparison import Comparison
from reindex_assets.comparison.parity import SliceParity
from reindex_assets.config.fleet import Fleet
from reindex_assets.local.data.made_conversations import hold_conversations
from reindex_assets.local.data.made_data import DataPlan, make_source
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import CONVERSATION, Slice, Step
from reindex_assets.reindex.job import Reindex, ReindexOptions
from reindex_assets.reindex.pipeline import SliceOutcome
from reindex_assets_tests.support.running import errors, slices_of
from reindex_assets_tests.support.session_stack import CUSTOMERS

PLAN = DataPlan(CUSTOMERS, date(2026, 1, 30), days=4, scale=0.001, seed=6, conversation_share=3.0)
SLICES = slices_of(PLAN)
ITEM = Slice("acme", date(2026, 1, 31))
DAYS = (PLAN.first_day, PLAN.last_day)
CHAT = "(customer, profile, conversation_id) = (%(customer)s, %(profile)s, %(chat)s)"


@pytest.fixture
def held(clean: None, source: Connection, shard_clients: list[Client]) -> None:
    """Data in Postgres, and their conversations on the shards; no scorecard there."""
    summary = make_source(source, PLAN)
    assert summary.conversation_scorecards > 300
    found = hold_conversations(source, shard_clients)
    assert all(found)
    assert sum(found) < summary.chats


def reindex(
    fleet: Fleet,
    slices: Sequence[Slice] = SLICES,
    options: ReindexOptions | None = None,
    steps: Sequence[Step] = tuple(Step),
) -> list[SliceOutcome]:
    outcomes = Reindex(fleet.dataset(CLUSTER, CONVERSATION), options).run(slices, steps)
    assert errors(outcomes) == []
    return outcomes


def compare(fleet: Fleet, slices: Sequence[Slice] = SLICES) -> dict[Slice, SliceParity]:
    with Comparison(fleet.dataset(CLUSTER, CONVERSATION)) as comparison:
        return {parity.slice: parity for parity in comparison.settled(slices, settle_seconds=0)}


def scorecard_of(source: Connection, item: Slice, number: int = 0) -> tuple[str, str, str, str]:
    """A scorecard of a conversation: customer, profile, scorecard and conversation."""
    with source.cursor() as cursor:
        cursor.execute(
            """SELECT c.customer, c.profile, c.scorecard_id::text, c.conversation_id FROM director.scorecards AS c
            JOIN director.scorecard_template_revisions AS r USING (customer, profile, template_id, template_revision_id)
            JOIN app.chats AS t USING (customer, profile, conversation_id)
            WHERE r.template_type = 1 AND coalesce(c.scorecard_type, 0) = 0 AND c.customer = %s
              AND (t.conversation_start_time AT TIME ZONE 'UTC')::date = %s ORDER BY md5(c.scorecard_id::text) LIMIT 1 OFFSET %s""",
            (item.customer, item.day, number),
        )
        [row] = cursor.fetchall()
    return row


def start_later(source: Connection, item: Slice, by: str) -> None:
    """Moves the start of a conversation of a slice in Postgres, by an interval."""
    customer, profile, _, chat = scorecard_of(source, item)
    with source.cursor() as cursor:
        cursor.execute(
            f"UPDATE app.chats SET conversation_start_time = conversation_start_time + %(by)s::interval WHERE {CHAT}",
            {"by": by, "customer": customer, "profile": profile, "chat": chat},
        )
        assert cursor.rowcount == 1


def shards_of(shard_clients: Sequence[Client], scorecard_id: str) -> list[int]:
    return [
        shard
        for shard, client in enumerate(shard_clients)
        for _ in client.query(f"SELECT 1 FROM scorecard WHERE scorecard_id = '{scorecard_id}'").result_rows
    ]


COLUMNS = ["customer", "profile", "conversation_id", "conversation_start_time", "agent_user_id", "version"]


def conversations(client: Client, conversation: str) -> Sequence[Sequence[object]]:
    """The rows of a conversation on a shard."""
    found = client.query(
        f"SELECT {', '.join(COLUMNS)} FROM conversation WHERE conversation_id = {{id:String}}", {"id": conversation}
    )
    return found.result_rows
