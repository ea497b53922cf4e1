"""The shards of a cluster: connections, settings, and one call on all of them at once.

What lives here: how a shard is reached, what an error means, identifier quoting. What does not: which settings every statement carries
(clickhouse/session_settings.py), and any statement about scorecards (clickhouse/schema.py, reindex/writer.py, comparison/comparison.py).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import clickhouse_connect
import pyarrow as pa
import urllib3
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from clickhouse_connect.driver.summary import QuerySummary

from reindex_assets.clickhouse.answers import read_rows, read_table
from reindex_assets.clickhouse.insert_block import ArrowStream
from reindex_assets.clickhouse.replicas import (
    CAUGHT_UP_SECONDS,
    catch_up,
    check_replicas,
    in_order,
    note_failure,
)
from reindex_assets.clickhouse.session_settings import pin_settings
from reindex_assets.config.cluster import Cluster
from reindex_assets.config.engines import Replica, Shard
from reindex_assets.errors import ConfigurationError, ReindexError, SchemaMismatchError, ShardUnreachableError
from reindex_assets.retry import QUESTION
from reindex_assets.under_way import asking

T = TypeVar("T")

#: Codes after which the same work may succeed: time-outs, network, load, memory, parts, read-only replicas, Keeper.
TRANSIENT_CODES = frozenset({159, 202, 203, 209, 210, 241, 242, 252, 285, 289, 319, 425, 439, 999})
_AUTHENTICATION_CODES = frozenset({192, 193, 194, 497, 516})
_UNKNOWN_TABLE_CODES = frozenset({60, 81})
#: The user's profile says "readonly", constrains a setting, or forbids to create tables.
_PROFILE_CODES = frozenset({164, 392, 452})


#: What the driver raises when there is no answer, or one that is not whole: decompression raises the last three.
_NO_ANSWER = (
    ClickHouseError,
    urllib3.exceptions.HTTPError,
    OSError,
    pa.ArrowException,
    EOFError,
    RuntimeError,
    ValueError,
)


class ShardConnection:
    """One shard: its number and a client. Not for two threads at once.

    Of several replicas it uses the first one that answers, and stays with it: what is read or written in parts (a comparison, a group
    with its staging tables) must not change over in between. `choose_again` lets go of one that has failed.
    """

    def __init__(self, index: int, shard: Shard, cluster: Cluster, comment: str) -> None:
        clickhouse = cluster.clickhouse
        self.index = index
        self.tables = cluster.clickhouse_tables
        self._name = "retiring shard" if index >= len(clickhouse.shards) else f"shard {index}"
        self.database = clickhouse.database
        self._addresses = shard.addresses
        self._clickhouse = clickhouse
        self._comment = comment
        self._client: Client | None = None
        #: The one in use.
        self._address = self._addresses[0] if len(self._addresses) == 1 else None
        self._has_failed = False
        self._replicated: tuple[str, ...] = ()
        self._caught_up = 0.0

    @property
    def label(self) -> str:
        """How errors call it."""
        return f"{self._name} ({self.replica})"

    @property
    def replica(self) -> str:
        """The address in use; all of them before one is."""
        return " or ".join(str(address) for address in ([self._address] if self._address else self._addresses))

    @property
    def client(self) -> Client:
        """The client, connected at its first use; of a replica that has caught up.

        Raises:
            ShardUnreachableError: the shard can't be reached, at none of its replicas.
            ConfigurationError: it refuses the user, the password or the database, or its replicas don't share their rows.
        """
        if self._client is None:
            self._client = self._first_that_answers()
        elif self._replicated and time.monotonic() - self._caught_up > CAUGHT_UP_SECONDS:
            self._catch_up(self._client)
        return self._client

    def _first_that_answers(self) -> Client:
        failures = []
        for address in in_order(self._addresses):
            self._address = address
            try:
                return self._guarded(lambda address=address: self._connected(address))  # type: ignore[misc]
            except ShardUnreachableError as error:
                note_failure(address)
                failures.append(error)
        if len(failures) == 1:
            raise failures[0]
        self._address = None
        each = "; ".join(str(failure) for failure in failures)
        raise ShardUnreachableError(f"none of the {len(failures)} replicas of {self._name} can be used: {each}")

    def _connected(self, address: Replica) -> Client:
        clickhouse = self._clickhouse
        client = clickhouse_connect.get_client(
            host=address.host,
            port=address.port,
            username=clickhouse.user,
            password=clickhouse.password.resolve().get_secret_value(),
            database=clickhouse.database,
            secure=clickhouse.secure,
            compress="lz4",
            connect_timeout=clickhouse.connect_timeout_seconds,
            send_receive_timeout=clickhouse.query_timeout_seconds,
            autogenerate_session_id=False,
            client_name="reindex_assets",
        )
        try:
            if not client.server_settings:
                raise OperationalError("it has no settings, as no server does")
            pin_settings(client, self.label, self._comment, clickhouse.replicated)
            if clickhouse.replicated:
                self._replicated = check_replicas(client, self.label, self.database, self.tables, len(self._addresses))
                self._catch_up(client)
        except BaseException:
            client.close()
            raise
        return client

    def _catch_up(self, client: Client) -> None:
        begun = time.monotonic()
        catch_up(client, self.label, self.database, self._replicated, self._clickhouse.replica_wait_seconds)
        self._caught_up = begun

    def choose_again(self) -> None:
        """Lets go of a replica that has failed, if there are others: the next statement goes to the first one that answers.

        Only between two attempts: what the failed one has begun (staging tables) is not on the next one.
        """
        if self._has_failed and len(self._addresses) > 1:
            self.close()

    def command(self, sql: str, parameters: Mapping[str, object] | None = None) -> None:
        """Runs a statement that returns no rows."""
        answer = self._guarded(lambda: self.client.command(sql, parameters=dict(parameters or {})))
        if not isinstance(answer, QuerySummary) and answer != "":
            # A server that fails once it has answered 200 adds the text of its error, and a proxy may answer by itself.
            self._has_failed = True
            raise ShardUnreachableError(
                f"{self.label} has acknowledged a statement that returns nothing with {_text(answer)!r}: whether it was done is not known"
            )

    def rows(self, sql: str, parameters: Mapping[str, object] | None = None) -> list[dict[str, Any]]:
        """The few rows of a small query, as dictionaries; tried again after a passing fault, as reading twice does no harm."""
        return self._retrying(lambda: read_rows(self.client, sql, parameters))

    def row(self, sql: str, parameters: Mapping[str, object] | None = None) -> dict[str, Any]:
        """The row of a query that always has exactly one: an aggregate over all of its rows.

        Raises:
            ShardUnreachableError: the answer has none, so it can't be the shard's own.
        """
        rows = self.rows(sql, parameters)
        if len(rows) != 1:
            raise ShardUnreachableError(
                f"{self.label} answered a question that has one answer with {len(rows)} rows. "
                "Is there a proxy that answers in its place?"
            )
        return rows[0]

    def table(self, sql: str, parameters: Mapping[str, object] | None = None) -> pa.Table:
        """The rows of a query as an Arrow table."""
        return self._retrying(lambda: read_table(self.client, sql, parameters))

    def insert(self, table: str, rows: ArrowStream) -> None:
        """Inserts rows. Never tried again here: whether the first try arrived is not known."""
        self._guarded(lambda: self.client.raw_insert(quoted(table), rows.columns, rows.body, fmt="ArrowStream"))

    def close(self) -> None:
        """Closes the connection."""
        if self._has_failed and self._address is not None:
            note_failure(self._address)
        self._has_failed = False
        if self._client is not None:
            self._client.close()
            self._client = None

    def _retrying(self, call: Callable[[], T]) -> T:
        return QUESTION.call(lambda: self._guarded(call))

    def _guarded(self, call: Callable[[], T]) -> T:
        try:
            with asking(self.label):
                answer = call()
        except _NO_ANSWER as error:
            translated = self._translated(error)
            self._has_failed = isinstance(translated, ShardUnreachableError)
            raise translated from None
        except ShardUnreachableError:
            self._has_failed = True
            raise
        self._has_failed = False
        return answer

    def _translated(self, error: Exception) -> ReindexError:
        code = getattr(error, "code", None)
        text = _text(error)
        if code in _AUTHENTICATION_CODES:
            return ConfigurationError(
                f"{self.label} refuses user {self._clickhouse.user!r}: {text}. "
                f"Check the user, and the environment variable {self._clickhouse.password.env}"
            )
        if code in _PROFILE_CODES:
            return ConfigurationError(
                f"{self.label} forbids user {self._clickhouse.user!r} what every run needs: {text}. "
                "Change the settings profile of this user: its 'readonly', or its constraint on the setting that is named"
            )
        if code in _UNKNOWN_TABLE_CODES:
            return SchemaMismatchError(
                f"{self.label}: {text}. Create what is missing with 'reindex-assets schema apply'"
            )
        if code in TRANSIENT_CODES:
            return ShardUnreachableError(f"{self.label} can't do this now: {text}. Run again once that has passed")
        if code is None:
            return ShardUnreachableError(
                f"{self.label} cannot be reached or broke off: {text}. Is it up, and the address right?"
            )
        return ReindexError(f"{self.label} answered with an error: {text}")


class ShardSet(AbstractContextManager["ShardSet"]):
    """All shards of a cluster, in the order of the fleet file.

    Each shard has one worker thread, so that one client is never used by two threads and every shard works at once.

    Args:
        with_retiring: also those that are being emptied, after the others. They are asked like any other; their number, as no row
            belongs on them, lies beyond `len`.
    """

    def __init__(self, cluster: Cluster, comment: str = "reindex_assets", with_retiring: bool = False) -> None:
        clickhouse = cluster.clickhouse
        self.tables = cluster.clickhouse_tables
        addresses = (*clickhouse.shards, *(clickhouse.retiring if with_retiring else ()))
        self.connections = tuple(
            ShardConnection(index, shard, cluster, comment) for index, shard in enumerate(addresses)
        )
        self._count = len(clickhouse.shards)
        self._workers = [
            ThreadPoolExecutor(1, thread_name_prefix=f"shard-{connection.index}") for connection in self.connections
        ]

    def __exit__(self, *error: object) -> None:
        self.close()

    def __len__(self) -> int:
        """How many shards rows are placed on."""
        return self._count

    def submit(self, index: int, work: Callable[[ShardConnection], T]) -> Future[T]:
        """Runs `work` on one shard's thread."""
        return self._workers[index].submit(work, self.connections[index])

    def map(self, work: Callable[[ShardConnection], T]) -> list[T]:
        """Runs `work` on every shard at once and waits for all of them.

        Raises:
            ReindexError: of the only shard that failed; or, where several failed, one that names each.
        """
        return results([self.submit(connection.index, work) for connection in self.connections])

    @contextmanager
    def asked(
        self, questions: Mapping[str, Callable[[ShardConnection], T]]
    ) -> Iterator[Callable[[], dict[tuple[str, int], T]]]:
        """Asks every shard each of the questions, while the body of the context does something else.

        Gives a function that waits for the answers, by question and shard. All are waited for in any case, also when the body fails:
        their connections close with the caller.
        """
        futures = {
            (name, connection.index): self.submit(connection.index, question)
            for name, question in questions.items()
            for connection in self.connections
        }
        try:
            yield lambda: dict(zip(futures, results(futures.values()), strict=True))
        finally:
            wait(futures.values())

    def fail_over(self) -> None:
        """Between two attempts, when nothing is under way: shards whose replica has failed choose another one."""
        for connection in self.connections:
            connection.choose_again()

    def close(self) -> None:
        """Closes every connection; waits for what is still running."""
        for worker in self._workers:
            worker.shutdown(wait=True)
        for connection in self.connections:
            connection.close()


def results(futures: Iterable[Future[T]]) -> list[T]:
    """What shards have answered, in this order; waits for all of them, also when one fails: connections close with the caller.

    Raises:
        ReindexError: of the only shard that failed; or, where several failed, one that names each.
    """
    waited = list(futures)
    wait(waited)
    failures: list[ReindexError] = []
    answers: list[T] = []
    for future in waited:
        try:
            answers.append(future.result())
        except ReindexError as error:
            failures.append(error)
    if failures:
        raise combined(failures)
    return answers


def combined(failures: list[ReindexError]) -> ReindexError:
    """One error for several shards' errors; unreachable wins, because then nothing is known."""
    if len(failures) == 1:
        return failures[0]
    worst = next((error for error in failures if isinstance(error, ShardUnreachableError)), failures[0])
    return type(worst)("; ".join(str(error) for error in failures))


def merge_tree(sort: str, replicated: bool, named_path: bool, *arguments: str) -> str:
    """The engine of a table, as `ENGINE =` takes it.

    Args:
        sort: "" or "Replacing".
        named_path: the same path in Keeper wherever it is created: the server's own default holds the table's UUID, which differs.
    """
    path = ("'/clickhouse/tables/{shard}/{database}/{table}'", "'{replica}'") if replicated and named_path else ()
    inside = ", ".join((*path, *arguments))
    return f"{'Replicated' if replicated else ''}{sort}MergeTree" + (f"({inside})" if inside else "")


def quoted(identifier: str) -> str:
    """An identifier in backquotes: the only place where one enters a ClickHouse statement from outside a constant."""
    return "`" + identifier.replace("\\", "\\\\").replace("`", "\\`") + "`"


_NOISE = re.compile(r"\s*(\(for url [^)]*\)|\(version [^)]*(\([^)]*\))?\))\s*")


def _text(error: object) -> str:
    text = _NOISE.sub(" ", " ".join(str(error).split()))
    return text[:600].strip().rstrip(".")
