"""`make sweep-settings`: the product beside every value of every setting of its engines, on a stack of its own; a line for each case.

What lives here: the order of the cases, and the report. What does not: the values (sweeps/values.py), and a case (sweeps/world.py).

Cases are tried by the dozen, with all of their settings at once; a dozen that is not right is halved until single ones remain. So a setting
that is only wrong beside another one of its dozen is found, and one that another one's value mends is not.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets import retry
from reindex_assets.clickhouse import difference, evidence, shards
from reindex_assets.config.default_tables import TABLES
from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets_tests.support.faulty_shard import FaultyShard, faulty_shard
from reindex_assets_tests.support.hand_made_rows import with_clickhouse
from reindex_assets_tests.support.merges import merges_put_off
from reindex_assets_tests.support.readers import reader, reset_reader, set_for_reader
from reindex_assets_tests.support.session_stack import CUSTOMERS, FIRST_DAY, connect_shards, connect_source
from reindex_assets_tests.sweeps.report import counts, read_cases, rows
from reindex_assets_tests.sweeps.values import (
    Profile,
    clickhouse_profiles,
    is_accepted,
    merge_tree_profiles,
    postgres_profiles,
)
from reindex_assets_tests.sweeps.world import Result, Verdict, World

#: So many cases are tried at once.
_DOZEN = 64
_PATIENCE_SECONDS = 120

Judge = Callable[[Profile], Result]
#: Cases that are known.
Done = Collection[Profile]


def main(which: str, report: Path) -> None:
    """Sweeps, adds a line of JSON for each case to the report, and prints its table. Cases that have a line are left out."""
    report.touch()
    done = [profile for profile, _, _ in read_cases(report)]
    with _hurried(), tempfile.TemporaryDirectory(prefix="reindex-sweep-") as directory:
        stack = LocalStack(Path(directory) / "stack", shards=1)
        stack.up(customers=CUSTOMERS, first_day=FIRST_DAY)
        try:
            os.environ.update(stack.environment())
            # Some settings make a statement endless.
            fleet = with_clickhouse(load_fleet(stack.fleet_path), query_timeout_seconds=_PATIENCE_SECONDS)
            clients = connect_shards(fleet)
            with closing(connect_source(fleet)) as source, report.open("a", encoding="utf-8") as lines:
                for profile, result in _SWEEPS[which](fleet, source, clients, done):
                    print(json.dumps({**profile, "": [result.verdict, result.words[:300]]}), file=lines, flush=True)
        finally:
            stack.reset()
    sys.stdout.write(f"{which}: {counts(report)}\n")
    sys.stdout.writelines(f"{row}\n" for row in rows(report))


@contextmanager
def _hurried() -> Iterator[None]:
    """Faults of a sweep don't pass by themselves: nothing is waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "QUESTION", replace(retry.QUESTION, attempts=1))
        for module in (evidence, difference):
            patch.setattr(module, "EVIDENCE", replace(retry.EVIDENCE, attempts=2))
        yield


def _of_clickhouse(
    fleet: Fleet, source: Connection, clients: list[Client], done: Done
) -> Iterator[tuple[Profile, Result]]:
    with merges_put_off(clients), faulty_shard(fleet, 0) as (changed, shard):
        world = World(fleet, source, clients)

        def judge(profile: Profile) -> Result:
            return world.judge(changed, lambda: having(shard, profile))

        accepted = (profile for profile in clickhouse_profiles(clients[0]) if is_accepted(clients[0], profile))
        yield from by_the_dozen(accepted, judge, done)


@contextmanager
def having(shard: FaultyShard, profile: Profile) -> Iterator[None]:
    """While it is entered, every statement of the product has these settings, unless it sets them itself."""
    shard.profile = dict(profile)
    try:
        yield
    finally:
        shard.profile = {}


def _of_merge_tree(
    fleet: Fleet, source: Connection, clients: list[Client], done: Done
) -> Iterator[tuple[Profile, Result]]:
    world = World(fleet, source, clients)

    def judge(profile: Profile) -> Result:
        try:
            for client in clients:
                for table in TABLES:
                    _create_again(client, table.name, profile)
            return world.judge(fleet, _nothing)
        except Exception as error:  # noqa: BLE001 - whatever the server says against such a table, or against rows in it
            return Result(verdict=Verdict.ERROR, words=f"no such table: {error}")

    yield from by_the_dozen(merge_tree_profiles(clients[0]), judge, done)


def _create_again(client: Client, table: str, settings: Profile) -> None:
    [[statement]] = client.query(f"SHOW CREATE TABLE {table}").result_rows
    client.command(f"DROP TABLE {table} SYNC")
    head, _, comment = statement.partition("COMMENT")
    chosen = "".join(f", {name} = '{value}'" for name, value in settings.items())
    head = head.partition("SETTINGS")[0]
    plain = f"{head} SETTINGS index_granularity = 8192, min_parts_to_merge_at_once = 1000"
    try:
        client.command(f"{plain}{chosen} COMMENT {comment}")
    except BaseException:
        client.command(f"{plain} COMMENT {comment}")
        raise


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _of_postgres(
    fleet: Fleet, source: Connection, clients: list[Client], done: Done
) -> Iterator[tuple[Profile, Result]]:
    with merges_put_off(clients), reader(fleet, source) as changed:
        world = World(fleet, source, clients)

        def judge(profile: Profile) -> Result:
            return world.judge(changed, lambda: _of_reader(source, profile))

        yield from by_the_dozen(postgres_profiles(source), judge, done)


@contextmanager
def _of_reader(source: Connection, profile: Profile) -> Iterator[None]:
    for name, value in profile.items():
        set_for_reader(source, name, value)
    try:
        yield
    finally:
        reset_reader(source)


def by_the_dozen(profiles: Iterable[Profile], judge: Judge, done: Done = ()) -> Iterator[tuple[Profile, Result]]:
    """Each profile with its own result."""
    waiting: list[list[Profile]] = []
    for profile in (some for some in profiles if some not in done):
        # Another value of the same setting belongs in another dozen.
        fitting = (some for some in waiting if not any(profile.keys() & other.keys() for other in some))
        chosen = next(fitting, None)
        if chosen is None:
            chosen = []
            waiting.append(chosen)
        chosen.append(profile)
        if len(chosen) == _DOZEN:
            waiting.remove(chosen)
            yield from _halved(chosen, judge)
    for some in waiting:
        yield from _halved(some, judge)


def _halved(profiles: list[Profile], judge: Judge) -> Iterator[tuple[Profile, Result]]:
    if not profiles:
        return
    result = judge({name: value for profile in profiles for name, value in profile.items()})
    if len(profiles) == 1 or result.verdict is Verdict.RIGHT:
        yield from ((profile, result) for profile in profiles)
        return
    middle = len(profiles) // 2
    yield from _halved(profiles[:middle], judge)
    yield from _halved(profiles[middle:], judge)


_SWEEPS: dict[str, Callable[[Fleet, Connection, list[Client], Done], Iterator[tuple[Profile, Result]]]] = {
    "clickhouse": _of_clickhouse,
    "merge_tree": _of_merge_tree,
    "postgres": _of_postgres,
}

if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
