"""Where the ledger of repairs is kept: in the cursor of the repair sensor, which Dagster stores together with what a tick has asked for.

What lives here: the cursor's shape, and reading it from outside the sensor. What does not: the ledger's rules (repairs.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from dagster import DagsterInstance
from dagster._core.scheduler.instigation import InstigatorType, SensorInstigatorData
from pydantic import BaseModel, ConfigDict, ValidationError

from reindex_assets.asset_names import repair_sensor_name
from reindex_assets.model import PROCESS, Kind, Slice
from reindex_assets.repairs import Ledger, Repair


class RepairCursor(BaseModel):
    """What the repair sensor remembers.

    Attributes:
        verdicts: storage id of the last check verdict that it has read.
    """

    model_config = ConfigDict(frozen=True)

    ledger: Ledger = Ledger()
    verdicts: int | None = None


def read_cursor(text: str | None) -> RepairCursor:
    """The cursor; an empty one where there is none or it was written by something else."""
    if not text:
        return RepairCursor()
    try:
        return RepairCursor.model_validate_json(text)
    except ValidationError:
        return RepairCursor()


def given_up(instance: DagsterInstance, cluster_name: str, kind: Kind = PROCESS) -> Mapping[Slice, Repair]:
    """The slices whose repair was given up, as the sensor last said."""
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SENSOR):
        if state.instigator_name == repair_sensor_name(cluster_name, kind) and isinstance(
            state.instigator_data, SensorInstigatorData
        ):
            return read_cursor(state.instigator_data.cursor).ledger.given_up
    return {}
