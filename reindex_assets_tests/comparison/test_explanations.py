"""What a comparison says in words, and when it says nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reindex_assets.comparison.parity import SliceParity, TableParity, explain
from reindex_assets.config.default_tables import SCORE, SCORECARD
from reindex_assets.model import Slice
from reindex_assets_tests.support.generated import FIRST_DAY

tables = st.builds(
    TableParity,
    postgres_rows=st.integers(0, 3),
    clickhouse_rows=st.integers(0, 3),
    distinct_rows=st.integers(0, 3),
    misplaced_rows=st.integers(0, 1),
    digests_agree=st.booleans(),
)


@given(tables, tables)
def test_an_explanation_is_absent_exactly_when_both_tables_are_right(
    scorecards: TableParity, scores: TableParity
) -> None:
    parity = SliceParity(Slice("acme", FIRST_DAY), {SCORECARD.name: scorecards, SCORE.name: scores})
    right = all(
        table.postgres_rows == table.clickhouse_rows == table.distinct_rows
        and table.misplaced_rows == 0
        and table.digests_agree
        for table in (scorecards, scores)
    )
    assert (explain(parity) is None) == right == parity.is_equal


RIGHT = TableParity(postgres_rows=3, clickhouse_rows=3, by_shard=(3,), distinct_rows=3)


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (TableParity(postgres_rows=3, clickhouse_rows=5, distinct_rows=5, digests_agree=False), "+2 scores"),
        (TableParity(postgres_rows=3, clickhouse_rows=1, distinct_rows=1, digests_agree=False), "-2 scores"),
        (
            TableParity(postgres_rows=1, clickhouse_rows=1_234, distinct_rows=1_000, digests_agree=False),
            "+1,233 scores; 234 scores appear more than once",
        ),
        (
            TableParity(postgres_rows=3, clickhouse_rows=3, distinct_rows=3, misplaced_rows=2),
            "2 scores on a wrong shard",
        ),
        (
            TableParity(postgres_rows=3, clickhouse_rows=3, distinct_rows=3, digests_agree=False),
            "as many scores, but not the same values",
        ),
    ],
)
def test_an_explanation_says_which_table_and_by_how_much(scores: TableParity, words: str) -> None:
    assert explain(SliceParity(Slice("acme", FIRST_DAY), {SCORECARD.name: RIGHT, SCORE.name: scores})) == words
