"""Dagster's run queue, which also tags each run with its cluster, kind and customer. dagster.yaml names it.

What lives here: adding the tags, at the one place that every run passes, whether it comes from the UI, a backfill, a schedule or a sensor.
What does not: the tags themselves (defs/keys/run_tags.py) and the limits (dagster.yaml).

A backfill gives the same tags to all of its runs, and a backfill from an asset page has no tags of ours. So this is the only place where
a run can get the tag of its own customer before it is queued.
"""

from __future__ import annotations

from dagster import DagsterRun, QueuedRunCoordinator, SubmitRunContext

from reindex_assets.defs.keys.run_tags import limiting_tags


class TaggedRunQueue(QueuedRunCoordinator):
    """Dagster's own queue, which first adds the tags that the limits apply to."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Queues a run."""
        run = context.dagster_run
        checked = (check.asset_key for check in run.asset_check_selection or ())
        tags = limiting_tags(run.tags, {*(run.asset_selection or ()), *checked})
        if tags:
            self._instance.add_run_tags(run.run_id, tags)
        return super().submit_run(context)
