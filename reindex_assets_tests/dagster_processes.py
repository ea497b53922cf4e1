"""A running Dagster (reindex_assets/local/dagster_processes.py) under the name by which tests and benchmarks know it."""

from reindex_assets.local.dagster_processes import DagsterProcesses, running_dagster

__all__ = ["DagsterProcesses", "running_dagster"]
