"""What a comparison says in words, and when it says nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reindex_assets.comparison.parity import SliceParity, TableParity, explain
from reindex_assets.config.default_tables import SCORE, SCORECARD
from reindex_assets.model import Slice
from reindex_assets_tests.support.generated import (
    FIRST_DAY,
)

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
