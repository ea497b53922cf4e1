"""What holds in every session with Postgres, whatever its server, database or role sets: each setting with its reason.

What lives here: the settings, the address that carries them, the statement that sets them again, and the refusal of databases that are
not UTF-8. What does not: the session (postgres/session.py), and the settings of one statement.
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

#: Of every session, by the names of pg_settings.
_SETTINGS: Mapping[str, str] = {
    "default_transaction_read_only": "on",
    # A role that a policy keeps rows from would see them as gone, and they would be deleted from ClickHouse. So it fails instead.
    "row_security": "off",
    # ClickHouse's texts are UTF-8, and a digest is over their bytes.
    "client_encoding": "UTF8",
    # What our statements call (md5, sum, ...) is Postgres' own, and a relation is the one of the schema that the fleet file names.
    "search_path": "pg_catalog",
    # How values turn into text, and texts into values.
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",
    # How statements are read.
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    "array_nulls": "on",
    # "Soft upper limit of the size of the set returned by GIN index scans": rows would be left out.
    "gin_fuzzy_search_limit": "0",
    # Of the small statements outside of a snapshot. A standby refuses serializable ones, and deferrable ones wait.
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    # The locks of the slices hang on a session that is idle while the shards write.
    "idle_session_timeout": "0",
    # The timeouts of a statement and of an idle transaction bound everything: a shorter limit would fail at random.
    "lock_timeout": "0",
    "transaction_timeout": "0",
    # An error would end the session with what it holds.
    "exit_on_error": "off",
    # The server's side of `keepalives`: a machine that vanished holds slots and slices for a minute instead of two hours.
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "4",
    # A server that works on a long statement looks so often whether its client still lives: else what a killed run held (its
    # slot, its slices, its snapshot) would stay held until the statement's end.
    "client_connection_check_interval": "5s",
    "jit": "off",
    # The driver prints them.
    "client_min_messages": "warning",
}
#: Of newer servers than the oldest that is supported. One that doesn't know a setting refuses a connection that names it.
_NOT_EVERYWHERE = frozenset({"client_connection_check_interval", "idle_session_timeout", "transaction_timeout"})

#: Every setting that the server knows; qualified, as the search path is one of them.
_PIN = """\
SELECT set_to.name, pg_catalog.current_setting('server_encoding') AS server_encoding,
       pg_catalog.set_config(set_to.name, set_to.value, false) AS value
FROM pg_catalog.jsonb_each_text($1::pg_catalog.jsonb) AS set_to (name, value)
WHERE set_to.name IN (SELECT name FROM pg_catalog.pg_settings)"""

_POLICY = re.compile(r"row-level security policy for table \"?(?P<table>[^\"]+)\"?")


def settings_of(postgres: Postgres) -> dict[str, str]:
    """What is set in a session with this Postgres."""
    timeout = f"{postgres.statement_timeout_seconds}s"
    settings = {
        **_SETTINGS,
        "statement_timeout": timeout,
        # A process that hangs must not hold its snapshot for ever: no table could be vacuumed. As long as a statement may take,
        # not less: a run asks for the next rows when the shards have taken the last ones (an insert on a slow one can last minutes),
        # and the comparison of rows waits for the shards' answers inside its snapshot. What a run writes it writes after its
        # snapshot, however long that takes. If this strikes all the same, the run tries again with a new session.
        "idle_in_transaction_session_timeout": timeout,
    }
    if not all("." in name for name in postgres.relations.model_dump().values()):
        # Such a name is looked up where the role's own settings say.
        del settings["search_path"]
    return settings


def connection_uri(postgres: Postgres, application: str) -> str:
    """The address to connect to, with the password, and with the settings, which hold from the first statement on."""
    settings = {name: value for name, value in settings_of(postgres).items() if name not in _NOT_EVERYWHERE}
    options = {
        "connect_timeout": str(postgres.connect_timeout_seconds),
        "sslmode": postgres.sslmode,
        # Which process it is of, for whoever finds it among the sessions of a Postgres that is shared (Postgres cuts it at 63 bytes).
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
    """Sets everything once more, in the session itself: a pooler may have dropped what the address carries, or gives an old session.

    Raises:
        ConfigurationError: the database holds other text than UTF-8.
    """
    encoding = ask(_PIN, (json.dumps(settings_of(postgres)),))[0]["server_encoding"]
    if encoding != "UTF8":
        raise ConfigurationError(
            f"{address} is a database of encoding {encoding}, and only UTF8 is supported: ClickHouse's texts are UTF-8, so others can't "
            "be compared with them byte by byte. Name a database of that encoding in the fleet file (dump this one, and restore it into "
            "one that was created with ENCODING 'UTF8')"
        )


def policy_refusal(text: str, postgres: Postgres, address: str) -> ConfigurationError | None:
    """What to say when an error is about row-level security; None when it is about something else."""
    found = _POLICY.search(text)
    if found is None:
        return None
    return ConfigurationError(
        f"{address} keeps rows of table {found['table']} from user {postgres.user!r} by row-level security: {text}. A row that it may not "
        "see would be taken for deleted, and be deleted from ClickHouse. Let it see every row "
        f"(as a superuser: ALTER ROLE {postgres.user} BYPASSRLS), or name a user in the fleet file that no policy restricts"
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
