"""What a user's settings profile, its constraints and its row policies do to a run: nothing, or they end it with words.

What lives here: real profiles, on shards that have a users.xml. What does not: every setting one by one (sweeps/test_settings.py).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from psycopg2.extensions import connection as Connection

from reindex_assets.clickhouse.schema import apply_schema
from reindex_assets.config.fleet import Fleet
from reindex_assets.errors import ConfigurationError
from reindex_assets.local.oracle.compare import assert_equal
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.model import PROCESS, Slice
from reindex_assets_tests.support.comparing import compare
from reindex_assets_tests.support.faulty_shard import faulty_shard
from reindex_assets_tests.support.hand_made_rows import (
    add_scorecard,
    reindex,
    succeeded,
    update_scorecard,
)
from reindex_assets_tests.support.profiles import Serve
from reindex_assets_tests.support.running import content

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
SLICE = Slice("acme", date(2026, 1, 5))
pytestmark = pytest.mark.usefixtures("clean")


@pytest.fixture
def written(serve: Serve, source: Connection) -> list[tuple[object, ...]]:
    """Rows of which ClickHouse has had all, before one of them changed and another one came."""
    ids = [add_scorecard(source, NOON + timedelta(seconds=seconds)) for seconds in range(8)]
    with serve() as (fleet, client):
        apply_schema(fleet.clusters[CLUSTER])
        succeeded(reindex(fleet, [SLICE]))
        update_scorecard(source, ids[0], score=1.5)
        add_scorecard(source, NOON + timedelta(seconds=9))
        return content([client])


def test_what_a_profile_sets_changes_nothing(serve: Serve, source: Connection, written: object) -> None:
    profile = """
        <final>1</final><limit>3</limit><apply_deleted_mask>0</apply_deleted_mask><bool_true_representation>x</bool_true_representation>
        <data_type_default_nullable>1</data_type_default_nullable>
        <lightweight_delete_mode>lightweight_update</lightweight_delete_mode><join_use_nulls>1</join_use_nulls>
        <aggregate_functions_null_for_empty>1</aggregate_functions_null_for_empty><session_timezone>Asia/Kathmandu</session_timezone>
        <additional_table_filters>{'scorecard': '0', 'score': '0'}</additional_table_filters>
    """
    with serve(profile) as (fleet, client):
        succeeded(reindex(fleet, [SLICE]))
        [parity] = compare(fleet.dataset(CLUSTER, PROCESS), [SLICE])
        assert parity.sums_agree
    with serve() as (fleet, client):
        assert_equal(source, [client], kind="process")


@pytest.mark.parametrize("mode", ["break", "any"])
def test_at_a_limit_of_the_profile_a_run_fails_instead_of_going_on_with_less(
    serve: Serve, written: list[tuple[object, ...]], mode: str
) -> None:
    profile = f"<max_rows_to_group_by>3</max_rows_to_group_by><group_by_overflow_mode>{mode}</group_by_overflow_mode>"
    with serve(profile) as (fleet, client):
        outcome = reindex(fleet, [SLICE])[SLICE]
        assert outcome.error is not None
        assert "max_rows_to_group_by" in outcome.error or "Limit for rows to GROUP BY exceeded" in outcome.error
    with serve() as (fleet, client):
        assert set(written) <= set(content([client]))


@pytest.mark.parametrize(
    ("profile", "constraints", "named"),
    [
        ("<final>1</final>", "<final><readonly/></final>", "final"),
        ("<limit>5</limit>", "<limit><min>5</min></limit>", "limit"),
        ("", "<max_query_size><max>1000000</max></max_query_size>", "max_query_size"),
    ],
)
def test_what_a_profile_forbids_is_an_error_of_configuration_that_names_it(
    serve: Serve, written: list[tuple[object, ...]], profile: str, constraints: str, named: str
) -> None:
    with serve(profile, constraints) as (fleet, client):
        with pytest.raises(ConfigurationError) as refused:
            reindex(fleet, [SLICE])
        assert named in str(refused.value)
        assert "settings profile" in str(refused.value)
        assert "cannot be reached" not in str(refused.value)
    with serve() as (fleet, client):
        assert content([client]) == written


def test_a_constraint_on_what_is_right_already_is_none(serve: Serve, source: Connection, written: object) -> None:
    with serve("", "<final><readonly/></final><limit><readonly/></limit>") as (fleet, client):
        succeeded(reindex(fleet, [SLICE]))
        assert_equal(source, [client], kind="process")


@pytest.mark.parametrize(
    ("profile", "named"),
    [({"readonly": "1"}, "readonly mode"), ({"readonly": "2"}, "readonly mode"), ({"allow_ddl": "0"}, "DDL")],
)
def test_a_user_who_may_not_write_is_told_so(
    fleet: Fleet, source: Connection, profile: dict[str, str], named: str
) -> None:
    """By a proxy, as the local server itself could not start with such a profile."""
    add_scorecard(source, NOON)
    with faulty_shard(fleet) as (changed, shard):
        shard.profile = profile
        with pytest.raises(ConfigurationError, match=f"shard 1 .*{named}.*settings profile"):
            reindex(changed, [SLICE])


def test_a_policy_that_hides_settings_is_named(serve: Serve, written: list[tuple[object, ...]]) -> None:
    policies = "<system><settings><filter>name != 'limit'</filter></settings></system>"
    with (
        serve(policies=policies) as (fleet, _),
        pytest.raises(ConfigurationError, match="doesn't show its settings limit in"),
    ):
        reindex(fleet, [SLICE])
    with serve() as (_, client):
        assert content([client]) == written
