"""What the tests share: one local stack per session, with real PostgreSQL and four real ClickHouse shards.

A fixture that starts a process asks for `engines`: its tests then have the marker of that name, and `make test-fast` leaves them out.

What lives here: the stack and connections to it. What does not: data (each test makes its own) and tests.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest
from clickhouse_connect.driver.client import Client
from dagster import DagsterInstance
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet, load_fleet
from reindex_assets.defs.instance.opening import hold_connections, open_instance
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.stack import LocalStack
from reindex_assets_tests.support.alert_receivers import MailReceiver, WebReceiver, mail_receiver, web_receiver
from reindex_assets_tests.support.conversations import held  # noqa: F401
from reindex_assets_tests.support.distribution import Distribution
from reindex_assets_tests.support.engine_guard import EngineGuard
from reindex_assets_tests.support.profiles import shard_with_users  # noqa: F401
from reindex_assets_tests.support.session_stack import (
    BREAKABLE_CUSTOMERS,
    CUSTOMERS,
    FIRST_DAY,
    connect_shards,
    connect_source,
    empty_shards,
    empty_source,
    forget_password_afterwards,
    list_shards,
    whole_fleet_path,
)

# Fixtures of several files: what a conftest imports, its tests find.
from reindex_assets_tests.support.shard_servers import client_of_the_shard, database_of_its_own, lone_shard  # noqa: F401

# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("patient")

_PREFIX = "reindex-tests-"
_MEMORY = Path("/dev/shm")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(EngineGuard())
    config.pluginmanager.register(Distribution())


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-golden", action="store_true", help="write the statements that are sent to the golden files"
    )
    parser.addoption(
        "--campaign",
        type=int,
        default=1,
        help="how many times as long random campaigns on the engines are: 50 for a night",
    )


@pytest.fixture
def campaign(request: pytest.FixtureRequest) -> int:
    """How many times as long a random campaign is."""
    return int(request.config.getoption("--campaign"))


@pytest.fixture(scope="session")
def engines() -> None:
    """Leave to start processes: whoever starts one asks for it."""


@pytest.fixture(scope="session")
def stacks_directory(engines: None) -> Iterator[Path]:
    """Where this session's stacks live. A session that was killed leaves servers behind: the next one ends them.

    Not pytest's own tmp_path: another session starting now would close that directory to PostgreSQL's user.
    """
    for parent in (_MEMORY, Path(tempfile.gettempdir())):
        for left_over in parent.glob(f"{_PREFIX}*"):
            _remove_if_abandoned(left_over)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_MEMORY if _has_room_in_memory() else None))
    with (directory / "session.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory
        _remove(directory)


def _has_room_in_memory() -> bool:
    """Whether stacks can live in memory: to make and remove thousands of small files on a disk is a sixth of a shard's work."""
    # A worker's stacks take about 300 MB.
    return (
        os.access(_MEMORY, os.W_OK)
        and shutil.disk_usage(_MEMORY).free > 4 * 2**30
        and psutil.virtual_memory().available > 8 * 2**30
    )


def _remove_if_abandoned(directory: Path) -> None:
    try:
        if directory.stat().st_uid != os.geteuid() or time.time() - directory.stat().st_mtime < 60:
            return
        lock = (directory / "session.lock").open("r+")
    except FileNotFoundError:
        return
    # The kernel frees the lock of a dead session, and of no other.
    with lock, contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(directory)


def _remove(directory: Path) -> None:
    for stack in directory.iterdir():
        if stack.is_dir():
            LocalStack(stack).reset()
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def stack(stacks_directory: Path) -> Iterator[LocalStack]:
    """The stack of the session, up, with its variables in the environment of this process.

    Its fleet file lists two of its four shards: what a run costs grows with them, and few faults need more.
    """
    stack = LocalStack(stacks_directory / "session", shards=4)
    stack.up(customers=CUSTOMERS, first_day=FIRST_DAY)
    shutil.copyfile(stack.fleet_path, whole_fleet_path(stack))
    list_shards(stack, 2)
    with pytest.MonkeyPatch.context() as environment:
        for name, value in stack.environment().items():
            environment.setenv(name, value)
        yield stack


@pytest.fixture(autouse=True)
def _no_mode_of_others(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test without a stack has no operator's mode, whether an earlier test has started a stack or not."""
    if not any("stack" in name.split("_") for name in request.fixturenames):
        monkeypatch.delenv("REINDEX_MODE", raising=False)


@pytest.fixture(scope="module")
def four_shards(stack: LocalStack, _clients: list[Client]) -> Iterator[None]:
    """The fleet file lists all four shards. For a whole module: `pytestmark = pytest.mark.usefixtures("four_shards")`."""
    list_shards(stack, 4)
    # Rows and records that are placed on two shards, or on four, must not be left to other modules.
    empty_shards(_clients)
    yield
    empty_shards(_clients)
    list_shards(stack, 2)


@pytest.fixture(scope="module")
def _breakable_stack(stacks_directory: Path) -> Iterator[LocalStack]:
    # A name that only a well quoted command survives.
    stack = LocalStack(stacks_directory / "a stack's own", shards=2)
    yield stack
    stack.down()


@pytest.fixture
def breakable_stack(_breakable_stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> LocalStack:
    """A stack with two shards, mended before each test: a test may kill, stop and misplace what it likes."""
    forget_password_afterwards(monkeypatch)
    _breakable_stack.up(customers=BREAKABLE_CUSTOMERS, first_day=FIRST_DAY)
    return _breakable_stack


@pytest.fixture
def empty_stack(stacks_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalStack]:
    """A stack with one shard that was never started."""
    forget_password_afterwards(monkeypatch)
    stack = LocalStack(stacks_directory / "empty", shards=1)
    yield stack
    stack.reset()


@pytest.fixture
def fleet(stack: LocalStack) -> Fleet:
    """The fleet file of the stack, as any command loads it."""
    return load_fleet(stack.fleet_path)


@pytest.fixture
def instance(stack: LocalStack) -> Iterator[DagsterInstance]:
    """The instance in the stack's Postgres, as UI, daemon and commands share it, without anything of earlier tests.

    Automation too: a sensor that another test's daemon has run keeps its cursor, and `DagsterInstance.wipe` leaves that.
    """
    with open_instance() as instance:
        hold_connections(instance)
        instance.wipe()
        assert instance.schedule_storage is not None
        instance.schedule_storage.wipe()
        yield instance


@pytest.fixture
def source(fleet: Fleet) -> Iterator[Connection]:
    """The source database, autocommit."""
    with contextlib.closing(connect_source(fleet)) as connection:
        yield connection


@pytest.fixture(scope="session")
def _clients(stack: LocalStack) -> Iterator[list[Client]]:
    """One client per shard of the stack.

    Connecting asks each server four questions: once is enough. A server that was killed is connected to again.
    """
    clients = connect_shards(load_fleet(whole_fleet_path(stack)))
    yield clients
    for client in clients:
        client.close()


@pytest.fixture
def shard_clients(fleet: Fleet, _clients: list[Client]) -> list[Client]:
    """One client per shard of the fleet, in the shards' order."""
    return _clients[: len(fleet.clusters[CLUSTER].clickhouse.shards)]


@pytest.fixture
def clean(source: Connection, _clients: list[Client]) -> None:
    """Empties the source and every shard before the test (a whole module: `pytestmark = usefixtures("clean")`)."""
    empty_source(source)
    empty_shards(_clients)


@pytest.fixture
def web() -> Iterator[WebReceiver]:
    with web_receiver() as receiver:
        yield receiver


@pytest.fixture
def other_web() -> Iterator[WebReceiver]:
    with web_receiver() as receiver:
        yield receiver


@pytest.fixture
def mail() -> Iterator[MailReceiver]:
    with mail_receiver() as receiver:
        yield receiver
