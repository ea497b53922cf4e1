"""A dry run that is launched as a backfill: it is refused before it connects to anything.

What lives here: that. What does not: dry runs (defs/test_assets.py).
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

from dagster import DagsterInstance

from reindex_assets.config.fleet import load_fleet
from reindex_assets.defs.build import build_defs
from reindex_assets.defs.keys.names import job_name, op_name
from reindex_assets.defs.keys.partitions import range_tags
from reindex_assets.defs.keys.run_tags import BACKFILL_ID_TAG
from reindex_assets.model import PROCESS
from reindex_assets_tests.support.asset_runs import failure_of
from reindex_assets_tests.support.fleet_files import EXAMPLE, write

DAY = date(2025, 7, 1)


def test_a_dry_run_that_is_a_backfill_is_refused_in_words_before_anything_is_read(tmp_path: Path) -> None:
    # Nobody listens at any address of this file.
    fleet = load_fleet(write(tmp_path, EXAMPLE))
    dataset = fleet.dataset("us-east-1-prod", PROCESS)
    with DagsterInstance.ephemeral() as instance:
        result = (
            build_defs(fleet)
            .resolve_job_def(job_name(dataset))
            .execute_in_process(
                run_config={
                    "ops": {op_name(dataset): {"config": {"dry_run": True}}},
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
                instance=instance,
                tags={**range_tags(["spirit"], DAY, DAY), BACKFILL_ID_TAG: "abcdefgh"},
                raise_on_error=False,
            )
        )
    assert not result.success
    assert "a dry run can't be a backfill" in failure_of(result)
    assert "reindex-assets reindex --dry-run" in failure_of(result)
    assert not result.get_asset_materialization_events()
    assert not result.get_asset_observation_events()
