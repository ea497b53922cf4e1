"""Dagster's run queue, which knows what each run is about. dagster.yaml names it.

What lives here: the place where every run passes, whoever asked for it: the UI, a backfill's daemon, a schedule, a sensor. What does not:
the tags (defs/keys/run_tags.py) and the limits (dagster.yaml).

Tags of a backfill are the same for all of its runs, and one that is launched from an asset page has none: only here a run's own customer
is known before it waits for its turn.
"""

from __future__ import annotations

from dagster import DagsterRun, QueuedRunCoordinator, SubmitRunContext

from reindex_assets.defs.keys.run_tags import limiting_tags


class TaggedRunQueue(QueuedRunCoordinator):
    """Dagster's own queue, which adds the tags that limits are about to each run before it is queued."""

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        """Queues a run."""
        run = context.dagster_run
        checked = (check.asset_key for check in run.asset_check_selection or ())
        tags = limiting_tags(run.tags, {*(run.asset_selection or ()), *checked})
        if tags:
            self._instance.add_run_tags(run.run_id, tags)
        return super().submit_run(context)
