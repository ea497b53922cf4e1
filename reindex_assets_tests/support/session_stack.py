"""What the stacks of the tests hold, and connections to them.

What lives here: the customers and the first day of a stack, and connecting to its engines. What does not: starting stacks (conftest.py),
and data (each test makes its own).
"""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pytest
import yaml
from clickhouse_connect.driver.client import Client
from psycopg2.extensions import connection as Connection

from reindex_assets.config.fleet import Fleet
from reindex_assets.config.local_environment import PASSWORD_VARIABLE
from reindex_assets.local.stack import connections
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets.local.stack.stack import LocalStack

CUSTOMERS = {"acme": ("main", "voice"), "globex": ("main",), "initech": ("main",)}
FIRST_DAY = date(2026, 1, 1)
BREAKABLE_CUSTOMERS = {"acme": ("main", "voice"), "globex": ()}

SOURCE_TABLES = (
    "director.scorecard_templates",
    "director.scorecard_template_revisions",
    "director.scorecards",
    "historic.scorecard_scores",
    "app.chats",
)


def connect_source(fleet: Fleet) -> Connection:
    """The source database of a stack, autocommit."""
    return connections.connect_source(fleet.clusters[CLUSTER])


def connect_shards(fleet: Fleet) -> list[Client]:
    """One client per shard of a stack, in the shards' order."""
    return connections.connect_shards(fleet.clusters[CLUSTER])


def whole_fleet_path(stack: LocalStack) -> Path:
    """The fleet file that lists every shard of the stack."""
    return stack.root / "every shard.yaml"


def list_shards(stack: LocalStack, number: int) -> None:
    """Makes the stack's fleet file list its first shards alone."""
    document = yaml.safe_load(whole_fleet_path(stack).read_text(encoding="utf-8"))
    clickhouse = document["clusters"][CLUSTER]["clickhouse"]
    clickhouse["shards"] = clickhouse["shards"][:number]
    stack.fleet_path.write_text(yaml.safe_dump(document), encoding="utf-8")


def empty_source(source: Connection) -> None:
    with source.cursor() as cursor:
        cursor.execute(f"TRUNCATE {', '.join(SOURCE_TABLES)}")


def empty_shards(shard_clients: list[Client]) -> None:
    for client in shard_clients:
        for table in ("scorecard", "score", "conversation"):
            client.command(f"TRUNCATE TABLE {table}")
        # A test may place its rows on other shards than the one before it.
        client.command("TRUNCATE TABLE IF EXISTS reindex_layout")


def forget_password_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """`up` sets the password of *its* stack: the tests after this one must find the session's again."""
    monkeypatch.setenv(PASSWORD_VARIABLE, os.environ.get(PASSWORD_VARIABLE, ""))
