"""Dagster's runs and backfills in Postgres; dagster.yaml names it. A backfill whose assets can't be found waits instead of failing.

What lives here: that one rule. What does not: everything else, which is Dagster's own.

A daemon that is stopping checks its due backfills once more after it has closed its code location (Dagster 1.13.27): their assets
"no longer exist", so it fails the backfills and cancels their runs. One stop lost 488 of 570 backfills. The same happens when the code
location doesn't load. In both cases waiting is enough: the next check finds the assets again.

The rows are Dagster's own, so a deployment can remove this class from its dagster.yaml at any time. A backfill may then fail in this way;
launching it again does what is left. reindex_assets_tests/defs/test_storages_needed.py fails once Dagster itself waits.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from dagster_postgres import PostgresRunStorage
from dagster_postgres.utils import get_token_provider_from_config, pg_url_from_config

from reindex_assets.defs.dagster_private import BulkActionStatus, ConfigurableClassData, PartitionBackfill

_LOG = logging.getLogger(__name__)
#: Dagster's error, and its words for a missing asset; its words for a partition removed for good are different.
_ERROR, _WORDS = "DagsterAssetBackfillDataLoadError", "existed at storage-time, but no longer does"


class RunStorage(PostgresRunStorage):
    """Dagster's storage of runs and backfills in Postgres."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> RunStorage:
        """The same as Dagster's, which would return an instance of Dagster's class."""
        return cls(
            inst_data=inst_data,
            postgres_url=pg_url_from_config(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=get_token_provider_from_config(config_value),
        )

    def update_backfill(self, partition_backfill: PartitionBackfill) -> None:
        """Stores a backfill, unless it is about to fail because its assets are not loaded."""
        if _fails_unseen(partition_backfill):
            _LOG.warning("backfill %s waits: its assets are not loaded", partition_backfill.backfill_id)
            return
        super().update_backfill(partition_backfill)


def _fails_unseen(backfill: PartitionBackfill) -> bool:
    error = backfill.error
    return (
        backfill.status is BulkActionStatus.FAILING
        and error is not None
        and error.cls_name == _ERROR
        and _WORDS in error.message
    )
