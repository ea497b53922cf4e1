"""The local stack after `kill -9`, a start that died half-way, and everything else that leaves a mess.

What lives here: real servers, really killed. What does not: the orderly life of a stack (local/test_local_stack.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading

import psutil
import pytest

from reindex_assets.config.fleet import load_fleet
from reindex_assets.errors import ConfigurationError
from reindex_assets.local.stack.files import LocalStackError
from reindex_assets.local.stack.processes import ProcessRecord, kill_processes
from reindex_assets.local.stack.shards import LocalShard
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets_tests.support.local_stacks import command_line, found_everywhere, pids, states, write_everywhere
from reindex_assets_tests.support.session_stack import connect_source


def test_two_ups_at_once_start_every_server_once(breakable_stack: LocalStack) -> None:
    breakable_stack.down()
    failures: list[Exception] = []

    def up() -> None:
        try:
            LocalStack(breakable_stack.root).up()
        except LocalStackError as error:
            failures.append(error)

    threads = [threading.Thread(target=up) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(states(breakable_stack).values()) == {"running"}
    for number in range(2):
        data = str(breakable_stack.root / "shards" / f"shard-{number}" / "data")
        assert len([p for p in psutil.process_iter() if data in command_line(p)]) == 1


def test_a_killed_shard_comes_back_with_its_rows(breakable_stack: LocalStack) -> None:
    write_everywhere(breakable_stack, 1)
    before = pids(breakable_stack)
    breakable_stack.shard(1).kill()
    assert states(breakable_stack) == {"postgres": "running", "shard-0": "running", "shard-1": "crashed"}
    breakable_stack.up()
    after = pids(breakable_stack)
    assert all(found_everywhere(breakable_stack, 1))
    assert {name for name in before if before[name] != after[name]} == {"shard-1"}


def test_one_shard_can_be_started_alone(breakable_stack: LocalStack) -> None:
    breakable_stack.shard(0).kill()
    breakable_stack.shard(1).kill()
    breakable_stack.start_shard(0)
    assert states(breakable_stack) == {"postgres": "running", "shard-0": "running", "shard-1": "crashed"}


def test_a_killed_postgres_comes_back_with_its_rows_although_clients_were_connected(
    breakable_stack: LocalStack,
) -> None:
    write_everywhere(breakable_stack, 2)
    before = pids(breakable_stack)
    with (
        contextlib.closing(connect_source(load_fleet(breakable_stack.fleet_path))) as source,
        source.cursor() as cursor,
    ):
        cursor.execute("SELECT 1")
        breakable_stack.postgres.kill()
        assert states(breakable_stack)["postgres"] == "crashed"
        breakable_stack.up()
    after = pids(breakable_stack)
    assert all(found_everywhere(breakable_stack, 2))
    assert {name for name in before if before[name] != after[name]} == {"postgres"}


def test_when_everything_was_killed_up_brings_it_back_with_its_rows(breakable_stack: LocalStack) -> None:
    write_everywhere(breakable_stack, 3)
    breakable_stack.postgres.kill()
    breakable_stack.shard(0).kill()
    breakable_stack.shard(1).kill()
    assert set(states(breakable_stack).values()) == {"crashed"}
    breakable_stack.up()
    assert set(states(breakable_stack).values()) == {"running"}
    assert all(found_everywhere(breakable_stack, 3))


def test_a_pid_file_of_postgres_that_names_another_process_by_now_does_not_stop_the_start(
    breakable_stack: LocalStack,
) -> None:
    breakable_stack.postgres.kill()
    pid_file = breakable_stack.postgres.data / "postmaster.pid"
    lines = pid_file.read_text().split("\n")
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    breakable_stack.up()
    assert states(breakable_stack)["postgres"] == "running"


def test_a_process_that_got_the_pid_of_a_shard_is_left_alone(breakable_stack: LocalStack) -> None:
    breakable_stack.shard(0).kill()
    shard = LocalShard(breakable_stack.root / "shards" / "shard-0")
    with contextlib.closing(_Sleeper()) as stranger:
        ProcessRecord(stranger.process.pid, psutil.Process(stranger.process.pid).create_time() - 100).save(
            shard.pid_file
        )
        assert states(breakable_stack)["shard-0"] == "crashed"
        breakable_stack.down()
        assert stranger.process.poll() is None


def test_a_shard_that_a_dead_start_never_recorded_is_found_and_ended(breakable_stack: LocalStack) -> None:
    lost = pids(breakable_stack)["shard-0"]
    (breakable_stack.root / "shards" / "shard-0" / "pid.json").unlink()
    breakable_stack.up()
    assert lost is not None
    assert not psutil.pid_exists(lost) or psutil.Process(lost).status() == psutil.STATUS_ZOMBIE
    assert states(breakable_stack)["shard-0"] == "running"


def test_a_shard_that_hangs_is_replaced(breakable_stack: LocalStack) -> None:
    hanging = pids(breakable_stack)["shard-1"]
    assert hanging is not None
    psutil.Process(hanging).suspend()
    assert states(breakable_stack)["shard-1"] == "unresponsive"
    # It can't react to SIGTERM either; the waits are not what this test is about.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reindex_assets.local.stack.shards.STOP_SECONDS", 0.5)
        patch.setattr("reindex_assets.local.stack.stack.HANG_SECONDS", 1)
        breakable_stack.up()
    assert states(breakable_stack)["shard-1"] == "running"
    assert pids(breakable_stack)["shard-1"] != hanging


def test_down_after_a_crash_leaves_everything_stopped(breakable_stack: LocalStack) -> None:
    breakable_stack.postgres.kill()
    breakable_stack.shard(0).kill()
    breakable_stack.down()
    assert set(states(breakable_stack).values()) == {"stopped"}


def test_a_lost_password_is_an_error_and_not_a_new_password(breakable_stack: LocalStack) -> None:
    environment_file = breakable_stack.root / "env"
    text = environment_file.read_text(encoding="utf-8")
    environment_file.unlink()
    try:
        with pytest.raises(ConfigurationError, match="put it back"):
            breakable_stack.up()
    finally:
        environment_file.write_text(text, encoding="utf-8")
        environment_file.chmod(0o600)


def test_a_shard_that_cannot_start_is_an_error_with_the_end_of_its_log(breakable_stack: LocalStack) -> None:
    breakable_stack.down()
    data = breakable_stack.root / "shards" / "shard-0" / "data"
    data.rename(data.with_name("aside"))
    data.write_text("not a directory")
    try:
        with pytest.raises(LocalStackError, match=r"(?s)shard-0 ended while starting; the end of .*log:\n  \S"):
            breakable_stack.up()
    finally:
        data.unlink()
        data.with_name("aside").rename(data)


def test_an_initdb_that_died_half_way_is_done_again(empty_stack: LocalStack) -> None:
    draft = empty_stack.root / "postgres" / "data.new"
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")
    empty_stack.up()
    assert states(empty_stack)["postgres"] == "running"


class _Sleeper:
    def __init__(self) -> None:
        self.process = subprocess.Popen([shutil.which("sleep") or "sleep", "60"])

    def close(self) -> None:
        kill_processes([psutil.Process(self.process.pid)])
        self.process.wait()
