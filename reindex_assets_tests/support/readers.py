"""A role of the source that may only read, as deployments have one: for what a server, a database or a role sets for its sessions.

What lives here: the role, and a fleet whose sessions are its. What does not: tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from reindex_assets.config.engines import SecretRef
from reindex_assets.config.fleet import Fleet
from reindex_assets.config.local_environment import PASSWORD_VARIABLE
from reindex_assets.local.stack.files_of_stack import CLUSTER
from reindex_assets_tests.support.hand_made_rows import with_postgres

READER = "sweep_reader"
_SCHEMAS = ("director", "historic", "app")


@contextmanager
def reader(fleet: Fleet, source: Connection) -> Iterator[Fleet]:
    """The fleet, reading as a role that owns nothing and may read every relation."""
    postgres = fleet.clusters[CLUSTER].postgres
    role = sql.Identifier(READER)
    with source.cursor() as cursor:
        cursor.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                role, sql.Literal(postgres.password.resolve().get_secret_value())
            )
        )
        try:
            for schema in map(sql.Identifier, _SCHEMAS):
                cursor.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, role))
                cursor.execute(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}").format(schema, role))
            yield with_postgres(fleet, user=READER, password=SecretRef(env=PASSWORD_VARIABLE))
        finally:
            cursor.execute(sql.SQL("DROP OWNED BY {}").format(role))
            cursor.execute(sql.SQL("DROP ROLE {}").format(role))


def set_for_reader(source: Connection, name: str, value: str) -> None:
    """What every new session of the role begins with."""
    with source.cursor() as cursor:
        cursor.execute(
            sql.SQL("ALTER ROLE {} SET {} = {}").format(
                sql.Identifier(READER), sql.Identifier(name), sql.Literal(value)
            )
        )


def reset_reader(source: Connection) -> None:
    with source.cursor() as cursor:
        cursor.execute(sql.SQL("ALTER ROLE {} RESET ALL").format(sql.Identifier(READER)))
