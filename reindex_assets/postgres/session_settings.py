"""The settings of every session with Postgres, with their reasons. They override those of the server, the database and the role.

What lives here: the settings, the connection URI that carries them, the statement that sets them again, and the refusal of databases
that are not UTF-8. What does not: the session (postgres/session.py), and the settings of one statement.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from reindex_assets.config.engines import Postgres
from reindex_assets.errors import ConfigurationError

#: By the names of pg_settings.
_SETTINGS: Mapping[str, str] = {
    "default_transaction_read_only": "on",
    # Rows that a policy hides from the role would look deleted, and would be deleted from ClickHouse. So the statement fails instead.
    "row_security": "off",
    # ClickHouse's texts are UTF-8, and digests are computed from their bytes.
    "client_encoding": "UTF8",
    # So that functions (md5, sum, ...) are Postgres' own, and relations are those of the schema in the fleet file.
    "search_path": "pg_catalog",
    # The conversion between values and text.
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",
    # The parsing of statements.
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "array_nulls": "on",
    # "Soft upper limit of the size of the set returned by GIN index scans": rows would be left out.
    "gin_fuzzy_search_limit": "0",
    # For the small statements outside of a snapshot. A standby refuses serializable transactions, and deferrable ones wait.
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    # A session that holds slice locks is idle while the shards write.
    "idle_session_timeout": "0",
    # The timeouts of a statement and of an idle transaction limit everything; a shorter limit would cause random failures.
    "lock_timeout": "0",
    "transaction_timeout": "0",
    # Otherwise an error would end the session, and with it its locks.
    "exit_on_error": "off",
    # The server's side of `keepalives`: a machine that vanished holds slots and slices for a minute instead of two hours.
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "4",
    # How often the server checks during a long statement whether its client is alive. Without it, a killed run would keep its slot,
    # its slices and its snapshot until the statement's end.
    "client_connection_check_interval": "5s",
    "jit": "off",
    # The driver prints them.
    "client_min_messages": "warning",
}
#: Settings that the oldest supported servers lack. A server refuses a connection with an unknown setting.
_NOT_EVERYWHERE = frozenset({"client_connection_check_interval", "idle_session_timeout", "transaction_timeout"})

#: Sets every setting that the server has. Names are qualified, because the search path is one of the settings.
_PIN = """\
SELECT set_to.name, pg_catalog.current_setting('server_encoding') AS server_encoding,
       pg_catalog.set_config(set_to.name, set_to.value, false) AS value
FROM pg_catalog.jsonb_each_text($1::pg_catalog.jsonb) AS set_to (name, value)
WHERE set_to.name IN (SELECT name FROM pg_catalog.pg_settings)"""

_POLICY = re.compile(r"row-level security policy for table \"?(?P<table>[^\"]+)\"?")


def settings_of(postgres: Postgres) -> dict[str, str]:
    """The settings of a session with this Postgres."""
    timeout = f"{postgres.statement_timeout_seconds}s"
    settings = {
        **_SETTINGS,
        "statement_timeout": timeout,
        # A process that hangs must not hold its snapshot for ever, as no table could be vacuumed. It is no shorter than the timeout of
        # a statement, because a run reads the next rows when the shards have taken the last ones (an insert on a slow shard can take
        # minutes), and the comparison of rows waits for the shards inside its snapshot. A run's writes come after its snapshot and
        # may take any time. If the timeout ends a session nevertheless, the run tries again with a new one.
        "idle_in_transaction_session_timeout": timeout,
    }
    if not all("." in name for name in postgres.relations.model_dump().values()):
        # A name without a schema is looked up in the role's own search path.
        del settings["search_path"]
    return settings


def connection_uri(postgres: Postgres, application: str) -> str:
    """The connection URI, with the password and with the settings, which apply from the first statement on."""
    settings = {name: value for name, value in settings_of(postgres).items() if name not in _NOT_EVERYWHERE}
    options = {
        "connect_timeout": str(postgres.connect_timeout_seconds),
        "sslmode": postgres.sslmode,
        # Names the process, for people who look at the sessions of a shared Postgres (which cuts it at 63 bytes).
        "application_name": f"{application} {os.getpid()}@{socket.gethostname()}",
        # A dead peer is noticed within a minute instead of the kernel's two hours.
        "keepalives_idle": "20",
        "keepalives_interval": "10",
        "keepalives_count": "4",
        "options": " ".join(f"-c {name}={_escaped(value)}" for name, value in settings.items()),
    }
    password = quote(postgres.password.resolve().get_secret_value(), safe="")
    user = quote(postgres.user, safe="")
    return (
        f"postgresql://{user}:{password}@{postgres.host}:{postgres.port}/{quote(postgres.database)}"
        f"?{urlencode(options, quote_via=quote)}"
    )


def pin_settings(
    ask: Callable[[str, tuple[str, ...]], Sequence[Mapping[str, Any]]], postgres: Postgres, address: str
) -> None:
    """Sets all settings again in the session itself: a pooler may have dropped those of the URI, or may have returned an old session.

    Raises:
        ConfigurationError: the database is not UTF-8.
    """
    encoding = ask(_PIN, (json.dumps(settings_of(postgres)),))[0]["server_encoding"]
    if encoding != "UTF8":
        raise ConfigurationError(
            f"{address} has the encoding {encoding}, but only UTF8 is supported: ClickHouse's texts are UTF-8, and others can't be "
            "compared with them byte by byte. Name a UTF8 database in the fleet file (dump this one, and restore it into one "
            "that was created with ENCODING 'UTF8')"
        )


def policy_refusal(text: str, postgres: Postgres, address: str) -> ConfigurationError | None:
    """The error to raise if `text` is about row-level security; None if it is about something else."""
    match = _POLICY.search(text)
    if match is None:
        return None
    return ConfigurationError(
        f"{address} keeps rows of table {match['table']} from user {postgres.user!r} by row-level security: {text}. Rows that the user "
        "can't see would look deleted, and would be deleted from ClickHouse. Let the user see every row "
        f"(as a superuser: ALTER ROLE {postgres.user} BYPASSRLS), or name a user in the fleet file that no policy restricts"
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
