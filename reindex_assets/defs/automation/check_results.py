"""Check results that no run produces: a repair was given up, or a slice is right again without a run.

What lives here: storing them as Dagster events. What does not: their content (defs/checks/specs.py).

They are attached to the partition's latest run, where an operator who follows the red light finds the error. A runless result
(`report_runless_asset_event`) can be stored only once for a check and a partition: a second one breaks a unique index (Dagster 1.13.27).
"""

from __future__ import annotations

from uuid import uuid4

from dagster import AssetCheckEvaluation, DagsterEvent, DagsterEventType, DagsterInstance, DagsterRun, RunsFilter

from reindex_assets.config.dataset import Dataset
from reindex_assets.defs.history.runs_in_flight import does_write, slices_of_tags
from reindex_assets.defs.keys.names import checks_job_name, job_name
from reindex_assets.model import Slice

#: How many of the latest runs are searched for the partition's.
_RUNS = 200


def report_result(instance: DagsterInstance, evaluation: AssetCheckEvaluation, dataset: Dataset) -> None:
    """Stores a check result for a partition after its run has ended."""
    assert evaluation.partition is not None
    run = _latest_run(instance, evaluation, dataset)
    instance.report_dagster_event(
        DagsterEvent(
            event_type_value=DagsterEventType.ASSET_CHECK_EVALUATION.value,
            job_name=run.job_name if run else job_name(dataset),
            event_specific_data=evaluation,
            message=evaluation.description,
        ),
        # If there is no run (they may have been deleted), a new run id: such a result can be stored more than once.
        run_id=run.run_id if run else str(uuid4()),
    )


def _latest_run(instance: DagsterInstance, evaluation: AssetCheckEvaluation, dataset: Dataset) -> DagsterRun | None:
    item = Slice.of(evaluation.partition or "")
    for run in instance.get_runs(RunsFilter(), limit=_RUNS):
        ours = does_write(run, dataset) or run.job_name == checks_job_name(dataset)
        if ours and item in slices_of_tags(run, dataset.cluster):
            return run
    return None
