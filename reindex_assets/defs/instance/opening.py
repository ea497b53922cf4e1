"""Opens the Dagster instance. What lives here: opening it and keeping its connections. What does not: what is stored in it."""

from __future__ import annotations

import os

from dagster import DagsterInstance

from reindex_assets.defs.dagster_private import InstanceRef
from reindex_assets.errors import ConfigurationError

#: By default Dagster redirects the output of a run's process to files, and starts four more processes that mirror it. A run of the command
#: line shares the command's process, so they would capture the command's own output, and could outlive it. A run reports by events anyway.
_NO_REDIRECTION = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
        "config": {},
    }
}


def open_instance() -> DagsterInstance:
    """Opens the instance of DAGSTER_HOME for a command, whose output it leaves alone.

    Raises:
        ConfigurationError: DAGSTER_HOME is not set.
    """
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        raise ConfigurationError(
            "DAGSTER_HOME is not set: point it at the directory with the dagster.yaml of your deployment, "
            "so that the runs show in its UI"
        )
    return DagsterInstance.from_ref(InstanceRef.from_dir(os.path.abspath(home), overrides=_NO_REDIRECTION))


def hold_connections(instance: DagsterInstance) -> None:
    """Keeps the instance's connections to its Postgres open in this process.

    Otherwise a run opens two to four new ones for every event, and a partition has nine events: that was two thirds of the
    time of a run over 42 small partitions (measured with py-spy, Dagster 1.13). Dagster's webserver keeps its connections, too.
    """
    instance.optimize_for_webserver(statement_timeout=60_000, pool_recycle=3_600, max_overflow=20)
