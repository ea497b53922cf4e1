"""Datasets that no fleet file has. What lives here: making them. What does not: engines behind them."""

from __future__ import annotations

from dataclasses import replace

from reindex_assets.config.cluster import Watch
from reindex_assets.config.dataset import Dataset
from reindex_assets.model import Kind
from reindex_assets_tests.support.generated import DATASET


def dataset_named(cluster_name: str, kind: Kind) -> Dataset:
    """A dataset of which only the names matter."""
    return replace(DATASET, cluster_name=cluster_name, kind=kind)


def watched_by(dataset: Dataset, watch: Watch) -> Dataset:
    """The same dataset under other rules of the watch."""
    return replace(dataset, rules=dataset.rules.model_copy(update={"watch": watch}))
