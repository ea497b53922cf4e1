"""The Dagster instance as this project uses it. What lives here: its opening, and its connections. What does not: what is stored in it."""

from __future__ import annotations

import os

from dagster import DagsterInstance

from reindex_assets.defs.dagster_private import InstanceRef
from reindex_assets.errors import ConfigurationError

#: By default Dagster redirects what a run's process prints to files, and mirrors it by four more processes: they would have the command's
#: own output in their hands, and outlive it when they are slow. What a run has to say stands in its events.
_NO_REDIRECTION = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
        "config": {},
    }
}


def open_instance() -> DagsterInstance:
    """The instance of DAGSTER_HOME, for runs in a process with output of its own.

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

    A run opens two to four new ones for every event otherwise, and a partition has nine events: in a run over 42 small
    partitions that was two thirds of the time (measured with py-spy, Dagster 1.13). Dagster's webserver does the same.
    """
    instance.optimize_for_webserver(statement_timeout=60_000, pool_recycle=3_600, max_overflow=20)
