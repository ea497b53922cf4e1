"""Dagster's names for a cluster's assets, ops, jobs and sensors. What lives here: names. What does not: the things that they name."""

from __future__ import annotations

import re

from dagster import AssetKey

from reindex_assets.config.dataset import Dataset
from reindex_assets.model import Step

OWNERS = ["team:data-platform"]

#: The tag on runs that the repair sensor requests. Its value says how many slices had drifted, and how.
REPAIR_TAG = "reindex/repair"


def asset_key(dataset: Dataset, step: Step) -> AssetKey:
    """The key of a step's asset: cluster, kind, step."""
    return asset_key_of(dataset.cluster_name, dataset.kind.name, step)


def asset_key_of(cluster_name: str, kind_name: str, step: Step) -> AssetKey:
    """The key of a step's asset, by the names in a run's tags: the cluster may be gone from the fleet file."""
    return AssetKey([cluster_name, kind_name, step.value])


def job_name(dataset: Dataset) -> str:
    return f"{dataset.kind.name}_{_dagster_name(dataset.cluster_name)}"


def group_name(dataset: Dataset) -> str:
    """The name of a dataset's group of assets: the UI sorts groups by name, and cuts long names in the middle."""
    return f"{_dagster_name(dataset.cluster_name)}_{dataset.kind.name}"


def all_job_name(cluster_name: str) -> str:
    return f"all_{_dagster_name(cluster_name)}"


def purge_asset_key(cluster_name: str) -> AssetKey:
    """The key of the asset that records the purges of a cluster's appeals."""
    return AssetKey([cluster_name, "appeals_purge"])


def health_key(cluster_name: str, kind_name: str) -> AssetKey:
    """The key of the asset that says what is wrong in a dataset."""
    return AssetKey([cluster_name, kind_name, "health"])


#: The key of the asset that says what is wrong anywhere.
FLEET_HEALTH = AssetKey(["fleet_health"])
HEALTH_CHECK = "nothing_is_wrong"


def purge_job_name(cluster_name: str) -> str:
    return f"purge_appeals_{_dagster_name(cluster_name)}"


def purge_group_name(cluster_name: str) -> str:
    """The name of the purge asset's group, which the UI sorts next to the cluster's other groups."""
    return f"{_dagster_name(cluster_name)}_appeals"


def purge_op_name(cluster_name: str) -> str:
    """The name of the op behind the purge asset, as run config addresses it."""
    return f"run_{purge_job_name(cluster_name)}"


def op_name(dataset: Dataset) -> str:
    """The name of the op behind a dataset's assets, as run config addresses it."""
    return f"reindex_{job_name(dataset)}"


def checks_job_name(dataset: Dataset) -> str:
    return f"{job_name(dataset)}_checks"


def repair_sensor_name(dataset: Dataset) -> str:
    """The name of the sensor that repairs a dataset's drift."""
    return f"{job_name(dataset)}_drift_repair_sensor"


def pool_name(cluster_name: str) -> str:
    """The pool whose slots limit how many runs work on a cluster's shards at once."""
    return f"clickhouse_{cluster_name}"


def _dagster_name(cluster_name: str) -> str:
    """A cluster's name in the characters that Dagster allows.

    >>> _dagster_name("us-east-1-prod")
    'us_east_1_prod'
    """
    return re.sub(r"[^A-Za-z0-9_]", "_", cluster_name)
