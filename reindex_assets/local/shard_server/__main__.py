"""The command line of one local shard, which runs until SIGTERM or SIGINT.

Exit codes: 0 after a signal; 2 when the shard can't start (no password, path or port in use), with the reason on stderr.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from reindex_assets.config.local_environment import PASSWORD_VARIABLE
from reindex_assets.local.shard_server.engine import Engine, PathInUse
from reindex_assets.local.shard_server.handler import ShardHandler
from reindex_assets.local.shard_server.server import Account, ShardServer
from reindex_assets.local.stack.processes import LOOPBACK

_CANNOT_START = 2
# For running statements: half of it to end by themselves, the other half to be killed.
_PATIENCE_SECONDS = 0.8
_ACCEPT_POLL_SECONDS = 0.05


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until a signal arrives."""
    parser = argparse.ArgumentParser(prog="shard_server", description="A local ClickHouse shard on 127.0.0.1")
    parser.add_argument("--path", type=Path, required=True, help="the shard's directory, made if missing")
    parser.add_argument("--port", type=int, required=True, help="the HTTP port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--name", default="shard-0", help="the shard's name, also its {shard} macro")
    parser.add_argument("--user", default="default", help="the only user")
    parser.add_argument("--users", type=Path, help="a users.xml with what holds for the engine's user `default`")
    parser.add_argument("--log-level", default="WARNING", help="of the messages on stderr")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    password = os.environ.get(PASSWORD_VARIABLE, "")
    if not password:
        return _refuse(f"Set the environment variable {PASSWORD_VARIABLE} to the shard's password, then start again.")
    # The engine reads the process's time zone when it is loaded.
    os.environ["TZ"] = "UTC"
    time.tzset()
    engine = Engine(options.path, options.name, options.users)
    try:
        engine.open()
    except (PathInUse, ValueError) as error:
        return _refuse(str(error))
    try:
        server = ShardServer(options.port, engine, Account(options.user, password), ShardHandler)
    except OSError as error:
        engine.close()
        return _refuse(f"Can't listen on {LOOPBACK}:{options.port} ({error.strerror}). Choose another --port.")
    return _serve(server, engine)


def _serve(server: ShardServer, engine: Engine) -> int:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=server.serve_forever, args=(_ACCEPT_POLL_SECONDS,), name="accept", daemon=True).start()
    sys.stdout.write(f"{engine.name} (ClickHouse {engine.version}) on http://{LOOPBACK}:{server.server_port}\n")
    sys.stdout.flush()
    stop.wait()
    if not server.stop(_PATIENCE_SECONDS):
        # A statement that does not end holds the engine. Exiting at once is like kill -9, which the data survives.
        logging.getLogger(__name__).warning("statements still run: leaving without closing the engine")
        sys.stderr.flush()
        os._exit(0)
    engine.close()
    return 0


def _refuse(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    return _CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
