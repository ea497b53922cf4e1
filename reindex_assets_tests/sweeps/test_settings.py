"""A sample of the sweeps over the settings of both engines: the ones that once lost rows, doubled them or hid that they differ.

What lives here: the sample, and that a case can end badly. What does not: all the others (`make sweep-settings`, docs/settings.md), and
real profiles and roles (clickhouse/test_session_settings.py, postgres/test_session_settings.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets_tests.support.faulty_shard import faulty_shard
from reindex_assets_tests.support.merges import merges_put_off
from reindex_assets_tests.support.running import with_shards
from reindex_assets_tests.sweeps.__main__ import by_the_dozen, having
from reindex_assets_tests.sweeps.values import Profile, clickhouse_profiles, merge_tree_profiles, postgres_profiles
from reindex_assets_tests.sweeps.world import Result, Verdict, World

Judge = Callable[[Profile], Result]

#: One after the other would take as long as a sweep; together each of them changes something else.
DANGEROUS: Profile = {
    "final": "1",
    "apply_deleted_mask": "0",
    "additional_table_filters": "{'scorecard':'0'}",
    "limit": "2",
    "bool_true_representation": "x",
    "data_type_default_nullable": "1",
    "lightweight_delete_mode": "lightweight_update",
    "aggregate_functions_null_for_empty": "1",
    "join_use_nulls": "1",
    "transform_null_in": "1",
    "session_timezone": "Asia/Kathmandu",
    "output_format_float_precision": "1",
    "async_insert": "1",
    "lightweight_deletes_sync": "0",
    "compatibility": "22.8",
}
LIMITED: list[Profile] = [
    {"group_by_overflow_mode": "any", "max_rows_to_group_by": "7", "max_block_size": "5"},
    {"group_by_overflow_mode": "break", "max_rows_to_group_by": "7", "max_block_size": "5"},
    {"read_overflow_mode": "break", "max_rows_to_read": "7", "max_block_size": "5"},
    {"set_overflow_mode": "break", "max_rows_in_set": "7", "max_block_size": "5"},
    {"result_overflow_mode": "break", "max_result_rows": "7", "max_block_size": "5"},
]


@pytest.fixture
def judge(clean: None, fleet: Fleet, source: Connection, shard_clients: list[Client]) -> Iterator[Judge]:
    """Judges a profile on one shard."""
    alone, clients = with_shards(fleet, [0]), shard_clients[:1]
    with merges_put_off(clients), faulty_shard(alone, 0) as (changed, shard):
        world = World(alone, source, clients)
        try:
            yield lambda profile: world.judge(changed, lambda: having(shard, profile))
        finally:
            world.close()


def test_a_profile_of_dangerous_settings_changes_nothing(judge: Judge) -> None:
    assert judge(DANGEROUS) == Result(verdict=Verdict.RIGHT)


def test_at_a_limit_a_run_ends_with_an_error_and_loses_no_row(judge: Judge) -> None:
    for profile in LIMITED:
        result = judge(profile)
        assert result.verdict is Verdict.ERROR, (profile, result)
        assert "exceeded" in result.words


@pytest.mark.parametrize(
    "profile", [{"final": "1"}, {"additional_table_filters": "{'scorecard':'0','score':'0'}"}, LIMITED[0]], ids=str
)
def test_a_setting_that_is_not_pinned_is_found(judge: Judge, monkeypatch: pytest.MonkeyPatch, profile: Profile) -> None:
    monkeypatch.setattr("reindex_assets.clickhouse.session_settings.SETTINGS", {})
    monkeypatch.setattr("reindex_assets.clickhouse.session_settings._FIRST", {})
    assert judge(profile).verdict is not Verdict.RIGHT


def test_every_setting_of_both_engines_has_values_to_try(source: Connection, shard_clients: list[Client]) -> None:
    [client, *_] = shard_clients
    for profiles, least in (
        (clickhouse_profiles(client), 2_500),
        (merge_tree_profiles(client), 400),
        (postgres_profiles(source), 250),
    ):
        assert len({str(profile) for profile in profiles}) >= least


def test_a_dozen_is_halved_until_each_case_has_a_result_of_its_own() -> None:
    asked = []

    def bad(profile: Profile) -> Result:
        asked.append(profile)
        return Result(verdict=Verdict.WRONG if "s3" in profile or profile.get("s9") == "2" else Verdict.RIGHT)

    profiles = [{f"s{number}": value} for number in range(40) for value in ("1", "2")]
    results = list(by_the_dozen(profiles, bad))
    assert sorted(str(profile) for profile, _ in results) == sorted(map(str, profiles))
    wrong = [profile for profile, result in results if result.verdict is Verdict.WRONG]
    assert sorted(map(str, wrong)) == ["{'s3': '1'}", "{'s3': '2'}", "{'s9': '2'}"]
    assert len(asked) < len(profiles)
