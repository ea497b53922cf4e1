"""The Dagster instance as this project uses it. What lives here: its opening, and its connections. What does not: what is stored in it."""

from __future__ import annotations

import os

from dagster import DagsterInstance

from reindex_assets.errors import ConfigurationError


def open_instance() -> DagsterInstance:
    """The instance of DAGSTER_HOME.

    Raises:
        ConfigurationError: DAGSTER_HOME is not set.
    """
    if not os.environ.get("DAGSTER_HOME"):
        raise ConfigurationError(
            "DAGSTER_HOME is not set: point it at the directory with the dagster.yaml of your deployment, "
            "so that the runs show in its UI"
        )
    return DagsterInstance.get()


def hold_connections(instance: DagsterInstance) -> None:
    """Keeps the instance's connections to its Postgres open in this process.

    A run opens two to four new ones for every event otherwise, and a partition has nine events: in a run over 42 small
    partitions that was two thirds of the time (measured with py-spy, Dagster 1.13). Dagster's webserver does the same.
    """
    instance.optimize_for_webserver(statement_timeout=60_000, pool_recycle=3_600, max_overflow=20)
